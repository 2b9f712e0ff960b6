//! Bodies as JSON: the contract's tolerance never changes what is good JSON, and never crashes.

use agentwrit_broker::http::json::{Trailing, read};
use agentwrit_protocol::go_json;
use serde_json::{Map, Value};

/// Any bytes as a body.
pub fn run(input: &[u8]) {
    let lenient: Option<Map<String, Value>> = read(input, Trailing::Ignored).ok();
    let strict: Option<Map<String, Value>> = read(input, Trailing::Refused).ok();
    if strict.is_some() {
        assert_eq!(strict, lenient, "what follows the value changed the value");
    }
    match serde_json::from_slice::<Value>(input) {
        Ok(Value::Object(mut members)) => {
            members.retain(|_, member| !member.is_null());
            assert_eq!(strict, Some(members), "good JSON was read as something else");
        }
        Ok(Value::Null) => assert_eq!(strict, Some(Map::new())),
        Ok(_) => assert_eq!(lenient, None, "only an object is a body"),
        Err(_) => {}
    }
    if let Some(members) = lenient {
        let written = go_json::to_vec(&members).unwrap();
        assert!(!written.iter().any(|byte| matches!(byte, b'<' | b'>' | b'&')));
        let again: Map<String, Value> = serde_json::from_slice(&written).unwrap();
        // The parser is not exact to the last bit of a fraction, of which the contract has none.
        if !members.values().any(has_fraction) {
            assert_eq!(again, members, "what was written reads as something else");
        }
    }
}

fn has_fraction(value: &Value) -> bool {
    match value {
        Value::Number(number) => number.is_f64(),
        Value::Array(values) => values.iter().any(has_fraction),
        Value::Object(members) => members.values().any(has_fraction),
        Value::Null | Value::Bool(_) | Value::String(_) => false,
    }
}
