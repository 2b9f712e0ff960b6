//! Moments as the wire writes and reads them.

use time::format_description::well_known::Rfc3339;
use time::{OffsetDateTime, UtcOffset};

use crate::time::{UnixNanos, UnixSeconds};

/// RFC 3339, UTC, whole seconds.
pub fn rfc3339_seconds(second: UnixSeconds) -> String {
    rfc3339_nanos(OffsetDateTime::from_unix_timestamp(second.get()).unwrap_or(OffsetDateTime::UNIX_EPOCH))
}

/// RFC 3339, UTC, up to nine fraction digits with trailing zeros removed.
pub fn rfc3339_nanos(moment: OffsetDateTime) -> String {
    // Only years that no clock of ours can have are refused.
    moment.to_offset(UtcOffset::UTC).format(&Rfc3339).unwrap_or_default()
}

/// The moment of an RFC 3339 text; `None` when it is none. Of what RFC 3339 leaves open the form that Go takes:
/// `T` between date and time, `Z` in upper case, no leap second.
pub fn parse_rfc3339(text: &str) -> Option<UnixNanos> {
    let bytes = text.as_bytes();
    if bytes.get(10) != Some(&b'T') || bytes.contains(&b'z') || bytes.get(17..19) == Some(b"60".as_slice()) {
        return None;
    }
    OffsetDateTime::parse(text, &Rfc3339).ok().map(UnixNanos::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fractions_are_cut_at_the_last_digit_that_counts() {
        for (nanos, wanted) in [
            (0, "1970-01-01T00:00:00Z"),
            (1_500_000_000, "1970-01-01T00:00:01.5Z"),
            (1, "1970-01-01T00:00:00.000000001Z"),
        ] {
            let moment = OffsetDateTime::from_unix_timestamp_nanos(nanos).unwrap();
            assert_eq!(rfc3339_nanos(moment), wanted);
            assert_eq!(parse_rfc3339(wanted), Some(UnixNanos::from(moment)));
        }
        assert_eq!(parse_rfc3339("1970-01-01T01:00:00+01:00"), Some(UnixNanos::default()));
        for none in [
            "1970-01-01T01:00:00 01:00",
            "1970-01-01 00:00:00Z",
            "1970-01-01t00:00:00Z",
            "1970-01-01T00:00:00z",
            "1970-01-01T23:59:60Z",
            "2016-12-31T23:59:60Z",
            "1970-01-01T24:00:00Z",
            "1970-01-01T00:00:00",
            "1970-01-01T00:00Z",
            "1970-01-01T00:00:00+0100",
            "1970-01-01T00:00:00.Z",
            "",
        ] {
            assert_eq!(parse_rfc3339(none), None, "{none}");
        }
    }
}
