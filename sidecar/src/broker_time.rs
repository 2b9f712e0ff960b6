//! The broker's time: it checks the time of a proof by its own clock, and this machine's clock may be wrong.

use std::sync::atomic::{AtomicI64, Ordering};

use agentwrit_protocol::{Ttl, UnixSeconds};

/// The offset between the broker's clock, as of its last answer, and this machine's.
#[derive(Debug, Default)]
pub(crate) struct BrokerTime {
    offset_seconds: AtomicI64,
}

impl BrokerTime {
    /// The broker's clock said `broker` when this machine's said `here`.
    pub(crate) fn heard(&self, broker: UnixSeconds, here: UnixSeconds) {
        self.offset_seconds.store((broker - here).get(), Ordering::Relaxed);
    }

    /// The broker's clock when this machine's says `here`.
    pub(crate) fn at(&self, here: UnixSeconds) -> UnixSeconds {
        here + Ttl::seconds(self.offset_seconds.load(Ordering::Relaxed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_answer_counts() {
        let time = BrokerTime::default();
        let heard = |broker, here| time.heard(UnixSeconds::new(broker), UnixSeconds::new(here));
        let at = |here| time.at(UnixSeconds::new(here)).get();
        assert_eq!(at(100), 100, "before there is one, the clocks are taken to agree");
        heard(400, 100);
        assert_eq!(at(110), 410);
        heard(90, 110);
        assert_eq!(at(110), 90);
        heard(i64::MAX, -1);
        assert_eq!(at(110), i64::MAX);
    }
}
