//! Moments with their unit in the type: a second is never taken for a millisecond, nor that for a nanosecond.
//!
//! Sums and differences stop at the ends of the range, so that a number from outside, whatever it is, does no harm.

use std::fmt;
use std::ops::{Add, Sub};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use crate::ttl::Ttl;

/// Milliseconds of a second.
const MILLIS: i64 = 1000;
/// Nanoseconds of a millisecond.
const NANOS_OF_MILLI: i64 = 1_000_000;

/// Whole seconds since the Unix epoch, as JWT `NumericDate`s count them (RFC 7519 §2).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct UnixSeconds(i64);

impl UnixSeconds {
    /// So many seconds after the Unix epoch; before it when negative.
    pub const fn new(seconds: i64) -> Self {
        Self(seconds)
    }

    /// The number.
    pub const fn get(self) -> i64 {
        self.0
    }

    /// The first millisecond of this second.
    pub const fn start(self) -> UnixMillis {
        UnixMillis(self.0.saturating_mul(MILLIS))
    }

    /// The first millisecond after this second: what is good until the end of a second (`exp`) is over from then on.
    pub const fn end(self) -> UnixMillis {
        Self(self.0.saturating_add(1)).start()
    }
}

/// Milliseconds since the Unix epoch.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct UnixMillis(i64);

impl UnixMillis {
    /// The earliest moment: before every other.
    pub const MIN: Self = Self(i64::MIN);
    /// The latest moment: after every other.
    pub const MAX: Self = Self(i64::MAX);

    /// So many milliseconds after the Unix epoch; before it when negative.
    pub const fn new(millis: i64) -> Self {
        Self(millis)
    }

    /// The number.
    pub const fn get(self) -> i64 {
        self.0
    }

    /// The second that this moment lies in.
    pub const fn second(self) -> UnixSeconds {
        UnixSeconds(self.0.div_euclid(MILLIS))
    }

    /// The first nanosecond of this millisecond.
    pub const fn start(self) -> UnixNanos {
        UnixNanos(self.0.saturating_mul(NANOS_OF_MILLI))
    }

    /// How long ago `earlier` was at this moment; zero when it is later.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }
}

/// Nanoseconds since the Unix epoch: the moments of the audit trail.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct UnixNanos(i64);

impl UnixNanos {
    /// The earliest moment: before every other.
    pub const MIN: Self = Self(i64::MIN);
    /// The latest moment: after every other.
    pub const MAX: Self = Self(i64::MAX);

    /// So many nanoseconds after the Unix epoch; before it when negative.
    pub const fn new(nanos: i64) -> Self {
        Self(nanos)
    }

    /// The number.
    pub const fn get(self) -> i64 {
        self.0
    }

    /// How long ago `earlier` was at this moment; zero when it is later.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }
}

impl From<OffsetDateTime> for UnixSeconds {
    /// The second that the moment lies in.
    fn from(moment: OffsetDateTime) -> Self {
        Self(moment.unix_timestamp())
    }
}

impl From<OffsetDateTime> for UnixMillis {
    /// The millisecond that the moment lies in.
    fn from(moment: OffsetDateTime) -> Self {
        UnixSeconds::from(moment).start() + Duration::from_millis(moment.millisecond().into())
    }
}

impl From<OffsetDateTime> for UnixNanos {
    /// The ends of the range for moments outside of the years 1678 to 2262.
    fn from(moment: OffsetDateTime) -> Self {
        let nanos = moment.unix_timestamp_nanos();
        Self(i64::try_from(nanos).unwrap_or(if nanos < 0 { i64::MIN } else { i64::MAX }))
    }
}

impl Sub<Duration> for UnixNanos {
    type Output = Self;

    fn sub(self, length: Duration) -> Self {
        Self(
            self.0
                .saturating_sub(i64::try_from(length.as_nanos()).unwrap_or(i64::MAX)),
        )
    }
}

/// Whole milliseconds of a length of time.
fn millis(length: Duration) -> i64 {
    i64::try_from(length.as_millis()).unwrap_or(i64::MAX)
}

impl Add<Ttl> for UnixSeconds {
    type Output = Self;

    fn add(self, ttl: Ttl) -> Self {
        Self(self.0.saturating_add(ttl.get()))
    }
}

impl Sub<Ttl> for UnixSeconds {
    type Output = Self;

    fn sub(self, ttl: Ttl) -> Self {
        Self(self.0.saturating_sub(ttl.get()))
    }
}

impl Sub for UnixSeconds {
    type Output = Ttl;

    /// The seconds from `earlier` to this one; negative when it is later.
    fn sub(self, earlier: Self) -> Ttl {
        Ttl::seconds(self.0.saturating_sub(earlier.0))
    }
}

impl Add<Duration> for UnixMillis {
    type Output = Self;

    fn add(self, length: Duration) -> Self {
        Self(self.0.saturating_add(millis(length)))
    }
}

impl Sub<Duration> for UnixMillis {
    type Output = Self;

    fn sub(self, length: Duration) -> Self {
        Self(self.0.saturating_sub(millis(length)))
    }
}

impl Add<Ttl> for UnixMillis {
    type Output = Self;

    fn add(self, ttl: Ttl) -> Self {
        Self(self.0.saturating_add(ttl.get().saturating_mul(MILLIS)))
    }
}

impl fmt::Display for UnixSeconds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for UnixMillis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_second_ends_where_the_next_one_starts() {
        let second = UnixSeconds::new(7);
        assert_eq!(
            (second.start(), second.end()),
            (UnixMillis::new(7_000), UnixMillis::new(8_000))
        );
        assert_eq!(UnixSeconds::new(-1).end(), UnixMillis::new(0));
        assert_eq!(UnixSeconds::new(i64::MAX).end(), UnixMillis::MAX);
    }

    #[test]
    fn a_moment_before_1970_lies_in_the_second_below() {
        for (millis, second) in [(-1001, -2), (-1000, -1), (-1, -1), (0, 0), (999, 0), (1000, 1)] {
            assert_eq!(UnixMillis::new(millis).second(), UnixSeconds::new(second), "{millis}");
        }
    }

    #[test]
    fn sums_and_differences_stop_at_the_ends_of_the_range() {
        let (first, last) = (UnixSeconds::new(i64::MIN), UnixSeconds::new(i64::MAX));
        assert_eq!(last + Ttl::seconds(1), last);
        assert_eq!(first - Ttl::seconds(1), first);
        assert_eq!(first - last, Ttl::seconds(i64::MIN));
        assert_eq!(UnixMillis::MAX + Duration::MAX, UnixMillis::MAX);
        assert_eq!(UnixMillis::MIN - Duration::MAX, UnixMillis::MIN);
        assert_eq!(UnixMillis::new(0) + Ttl::seconds(i64::MAX), UnixMillis::MAX);
        assert_eq!(
            UnixMillis::MAX.since(UnixMillis::MIN),
            Duration::from_millis(i64::MAX.unsigned_abs())
        );
    }

    #[test]
    fn time_since_a_later_moment_is_none() {
        let (early, late) = (UnixMillis::new(-500), UnixMillis::new(1_000));
        assert_eq!(late.since(early), Duration::from_millis(1_500));
        assert_eq!(early.since(late), Duration::ZERO);
        assert_eq!(UnixSeconds::new(3) - UnixSeconds::new(5), Ttl::seconds(-2));
    }

    #[test]
    fn moments_are_bare_numbers_in_json_and_text() {
        let moments = (UnixSeconds::new(-3), UnixMillis::new(4), Ttl::seconds(5));
        assert_eq!(serde_json::to_string(&moments).unwrap(), "[-3,4,5]");
        assert_eq!(
            serde_json::from_str::<(UnixSeconds, UnixMillis, Ttl)>("[-3,4,5]").unwrap(),
            moments
        );
        assert_eq!(format!("{} {} {}", moments.0, moments.1, moments.2), "-3 4 5");
    }

    #[test]
    fn nanoseconds_have_the_same_ends_and_lengths() {
        let (early, late) = (UnixNanos::new(-500), UnixMillis::new(2).start());
        assert_eq!(late, UnixNanos::new(2_000_000));
        assert_eq!(
            (late.since(early), early.since(late)),
            (Duration::from_nanos(2_000_500), Duration::ZERO)
        );
        assert_eq!(late - Duration::from_nanos(1), UnixNanos::new(1_999_999));
        assert_eq!(early - Duration::MAX, UnixNanos::MIN);
        assert_eq!(UnixMillis::MAX.start(), UnixNanos::MAX);
        let year = |year| OffsetDateTime::UNIX_EPOCH.replace_year(year).unwrap();
        assert_eq!(UnixNanos::from(year(1600)), UnixNanos::MIN);
        assert_eq!(UnixNanos::from(year(2300)), UnixNanos::MAX);
        assert_eq!(UnixNanos::from(year(1970)), UnixNanos::default());
    }

    #[test]
    fn a_date_lies_in_its_second_and_its_millisecond() {
        let moment = |nanos| OffsetDateTime::from_unix_timestamp_nanos(nanos).unwrap();
        for (nanos, millis, seconds) in [
            (1_234_567_890, 1_234, 1),
            (0, 0, 0),
            (-1, -1, -1),
            (-1_000_000_000, -1_000, -1),
        ] {
            let moment = moment(nanos);
            assert_eq!(UnixNanos::from(moment).get(), i64::try_from(nanos).unwrap());
            assert_eq!(
                (UnixMillis::from(moment).get(), UnixSeconds::from(moment).get()),
                (millis, seconds),
                "{nanos}"
            );
        }
    }

    proptest! {
        #[test]
        fn every_moment_lies_in_its_second(millis in i64::MIN / 2..i64::MAX / 2) {
            let moment = UnixMillis::new(millis);
            prop_assert!(moment.second().start() <= moment && moment < moment.second().end());
        }

        #[test]
        fn any_sum_is_taken_without_harm(one: i64, other: i64, length: u64) {
            let length = Duration::from_millis(length);
            prop_assert!(UnixMillis::new(one) + length >= UnixMillis::new(one));
            prop_assert!(UnixMillis::new(one) - length <= UnixMillis::new(one));
            let (one, other) = (UnixSeconds::new(one), UnixSeconds::new(other));
            prop_assert_eq!((one - other).get() > 0, one > other);
            let _ = (one + Ttl::seconds(other.get()), one.end(), one.start());
        }
    }
}
