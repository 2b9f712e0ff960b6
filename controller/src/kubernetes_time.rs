//! Moments as Kubernetes' objects write them, in whole seconds.

use agentwrit_protocol::UnixSeconds;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;

/// As an object holds it; the epoch for a second that no timestamp can name.
pub(crate) fn timestamp(second: UnixSeconds) -> Timestamp {
    Timestamp::from_second(second.get()).unwrap_or(Timestamp::UNIX_EPOCH)
}

/// The second of an object's time.
pub(crate) fn second(time: &Time) -> UnixSeconds {
    UnixSeconds::new(time.0.as_second())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_second_has_a_timestamp() {
        for (given, wanted) in [
            (0, 0),
            (-1, -1),
            (1_800_000_000, 1_800_000_000),
            (i64::MIN, 0),
            (i64::MAX, 0),
        ] {
            let time = Time(timestamp(UnixSeconds::new(given)));
            assert_eq!(second(&time), UnixSeconds::new(wanted), "{given}");
        }
    }
}
