//! `docs/wire-contract.md` §3 once more, as simply as it can be said: everything is mended, kept in a tree and read
//! from that. The tests hold the product's reading against it.

use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use super::Trailing;

pub(super) fn read<T: DeserializeOwned>(body: &[u8], trailing: Trailing) -> Option<T> {
    let text = mend_surrogates(&String::from_utf8_lossy(body));
    let mut values = serde_json::Deserializer::from_str(&text).into_iter::<Value>();
    let value = values.next()?.ok()?;
    let rest = text.as_bytes().get(values.byte_offset()..)?;
    if trailing == Trailing::Refused && !rest.trim_ascii().is_empty() {
        return None;
    }
    match value {
        Value::Null => T::deserialize(Value::Object(Map::new())).ok(),
        Value::Object(_) => T::deserialize(without_nulls(value)).ok(),
        _ => None,
    }
}

/// Without the members that are null, at any depth; what is null in a list stays.
fn without_nulls(value: Value) -> Value {
    match value {
        Value::Object(members) => {
            let members = members.into_iter().filter(|(_, member)| !member.is_null());
            Value::Object(members.map(|(name, member)| (name, without_nulls(member))).collect())
        }
        Value::Array(items) => Value::Array(items.into_iter().map(without_nulls).collect()),
        other => other,
    }
}

/// Replaces escapes of lone surrogates by that of U+FFFD; `serde_json` refuses them.
pub(super) fn mend_surrogates(text: &str) -> String {
    let mut mended = String::new();
    let mut rest = text;
    while let Some(at) = rest.find('\\') {
        let (before, escape) = rest.split_at(at);
        mended.push_str(before);
        let length = match (unit(escape), escape.get(6..).and_then(unit)) {
            (Some(0xD800..=0xDBFF), Some(0xDC00..=0xDFFF)) => 12,
            (Some(0xD800..=0xDFFF), _) => {
                mended.push_str("\\ufffd");
                rest = &escape[6..];
                continue;
            }
            // The backslash and what it escapes; the digits of others are ordinary characters.
            _ => 1 + escape.chars().nth(1).map_or(0, char::len_utf8),
        };
        mended.push_str(&escape[..length]);
        rest = &escape[length..];
    }
    mended.push_str(rest);
    mended
}

fn unit(escape: &str) -> Option<u16> {
    let digits = escape.strip_prefix("\\u")?.get(..4)?;
    digits.bytes().all(|digit| digit.is_ascii_hexdigit()).then_some(())?;
    u16::from_str_radix(digits, 16).ok()
}
