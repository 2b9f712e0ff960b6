//! `AgentApp`: the ceiling that a platform team sets for the agents of one application.
// The derive copies the structs into private scopes, and the docs are read through `kubectl explain`, without markdown.
#![allow(unreachable_pub, clippy::doc_markdown)]

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{CustomResource, KubeSchema};
use schemars::{Schema, SchemaGenerator};
use serde::{Deserialize, Serialize};

use crate::client_credentials::ClientCredentials;
use crate::rules;

/// What the agents of an application may ever hold.
#[derive(CustomResource, KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[kube(
    group = "agentwrit.io",
    version = "v1alpha1",
    kind = "AgentApp",
    plural = "agentapps",
    shortname = "aapp",
    category = "agentwrit",
    namespaced,
    status = "AgentAppStatus",
    derive = "PartialEq",
    doc = "An AgentApp says which scopes the agents of one application may ever hold. It grants nothing by itself: \
           LaunchTokens of the same namespace refer to it and are refused what it doesn't cover.",
    validation = rules::name_is_label(),
    validation = rules::name_is_short(),
    printcolumn(name = "Ready", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].status", description = "Whether the broker enforces the present spec"),
    printcolumn(name = "Reason", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].reason", description = "Why, in one word"),
    printcolumn(name = "Scopes", type_ = "string", json_path = ".spec.scopes", description = "The ceiling"),
    printcolumn(name = "LaunchTokens", type_ = "integer", json_path = ".status.launchTokens", description = "LaunchTokens that refer to this app"),
    printcolumn(name = "Agents", type_ = "integer", json_path = ".status.activeAgents", description = "Agents with a live token"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(name = "Message", type_ = "string", priority = 1, json_path = ".status.conditions[?(@.type==\"Ready\")].message", description = "Why, in a sentence")
)]
#[serde(rename_all = "camelCase")]
pub struct AgentAppSpec {
    /// The ceiling: every scope of every LaunchToken of this app must be covered by one of these. 1 to 64 scopes of the
    /// form action:resource:identifier, at most 256 bytes each; the identifier * covers every identifier. Scopes
    /// beginning with admin: or app: are reserved. Narrowing the list ends, at once, the agents that are no longer
    /// covered.
    #[schemars(schema_with = "scopes")]
    pub scopes: Vec<String>,

    /// Longest life of a token of this app's agents, in seconds, 60 to 86400. Caps maxTTLSeconds of every LaunchToken.
    #[serde(rename = "maxAgentTTLSeconds", default = "default_max_agent_ttl_seconds")]
    #[x_kube(validation = rules::ttl_range("maxAgentTTLSeconds"))]
    pub max_agent_ttl_seconds: i64,

    /// What the claim aud of the agents' tokens has beside the broker's own audience: at most 16, each of 1 to 256 bytes
    /// without white space. A change is in the tokens after their next renewal.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "audiences")]
    pub audiences: Vec<String>,

    /// To whom the agents of this app may delegate; to agents of their own namespace without it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delegation: Option<Delegation>,

    /// While true, no agent of this app is launched, and the live ones end at once.
    #[serde(default)]
    pub suspend: bool,

    /// Credentials for programs outside the cluster, in a Secret of this namespace. Pods need none. There only where the
    /// installation allows it (clientCredentials.enabled of the chart); elsewhere Ready is False with the reason
    /// ClientCredentialsDisabled. Without this field nothing logs in, and tokens that were issued end at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_credentials: Option<ClientCredentials>,
}

/// To whom the agents of an app may delegate.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Delegation {
    /// Namespaces to whose agents the agents of this app may delegate, beside their own; at most 64. What was passed on
    /// into a namespace that is taken off the list ends at once.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "namespaces")]
    pub allowed_namespaces: Vec<String>,
}

fn namespaces(_: &mut SchemaGenerator) -> Schema {
    rules::namespace_list()
}

fn scopes(_: &mut SchemaGenerator) -> Schema {
    rules::scope_list("scopes")
}

fn audiences(_: &mut SchemaGenerator) -> Schema {
    rules::audience_list()
}

fn default_max_agent_ttl_seconds() -> i64 {
    3600
}

/// What the controller last saw of an `AgentApp`.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct AgentAppStatus {
    /// The metadata.generation that the conditions speak of.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,

    /// Ready is True when the broker enforces the present spec. Reasons: Synced, Suspended,
    /// ScopeExceedsNamespaceCeiling, ClientCredentialsDisabled, SecretNotOwned, SecretNotWritten, BrokerUnavailable,
    /// BrokerRefused, Deleting.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,

    /// The app's id at the broker, as audit events and /v1/admin/apps show it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub app_id: Option<String>,

    /// What programs outside the cluster log in by, when spec.clientCredentials is in force.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_id: Option<String>,

    /// How many LaunchTokens of this namespace refer to this app.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub launch_tokens: Option<i64>,

    /// How many agents of this app hold a live token; refreshed at most every 10 seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub active_agents: Option<i64>,
}
