//! Values of statements, and the texts that PostgreSQL can't hold as they are.

use std::borrow::Cow;

use bytes::BytesMut;
use tokio_postgres::types::{IsNull, ToSql, Type, to_sql_checked};

/// Stands before what can't stand itself: a character that no text has a use for (Unicode: a noncharacter).
const ESCAPE: char = '\u{10ffff}';
/// What follows it where there was a NUL, which PostgreSQL takes in no text.
const NUL: char = '0';

/// The text as the database holds it: any two different texts stay different.
pub(crate) fn encoded(text: &str) -> Cow<'_, str> {
    if !text.contains(['\0', ESCAPE]) {
        return Cow::Borrowed(text);
    }
    let mut encoded = String::with_capacity(text.len() + 8);
    for character in text.chars() {
        match character {
            '\0' => encoded.extend([ESCAPE, NUL]),
            ESCAPE => encoded.extend([ESCAPE, ESCAPE]),
            other => encoded.push(other),
        }
    }
    Cow::Owned(encoded)
}

/// The text that was encoded.
pub(crate) fn decoded(text: String) -> String {
    if !text.contains(ESCAPE) {
        return text;
    }
    let mut decoded = String::with_capacity(text.len());
    let mut characters = text.chars();
    while let Some(character) = characters.next() {
        match character {
            ESCAPE => decoded.push(characters.next().filter(|next| *next != NUL).unwrap_or('\0')),
            other => decoded.push(other),
        }
    }
    decoded
}

/// A value of a statement.
#[derive(Debug, Clone)]
pub(crate) enum Value {
    Whole(Option<i64>),
    Text(Option<String>),
    Flag(bool),
    Bytes(Vec<u8>),
    Wholes(Vec<i64>),
    AnyWholes(Vec<Option<i64>>),
    Texts(Vec<String>),
}

impl Value {
    /// The values of a column, of texts or of whole numbers that may lack.
    pub(crate) fn column(values: &[Self]) -> Self {
        let texts = values.iter().map(|value| match value {
            Self::Text(text) => text.clone(),
            _ => None,
        });
        match texts.collect::<Option<Vec<_>>>() {
            Some(texts) if !texts.is_empty() => Self::Texts(texts),
            _ => Self::AnyWholes(
                values
                    .iter()
                    .map(|value| match value {
                        Self::Whole(number) => *number,
                        _ => None,
                    })
                    .collect(),
            ),
        }
    }

    /// The type that it has in a statement that doesn't say.
    pub(crate) const fn kind(&self) -> Type {
        match self {
            Self::Whole(_) => Type::INT8,
            Self::Text(_) => Type::TEXT,
            Self::Flag(_) => Type::BOOL,
            Self::Bytes(_) => Type::BYTEA,
            Self::Wholes(_) | Self::AnyWholes(_) => Type::INT8_ARRAY,
            Self::Texts(_) => Type::TEXT_ARRAY,
        }
    }
}

impl From<i64> for Value {
    fn from(value: i64) -> Self {
        Self::Whole(Some(value))
    }
}

impl From<Option<i64>> for Value {
    fn from(value: Option<i64>) -> Self {
        Self::Whole(value)
    }
}

impl From<bool> for Value {
    fn from(value: bool) -> Self {
        Self::Flag(value)
    }
}

impl From<&str> for Value {
    fn from(value: &str) -> Self {
        Self::Text(Some(encoded(value).into_owned()))
    }
}

impl From<&String> for Value {
    fn from(value: &String) -> Self {
        Self::from(value.as_str())
    }
}

impl From<String> for Value {
    fn from(value: String) -> Self {
        Self::from(value.as_str())
    }
}

impl From<Option<&str>> for Value {
    fn from(value: Option<&str>) -> Self {
        Self::Text(value.map(|value| encoded(value).into_owned()))
    }
}

impl From<Option<String>> for Value {
    fn from(value: Option<String>) -> Self {
        Self::from(value.as_deref())
    }
}

impl From<&[u8]> for Value {
    fn from(value: &[u8]) -> Self {
        Self::Bytes(value.to_vec())
    }
}

impl From<Vec<i64>> for Value {
    fn from(value: Vec<i64>) -> Self {
        Self::Wholes(value)
    }
}

/// Texts of a column.
impl<'t> FromIterator<&'t str> for Value {
    fn from_iter<I: IntoIterator<Item = &'t str>>(texts: I) -> Self {
        Self::Texts(texts.into_iter().map(|text| encoded(text).into_owned()).collect())
    }
}

impl ToSql for Value {
    fn to_sql(&self, kind: &Type, out: &mut BytesMut) -> Result<IsNull, Box<dyn std::error::Error + Sync + Send>> {
        // Checked, each with its own type: a whole number in place of a text is a defect.
        match self {
            Self::Whole(value) => value.to_sql_checked(kind, out),
            Self::Text(value) => value.to_sql_checked(kind, out),
            Self::Flag(value) => value.to_sql_checked(kind, out),
            Self::Bytes(value) => value.to_sql_checked(kind, out),
            Self::Wholes(value) => value.to_sql_checked(kind, out),
            Self::AnyWholes(value) => value.to_sql_checked(kind, out),
            Self::Texts(value) => value.to_sql_checked(kind, out),
        }
    }

    fn accepts(_: &Type) -> bool {
        true
    }

    to_sql_checked!();
}

/// The values of a statement, in order.
macro_rules! values {
    ($($value:expr),* $(,)?) => { vec![$($crate::value::Value::from($value)),*] };
}
pub(crate) use values;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_comes_back_whatever_it_holds() {
        for text in [
            "",
            "a",
            "a\0b",
            "\0\0",
            "\u{10ffff}",
            "\u{10ffff}0",
            "\0\u{10ffff}\0",
            "0\0",
        ] {
            let stored = encoded(text).into_owned();
            assert!(!stored.contains('\0'));
            assert_eq!(decoded(stored), text, "{text:?}");
        }
    }

    #[test]
    fn different_texts_are_stored_as_different_ones() {
        assert_ne!(encoded("\0"), encoded("\u{10ffff}0"));
        assert!(matches!(encoded("plain"), Cow::Borrowed("plain")));
    }
}
