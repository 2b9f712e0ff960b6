//! A JSON value that is read into a type straight from the text, with the tolerance and the strictness of
//! `docs/wire-contract.md` §3.
//!
//! Of an object only the members that the type knows are looked at, of several with one name the last one; what is
//! `null` is absent. So whatever else a body has, it costs nothing but a look, and reading can't keep more than the
//! type holds: each text once, of at most three bytes for one of the body (U+FFFD for a byte that is no UTF-8), and
//! [`MOST_ITEMS`] items a list. Only the nesting of types uses the stack, so a type must not contain itself.

use std::borrow::Cow;
use std::fmt;
use std::vec::IntoIter;

use serde::de::value::{BorrowedStrDeserializer, StrDeserializer};
use serde::de::{DeserializeSeed, Deserializer, Error as _, IntoDeserializer, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, forward_to_deserialize_any};

use super::misfit::Misfit;
use super::scan::{Items, Members, NotJson, Scanner};
use super::text::Text;

/// Most items of a list. The longest lists of scopes, 32 KiB of JSON, have fewer: `"a:b:c",` are 8 bytes.
pub(super) const MOST_ITEMS: usize = 4096;

/// One JSON value that has not been read. As a type to read into it keeps where the value stands. It may hold a secret:
/// there is no `Debug`.
#[derive(Clone, Copy)]
pub struct Raw<'a>(&'a [u8]);

impl<'a> Raw<'a> {
    pub(super) const EMPTY_OBJECT: Self = Self(b"{}");

    /// The text of a value that is known to be well-formed.
    pub(super) const fn new(text: &'a [u8]) -> Self {
        Self(text)
    }

    #[cfg(test)]
    pub(super) const fn bytes(self) -> &'a [u8] {
        self.0
    }

    pub(super) fn is_null(self) -> bool {
        self.0.first() == Some(&b'n')
    }

    /// Whether it is a string, and not the empty one.
    pub fn is_filled_text(self) -> bool {
        matches!(self.0, [b'"', _, _, ..])
    }

    /// The value as a type.
    ///
    /// # Errors
    /// What doesn't fit.
    pub fn read<T: Deserialize<'a>>(self) -> Result<T, Misfit> {
        T::deserialize(self)
    }

    /// The items of a list, one by one; none is kept.
    ///
    /// # Errors
    /// When it is no list.
    pub fn items(self) -> Result<impl Iterator<Item = Raw<'a>>, Misfit> {
        let mut items = Items::of(Scanner::new(self.0)).ok_or_else(|| self.wrong("an array"))?;
        Ok(std::iter::from_fn(move || items.next().ok().flatten()))
    }

    /// What kind of value this is.
    fn kind(self) -> &'static str {
        match self.0 {
            [b'"', ..] => "a string",
            [b'{', ..] => "an object",
            [b'[', ..] => "an array",
            [b't', ..] => "true",
            [b'f', ..] => "false",
            [b'n', ..] => "null",
            number if number.iter().any(|byte| matches!(byte, b'.' | b'e' | b'E')) => {
                "a number with a fraction or an exponent"
            }
            _ => "a number",
        }
    }

    fn wrong(self, wanted: &str) -> Misfit {
        Misfit::wrong(format_args!("must be {wanted}, not {}", self.kind()))
    }

    fn integer(self) -> Result<i64, Misfit> {
        let number = str::from_utf8(self.0).unwrap_or_default().parse().ok();
        number.ok_or_else(|| match self.kind() {
            "a number" => Misfit::wrong("must be a whole number from -2^63 to 2^63-1"),
            _ => self.wrong("a whole number"),
        })
    }

    fn text(self) -> Result<Text<'a>, Misfit> {
        match self.0 {
            [b'"', inner @ .., b'"'] => Ok(Text::unknown(inner)),
            _ => Err(self.wrong("a string")),
        }
    }
}

/// Reads what is asked for, and nothing else: of a type that asks for anything there may be, serde would keep a tree.
/// So types with `flatten`, `untagged` or an internal tag can't be read, nor can maps.
impl<'de> Deserializer<'de> for Raw<'de> {
    type Error = Misfit;

    fn deserialize_any<V: Visitor<'de>>(self, _visitor: V) -> Result<V::Value, Misfit> {
        Err(Misfit::wrong("is of a type that is not read from requests"))
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Misfit> {
        match self.0 {
            b"true" => visitor.visit_bool(true),
            b"false" => visitor.visit_bool(false),
            _ => Err(self.wrong("true or false")),
        }
    }

    fn deserialize_i64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Misfit> {
        visitor.visit_i64(self.integer()?)
    }

    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Misfit> {
        match self.text()?.read() {
            Cow::Borrowed(text) => visitor.visit_borrowed_str(text),
            Cow::Owned(text) => visitor.visit_string(text),
        }
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Misfit> {
        self.deserialize_str(visitor)
    }

    /// Where the value stands.
    fn deserialize_bytes<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Misfit> {
        visitor.visit_borrowed_bytes(self.0)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Misfit> {
        if self.is_null() {
            visitor.visit_none()
        } else {
            visitor.visit_some(self)
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, _name: &'static str, visitor: V) -> Result<V::Value, Misfit> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Misfit> {
        let items = Items::of(Scanner::new(self.0)).ok_or_else(|| self.wrong("an array"))?;
        visitor.visit_seq(List { items, count: 0 })
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Misfit> {
        read_object(&mut Scanner::new(self.0), fields, visitor)?.ok_or_else(|| self.wrong("an object"))
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _name: &'static str,
        _variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Misfit> {
        let variant = self.text()?.read();
        let variant: StrDeserializer<'_, Misfit> = variant.as_ref().into_deserializer();
        visitor.visit_enum(variant)
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Misfit> {
        visitor.visit_unit()
    }

    forward_to_deserialize_any! {
        i8 i16 i32 i128 u8 u16 u32 u64 u128 f32 f64 char byte_buf unit unit_struct tuple tuple_struct map identifier
    }
}

/// A whole body that has not been gone through; it is an object.
pub(super) struct Whole<'a, 's>(pub(super) &'s mut Scanner<'a>);

impl<'de> Deserializer<'de> for Whole<'de, '_> {
    type Error = Misfit;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Misfit> {
        Raw::EMPTY_OBJECT.deserialize_any(visitor)
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Misfit> {
        read_object(self.0, fields, visitor)?.ok_or_else(|| NotJson.into())
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option unit unit_struct
        newtype_struct seq tuple tuple_struct map enum identifier ignored_any
    }
}

/// Reads the object that comes next; `None` if none does.
fn read_object<'de, V: Visitor<'de>>(
    scanner: &mut Scanner<'de>,
    fields: &'static [&'static str],
    visitor: V,
) -> Result<Option<V::Value>, Misfit> {
    let Some(mut members) = Members::of(scanner) else {
        return Ok(None);
    };
    let mut known: Vec<Known<'de>> = fields.iter().map(|name| Known { name, value: None }).collect();
    while let Some((name, value)) = members.next()? {
        if let Some(known) = known.iter_mut().find(|known| name.is(known.name)) {
            known.value = Some(value);
        }
    }
    let members = known.into_iter();
    visitor.visit_map(Object { members, last: None }).map(Some)
}

/// A member that the type knows, and its last value if there was one.
struct Known<'de> {
    name: &'static str,
    value: Option<Raw<'de>>,
}

struct Object<'de> {
    members: IntoIter<Known<'de>>,
    last: Option<(&'static str, Raw<'de>)>,
}

impl<'de> MapAccess<'de> for Object<'de> {
    type Error = Misfit;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Misfit> {
        let mut present = self.members.by_ref().filter_map(|known| {
            let value = known.value.filter(|value| !value.is_null())?;
            Some((known.name, value))
        });
        self.last = present.next();
        let Some((name, _)) = self.last else {
            return Ok(None);
        };
        seed.deserialize(BorrowedStrDeserializer::new(name)).map(Some)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Misfit> {
        let (name, value) = self
            .last
            .take()
            .ok_or_else(|| Misfit::custom("a value without a name"))?;
        seed.deserialize(value).map_err(|misfit| misfit.in_member(name))
    }
}

struct List<'de> {
    items: Items<'de>,
    count: usize,
}

impl<'de> SeqAccess<'de> for List<'de> {
    type Error = Misfit;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, Misfit> {
        let Some(item) = self.items.next()? else {
            return Ok(None);
        };
        if self.count == MOST_ITEMS {
            return Err(Misfit::items(MOST_ITEMS));
        }
        let index = self.count;
        self.count += 1;
        seed.deserialize(item).map(Some).map_err(|misfit| misfit.in_item(index))
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Raw<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Place;

        impl<'de> Visitor<'de> for Place {
            type Value = Raw<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a value of a body")
            }

            fn visit_borrowed_bytes<E>(self, text: &'de [u8]) -> Result<Raw<'de>, E> {
                Ok(Raw(text))
            }
        }

        deserializer.deserialize_bytes(Place)
    }
}
