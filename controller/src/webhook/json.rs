//! Reads untrusted JSON: only the members that are used are kept, and borrowed from the body where possible.
//!
//! serde's derived readers repeat a value of the wrong type in their error, however long it is. Here a type says which
//! kinds of JSON values it can use, and the error for every other kind names the place and the kind alone.

mod values;

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;

use serde::de::{Deserialize, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};

pub(crate) use values::{Count, Present, Raw, Text};

/// A type that can be read. What is not overridden is refused; unknown members of objects are ignored.
pub(crate) trait FromJson<'de>: Sized {
    /// What is wanted, for the error.
    const WANTED: &'static str;

    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer
            .deserialize_any(AnyKind(PhantomData))
            .map(|Read(value)| value)
    }

    fn null() -> Option<Self> {
        None
    }
    fn flag(_: bool) -> Option<Self> {
        None
    }
    fn number(_: i64) -> Option<Self> {
        None
    }
    fn text(_: Cow<'de, str>) -> Option<Self> {
        None
    }
    fn list<A: SeqAccess<'de>>(_: A) -> Result<Option<Self>, A::Error> {
        Ok(None)
    }
    fn object<A: MapAccess<'de>>(_: A) -> Result<Option<Self>, A::Error> {
        Ok(None)
    }
}

/// Reads a whole document.
///
/// The error names the place and what is wrong there; never repeats a value.
pub(crate) fn read<'de, T: FromJson<'de>>(json: &'de [u8]) -> Result<T, String> {
    let document: Result<Read<T>, serde_json::Error> = serde_json::from_slice(json);
    match document {
        Ok(Read(value)) => Ok(value),
        Err(error) => Err(error.to_string().trim_start_matches([':', '.', ' ']).to_owned()),
    }
}

/// Makes any such type readable for serde.
pub(crate) struct Read<T>(pub(crate) T);

impl<'de, T: FromJson<'de>> Deserialize<'de> for Read<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        T::deserialize(deserializer).map(Self)
    }
}

struct AnyKind<T>(PhantomData<T>);

fn taken<T, E: Error>(value: Option<T>, found: &str, wanted: &str) -> Result<Read<T>, E> {
    value
        .map(Read)
        .ok_or_else(|| E::custom(format_args!(": {found} instead of {wanted}")))
}

impl<'de, T: FromJson<'de>> Visitor<'de> for AnyKind<T> {
    type Value = Read<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(T::WANTED)
    }

    fn visit_unit<E: Error>(self) -> Result<Self::Value, E> {
        taken(T::null(), "null", T::WANTED)
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<Self::Value, E> {
        taken(T::flag(value), "true or false", T::WANTED)
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Self::Value, E> {
        taken(T::number(value), "a number", T::WANTED)
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Self::Value, E> {
        taken(i64::try_from(value).ok().and_then(T::number), "a number", T::WANTED)
    }

    fn visit_f64<E: Error>(self, _: f64) -> Result<Self::Value, E> {
        taken(None, "a fraction or a number out of range", T::WANTED)
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<Self::Value, E> {
        taken(T::text(Cow::Owned(value.to_owned())), "a string", T::WANTED)
    }

    fn visit_borrowed_str<E: Error>(self, value: &'de str) -> Result<Self::Value, E> {
        taken(T::text(Cow::Borrowed(value)), "a string", T::WANTED)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, items: A) -> Result<Self::Value, A::Error> {
        taken(T::list(items)?, "a list", T::WANTED)
    }

    fn visit_map<A: MapAccess<'de>>(self, members: A) -> Result<Self::Value, A::Error> {
        taken(T::object(members)?, "an object", T::WANTED)
    }
}

/// The value of the member `name`, whose key was just read.
pub(crate) fn member<'de, T, A>(members: &mut A, name: &str) -> Result<T, A::Error>
where
    T: FromJson<'de>,
    A: MapAccess<'de>,
{
    match members.next_value() {
        Ok(Read(value)) => Ok(value),
        Err(error) => Err(placed(format_args!(".{name}"), &error)),
    }
}

/// Passes over the value of a member whose key was just read.
pub(crate) fn ignore<'de, A: MapAccess<'de>>(members: &mut A) -> Result<(), A::Error> {
    members.next_value::<IgnoredAny>().map(|_| ())
}

/// Hands each item of a list to `take` while there are at most `most`; counts them all.
pub(crate) fn items<'de, T, A>(mut list: A, most: usize, mut take: impl FnMut(T)) -> Result<usize, A::Error>
where
    T: FromJson<'de>,
    A: SeqAccess<'de>,
{
    let mut count = 0_usize;
    loop {
        let found = if count < most {
            match list.next_element() {
                Ok(Some(Read(item))) => {
                    take(item);
                    true
                }
                Ok(None) => false,
                Err(error) => return Err(placed(format_args!("[{count}]"), &error)),
            }
        } else {
            list.next_element::<IgnoredAny>()?.is_some()
        };
        if !found {
            return Ok(count);
        }
        count = count.saturating_add(1);
    }
}

/// The error with its place before it: `.spec.containers[3].name: a number instead of a string`.
fn placed<E: Error>(place: fmt::Arguments<'_>, error: &E) -> E {
    let text = error.to_string();
    if text.starts_with([':', '.', '[']) {
        E::custom(format_args!("{place}{text}"))
    } else {
        E::custom(format_args!("{place}: {text}"))
    }
}

/// A struct that is read from an object by the members named here. Of a member that is there twice the last counts;
/// `null` in the object's place is an empty one.
macro_rules! object {
    ($($(#[$meta:meta])* $name:ident $(<$life:lifetime>)? { $($field:ident: $type:ty = $key:literal),* $(,)? })*) => {$(
        $(#[$meta])*
        #[derive(Debug, Default)]
        pub(crate) struct $name $(<$life>)? {
            $(pub(crate) $field: $type,)*
        }

        impl<'de $(: $life, $life)?> $crate::webhook::json::FromJson<'de> for $name $(<$life>)? {
            const WANTED: &'static str = "an object";

            fn null() -> Option<Self> {
                Some(Self::default())
            }

            fn object<A: serde::de::MapAccess<'de>>(mut members: A) -> Result<Option<Self>, A::Error> {
                use $crate::webhook::json::{Read, Text, ignore, member};
                let mut object = Self::default();
                while let Some(Read(key)) = members.next_key::<Read<Text<'de>>>()? {
                    match &*key {
                        $($key => object.$field = member(&mut members, $key)?,)*
                        _ => ignore(&mut members)?,
                    }
                }
                Ok(Some(object))
            }
        }
    )*};
}
pub(crate) use object;

#[cfg(test)]
mod tests {
    use super::*;

    object! {
        Outer<'a> { name: Text<'a> = "name", on: bool = "on", inner: Option<Inner<'a>> = "inner", list: Inners<'a> = "list" }
        Inner<'a> { text: Option<Text<'a>> = "text", number: i64 = "number", there: Present = "there", many: Count = "many" }
    }

    #[derive(Debug, Default)]
    pub(crate) struct Inners<'a>(usize, Vec<Inner<'a>>);

    impl<'a> FromJson<'a> for Inners<'a> {
        const WANTED: &'static str = "a list";

        fn list<A: SeqAccess<'a>>(list: A) -> Result<Option<Self>, A::Error> {
            let mut kept = Vec::new();
            let count = items(list, 2, |item| kept.push(item))?;
            Ok(Some(Self(count, kept)))
        }
    }

    #[test]
    fn only_the_named_members_are_read() {
        let read: Outer<'_> = read(
            br#"{"x": [{"y": null}], "name": "a", "on": true, "inner": {"text": "t\n", "number": -5, "there": [{}], "many": [1, {}]},
                "list": [{"number": 1}, {"number": 2}, {"number": "three"}]}"#,
        )
        .unwrap();
        assert!(matches!(read.name, Cow::Borrowed("a")) && read.on);
        let inner = read.inner.unwrap();
        assert_eq!((inner.text.as_deref(), inner.number), (Some("t\n"), -5));
        assert_eq!((inner.there, inner.many), (Present(true), Count(2)));
        // What comes after the bound is counted and not looked at.
        assert_eq!((read.list.0, read.list.1.len(), read.list.1[1].number), (3, 2, 2));
    }

    #[test]
    fn null_is_absent_and_the_last_of_two_counts() {
        let read: Outer<'_> = read(br#"{"name": null, "on": null, "inner": null, "on": true, "on": false}"#).unwrap();
        assert!(read.name.is_empty() && !read.on && read.inner.is_none());
    }

    #[test]
    fn errors_name_the_place_and_the_kind_alone() {
        let secret = "do-not-repeat";
        for (json, sentence) in [
            (
                r#"{"name": 5}"#.to_owned(),
                "name: a number instead of a string at line 1 column 10",
            ),
            (
                format!(r#"{{"on": "{secret}"}}"#),
                "on: a string instead of true or false",
            ),
            (
                format!(r#"{{"inner": "{secret}"}}"#),
                "inner: a string instead of an object",
            ),
            (
                format!(r#"{{"inner": {{"number": "\u0041{secret}"}}}}"#),
                "inner.number: a string instead of a whole number",
            ),
            (r#"{"inner": {"number": 1.5}}"#.to_owned(), "inner.number: a fraction"),
            (
                r#"{"inner": {"number": 18446744073709551615}}"#.to_owned(),
                "inner.number: a number instead of",
            ),
            (
                r#"{"list": [{}, {"text": {}}]}"#.to_owned(),
                "list[1].text: an object instead of a string",
            ),
            (r#"{"list": {}}"#.to_owned(), "list: an object instead of a list"),
            ("[]".to_owned(), "a list instead of an object"),
            (r#"{"inner": {"#.to_owned(), "inner: EOF while parsing"),
            (r#"{"name": "a"} x"#.to_owned(), "trailing characters"),
        ] {
            let error = read::<Outer<'_>>(json.as_bytes()).unwrap_err();
            assert!(
                error.starts_with(sentence) && !error.contains(secret),
                "{json}: {error}"
            );
        }
        assert!(
            read::<Outer<'_>>(b"{\"name\": \"\xff\"}")
                .unwrap_err()
                .contains("invalid unicode")
        );
    }
}
