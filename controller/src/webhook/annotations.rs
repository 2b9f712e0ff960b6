//! What the webhook reads of labels and annotations.

use std::borrow::Cow;

use agentwrit_protocol::inject::{
    ANNOTATION_MIRROR_POD, ANNOTATION_PREFIX, LABEL_INJECT, LABEL_INJECTED, POD_ANNOTATIONS,
};
use serde::de::MapAccess;

use super::json::{FromJson, Read, Text, ignore, member};

/// Names of unknown annotations that are kept, to warn of them.
const MAX_UNKNOWN: usize = 8;

/// The labels of a pod.
#[derive(Debug, Default)]
pub(crate) struct Labels<'a> {
    /// Whether there are any.
    pub(crate) present: bool,
    pub(crate) count: usize,
    /// The value of `agentwrit.io/inject`.
    pub(crate) inject: Option<Text<'a>>,
    /// The value of `agentwrit.io/injected`.
    pub(crate) injected: Option<Text<'a>>,
}

impl<'de: 'a, 'a> FromJson<'de> for Labels<'a> {
    const WANTED: &'static str = "an object";

    fn null() -> Option<Self> {
        Some(Self::default())
    }

    fn object<A: MapAccess<'de>>(mut members: A) -> Result<Option<Self>, A::Error> {
        let mut labels = Self {
            present: true,
            ..Self::default()
        };
        while let Some(Read(key)) = members.next_key::<Read<Text<'de>>>()? {
            labels.count = labels.count.saturating_add(1);
            match &*key {
                LABEL_INJECT => labels.inject = member(&mut members, LABEL_INJECT)?,
                LABEL_INJECTED => labels.injected = member(&mut members, LABEL_INJECTED)?,
                _ => ignore(&mut members)?,
            }
        }
        Ok(Some(labels))
    }
}

/// The annotations of a pod.
#[derive(Debug, Default)]
pub(crate) struct Annotations<'a> {
    /// Whether there are any.
    pub(crate) present: bool,
    pub(crate) count: usize,
    /// Whether the pod is the mirror of a static pod.
    pub(crate) mirror: bool,
    /// The values of ours, in the order of [`POD_ANNOTATIONS`].
    values: [Option<Text<'a>>; POD_ANNOTATIONS.len()],
    /// The first of those that have our prefix and no meaning.
    unknown: Vec<Text<'a>>,
}

impl<'a> Annotations<'a> {
    /// The value of an annotation that we know.
    pub(crate) fn get(&self, key: &str) -> Option<&str> {
        let mut pairs = POD_ANNOTATIONS.iter().zip(&self.values);
        pairs.find(|(known, _)| **known == key)?.1.as_deref()
    }

    /// Annotations of ours that have no meaning on a pod; the first of them when there are many.
    pub(crate) fn unknown(&self) -> &[Cow<'a, str>] {
        &self.unknown
    }
}

impl<'de: 'a, 'a> FromJson<'de> for Annotations<'a> {
    const WANTED: &'static str = "an object";

    fn null() -> Option<Self> {
        Some(Self::default())
    }

    fn object<A: MapAccess<'de>>(mut members: A) -> Result<Option<Self>, A::Error> {
        let mut annotations = Self {
            present: true,
            ..Self::default()
        };
        while let Some(Read(key)) = members.next_key::<Read<Text<'de>>>()? {
            annotations.count = annotations.count.saturating_add(1);
            let mut known = POD_ANNOTATIONS.iter().zip(&mut annotations.values);
            if let Some((known, value)) = known.find(|(known, _)| **known == key) {
                *value = member(&mut members, known)?;
                continue;
            }
            ignore(&mut members)?;
            annotations.mirror |= key == ANNOTATION_MIRROR_POD;
            if key.starts_with(ANNOTATION_PREFIX) && annotations.unknown.len() < MAX_UNKNOWN {
                annotations.unknown.push(key);
            }
        }
        Ok(Some(annotations))
    }
}

#[cfg(test)]
mod tests {
    use agentwrit_protocol::inject::{ANNOTATION_ENDPOINT, ANNOTATION_SCOPES};

    use super::*;
    use crate::webhook::json::read;

    #[test]
    fn only_ours_are_kept() {
        let json =
            br#"{"agentwrit.io/scopes": "a", "agentwrit.io/new": "x", "other": 5, "agentwrit.io/endpoint": null}"#;
        let annotations: Annotations<'_> = read(json).unwrap();
        assert_eq!((annotations.count, annotations.present), (4, true));
        assert_eq!(annotations.get(ANNOTATION_SCOPES), Some("a"));
        assert_eq!(annotations.get(ANNOTATION_ENDPOINT), None);
        assert_eq!(annotations.unknown(), ["agentwrit.io/new"]);

        let labels: Labels<'_> = read(br#"{"a": "b", "agentwrit.io/inject": "yes"}"#).unwrap();
        assert_eq!((labels.count, labels.inject.as_deref()), (2, Some("yes")));
        assert!(!read::<Labels<'_>>(b"null").unwrap().present);
    }

    #[test]
    fn only_some_of_many_unknown_annotations_are_kept() {
        let members: Vec<String> = (0..1000).map(|n| format!("\"agentwrit.io/x{n}\": \"\"")).collect();
        let json = format!("{{{}}}", members.join(","));
        let annotations: Annotations<'_> = read(json.as_bytes()).unwrap();
        assert_eq!((annotations.count, annotations.unknown().len()), (1000, MAX_UNKNOWN));
    }
}
