//! Compact JSON with the escapes of `docs/wire-contract.md` §3: `<`, `>`, `&` and U+2028/9 are written as `\uXXXX`,
//! as Go writes them.
//!
//! What is hashed or signed as JSON (the delegation chain) has to have one spelling on every side.

use std::io;

use serde::Serialize;
use serde_json::ser::{Formatter, Serializer};

/// `serde_json`'s compact form, but for the five characters.
struct Escaping;

/// The escape of a character that `serde_json` would leave as it is.
const fn escape(character: char) -> Option<&'static [u8]> {
    match character {
        '<' => Some(b"\\u003c"),
        '>' => Some(b"\\u003e"),
        '&' => Some(b"\\u0026"),
        '\u{2028}' => Some(b"\\u2028"),
        '\u{2029}' => Some(b"\\u2029"),
        _ => None,
    }
}

/// Whether one of the five, or the first byte of U+2028 in UTF-8, is there. Looks at every byte, which the compiler does
/// many at a time.
fn may_need_escape(text: &str) -> bool {
    text.bytes()
        .fold(false, |found, byte| found | matches!(byte, b'<' | b'>' | b'&' | 0xe2))
}

impl Formatter for Escaping {
    fn write_string_fragment<W: ?Sized + io::Write>(&mut self, writer: &mut W, fragment: &str) -> io::Result<()> {
        if !may_need_escape(fragment) {
            return writer.write_all(fragment.as_bytes());
        }
        let mut plain = 0;
        for (at, character) in fragment.char_indices() {
            if let Some(escape) = escape(character) {
                writer.write_all(fragment.as_bytes().get(plain..at).unwrap_or_default())?;
                writer.write_all(escape)?;
                plain = at + character.len_utf8();
            }
        }
        writer.write_all(fragment.as_bytes().get(plain..).unwrap_or_default())
    }
}

/// Bytes set aside at first: enough for an audit event or a token's claims.
const USUAL: usize = 1024;

/// Writes a value.
///
/// # Errors
/// When the value has no JSON form, such as a map whose keys are no strings.
pub fn to_vec<T: Serialize + ?Sized>(value: &T) -> serde_json::Result<Vec<u8>> {
    let mut bytes = Vec::with_capacity(USUAL);
    value.serialize(&mut Serializer::with_formatter(&mut bytes, Escaping))?;
    Ok(bytes)
}

/// Writes a value as text.
///
/// # Errors
/// As for [`to_vec`].
pub fn to_string<T: Serialize + ?Sized>(value: &T) -> serde_json::Result<String> {
    // Only whole characters are written, so that nothing is ever lost.
    String::from_utf8(to_vec(value)?).or_else(|error| Ok(String::from_utf8_lossy(error.as_bytes()).into_owned()))
}

/// Writes a value as one line, with its line feed: a body of the contract. What can't be written leaves the line empty.
pub fn to_line<T: Serialize + ?Sized>(value: &T) -> String {
    let mut text = to_string(value).unwrap_or_default();
    text.push('\n');
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_five_characters_are_escaped_and_nothing_else() {
        let text = "a<b>&\u{2028}\u{2029}é\"\\\n\u{1}";
        assert_eq!(
            to_string(text).unwrap(),
            r#""a\u003cb\u003e\u0026\u2028\u2029é\"\\\n\u0001""#
        );
        assert_eq!(
            to_string(&serde_json::json!({"<": [1, "&"]})).unwrap(),
            r#"{"\u003c":[1,"\u0026"]}"#
        );
    }

    proptest! {
        #[test]
        fn what_is_written_reads_back(text in any::<String>()) {
            let written = to_string(&text).unwrap();
            prop_assert_eq!(serde_json::from_str::<String>(&written).unwrap(), text);
            let bare = written.contains(['<', '>', '&', '\u{2028}', '\u{2029}']);
            prop_assert!(!bare, "unescaped character");
        }
    }
}
