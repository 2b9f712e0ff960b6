//! The labels of a pod, as many as the broker reads: their author can make them thousands.

use std::collections::BTreeMap;
use std::fmt;

use serde::de::{IgnoredAny, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};

/// Most labels that are read of a pod; with the API server's bounds of key and value that is less than 100 KB.
pub const MAX_POD_LABELS: usize = 256;

/// `metadata.labels` of a pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PodLabels {
    /// These are all.
    Read(BTreeMap<String, String>),
    /// There are more than [`MAX_POD_LABELS`]: nothing is known of them.
    TooMany,
}

impl Default for PodLabels {
    fn default() -> Self {
        Self::Read(BTreeMap::new())
    }
}

impl<'de> Deserialize<'de> for PodLabels {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(LabelsVisitor)
    }
}

struct LabelsVisitor;

impl<'de> Visitor<'de> for LabelsVisitor {
    type Value = PodLabels;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a map of labels")
    }

    fn visit_unit<E>(self) -> Result<PodLabels, E> {
        Ok(PodLabels::default())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<PodLabels, A::Error> {
        let mut labels = BTreeMap::new();
        while let Some((key, value)) = map.next_entry::<String, String>()? {
            if labels.len() == MAX_POD_LABELS {
                while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
                return Ok(PodLabels::TooMany);
            }
            labels.insert(key, value);
        }
        Ok(PodLabels::Read(labels))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(count: usize) -> String {
        let labels: BTreeMap<String, String> = (0..count).map(|n| (n.to_string(), "x".into())).collect();
        serde_json::to_string(&labels).unwrap()
    }

    #[test]
    fn so_many_labels_are_read_and_of_more_nothing_is_known() {
        let read = |text: &str| serde_json::from_str::<PodLabels>(text).unwrap();
        assert_eq!(read("{}"), PodLabels::default());
        assert_eq!(read("null"), PodLabels::default());
        let PodLabels::Read(labels) = read(&with(MAX_POD_LABELS)) else {
            panic!("too many");
        };
        assert_eq!(labels.len(), MAX_POD_LABELS);
        assert_eq!(read(&with(MAX_POD_LABELS + 1)), PodLabels::TooMany);
        assert_eq!(read(&with(60_000)), PodLabels::TooMany);
        for bad in ["[]", "5", "{\"a\":5}", "{\"a\":null}"] {
            assert!(serde_json::from_str::<PodLabels>(bad).is_err(), "{bad}");
        }
    }
}
