//! Bodies as JSON: what is read is what the contract says of the tree that they stand for, and nothing crashes.

use std::fmt::Debug;

use agentwrit_json::{Trailing, read};
use agentwrit_protocol::go_json;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

#[derive(Debug, PartialEq, Deserialize)]
struct Texts {
    a: Option<String>,
    b: Option<String>,
}

#[derive(Debug, PartialEq, Deserialize)]
struct Numbers {
    a: Option<i64>,
    x: Option<i64>,
    y: Option<i64>,
}

#[derive(Debug, PartialEq, Deserialize)]
struct Others {
    a: Option<Vec<String>>,
    x: Option<bool>,
}

#[derive(Debug, PartialEq, Deserialize)]
struct Outer {
    a: Option<Inner>,
}

#[derive(Debug, PartialEq, Deserialize)]
struct Inner {
    a: Option<String>,
    b: Option<Innermost>,
}

#[derive(Debug, PartialEq, Deserialize)]
struct Innermost {
    a: Option<String>,
}

/// Most items of a list.
const MOST_ITEMS: usize = 4096;

/// A member is of another type than it has to be.
#[derive(Debug, PartialEq)]
struct Malformed;

type Read<T> = Result<T, Malformed>;

/// Any bytes as a body.
pub fn run(input: &[u8]) {
    compare(input, |members| {
        Ok(Texts {
            a: member(members.get("a"), text)?,
            b: member(members.get("b"), text)?,
        })
    });
    compare(input, |members| {
        Ok(Numbers {
            a: member(members.get("a"), number)?,
            x: member(members.get("x"), number)?,
            y: member(members.get("y"), number)?,
        })
    });
    compare(input, |members| {
        Ok(Others {
            a: member(members.get("a"), texts)?,
            x: member(members.get("x"), |value| value.as_bool().ok_or(Malformed))?,
        })
    });
    compare(input, |members| {
        Ok(Outer {
            a: member(members.get("a"), inner)?,
        })
    });
    if let Ok(members) = serde_json::from_slice::<Map<String, Value>>(input) {
        written(&members);
    }
}

/// Reads the input as a type, and holds it against what `wanted` says.
fn compare<T: DeserializeOwned + Debug + PartialEq>(input: &[u8], wanted: impl Fn(&Map<String, Value>) -> Read<T>) {
    let lenient: Read<T> = read(input, Trailing::Ignored).map_err(|_| Malformed);
    let strict: Read<T> = read(input, Trailing::Refused).map_err(|_| Malformed);
    if strict.is_ok() {
        assert_eq!(strict, lenient, "what follows the value changed the value");
    }
    // What serde_json refuses may be tolerated: lone surrogates, deep nesting, numbers that nobody reads.
    let tree = serde_json::from_str::<Value>(&String::from_utf8_lossy(input));
    match tree {
        // It doesn't tell minus zero, which is a whole number, from that with a fraction.
        Ok(tree) if has_minus_zero(&tree) => {}
        Ok(Value::Object(members)) => assert_eq!(strict, wanted(&members), "good JSON was read as something else"),
        Ok(Value::Null) => assert_eq!(strict, wanted(&Map::new())),
        Ok(_) => assert_eq!(lenient, Err(Malformed), "only an object is a body"),
        Err(_) => {}
    }
}

/// A member that may be absent or null.
fn member<'a, T>(value: Option<&'a Value>, read: impl Fn(&'a Value) -> Read<T>) -> Read<Option<T>> {
    value.filter(|value| !value.is_null()).map(read).transpose()
}

fn text(value: &Value) -> Read<String> {
    value.as_str().map(str::to_owned).ok_or(Malformed)
}

fn number(value: &Value) -> Read<i64> {
    value.as_i64().ok_or(Malformed)
}

fn texts(value: &Value) -> Read<Vec<String>> {
    let items = value.as_array().filter(|items| items.len() <= MOST_ITEMS);
    items.ok_or(Malformed)?.iter().map(text).collect()
}

fn inner(value: &Value) -> Read<Inner> {
    let members = value.as_object().ok_or(Malformed)?;
    Ok(Inner {
        a: member(members.get("a"), text)?,
        b: member(members.get("b"), innermost)?,
    })
}

fn innermost(value: &Value) -> Read<Innermost> {
    let members = value.as_object().ok_or(Malformed)?;
    Ok(Innermost {
        a: member(members.get("a"), text)?,
    })
}

fn has_minus_zero(value: &Value) -> bool {
    match value {
        Value::Number(number) => number
            .as_f64()
            .is_some_and(|number| number == 0.0 && number.is_sign_negative()),
        Value::Array(values) => values.iter().any(has_minus_zero),
        Value::Object(members) => members.values().any(has_minus_zero),
        Value::Null | Value::Bool(_) | Value::String(_) => false,
    }
}

/// What the broker writes is JSON again, and safe within HTML.
fn written(members: &Map<String, Value>) {
    let written = go_json::to_vec(members).unwrap();
    assert!(!written.iter().any(|byte| matches!(byte, b'<' | b'>' | b'&')));
    let again: Map<String, Value> = serde_json::from_slice(&written).unwrap();
    // The parser is not exact to the last bit of a fraction, of which the contract has none.
    if !members.values().any(has_fraction) {
        assert_eq!(&again, members, "what was written reads as something else");
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
