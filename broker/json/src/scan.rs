//! Where JSON values begin and end. Nothing is kept of them, and nesting costs no stack.

use memchr::memchr2;

use super::raw::Raw;
use super::text::Text;

/// Levels of nesting in one member of what is read. The contract (`docs/wire-contract.md` §3) accepts 9,000 and
/// refuses more than 10,000; the few levels of objects around such a member are not counted.
pub(super) const DEEPEST: usize = 9_900;

/// The text is not JSON, or is nested too deeply.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct NotJson;

/// Goes through a text from value to value.
#[derive(Clone, Copy)]
pub(super) struct Scanner<'a> {
    rest: &'a [u8],
}

impl<'a> Scanner<'a> {
    pub(super) const fn new(text: &'a [u8]) -> Self {
        Self { rest: text }
    }

    /// The next byte, whatever it is, without taking it.
    pub(super) fn next_byte(&self) -> Option<u8> {
        self.rest.first().copied()
    }

    /// The next byte that is no white space, without taking it.
    pub(super) fn peek(&mut self) -> Option<u8> {
        while let [b' ' | b'\t' | b'\n' | b'\r', rest @ ..] = self.rest {
            self.rest = rest;
        }
        self.rest.first().copied()
    }

    /// Takes the next byte that is no white space.
    fn token(&mut self) -> Result<u8, NotJson> {
        self.peek();
        let (first, rest) = self.rest.split_first().ok_or(NotJson)?;
        self.rest = rest;
        Ok(*first)
    }

    /// Takes one value, whatever it is.
    pub(super) fn value(&mut self) -> Result<Raw<'a>, NotJson> {
        self.peek();
        let before = self.rest;
        self.skip()?;
        let length = before.len() - self.rest.len();
        Ok(Raw::new(before.get(..length).unwrap_or_default()))
    }

    /// Takes this opening bracket if it comes next.
    fn opens(&mut self, bracket: u8) -> bool {
        self.peek() == Some(bracket) && self.token().is_ok()
    }

    /// Takes the comma before a further item, or the closing bracket after the last one.
    fn goes_on(&mut self, begun: &mut bool, close: u8) -> Result<bool, NotJson> {
        if self.opens(close) {
            return Ok(false);
        }
        if std::mem::replace(begun, true) && self.token()? != b',' {
            return Err(NotJson);
        }
        Ok(true)
    }

    fn skip(&mut self) -> Result<(), NotJson> {
        // The closing brackets that are still to come.
        let mut open: Vec<u8> = Vec::new();
        loop {
            match self.token()? {
                b'"' => drop(self.string()?),
                b'-' => self.number()?,
                b'0' => self.fraction()?,
                b'1'..=b'9' => {
                    self.digits();
                    self.fraction()?;
                }
                b't' => self.word(b"rue")?,
                b'f' => self.word(b"alse")?,
                b'n' => self.word(b"ull")?,
                bracket @ (b'{' | b'[') => {
                    let close = if bracket == b'{' { b'}' } else { b']' };
                    if open.len() >= DEEPEST {
                        return Err(NotJson);
                    }
                    if self.peek() == Some(close) {
                        self.token()?;
                    } else {
                        open.push(close);
                        if close == b'}' {
                            self.key()?;
                        }
                        continue;
                    }
                }
                _ => return Err(NotJson),
            }
            // A value has ended, and perhaps the arrays and objects that it was the last of.
            loop {
                let Some(close) = open.last().copied() else {
                    return Ok(());
                };
                match self.token()? {
                    b',' => {
                        if close == b'}' {
                            self.key()?;
                        }
                        break;
                    }
                    byte if byte == close => drop(open.pop()),
                    _ => return Err(NotJson),
                }
            }
        }
    }

    /// A member's name and the colon.
    fn key(&mut self) -> Result<Text<'a>, NotJson> {
        if self.token()? != b'"' {
            return Err(NotJson);
        }
        let name = self.string()?;
        if self.token()? == b':' { Ok(name) } else { Err(NotJson) }
    }

    /// What follows an opening quote, to the closing one.
    fn string(&mut self) -> Result<Text<'a>, NotJson> {
        let before = self.rest;
        let mut escapes = false;
        loop {
            let at = memchr2(b'"', b'\\', self.rest).ok_or(NotJson)?;
            let (run, tail) = self.rest.split_at(at);
            // Without a way out of the loop, so that many bytes are compared at once.
            if run.iter().copied().fold(u8::MAX, u8::min) < 0x20 {
                return Err(NotJson);
            }
            self.rest = match tail {
                [b'"', rest @ ..] => {
                    let length = before.len() - tail.len();
                    self.rest = rest;
                    return Ok(Text::new(before.get(..length).unwrap_or_default(), escapes));
                }
                [b'\\', b'u', a, b, c, d, rest @ ..] if [a, b, c, d].iter().all(|digit| digit.is_ascii_hexdigit()) => {
                    rest
                }
                [b'\\', b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't', rest @ ..] => rest,
                _ => return Err(NotJson),
            };
            escapes = true;
        }
    }

    /// What follows a minus sign.
    fn number(&mut self) -> Result<(), NotJson> {
        let (first, rest) = self.rest.split_first().ok_or(NotJson)?;
        self.rest = rest;
        match first {
            b'0' => {}
            b'1'..=b'9' => drop(self.digits()),
            _ => return Err(NotJson),
        }
        self.fraction()
    }

    /// Fraction and exponent of a number, if it has them.
    fn fraction(&mut self) -> Result<(), NotJson> {
        if let [b'.', rest @ ..] = self.rest {
            self.rest = rest;
            self.some_digits()?;
        }
        if let [b'e' | b'E', b'+' | b'-', rest @ ..] | [b'e' | b'E', rest @ ..] = self.rest {
            self.rest = rest;
            self.some_digits()?;
        }
        Ok(())
    }

    fn some_digits(&mut self) -> Result<(), NotJson> {
        if self.digits() > 0 { Ok(()) } else { Err(NotJson) }
    }

    fn digits(&mut self) -> usize {
        let before = self.rest.len();
        while let [b'0'..=b'9', rest @ ..] = self.rest {
            self.rest = rest;
        }
        before - self.rest.len()
    }

    fn word(&mut self, tail: &[u8]) -> Result<(), NotJson> {
        self.rest = self.rest.strip_prefix(tail).ok_or(NotJson)?;
        Ok(())
    }
}

/// Goes through the members of an object.
pub(super) struct Members<'a, 's> {
    scanner: &'s mut Scanner<'a>,
    begun: bool,
}

impl<'a, 's> Members<'a, 's> {
    /// Of the object that comes next; `None` if none does.
    pub(super) fn of(scanner: &'s mut Scanner<'a>) -> Option<Self> {
        scanner.opens(b'{').then_some(Self { scanner, begun: false })
    }

    pub(super) fn next(&mut self) -> Result<Option<(Text<'a>, Raw<'a>)>, NotJson> {
        if !self.scanner.goes_on(&mut self.begun, b'}')? {
            return Ok(None);
        }
        let name = self.scanner.key()?;
        Ok(Some((name, self.scanner.value()?)))
    }
}

/// Goes through the items of an array.
pub(super) struct Items<'a> {
    scanner: Scanner<'a>,
    begun: bool,
}

impl<'a> Items<'a> {
    /// Of the array that comes next; `None` if none does.
    pub(super) fn of(mut scanner: Scanner<'a>) -> Option<Self> {
        scanner.opens(b'[').then_some(Self { scanner, begun: false })
    }

    pub(super) fn next(&mut self) -> Result<Option<Raw<'a>>, NotJson> {
        if !self.scanner.goes_on(&mut self.begun, b']')? {
            return Ok(None);
        }
        self.scanner.value().map(Some)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn whole(text: &[u8]) -> bool {
        let mut scanner = Scanner::new(text);
        scanner.value().is_ok() && scanner.peek().is_none()
    }

    #[test]
    fn a_json_value_ends_at_its_last_byte() {
        for (text, value) in [
            ("{}x", "{}"),
            (" [1, {\"a\" : []} ] ,", "[1, {\"a\" : []} ]"),
            ("\"a\\\"b\" 1", "\"a\\\"b\""),
            ("-0.5e+10]", "-0.5e+10"),
            ("null", "null"),
            ("01", "0"),
        ] {
            assert_eq!(Scanner::new(text.as_bytes()).value().unwrap().bytes(), value.as_bytes());
        }
    }

    #[test]
    fn text_that_is_not_json_is_refused() {
        for text in [
            "",
            " ",
            "{",
            "}",
            "[",
            "]",
            "[1",
            "[1,",
            "[1,]",
            "[,]",
            "[1 2]",
            "[}",
            "{]",
            "{\"a\"}",
            "{\"a\":}",
            "{\"a\":1,}",
            "{a:1}",
            "{\"a\" 1}",
            "{1:1}",
            "\"",
            "\"a",
            "\"\\\"",
            "\"\\x\"",
            "\"\\u12\"",
            "\"\\u123g\"",
            "\"\u{1}\"",
            "\"\n\"",
            "-",
            "-a",
            "+1",
            ".5",
            "1.",
            "1e",
            "1e+",
            "1.e5",
            "tru",
            "nul",
            "fals",
            "nan",
            "'a'",
            "\u{feff}1",
            "\u{c}1",
            "[1]]",
            "01",
            "1true",
        ] {
            assert!(!whole(text.as_bytes()), "{text:?}");
        }
        assert!(!whole(b"[\xff]") && whole(b"[\"\xff\"]"));
    }

    #[test]
    fn nesting_is_bounded_and_needs_no_stack() {
        for (open, close) in [("[", "]"), ("{\"a\":", "}"), ("[{\"a\":", "}]")] {
            let levels = open.bytes().filter(|byte| b"[{".contains(byte)).count();
            let nested = |depth: usize| format!("{}1{}", open.repeat(depth / levels), close.repeat(depth / levels));
            assert!(whole(nested(DEEPEST).as_bytes()));
            assert!(!whole(nested(DEEPEST + levels).as_bytes()));
        }
        assert!(!whole("[".repeat(1 << 20).as_bytes()));
        assert!(!whole("{\"a\":".repeat(1 << 18).as_bytes()));
    }

    #[test]
    fn members_and_items_are_found_one_by_one() {
        let mut scanner = Scanner::new(b" { \"a\" : [1,2] , \"b\":{}, \"a\":\"x\"} y");
        let mut members = Members::of(&mut scanner).unwrap();
        let mut found = Vec::new();
        while let Some((name, value)) = members.next().unwrap() {
            found.push((name.read().into_owned(), value.bytes()));
        }
        let wanted: [(String, &[u8]); 3] = [("a".into(), b"[1,2]"), ("b".into(), b"{}"), ("a".into(), b"\"x\"")];
        assert_eq!(found, wanted);
        assert_eq!(scanner.peek(), Some(b'y'));
        let mut items = Items::of(Scanner::new(b"[ 1 ,[] ]")).unwrap();
        assert_eq!(items.next().unwrap().unwrap().bytes(), b"1");
        assert_eq!(items.next().unwrap().unwrap().bytes(), b"[]");
        assert!(items.next().unwrap().is_none());
        assert!(Items::of(Scanner::new(b"{}")).is_none() && Members::of(&mut Scanner::new(b"[]")).is_none());
        for bad in ["[1 2]", "[,1]", "[1,]", "[1,,2]", "[1"] {
            let mut items = Items::of(Scanner::new(bad.as_bytes())).unwrap();
            let end = std::iter::repeat_with(|| items.next()).find(|item| !matches!(item, Ok(Some(_))));
            assert!(end.unwrap().is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn json_is_what_serde_json_takes_for_json(text in r#"([\[\]{}:,]|"a"|"\\[un"x]?"|[ \n]|-?[01]|[.eE+]|null|true|1){0,12}"#) {
            let known = serde_json::from_str::<serde::de::IgnoredAny>(&text).is_ok();
            prop_assert_eq!(whole(text.as_bytes()), known, "{:?}", text);
        }

        #[test]
        fn no_bytes_make_it_panic(text in proptest::collection::vec(any::<u8>(), 0..100)) {
            let _ = whole(&text);
        }
    }
}
