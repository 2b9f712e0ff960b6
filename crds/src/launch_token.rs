//! `LaunchToken`: what one kind of pod may be launched with.
// The derive copies the structs into private scopes, and the docs are read through `kubectl explain`, without markdown.
#![allow(unreachable_pub, clippy::doc_markdown)]

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{CustomResource, KubeSchema};
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{Deserialize, Serialize};

use crate::pod_selector::PodSelector;
use crate::rules;

/// What one kind of pod may be launched with.
#[derive(CustomResource, KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[kube(
    group = "agentwrit.io",
    version = "v1alpha1",
    kind = "LaunchToken",
    plural = "launchtokens",
    shortname = "ltok",
    category = "agentwrit",
    namespaced,
    status = "LaunchTokenStatus",
    derive = "PartialEq",
    doc = "A LaunchToken is a standing policy: pods that name it in the annotation agentwrit.io/launch-token, and run \
           under one of its ServiceAccounts, get their own short-lived token with at most these scopes. There is no \
           secret in it.",
    validation = rules::name_is_label(),
    validation = rules::name_is_short(),
    printcolumn(name = "App", type_ = "string", json_path = ".spec.appRef.name", description = "The AgentApp that limits it"),
    printcolumn(name = "Ready", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].status", description = "Whether pods can be launched with it"),
    printcolumn(name = "Reason", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].reason", description = "Why, in one word"),
    printcolumn(name = "CA", type_ = "string", json_path = ".status.conditions[?(@.type==\"CABundle\")].status", description = "Whether the namespace has the ConfigMap agentwrit-ca, which the pods mount"),
    printcolumn(name = "Scopes", type_ = "string", json_path = ".spec.allowedScopes", description = "What its pods may hold"),
    printcolumn(name = "TTL", type_ = "integer", json_path = ".spec.maxTTLSeconds", description = "Longest life of a token, in seconds"),
    printcolumn(name = "Agents", type_ = "integer", json_path = ".status.activeAgents", description = "Agents with a live token"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(name = "Message", type_ = "string", priority = 1, json_path = ".status.conditions[?(@.type==\"Ready\")].message", description = "Why, in a sentence")
)]
#[serde(rename_all = "camelCase")]
pub struct LaunchTokenSpec {
    /// The AgentApp, in the same namespace, that limits scopes and TTL.
    pub app_ref: AppReference,

    /// What the agent is called in the audit trail; free text of 1 to 128 characters.
    #[schemars(length(max = 128))]
    #[x_kube(validation = Rule::new("size(self.trim()) >= 1").message("agentName must not be empty"))]
    pub agent_name: String,

    /// What the pods may ask for: 1 to 64 scopes of the form action:resource:identifier, at most 256 bytes each, each
    /// covered by a scope of the AgentApp; otherwise the condition Ready is False with the reason ScopeExceedsCeiling.
    /// Scopes beginning with admin: or app: are reserved.
    #[schemars(schema_with = "allowed_scopes")]
    pub allowed_scopes: Vec<String>,

    /// Longest life of a pod's token, in seconds, 60 to 86400; capped by maxAgentTTLSeconds of the AgentApp. The
    /// sidecar renews at 80 % of it.
    #[serde(rename = "maxTTLSeconds", default = "default_max_ttl_seconds")]
    #[x_kube(validation = rules::ttl_range("maxTTLSeconds"))]
    pub max_ttl_seconds: i64,

    /// The ServiceAccounts of this namespace that a pod must run under, 1 to 16 names. A pod under another
    /// ServiceAccount waits, and an Event on it says why.
    #[schemars(schema_with = "service_account_names")]
    pub service_account_names: Vec<String>,

    /// Labels that a pod must have when it is launched; all pods without it, and with an empty one. Labels can be
    /// changed: what a pod has later is not looked at. A pod that isn't selected waits, and an Event on it says why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod_selector: Option<PodSelector>,

    /// How many pods may hold live agents of this LaunchToken at a time, 1 to 100000; any number without it. A pod for
    /// which there is no place waits until another one ends. Lowering it ends nobody.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = rules::max_active_agents())]
    pub max_active_agents: Option<i64>,

    /// What happens to live agents when this object is deleted: Revoke ends them at once, Retain lets their tokens
    /// run out without renewal.
    #[serde(default)]
    pub deletion_policy: DeletionPolicy,

    /// While true, no pod is launched with this LaunchToken, and the agents launched with it end at once.
    #[serde(default)]
    pub suspend: bool,
}

/// Refers to an `AgentApp` of the same namespace.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
pub struct AppReference {
    /// Name of the AgentApp. It can't be changed; make a new LaunchToken instead.
    #[schemars(length(max = 52))]
    #[x_kube(
        validation = rules::reference_is_label("appRef.name"),
        validation = rules::immutable("appRef.name", "make a new LaunchToken for the other AgentApp")
    )]
    pub name: String,
}

/// What happens to live agents when a `LaunchToken` is deleted.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DeletionPolicy {
    /// They end at once.
    #[default]
    Revoke,
    /// Their tokens run out without renewal.
    Retain,
}

fn allowed_scopes(_: &mut SchemaGenerator) -> Schema {
    rules::scope_list("allowedScopes")
}

fn service_account_names(_: &mut SchemaGenerator) -> Schema {
    rules::service_account_list()
}

fn default_max_ttl_seconds() -> i64 {
    300
}

/// What the controller last saw of a `LaunchToken`.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct LaunchTokenStatus {
    /// The metadata.generation that the conditions speak of.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,

    /// Ready is True when pods can be launched with the present spec. Reasons: Synced, Suspended, AppNotFound,
    /// AppNotReady, ScopeExceedsCeiling, ScopeExceedsNamespaceCeiling, BrokerUnavailable, BrokerRefused, Deleting.
    /// CABundle is True while this namespace has the ConfigMap agentwrit-ca, without which no pod of it starts: Written, NotWritten,
    /// ConfigMapNotOurs. FinalizerSet is there, and False, while the API server refuses the finalizer;
    /// TokenSize, and False, while a token with all of allowedScopes is longer than common servers take in a header.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,

    /// How many agents launched with it hold a live token; refreshed at most every 10 seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub active_agents: Option<i64>,

    /// How many registrations were ever made with it; refreshed at most every 10 seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub issued: Option<i64>,
}
