//! A `metav1.LabelSelector`, with bounds and with sentences of ours.
// The derive copies the structs into private scopes, and the docs are read through `kubectl explain`, without markdown.
#![allow(unreachable_pub, clippy::doc_markdown)]

use std::collections::BTreeMap;

use agentwrit_protocol::k8s::label_selector::{MAX_EXPRESSIONS, MAX_LABEL_KEY, MAX_LABEL_VALUE, MAX_VALUES};
use kube::KubeSchema;
use kube::core::{Message, Rule};
use schemars::{Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

const FIELD: &str = "podSelector";

/// Labels that a pod must have; all requirements together.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct PodSelector {
    /// Each of these labels, with this value; at most 16.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "match_labels")]
    pub match_labels: BTreeMap<String, String>,

    /// Each of these requirements; at most 16.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = MAX_EXPRESSIONS))]
    pub match_expressions: Vec<PodSelectorExpression>,
}

/// One requirement.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[x_kube(validation = needs_values(), validation = takes_no_values())]
pub struct PodSelectorExpression {
    /// The label's key.
    #[schemars(length(max = MAX_LABEL_KEY))]
    #[x_kube(validation = key_rule())]
    pub key: String,

    /// In, NotIn: the label has one, or none, of the values. Exists, DoesNotExist: it is there, or not.
    #[schemars(length(max = 16))]
    #[x_kube(validation = operator_rule())]
    pub operator: String,

    /// At least one for In and NotIn, at most 32; none for Exists and DoesNotExist.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "values")]
    pub values: Vec<String>,
}

const KEY_SENTENCE: &str = "label keys have up to 63 letters, digits, '-', '_' and '.', begin and end with a letter or digit, \
                            and may have a DNS subdomain and '/' before";
const VALUE_SENTENCE: &str = "label values are empty, or have up to 63 letters, digits, '-', '_' and '.', and begin and end \
                              with a letter or digit";

fn message(text: impl Into<String>) -> Message {
    Message::Message(text.into())
}

fn key_rule() -> Rule {
    Rule::new("!format.qualifiedName().validate(self).hasValue()")
        .message(message(format!("{FIELD}.matchExpressions: {KEY_SENTENCE}")))
}

fn operator_rule() -> Rule {
    Rule::new("self in ['In', 'NotIn', 'Exists', 'DoesNotExist']").message(message(format!(
        "{FIELD}.matchExpressions: operator must be In, NotIn, Exists or DoesNotExist"
    )))
}

fn needs_values() -> Rule {
    Rule::new("!(self.operator in ['In', 'NotIn']) || (has(self.values) && size(self.values) > 0)").message(message(
        format!("{FIELD}.matchExpressions: the operators In and NotIn need at least one of values"),
    ))
}

fn takes_no_values() -> Rule {
    Rule::new("!(self.operator in ['Exists', 'DoesNotExist']) || !has(self.values) || size(self.values) == 0").message(
        message(format!(
            "{FIELD}.matchExpressions: the operators Exists and DoesNotExist take no values"
        )),
    )
}

fn value_schema(of: &str) -> serde_json::Value {
    serde_json::json!({
        "type": "string",
        "maxLength": MAX_LABEL_VALUE,
        "x-kubernetes-validations": [{
            "rule": "!format.labelValue().validate(self).hasValue()",
            "message": format!("{FIELD}.{of}: {VALUE_SENTENCE}"),
        }],
    })
}

fn match_labels(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "object",
        "maxProperties": MAX_EXPRESSIONS,
        "additionalProperties": value_schema("matchLabels"),
        "x-kubernetes-validations": [{
            "rule": "self.all(key, !format.qualifiedName().validate(key).hasValue())",
            "message": format!("{FIELD}.matchLabels: {KEY_SENTENCE}"),
        }],
    })
}

fn values(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "array",
        "maxItems": MAX_VALUES,
        "items": value_schema("matchExpressions"),
    })
}
