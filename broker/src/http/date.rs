//! The header `Date`.

use agentwrit_protocol::UnixSeconds;
use http::HeaderValue;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc2822;

/// The header `Date` of a moment (RFC 9110 §5.6.7); `None` for years that no clock of ours can have.
pub(crate) fn http_date(second: UnixSeconds) -> Option<HeaderValue> {
    let moment = OffsetDateTime::from_unix_timestamp(second.get()).ok()?;
    let text = moment.format(&Rfc2822).ok()?.replace("+0000", "GMT");
    HeaderValue::try_from(text).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_date_header_is_in_the_form_of_http() {
        assert_eq!(
            http_date(UnixSeconds::new(784_111_777)).unwrap(),
            "Sun, 06 Nov 1994 08:49:37 GMT"
        );
        assert_eq!(http_date(UnixSeconds::new(i64::MAX)), None);
    }
}
