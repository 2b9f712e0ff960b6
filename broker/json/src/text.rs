//! Strings of a body: what is broken in them is replaced, and only what is wanted is copied.

use std::borrow::Cow;

use memchr::memchr;

const REPLACEMENT: &str = "\u{fffd}";

/// What stands between the quotes of a well-formed string, escapes and all. It may be a secret: there is no `Debug`.
#[derive(Clone, Copy)]
pub(super) struct Text<'a> {
    inner: &'a [u8],
    escapes: bool,
}

impl<'a> Text<'a> {
    /// The text between the quotes, and whether it has escapes.
    pub(super) const fn new(inner: &'a [u8], escapes: bool) -> Self {
        Self { inner, escapes }
    }

    /// The text between the quotes, of which nothing else is known.
    pub(super) fn unknown(inner: &'a [u8]) -> Self {
        Self::new(inner, memchr(b'\\', inner).is_some())
    }

    /// Whether it reads as this name of a type's member, which has nothing that is replaced.
    pub(super) fn is(self, name: &str) -> bool {
        if !self.escapes {
            return self.inner == name.as_bytes();
        }
        let mut rest = Some(name);
        self.pieces(|piece| rest = rest.and_then(|rest| rest.strip_prefix(piece)));
        rest == Some("")
    }

    /// What it reads as: in place if it can be, else one copy that is as large as it has to be.
    pub(super) fn read(self) -> Cow<'a, str> {
        if !self.escapes
            && let Ok(text) = str::from_utf8(self.inner)
        {
            return Cow::Borrowed(text);
        }
        let mut length = 0;
        self.pieces(|piece| length += piece.len());
        let mut text = String::with_capacity(length);
        self.pieces(|piece| text.push_str(piece));
        Cow::Owned(text)
    }

    /// The text piece by piece: U+FFFD for bytes that are no UTF-8 and for escapes of lone surrogates.
    fn pieces(self, mut take: impl FnMut(&str)) {
        let mut rest = self.inner;
        while !rest.is_empty() {
            let (run, tail) = rest.split_at(memchr(b'\\', rest).unwrap_or(rest.len()));
            for chunk in run.utf8_chunks() {
                take(chunk.valid());
                if !chunk.invalid().is_empty() {
                    take(REPLACEMENT);
                }
            }
            let (character, after) = unescape(tail);
            if let Some(character) = character {
                take(character.encode_utf8(&mut [0; 4]));
            }
            rest = after;
        }
    }
}

/// The character of the escape at the beginning, and what follows it.
fn unescape(text: &[u8]) -> (Option<char>, &[u8]) {
    let (escaped, after) = match text {
        [b'\\', b'u', ..] => return unescape_unit(text),
        [b'\\', escaped, after @ ..] => (escaped, after),
        _ => return (None, &[]),
    };
    let character = match escaped {
        b'b' => '\u{8}',
        b'f' => '\u{c}',
        b'n' => '\n',
        b'r' => '\r',
        b't' => '\t',
        other => char::from(*other),
    };
    (Some(character), after)
}

/// The character of one `\u` escape, or of two that are a pair of surrogates.
fn unescape_unit(text: &[u8]) -> (Option<char>, &[u8]) {
    let Some((first, after)) = unit(text) else {
        return (None, &[]);
    };
    if let (0xD800..=0xDBFF, Some((second @ 0xDC00..=0xDFFF, after))) = (first, unit(after)) {
        return (char::decode_utf16([first, second]).next().and_then(Result::ok), after);
    }
    let character = char::from_u32(u32::from(first)).unwrap_or(char::REPLACEMENT_CHARACTER);
    (Some(character), after)
}

/// The UTF-16 unit that a `\u` escape at the beginning stands for, and what follows it.
fn unit(text: &[u8]) -> Option<(u16, &[u8])> {
    let [b'\\', b'u', a, b, c, d, after @ ..] = text else {
        return None;
    };
    let mut value = 0;
    for digit in [a, b, c, d] {
        value = value << 4 | u16::try_from(char::from(*digit).to_digit(16)?).ok()?;
    }
    Some((value, after))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn broken_text_is_replaced_and_the_rest_is_kept() {
        let table: [(&[u8], &str); 20] = [
            (b"", ""),
            (b"abc", "abc"),
            (b"a\xff", "a\u{fffd}"),
            (b"\xe2\x82", "\u{fffd}"),
            (b"\xe2\x82\xffz", "\u{fffd}\u{fffd}z"),
            (b"\xed\xa0\x80", "\u{fffd}\u{fffd}\u{fffd}"),
            ("é😀".as_bytes(), "é😀"),
            (b"\\ud800", "\u{fffd}"),
            (b"\\ud800x", "\u{fffd}x"),
            (b"\\ud800\\n", "\u{fffd}\n"),
            (b"\\udc00\\ud800", "\u{fffd}\u{fffd}"),
            (b"\\ud800\\ud83d\\ude00", "\u{fffd}\u{1f600}"),
            (b"\\uD83D\\uDE00", "\u{1f600}"),
            (b"\\ud83d\\u0041", "\u{fffd}A"),
            (b"\\\\ud800", "\\ud800"),
            (b"\\u0041\\u0000", "A\0"),
            (b"\\\"\\/\\b\\f\\n\\r\\t", "\"/\u{8}\u{c}\n\r\t"),
            (b"\xc3\\u00e9\xa9", "\u{fffd}é\u{fffd}"),
            (b"\\ud83d\xf0\x9f\x98\x80", "\u{fffd}😀"),
            (b"\\u2028", "\u{2028}"),
        ];
        for (written, wanted) in table {
            let text = Text::unknown(written);
            let read = text.read();
            assert_eq!(read, wanted, "{}", written.escape_ascii());
            assert!(text.is(wanted) || wanted.contains(REPLACEMENT), "{wanted}");
            assert!(!text.is("another") && !text.is(&format!("{wanted}x")));
        }
    }

    #[test]
    fn a_copy_is_as_large_as_the_text() {
        for written in [
            b"\xff".repeat(1000),
            b"\\u0000".repeat(1000),
            b"\\ud800\xff".repeat(1000),
        ] {
            let Cow::Owned(text) = Text::unknown(&written).read() else {
                panic!("nothing was replaced");
            };
            assert_eq!(text.capacity(), text.len());
        }
        assert!(matches!(Text::unknown("é".as_bytes()).read(), Cow::Borrowed(_)));
    }
}
