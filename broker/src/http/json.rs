//! JSON bodies, with the tolerance and the strictness of contract §3.

use axum::body::Body;
use axum::response::Response;
use http::{HeaderValue, StatusCode};
use memchr::memmem;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::error::ApiError;

/// What follows the first value of a body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trailing {
    /// Nothing but white space may.
    Refused,
    /// It is not looked at.
    Ignored,
}

/// Reads a body: lossy UTF-8, one value, `null` as `{}`, duplicate members: the last one wins.
///
/// # Errors
/// 400 `malformed JSON body`.
pub fn read<T: DeserializeOwned>(body: &[u8], trailing: Trailing) -> Result<T, ApiError> {
    parse(body, trailing).ok_or_else(|| ApiError::invalid("malformed JSON body"))
}

/// Bodies that are read in one go if they can be: their nesting, which isn't counted then, is within the contract's.
const SHORT: usize = 8 * 1024;

fn parse<T: DeserializeOwned>(body: &[u8], trailing: Trailing) -> Option<T> {
    parse_usual(body, trailing).or_else(|| parse_tolerant(body, trailing))
}

/// The usual body, an object without anything to be tolerated, read straight into its type, which may borrow from it.
/// `None` says nothing.
pub(super) fn parse_usual<'de, T: Deserialize<'de>>(body: &'de [u8], trailing: Trailing) -> Option<T> {
    // serde_json takes arrays for structs, and refuses escapes of lone surrogates; a null is to be as if absent.
    if body.len() > SHORT || body.trim_ascii_start().first() != Some(&b'{') {
        return None;
    }
    if [b"\\u".as_slice(), b"null"]
        .iter()
        .any(|word| memmem::find(body, word).is_some())
    {
        return None;
    }
    // Texts that are kept are looked at for UTF-8 here; those of unknown members don't matter.
    let mut values = serde_json::Deserializer::from_slice(body).into_iter::<T>();
    let value = values.next()?.ok()?;
    ended(body, values.byte_offset(), trailing).then_some(value)
}

fn ended(body: &[u8], at: usize, trailing: Trailing) -> bool {
    trailing == Trailing::Ignored || body.get(at..).unwrap_or_default().trim_ascii().is_empty()
}

fn parse_tolerant<T: DeserializeOwned>(body: &[u8], trailing: Trailing) -> Option<T> {
    let text = mend_surrogates(&String::from_utf8_lossy(body));
    let mut values = serde_json::Deserializer::from_str(&text).into_iter::<Value>();
    let mut value = values.next()?.ok()?;
    if !ended(text.as_bytes(), values.byte_offset(), trailing) {
        return None;
    }
    match &mut value {
        Value::Null => value = Value::Object(serde_json::Map::new()),
        // Absent and null mean the same.
        Value::Object(members) => members.retain(|_, member| !member.is_null()),
        _ => return None,
    }
    T::deserialize(value).ok()
}

/// Replaces escapes of lone surrogates by that of U+FFFD; `serde_json` refuses them.
fn mend_surrogates(text: &str) -> String {
    if !text.contains("\\u") {
        return text.to_owned();
    }
    let unit = |at: usize| {
        text.get(at..at + 4)
            .and_then(|digits| u16::from_str_radix(digits, 16).ok())
    };
    let mut mended = String::with_capacity(text.len());
    let mut rest = 0;
    while let Some(offset) = text.get(rest..).and_then(|tail| tail.find('\\')) {
        let at = rest + offset;
        mended.push_str(text.get(rest..at).unwrap_or_default());
        let escaped = text.get(at + 1..).and_then(|tail| tail.chars().next());
        let length = match escaped {
            Some('u') => 6,
            Some(other) => 1 + other.len_utf8(),
            None => 1,
        };
        let high = (escaped == Some('u')).then(|| unit(at + 2)).flatten();
        let low = (text.get(at + 6..at + 8) == Some("\\u"))
            .then(|| unit(at + 8))
            .flatten();
        let end = (at + length).min(text.len());
        match (high, low) {
            (Some(0xD800..=0xDBFF), Some(0xDC00..=0xDFFF)) => {
                mended.push_str(text.get(at..at + 12).unwrap_or_default());
                rest = at + 12;
                continue;
            }
            (Some(0xD800..=0xDFFF), _) => mended.push_str("\\ufffd"),
            _ => mended.push_str(text.get(at..end).unwrap_or_default()),
        }
        rest = end;
        if text.get(rest..).is_none() {
            // The escape was cut short inside a character: leave the refusal to the parser.
            return text.to_owned();
        }
    }
    mended.push_str(text.get(rest..).unwrap_or_default());
    mended
}

/// Compact JSON and a line feed.
pub(super) fn to_line<T: Serialize>(value: &T) -> String {
    let mut text = agentwrit_protocol::go_json::to_string(value).unwrap_or_default();
    text.push('\n');
    text
}

/// A success with a JSON body.
pub fn reply<T: Serialize>(status: StatusCode, value: &T) -> Response {
    reply_text(status, to_line(value))
}

/// A success with a body that is JSON and ends with a line feed.
pub fn reply_text(status: StatusCode, line: impl Into<Body>) -> Response {
    let mut response = Response::new(line.into());
    *response.status_mut() = status;
    response
        .headers_mut()
        .insert(http::header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

#[cfg(test)]
mod tests {
    use super::*;
    use agentwrit_protocol::wire::LaunchTokenRequest;
    use proptest::prelude::*;

    fn parsed(body: &[u8]) -> Option<LaunchTokenRequest> {
        parse(body, Trailing::Ignored)
    }

    #[test]
    fn what_is_not_an_object_is_malformed_and_null_is_empty() {
        for bad in [
            "",
            "{",
            "not-json",
            "[]",
            "\"x\"",
            "5",
            "\u{feff}{}",
            "{\"agent_name\":\"a\u{1}\"}",
            "{\"ttl\":\"30\"}",
        ] {
            assert!(parsed(bad.as_bytes()).is_none(), "{bad:?}");
        }
        assert!(parsed(b"null").is_some_and(|request| request.agent_name.is_none()));
        assert!(parsed(b"{\"agent_name\":null,\"x\":1}").is_some_and(|request| request.agent_name.is_none()));
    }

    #[test]
    fn integers_as_floats_and_out_of_range_are_malformed() {
        for bad in ["30.0", "3e1", "1.5", "9223372036854775808", "true", "[]"] {
            assert!(parsed(format!("{{\"ttl\":{bad}}}").as_bytes()).is_none(), "{bad}");
        }
        assert_eq!(parsed(b"{\"ttl\":9223372036854775807}").unwrap().ttl, Some(i64::MAX));
    }

    #[test]
    fn the_last_duplicate_wins_and_broken_text_is_replaced() {
        assert_eq!(parsed(b"{\"ttl\":1,\"ttl\":2}").unwrap().ttl, Some(2));
        assert_eq!(
            parsed(b"{\"agent_name\":\"a\xff\"}").unwrap().agent_name.as_deref(),
            Some("a\u{fffd}")
        );
        for (escaped, wanted) in [
            ("\\ud800", "\u{fffd}"),
            ("\\ud800x", "\u{fffd}x"),
            ("\\udc00\\ud800", "\u{fffd}\u{fffd}"),
            ("\\ud83d\\ude00", "\u{1f600}"),
            ("\\\\ud800", "\\ud800"),
            ("\\u0041", "A"),
        ] {
            let body = format!("{{\"agent_name\":\"{escaped}\"}}");
            assert_eq!(
                parsed(body.as_bytes()).unwrap().agent_name.as_deref(),
                Some(wanted),
                "{escaped}"
            );
        }
        assert!(parsed("{\"agent_name\":\"\\u12é\"}".as_bytes()).is_none());
    }

    #[test]
    fn trailing_bytes_count_only_where_they_must() {
        assert!(parse::<LaunchTokenRequest>(b"{} x", Trailing::Ignored).is_some());
        assert!(parse::<LaunchTokenRequest>(b"{} x", Trailing::Refused).is_none());
        assert!(parse::<LaunchTokenRequest>(b"{} \n", Trailing::Refused).is_some());
    }

    #[test]
    fn deep_nesting_is_malformed_not_a_crash() {
        let body = format!("{{\"x\":{}{}}}", "[".repeat(20_000), "]".repeat(20_000));
        assert!(parsed(body.as_bytes()).is_none());
    }

    proptest! {
        #[test]
        fn what_is_read_in_one_go_is_what_tolerance_reads(
            members in proptest::collection::vec((0_usize..5, 0_usize..9), 0..5), end in "[ x]{0,2}"
        ) {
            let names = ["agent_name", "ttl", "allowed_scope", "single_use", "other"];
            let values = ["1", "null", "\"a\"", "[\"a\",\"b\"]", "true", "{\"x\":[null]}", "1.5", "\"\\u0041\"", "[1]"];
            let members: Vec<String> = members
                .iter()
                .map(|(name, value)| format!("\"{}\":{}", names[*name], values[*value]))
                .collect();
            let body = format!("{{{}}}{end}", members.join(","));
            for trailing in [Trailing::Ignored, Trailing::Refused] {
                let tolerant = parse_tolerant::<LaunchTokenRequest>(body.as_bytes(), trailing);
                if let Some(usual) = parse_usual::<LaunchTokenRequest>(body.as_bytes(), trailing) {
                    prop_assert_eq!(to_line(&usual), to_line(&tolerant.unwrap()));
                }
            }
        }

        #[test]
        fn no_body_makes_it_panic(body in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = parsed(&body);
        }

        #[test]
        fn no_escape_makes_it_panic(text in r#"(\\\\u?|[ud]|[0-9a-fA-F]|"|é|😀|x){0,40}"#) {
            let mended = mend_surrogates(&text);
            let value = format!("{{\"agent_name\":\"{text}\"}}");
            // What was good JSON before stays what it was.
            if let Ok(before) = serde_json::from_str::<Value>(&value) {
                let after: Value = serde_json::from_str(&mend_surrogates(&value)).unwrap();
                prop_assert_eq!(before, after);
            }
            prop_assert!(mended.len() >= text.len() / 2);
        }
    }
}
