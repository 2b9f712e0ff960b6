//! The values that members have: strings, flags, numbers, and what only is counted or kept as it is.

use std::borrow::Cow;

use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, SeqAccess};
use serde_json::value::RawValue;

use super::{FromJson, items};

/// A string, borrowed unless it has escapes; `null` is the empty one, as for the API server.
pub(crate) type Text<'a> = Cow<'a, str>;

impl<'de: 'a, 'a> FromJson<'de> for Text<'a> {
    const WANTED: &'static str = "a string";

    fn null() -> Option<Self> {
        Some(Cow::Borrowed(""))
    }

    fn text(text: Cow<'de, str>) -> Option<Self> {
        Some(text)
    }
}

impl FromJson<'_> for bool {
    const WANTED: &'static str = "true or false";

    fn null() -> Option<Self> {
        Some(false)
    }

    fn flag(value: bool) -> Option<Self> {
        Some(value)
    }
}

impl FromJson<'_> for i64 {
    const WANTED: &'static str = "a whole number";

    fn null() -> Option<Self> {
        Some(0)
    }

    fn number(value: i64) -> Option<Self> {
        Some(value)
    }
}

/// `null` is as if it weren't there.
impl<'de, T: FromJson<'de>> FromJson<'de> for Option<T> {
    const WANTED: &'static str = T::WANTED;

    fn null() -> Option<Self> {
        Some(None)
    }

    fn flag(value: bool) -> Option<Self> {
        T::flag(value).map(Some)
    }

    fn number(value: i64) -> Option<Self> {
        T::number(value).map(Some)
    }

    fn text(text: Cow<'de, str>) -> Option<Self> {
        T::text(text).map(Some)
    }

    fn list<A: SeqAccess<'de>>(items: A) -> Result<Option<Self>, A::Error> {
        Ok(T::list(items)?.map(Some))
    }

    fn object<A: MapAccess<'de>>(members: A) -> Result<Option<Self>, A::Error> {
        Ok(T::object(members)?.map(Some))
    }
}

/// Any value as it is in the body, to be read later.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Raw<'a>(pub(crate) &'a [u8]);

impl<'de: 'a, 'a> FromJson<'de> for Raw<'a> {
    const WANTED: &'static str = "a value";

    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let raw = <&'de RawValue as Deserialize<'de>>::deserialize(deserializer)?;
        Ok(Self(raw.get().as_bytes()))
    }
}

/// Whether a member has a value other than `null`; nothing of it is kept.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Present(pub(crate) bool);

impl<'de> FromJson<'de> for Present {
    const WANTED: &'static str = "a value";

    fn null() -> Option<Self> {
        Some(Self(false))
    }

    fn flag(_: bool) -> Option<Self> {
        Some(Self(true))
    }

    fn number(_: i64) -> Option<Self> {
        Some(Self(true))
    }

    fn text(_: Cow<'de, str>) -> Option<Self> {
        Some(Self(true))
    }

    fn list<A: SeqAccess<'de>>(mut items: A) -> Result<Option<Self>, A::Error> {
        while items.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Some(Self(true)))
    }

    fn object<A: MapAccess<'de>>(mut members: A) -> Result<Option<Self>, A::Error> {
        while members.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(Some(Self(true)))
    }
}

/// How many items a list has; nothing of them is kept.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Count(pub(crate) usize);

impl<'de> FromJson<'de> for Count {
    const WANTED: &'static str = "a list";

    fn null() -> Option<Self> {
        Some(Self(0))
    }

    fn list<A: SeqAccess<'de>>(list: A) -> Result<Option<Self>, A::Error> {
        Ok(Some(Self(items(list, 0, |_: Present| ())?)))
    }
}
