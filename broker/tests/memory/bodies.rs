//! JSON that is short and would be large as a tree, or that is hard to get to the end of.

/// A family of values: how to make one of about so many bytes.
pub struct Family {
    pub name: &'static str,
    pub tried: Tried,
    pub make: fn(usize) -> Vec<u8>,
}

/// Where a family is tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tried {
    /// In every member of every endpoint: it is read and handed on.
    Everywhere,
    /// At every endpoint, in a member that nobody knows.
    Unknown,
    /// At a few endpoints: it is told from others by reading alone, which is the same everywhere.
    Somewhere,
}

/// `open`, then `unit` again and again with commas between, then `close`.
fn repeated(open: &str, unit: &[u8], close: &str, size: usize) -> Vec<u8> {
    let count = (size - open.len() - close.len()) / (unit.len() + 1);
    let units = vec![unit; count].join(&b',');
    [open.as_bytes(), &units, close.as_bytes()].concat()
}

/// A string of `unit` again and again.
fn string(unit: &[u8], size: usize) -> Vec<u8> {
    let count = (size - 2) / unit.len();
    [b"\"", unit.repeat(count).as_slice(), b"\""].concat()
}

fn nested(open: &str, close: &str, levels: usize) -> Vec<u8> {
    format!("{}1{}", open.repeat(levels), close.repeat(levels)).into_bytes()
}

/// As many different members as fit.
fn distinct(size: usize) -> Vec<u8> {
    let members: Vec<String> = (0..size / 9).map(|number| format!("\"{number:x}\":0")).collect();
    let mut text = format!("{{{}", members.join(",")).into_bytes();
    text.truncate(size - 1);
    let whole = text.iter().rposition(|byte| *byte == b',').unwrap();
    text.truncate(whole);
    text.push(b'}');
    text
}

macro_rules! families {
    ($($tried:ident $name:literal $make:expr;)*) => {
        &[$(Family { name: $name, tried: Tried::$tried, make: $make }),*]
    };
}

pub const FAMILIES: &[Family] = families! {
    Unknown "tiny objects" |size| repeated("[", b"{\"\":0}", "]", size);
    Somewhere "empty objects" |size| repeated("[", b"{}", "]", size);
    Somewhere "empty arrays" |size| repeated("[", b"[]", "]", size);
    Somewhere "empty strings" |size| repeated("[", b"\"\"", "]", size);
    Somewhere "tiny strings" |size| repeated("[", b"\"a\"", "]", size);
    Somewhere "scopes" |size| repeated("[", b"\"a:b:c\"", "]", size);
    Somewhere "scopes that are no UTF-8" |size| repeated("[", b"\"a:b:\xff\"", "]", size);
    Everywhere "long scopes that are no UTF-8" |size| repeated("[", &[b"\"a:b:", [0xff; 245].as_slice(), b"\""].concat(), "]", size);
    Everywhere "one scope that is no UTF-8" |size| repeated("[", &[b"\"a:b:".as_slice(), &vec![0xff; size - 20], b"\""].concat(), "]", size);
    Somewhere "one scope of escapes" |size| repeated("[", &[b"\"a:b:".as_slice(), &b"\\u0000".repeat((size - 20) / 6), b"\""].concat(), "]", size);
    Somewhere "nulls" |size| repeated("[", b"null", "]", size);
    Somewhere "digits" |size| repeated("[", b"0", "]", size);
    Somewhere "members of different names" distinct;
    Somewhere "one member again and again" |size| repeated("{", b"\"a\":0", "}", size);
    Somewhere "members of arrays" |size| repeated("{", b"\"a\":[{\"\":0},{\"\":0}]", "}", size);
    Somewhere "nested arrays" |size| nested("[", "]", size / 2);
    Somewhere "nested arrays as deep as accepted" |_| nested("[", "]", 9000);
    Somewhere "nested objects" |size| nested("{\"a\":", "}", size / 6);
    Somewhere "arrays without an end" |size| b"[".repeat(size);
    Somewhere "objects without an end" |size| b"{\"a\":".repeat(size / 5);
    Everywhere "a long text" |size| string(b"a", size);
    Somewhere "a text of escaped NULs" |size| string(b"\\u0000", size);
    Somewhere "a text of escaped control characters" |size| string(b"\\u001f", size);
    Somewhere "a text of lone surrogates" |size| string(b"\\ud800", size);
    Somewhere "a text of pairs" |size| string(b"\\ud83d\\ude00", size);
    Somewhere "a text of escaped quotes" |size| string(b"\\\"", size);
    Everywhere "a text that is no UTF-8" |size| string(b"\xff", size);
    Somewhere "a text of characters cut short" |size| string(b"\xf0\x9f\x98", size);
    Somewhere "a text without an end" |size| [b"\"", b"a".repeat(size - 1).as_slice()].concat();
    Somewhere "a huge number" |size| b"9".repeat(size);
    Somewhere "a huge fraction" |size| [b"1.", b"9".repeat(size - 2).as_slice()].concat();
    Somewhere "a huge exponent" |size| [b"1e", b"9".repeat(size - 2).as_slice()].concat();
    Somewhere "a huge name" |size| [b"{", string(b"a", size - 4).as_slice(), b":0}"].concat();
    Somewhere "a huge name of escapes" |size| [b"{", string(b"\\u0061", size - 4).as_slice(), b":0}"].concat();
    Somewhere "a huge name that is no UTF-8" |size| [b"{", string(b"\xff", size - 4).as_slice(), b":0}"].concat();
};
