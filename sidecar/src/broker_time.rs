//! The broker's time: it checks the time of a proof by its own clock, and this machine's clock may be wrong.

use std::sync::atomic::{AtomicI64, Ordering};

/// The offset between the broker's clock, as of its last answer, and this machine's.
#[derive(Debug, Default)]
pub(crate) struct BrokerTime {
    offset: AtomicI64,
}

impl BrokerTime {
    /// The broker's clock said `broker` when this machine's said `here`, both Unix seconds.
    pub(crate) fn heard(&self, broker: i64, here: i64) {
        self.offset.store(broker.saturating_sub(here), Ordering::Relaxed);
    }

    /// The broker's clock, Unix seconds, when this machine's says `here`.
    pub(crate) fn at(&self, here: i64) -> i64 {
        here.saturating_add(self.offset.load(Ordering::Relaxed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_answer_counts() {
        let time = BrokerTime::default();
        assert_eq!(time.at(100), 100, "before there is one, the clocks are taken to agree");
        time.heard(400, 100);
        assert_eq!(time.at(110), 410);
        time.heard(90, 110);
        assert_eq!(time.at(110), 90);
    }
}
