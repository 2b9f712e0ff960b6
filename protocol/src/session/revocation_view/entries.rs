//! What the view keeps of each id: bytes without alignment, for there may be a million of each.

use std::cmp::Ordering;
use std::sync::atomic::{self, AtomicBool};

use super::super::EndReason;
use super::fingerprint::Fingerprint;
use crate::time::UnixMillis;

/// A moment in six bytes, exact to the millisecond. One more than 4,459 years from 1970 is the first or the last of all:
/// the first has always come, the last never comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Moment([u8; 6]);

impl Moment {
    /// What has no moment because it holds at once.
    pub(super) const AT_ONCE: UnixMillis = UnixMillis::MIN;
    /// What has no moment because it never ends.
    pub(super) const NEVER: UnixMillis = UnixMillis::MAX;

    const FIRST: i64 = -(1 << 47);
    const LAST: i64 = (1 << 47) - 1;

    fn get(self) -> i64 {
        let mut bytes = [0; 8];
        for (to, byte) in bytes.iter_mut().skip(2).zip(self.0) {
            *to = byte;
        }
        // Its sign is that of the highest byte.
        i64::from_le_bytes(bytes) >> 16
    }

    /// Whether it is now, or was.
    pub(super) fn has_come(self, now: UnixMillis) -> bool {
        match self.get() {
            Self::FIRST => true,
            Self::LAST => false,
            millis => millis <= now.get(),
        }
    }

    /// Moves it to another one that is later.
    pub(super) fn prolong(&mut self, other: Self) {
        *self = other.max(*self);
    }
}

impl From<UnixMillis> for Moment {
    fn from(moment: UnixMillis) -> Self {
        let millis = moment.get().clamp(Self::FIRST, Self::LAST);
        let mut bytes = [0; 6];
        for (to, byte) in bytes.iter_mut().zip(millis.to_le_bytes()) {
            *to = byte;
        }
        Self(bytes)
    }
}

impl Ord for Moment {
    fn cmp(&self, other: &Self) -> Ordering {
        self.get().cmp(&other.get())
    }
}

impl PartialOrd for Moment {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// When something that has ended, or will, is refused. Once it was seen over, it stays over: a step of the clock that is
/// taken back later revives nothing.
#[derive(Debug)]
pub(super) struct Over {
    overlap_until: Moment,
    seen: AtomicBool,
}

impl Over {
    /// At the end of an overlap; at once when there is none.
    pub(super) fn new(overlap_until: Option<UnixMillis>) -> Self {
        Self {
            overlap_until: overlap_until.unwrap_or(Moment::AT_ONCE).into(),
            seen: AtomicBool::new(false),
        }
    }

    pub(super) fn is_over(&self, judged: UnixMillis) -> bool {
        if self.seen.load(atomic::Ordering::Relaxed) {
            return true;
        }
        let over = self.overlap_until.has_come(judged);
        if over {
            self.seen.store(true, atomic::Ordering::Relaxed);
        }
        over
    }

    /// Brings the end forward, never back.
    fn hasten(&mut self, new: &Self) -> bool {
        let sooner = new.overlap_until < self.overlap_until;
        if sooner {
            self.overlap_until = new.overlap_until;
        }
        sooner
    }
}

/// The end of a session or a delegation.
#[derive(Debug)]
pub(super) struct Ending {
    pub(super) reason: EndReason,
    pub(super) over: Over,
    pub(super) until: Moment,
}

impl Ending {
    pub(super) fn merge(&mut self, new: Self) {
        let Self { reason, over, until } = new;
        if self.over.hasten(&over) {
            self.reason = reason;
        }
        self.until.prolong(until);
    }
}

/// The tokens of a node that was renewed: one entry, however many there were.
#[derive(Debug)]
pub(super) struct Current {
    pub(super) jti: Fingerprint,
    pub(super) previous: Fingerprint,
    pub(super) over: Over,
    pub(super) until: Moment,
}

impl Current {
    pub(super) fn merge(&mut self, new: Self) {
        let until = self.until.max(new.until);
        if self.previous == new.previous {
            self.jti = new.jti;
            self.over.hasten(&new.over);
        } else {
            *self = new;
        }
        self.until = until;
    }

    pub(super) fn stands(&self, jti: Fingerprint, judged: UnixMillis) -> bool {
        self.jti == jti || (self.previous == jti && !self.over.is_over(judged))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_first_moment_has_come_and_the_last_never_comes() {
        let comes = |moment, now| Moment::from(moment).has_come(now);
        assert!(comes(Moment::AT_ONCE, UnixMillis::MIN));
        assert!(!comes(Moment::NEVER, UnixMillis::MAX));
        let far = |millis: i64| UnixMillis::new(millis);
        assert!(comes(far(-(1 << 50)), UnixMillis::MIN), "thousands of years ago");
        assert!(!comes(far(1 << 50), UnixMillis::MAX), "in thousands of years");
        assert_eq!(std::mem::size_of::<(Fingerprint, Ending)>(), 30, "what a million costs");
    }

    proptest! {
        #[test]
        fn a_moment_comes_at_its_millisecond(millis in Moment::FIRST + 1..Moment::LAST, other in Moment::FIRST..=Moment::LAST) {
            let moment = Moment::from(UnixMillis::new(millis));
            prop_assert!(moment.has_come(UnixMillis::new(millis)));
            prop_assert!(!moment.has_come(UnixMillis::new(millis - 1)));
            let other = UnixMillis::new(other);
            prop_assert_eq!(moment.cmp(&other.into()), UnixMillis::new(millis).cmp(&other));
        }
    }
}
