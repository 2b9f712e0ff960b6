//! What the webhook reads of a pod's volumes: those with reserved names, and how many there are.

use agentwrit_protocol::inject::RESERVED_PREFIX;
use serde::de::{MapAccess, SeqAccess};

use super::bounds::MAX_VOLUMES;
use super::json::{FromJson, Present, Read, Text, items, member, object};

/// Volumes with reserved names that are kept: three may be right, so of four one is wrong.
const MAX_RESERVED: usize = 4;
/// Sources of a projected volume, and keys of a `ConfigMap`, that are kept: one more than may be right.
const MAX_SOURCES: usize = 3;

/// The volumes of a pod.
#[derive(Debug, Default)]
pub(crate) struct Volumes<'a> {
    /// Whether there is a list.
    pub(crate) present: bool,
    /// How many there are.
    pub(crate) count: usize,
    /// Those with reserved names: the first few.
    pub(crate) reserved: Vec<Volume<'a>>,
}

impl<'de: 'a, 'a> FromJson<'de> for Volumes<'a> {
    const WANTED: &'static str = "a list";

    fn null() -> Option<Self> {
        Some(Self::default())
    }

    fn list<A: SeqAccess<'de>>(list: A) -> Result<Option<Self>, A::Error> {
        let mut reserved = Vec::new();
        let count = items(list, MAX_VOLUMES, |volume: Volume<'de>| {
            if volume.name.starts_with(RESERVED_PREFIX) && reserved.len() < MAX_RESERVED {
                reserved.push(volume);
            }
        })?;
        Ok(Some(Self {
            present: true,
            count,
            reserved,
        }))
    }
}

#[derive(Debug, Default)]
pub(crate) struct Volume<'a> {
    pub(crate) name: Text<'a>,
    pub(crate) empty_dir: Option<EmptyDir<'a>>,
    pub(crate) projected: Option<Projected<'a>>,
    /// The name of a member that is another source.
    pub(crate) other: Option<Text<'a>>,
}

impl<'de: 'a, 'a> FromJson<'de> for Volume<'a> {
    const WANTED: &'static str = "an object";

    fn null() -> Option<Self> {
        Some(Self::default())
    }

    fn object<A: MapAccess<'de>>(mut members: A) -> Result<Option<Self>, A::Error> {
        let mut volume = Self::default();
        while let Some(Read(key)) = members.next_key::<Read<Text<'de>>>()? {
            match &*key {
                "name" => volume.name = member(&mut members, "name")?,
                "emptyDir" => volume.empty_dir = member(&mut members, "emptyDir")?,
                "projected" => volume.projected = member(&mut members, "projected")?,
                _ => {
                    let Present(there) = member(&mut members, "another source")?;
                    if there {
                        volume.other = Some(key);
                    }
                }
            }
        }
        Ok(Some(volume))
    }
}

object! {
    EmptyDir<'a> { medium: Text<'a> = "medium" }

    Projected<'a> { default_mode: Option<i64> = "defaultMode", sources: Few<Source<'a>> = "sources" }

    /// A source of a projected volume.
    Source<'a> {
        account_token: Option<AccountToken<'a>> = "serviceAccountToken",
        config_map: Option<ConfigMap<'a>> = "configMap",
    }

    /// A projected token of the pod's ServiceAccount.
    AccountToken<'a> {
        audience: Text<'a> = "audience",
        expiration_seconds: i64 = "expirationSeconds",
        path: Text<'a> = "path",
    }

    ConfigMap<'a> { name: Text<'a> = "name", items: Few<KeyPath<'a>> = "items" }

    /// A key of a ConfigMap, and the file that it becomes.
    KeyPath<'a> { key: Text<'a> = "key", path: Text<'a> = "path" }
}

/// The first items of a list, and how many there are.
#[derive(Debug)]
pub(crate) struct Few<T> {
    pub(crate) items: Vec<T>,
    /// How many there are.
    pub(crate) count: usize,
}

impl<T> Default for Few<T> {
    fn default() -> Self {
        Self {
            items: Vec::new(),
            count: 0,
        }
    }
}

impl<'de, T: FromJson<'de>> FromJson<'de> for Few<T> {
    const WANTED: &'static str = "a list";

    fn null() -> Option<Self> {
        Some(Self::default())
    }

    fn list<A: SeqAccess<'de>>(list: A) -> Result<Option<Self>, A::Error> {
        let mut first = Vec::new();
        let count = items(list, MAX_SOURCES, |item| first.push(item))?;
        Ok(Some(Self { items: first, count }))
    }
}
