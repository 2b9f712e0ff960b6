//! What single values look like: patterns, limits, examples.

use serde_json::{Value, json};
use utoipa::openapi::schema::{AnyOfBuilder, ArrayBuilder, KnownFormat, ObjectBuilder, SchemaFormat, Type};
use utoipa::openapi::{Deprecated, RefOr, Schema};

/// Three non-empty parts; the identifier may hold anything, colons too.
pub const SCOPE: &str = r"^[^:]+:[^:]+:[\s\S]+$";
/// As pods may ask for it: without white space, comma and bar.
const POD_SCOPE: &str = r"^[^:\s\u0085,|]+:[^:\s\u0085,|]+:[^\s\u0085,|]+$";
/// As custom resources may hold it: not of a reserved family either.
const POLICY_SCOPE: &str = r"^(?!admin:|app:)[^:\s\u0085,|]+:[^:\s\u0085,|]+:[^\s\u0085,|]+$";
const SEGMENT: &str = r"^(?!\.{1,2}$)[A-Za-z0-9._-]+$";
const DNS_LABEL: &str = "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$";

pub type Piece = RefOr<Schema>;

fn string() -> ObjectBuilder {
    ObjectBuilder::new().schema_type(Type::String)
}

/// A string of 1 to `most` characters, none of them a control character.
pub fn text(most: usize, example: &str) -> Piece {
    string()
        .pattern(Some(r"^[^\u0000-\u001f\u007f-\u009f]+$"))
        .max_length(Some(most))
        .examples([example])
        .into()
}

/// A string that is not empty.
pub fn filled(example: &str) -> Piece {
    string().min_length(Some(1)).examples([example]).into()
}

/// A string of 1 to `most` characters of any kind.
pub fn filled_up_to(most: usize, example: &str) -> Piece {
    let object = string().min_length(Some(1)).max_length(Some(most));
    object.examples([example]).into()
}

/// A member of former days: refused unless it is empty.
pub fn empty() -> Piece {
    string().max_length(Some(0)).deprecated(Some(Deprecated::True)).into()
}

pub fn any_text() -> Piece {
    string().into()
}

/// A string of this pattern.
pub fn matching(pattern: &str, example: &str) -> Piece {
    string().pattern(Some(pattern)).examples([example]).into()
}

/// Exactly this many lower-hex characters.
pub fn hex(length: usize) -> Piece {
    let example: String = "4f2a9c071be6d853".chars().cycle().take(length).collect();
    matching(&format!("^[0-9a-f]{{{length}}}$"), &example)
}

/// A secret of this many lower-hex characters.
pub fn secret_hex(length: usize) -> Piece {
    secret(hex(length))
}

fn secret(piece: Piece) -> Piece {
    match piece {
        RefOr::T(Schema::Object(mut object)) => {
            object.format = Some(SchemaFormat::KnownFormat(KnownFormat::Password));
            RefOr::T(Schema::Object(object))
        }
        other => other,
    }
}

/// Standard base64 with padding of this many bytes, of which `example` is the text.
pub fn base64(bytes: usize, example: &str) -> Piece {
    let padding = (3 - bytes % 3) % 3;
    let letters = (bytes * 8).div_ceil(6);
    let object = string()
        .pattern(Some(format!("^[A-Za-z0-9+/]{{{letters}}}={{{padding}}}$")))
        .content_encoding("base64")
        .examples([example]);
    object.into()
}

pub fn choice<'a>(values: impl IntoIterator<Item = &'a str>) -> Piece {
    string().enum_values(Some(values)).into()
}

/// Any text, of which these mean something.
pub fn known<'a>(values: impl IntoIterator<Item = &'a str>) -> Piece {
    string().examples(values).into()
}

pub fn constant(value: &str) -> Piece {
    choice([value])
}

pub fn number(least: i64, most: Option<i64>, example: i64) -> Piece {
    let format = SchemaFormat::KnownFormat(KnownFormat::Int64);
    let object = ObjectBuilder::new().schema_type(Type::Integer).format(Some(format));
    let object = object
        .minimum(Some(float(least)))
        .maximum(most.map(float))
        .examples([example]);
    object.into()
}

/// utoipa writes limits as floats; ours are small enough to be exact.
fn float(value: i64) -> f64 {
    f64::from(i32::try_from(value).unwrap())
}

/// Any 64-bit integer.
pub fn any_number(example: i64) -> Piece {
    let format = SchemaFormat::KnownFormat(KnownFormat::Int64);
    ObjectBuilder::new()
        .schema_type(Type::Integer)
        .format(Some(format))
        .examples([example])
        .into()
}

/// A 64-bit integer up to a limit; what is too small is taken for something else.
pub fn at_most(most: i64, example: i64) -> Piece {
    let format = SchemaFormat::KnownFormat(KnownFormat::Int64);
    let object = ObjectBuilder::new().schema_type(Type::Integer).format(Some(format));
    object.maximum(Some(float(most))).examples([example]).into()
}

pub fn flag(value: bool) -> Piece {
    ObjectBuilder::new()
        .schema_type(Type::Boolean)
        .enum_values(Some([value]))
        .into()
}

pub fn array(items: Piece, least: usize, most: Option<usize>, example: &Value) -> Piece {
    let least = (least > 0).then_some(least);
    let array = ArrayBuilder::new().items(items).min_items(least).max_items(most);
    array.examples([example.clone()]).into()
}

/// One or more scopes.
pub fn scopes(example: &[&str]) -> Piece {
    array(scope(example.first().unwrap()), 1, None, &json!(example))
}

pub fn scope(example: &str) -> Piece {
    matching(SCOPE, example)
}

/// The scopes of a policy.
pub fn policy_scopes(example: &[&str]) -> Piece {
    up_to_64(POLICY_SCOPE, 1, example)
}

/// The scopes that a pod asks for; none are all that it may have.
pub fn pod_scopes(example: &[&str]) -> Piece {
    up_to_64(POD_SCOPE, 0, example)
}

fn up_to_64(pattern: &str, least: usize, example: &[&str]) -> Piece {
    let item = string()
        .pattern(Some(pattern))
        .max_length(Some(256))
        .examples([*example.first().unwrap()]);
    array(item.into(), least, Some(64), &json!(example))
}

/// The value, or an empty one, which counts as absent.
pub fn or_empty(value: Piece) -> Piece {
    let choices = AnyOfBuilder::new().item(value).item(string().max_length(Some(0)));
    choices.into()
}

/// Any moment of RFC 3339.
pub fn any_moment(example: &str) -> Piece {
    let format = SchemaFormat::KnownFormat(KnownFormat::DateTime);
    string().format(Some(format)).examples([example]).into()
}

/// A path segment of a SPIFFE id.
pub fn segment(example: &str) -> Piece {
    let object = string().pattern(Some(SEGMENT)).max_length(Some(253));
    object.examples([example]).into()
}

pub fn dns_label(most: usize, example: &str) -> Piece {
    let object = string().pattern(Some(DNS_LABEL)).max_length(Some(most));
    object.examples([example]).into()
}

/// `metadata.uid` of an object.
pub fn uid() -> Piece {
    let object = string().pattern(Some("^[A-Za-z0-9._-]+$")).max_length(Some(128));
    object.examples(["7f2c8c1e-0b7d-4f3a-9a55-2f1d0c6b8e90"]).into()
}

/// A moment on the wire: UTC, with up to `digits` fraction digits.
pub fn moment(digits: usize) -> Piece {
    let fraction = if digits == 0 {
        String::new()
    } else {
        format!(r"(\.[0-9]{{1,{digits}}})?")
    };
    let object = string()
        .format(Some(SchemaFormat::KnownFormat(KnownFormat::DateTime)))
        .pattern(Some(format!(
            "^[0-9]{{4}}-[0-9]{{2}}-[0-9]{{2}}T[0-9]{{2}}:[0-9]{{2}}:[0-9]{{2}}{fraction}Z$"
        )))
        .examples(["2026-11-21T09:30:00Z"]);
    object.into()
}

/// A compact JWT of this broker.
pub fn jwt() -> Piece {
    secret(matching(
        r"^[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]{86}$",
        &token(),
    ))
}

/// An example of one, which nobody signed.
pub fn token() -> String {
    format!("eyJhbGciOiJFZERTQSJ9.eyJzdWIiOiJhZG1pbiJ9.{}", "A".repeat(86))
}

pub fn spiffe_id() -> Piece {
    matching(
        r"^spiffe://[a-z0-9._-]+/agent/[A-Za-z0-9._-]+/[A-Za-z0-9._-]+/[0-9a-f]{16}$",
        "spiffe://agentwrit.local/agent/orders/report-7/4f2a9c071be6d853",
    )
}
