//! Which labels a pod must have, with the meaning that Kubernetes gives to a `metav1.LabelSelector`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

#[cfg(feature = "openapi")]
use crate::schema;

/// Most entries of `matchLabels`, and of `matchExpressions`.
pub const MAX_EXPRESSIONS: usize = 16;
/// Most requirements: both together.
const MAX_REQUIREMENTS: usize = 2 * MAX_EXPRESSIONS;
/// Most values of one requirement.
pub const MAX_VALUES: usize = 32;
/// Longest label key: a DNS subdomain of 253 characters, `/`, a name of 63.
pub const MAX_LABEL_KEY: usize = 317;
/// Longest label value.
pub const MAX_LABEL_VALUE: usize = 63;
/// Longest prefix of a label key.
const MAX_KEY_PREFIX: usize = 253;

/// Requirements that the labels of a pod must all meet; none means every pod.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[cfg_attr(feature = "openapi", schema(max_items = 32))]
#[serde(transparent)]
pub struct LabelSelector(pub Vec<LabelRequirement>);

/// One requirement; an entry of `matchLabels` is an `In` with one value.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct LabelRequirement {
    /// The label's key.
    #[cfg_attr(feature = "openapi", schema(value_type = schema::LabelKey))]
    pub key: String,
    /// What is asked of it.
    pub operator: LabelOperator,
    /// 1 to 32 of them for `In` and `NotIn`, none for the others.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[cfg_attr(feature = "openapi", schema(value_type = Vec<schema::LabelValue>, max_items = 32))]
    pub values: Vec<String>,
}

/// What a requirement asks of a label; the words are those of Kubernetes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum LabelOperator {
    /// The label is there, with one of the values.
    In,
    /// The label isn't there, or has none of the values.
    NotIn,
    /// The label is there.
    Exists,
    /// The label isn't there.
    DoesNotExist,
}

impl LabelOperator {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::In, Self::NotIn, Self::Exists, Self::DoesNotExist];

    /// The word for it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::In => "In",
            Self::NotIn => "NotIn",
            Self::Exists => "Exists",
            Self::DoesNotExist => "DoesNotExist",
        }
    }

    /// The operator of this name.
    pub fn from_text(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|operator| operator.as_str() == text)
    }

    const fn takes_values(self) -> bool {
        match self {
            Self::In | Self::NotIn => true,
            Self::Exists | Self::DoesNotExist => false,
        }
    }
}

/// What is wrong with a selector, and what would be right.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct SelectorError(String);

impl LabelSelector {
    /// Checks what its form can't: bounds, keys, values, and that each operator has the values that it needs.
    ///
    /// # Errors
    /// Names what is wrong first.
    pub fn check(&self) -> Result<(), SelectorError> {
        check_count("requirements", self.0.len(), MAX_REQUIREMENTS)?;
        self.0.iter().try_for_each(LabelRequirement::check)
    }

    /// The first requirement that these labels don't meet, in the way `kubectl get pods -l` writes it; `None` when they
    /// meet all.
    pub fn unmet(&self, labels: &BTreeMap<String, String>) -> Option<String> {
        let unmet = self.0.iter().find(|requirement| !requirement.is_met(labels));
        unmet.map(LabelRequirement::text)
    }
}

impl LabelRequirement {
    fn check(&self) -> Result<(), SelectorError> {
        let Self { key, operator, values } = self;
        if !is_label_key(key) {
            return Err(SelectorError(format!(
                "key must be a label's: up to {MAX_LABEL_VALUE} of A-Z, a-z, 0-9, '-', '_' and '.', beginning and ending \
                 with a letter or digit, and perhaps a DNS subdomain and '/' before it"
            )));
        }
        check_count("values", values.len(), MAX_VALUES)?;
        if operator.takes_values() == values.is_empty() {
            let right = if values.is_empty() {
                "at least one item"
            } else {
                "no items"
            };
            return Err(SelectorError(format!(
                "values must have {right} with the operator {}",
                operator.as_str()
            )));
        }
        if values.iter().all(|value| is_label_text(value)) {
            return Ok(());
        }
        Err(SelectorError(format!(
            "values must be a label's: empty, or up to {MAX_LABEL_VALUE} of A-Z, a-z, 0-9, '-', '_' and '.', beginning \
             and ending with a letter or digit"
        )))
    }

    fn is_met(&self, labels: &BTreeMap<String, String>) -> bool {
        let label = labels.get(&self.key);
        let listed = label.is_some_and(|value| self.values.contains(value));
        match self.operator {
            LabelOperator::In => listed,
            LabelOperator::NotIn => !listed,
            LabelOperator::Exists => label.is_some(),
            LabelOperator::DoesNotExist => label.is_none(),
        }
    }

    fn text(&self) -> String {
        let Self { key, operator, values } = self;
        match (operator, values.as_slice()) {
            (LabelOperator::In, [value]) => format!("{key}={value}"),
            (LabelOperator::NotIn, [value]) => format!("{key}!={value}"),
            (LabelOperator::In, values) => format!("{key} in ({})", values.join(",")),
            (LabelOperator::NotIn, values) => format!("{key} notin ({})", values.join(",")),
            (LabelOperator::Exists, _) => key.clone(),
            (LabelOperator::DoesNotExist, _) => format!("!{key}"),
        }
    }
}

fn check_count(what: &str, count: usize, most: usize) -> Result<(), SelectorError> {
    if count <= most {
        return Ok(());
    }
    Err(SelectorError(format!(
        "{what} must have at most {most} items, not {count}"
    )))
}

fn is_label_key(key: &str) -> bool {
    let (prefix, name) = key
        .split_once('/')
        .map_or((None, key), |(prefix, name)| (Some(prefix), name));
    !name.is_empty() && is_label_text(name) && prefix.is_none_or(is_subdomain)
}

/// The form of a label's value, and, unless it is empty, of the name in its key.
fn is_label_text(text: &str) -> bool {
    let inner = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
    let edge = |b: Option<&u8>| b.is_none_or(u8::is_ascii_alphanumeric);
    let bytes = text.as_bytes();
    bytes.len() <= MAX_LABEL_VALUE && bytes.iter().copied().all(inner) && edge(bytes.first()) && edge(bytes.last())
}

fn is_subdomain(text: &str) -> bool {
    let inner = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    let is_part =
        |part: &str| !part.is_empty() && part.bytes().all(inner) && !part.starts_with('-') && !part.ends_with('-');
    text.len() <= MAX_KEY_PREFIX && text.split('.').all(is_part)
}

#[cfg(test)]
mod tests {
    use super::LabelOperator::{DoesNotExist, Exists, In, NotIn};
    use super::*;

    fn labels(of: &[(&str, &str)]) -> BTreeMap<String, String> {
        let owned = of.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
        owned.collect()
    }

    fn one(key: &str, operator: LabelOperator, values: &[&str]) -> LabelRequirement {
        LabelRequirement {
            key: key.to_owned(),
            operator,
            values: values.iter().map(ToString::to_string).collect(),
        }
    }

    #[test]
    fn each_operator_means_what_kubernetes_says() {
        let (web, empty, none) = (labels(&[("tier", "web")]), labels(&[("tier", "")]), labels(&[]));
        let table = [
            (one("tier", In, &["web"]), [true, false, false], "tier=web"),
            (one("tier", In, &[""]), [false, true, false], "tier="),
            (
                one("tier", In, &["api", "web"]),
                [true, false, false],
                "tier in (api,web)",
            ),
            (one("tier", NotIn, &["web"]), [false, true, true], "tier!=web"),
            (
                one("tier", NotIn, &["api", "web"]),
                [false, true, true],
                "tier notin (api,web)",
            ),
            (one("tier", Exists, &[]), [true, true, false], "tier"),
            (one("tier", DoesNotExist, &[]), [false, false, true], "!tier"),
        ];
        for (requirement, wanted, text) in table {
            let selector = LabelSelector(vec![requirement]);
            selector.check().unwrap();
            for (labels, wanted) in [&web, &empty, &none].into_iter().zip(wanted) {
                let unmet = selector.unmet(labels);
                assert_eq!(unmet.as_deref(), (!wanted).then_some(text), "{selector:?} {labels:?}");
            }
        }
    }

    #[test]
    fn all_requirements_have_to_be_met_and_none_is_met_by_all() {
        let both = LabelSelector(vec![one("tier", In, &["web"]), one("zone", Exists, &[])]);
        assert_eq!(both.unmet(&labels(&[("tier", "web"), ("zone", "a")])), None);
        assert_eq!(both.unmet(&labels(&[("tier", "web")])), Some("zone".into()));
        assert_eq!(both.unmet(&labels(&[("zone", "a")])), Some("tier=web".into()));
        assert_eq!(LabelSelector::default().unmet(&labels(&[])), None);
    }

    #[test]
    fn what_is_wrong_is_named_and_what_is_right_is_taken() {
        let values: Vec<String> = (0..=MAX_VALUES).map(|n| n.to_string()).collect();
        let values: Vec<&str> = values.iter().map(String::as_str).collect();
        let long = "x".repeat(MAX_LABEL_VALUE + 1);
        let table = [
            (one("a", In, &values), "values must have at most 32 items, not 33"),
            (
                one("a", In, &[]),
                "values must have at least one item with the operator In",
            ),
            (
                one("a", NotIn, &[]),
                "values must have at least one item with the operator NotIn",
            ),
            (
                one("a", Exists, &["b"]),
                "values must have no items with the operator Exists",
            ),
            (one("a", DoesNotExist, &["b"]), "values must have no items"),
            (one("a", In, &["b c"]), "values must be a label's"),
            (one("a", In, &["b-"]), "values must be a label's"),
            (one("a", In, &[&long]), "values must be a label's"),
            (one("", Exists, &[]), "key must be a label's"),
            (one("-a", Exists, &[]), "key must be a label's"),
            (one(&long, Exists, &[]), "key must be a label's"),
            (one("Example.org/a", Exists, &[]), "key must be a label's"),
            (one("example..org/a", Exists, &[]), "key must be a label's"),
            (one("example.org/", Exists, &[]), "key must be a label's"),
            (one("a/b/c", Exists, &[]), "key must be a label's"),
        ];
        for (requirement, begins) in table {
            let error = LabelSelector(vec![requirement]).check().unwrap_err().to_string();
            assert!(error.starts_with(begins), "{error}");
        }
        let many = LabelSelector(vec![one("a", Exists, &[]); MAX_REQUIREMENTS + 1]);
        assert_eq!(
            many.check().unwrap_err().to_string(),
            "requirements must have at most 32 items, not 33"
        );
        let widest = format!("{}/{}", "x".repeat(MAX_KEY_PREFIX), "x".repeat(MAX_LABEL_VALUE));
        assert_eq!(widest.len(), MAX_LABEL_KEY);
        LabelSelector(vec![one(&widest, In, &["", "A.b_c-9"])]).check().unwrap();
    }

    #[test]
    fn the_words_for_operators_are_read_back() {
        for operator in LabelOperator::ALL {
            assert_eq!(LabelOperator::from_text(operator.as_str()), Some(operator));
            assert_eq!(serde_json::to_value(operator).unwrap(), operator.as_str());
        }
        assert_eq!(LabelOperator::from_text("Gt"), None);
    }
}
