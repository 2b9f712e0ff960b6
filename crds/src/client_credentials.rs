//! `AgentApp.spec.clientCredentials`: what a program outside the cluster logs in with.
// The derive copies the structs into private scopes, and the docs are read through `kubectl explain`, without markdown.
#![allow(unreachable_pub, clippy::doc_markdown)]

use kube::KubeSchema;
use kube::core::{Message, Rule};
use serde::{Deserialize, Serialize};

use crate::rules;

/// Longest name of a Secret: a DNS subdomain (RFC 1123).
const MAX_SECRET_NAME: usize = 253;
/// A week.
const MAX_OVERLAP_SECONDS: i64 = 604_800;
/// An hour: below, programs would do nothing but read their Secret.
const MIN_ROTATION_SECONDS: i64 = 3_600;
/// A year.
const MAX_ROTATION_SECONDS: i64 = 31_536_000;

/// The Secret with the credentials of this app's client, for programs that run outside the cluster.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = rotates_after_the_overlap())]
pub struct ClientCredentials {
    /// Name of the Secret in this namespace. The controller makes it, with the keys client_id, client_secret, broker_url
    /// and ca.crt, and removes it with this object. A Secret of that name that isn't its own is never touched.
    #[schemars(length(max = MAX_SECRET_NAME))]
    #[x_kube(validation = secret_name(), validation = not_of_the_installation())]
    pub secret_name: String,

    /// Life of the client's tokens, in seconds, 60 to 86400.
    #[serde(rename = "tokenTTLSeconds", default = "default_token_ttl_seconds")]
    #[x_kube(validation = rules::ttl_range("clientCredentials.tokenTTLSeconds"))]
    pub token_ttl_seconds: i64,

    /// How long the secret before still counts after a rotation, in seconds, 0 to 604800 (a week). A smaller value ends an
    /// overlap that has begun, too.
    #[serde(default = "default_overlap_seconds")]
    #[x_kube(validation = overlap_range())]
    pub overlap_seconds: i64,

    /// How long after a rotation the next one follows by itself, in seconds, 3600 to 31536000 (a year), and longer than
    /// overlapSeconds. Without it the secret is rotated when the annotation agentwrit.io/rotate-client-secret gets
    /// another value, or when the Secret is deleted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = rotation_range())]
    pub rotate_every_seconds: Option<i64>,
}

fn default_token_ttl_seconds() -> i64 {
    1_800
}

fn default_overlap_seconds() -> i64 {
    86_400
}

fn rule(rule: impl Into<String>, sentence: impl Into<String>) -> Rule {
    Rule::new(rule.into()).message(Message::Message(sentence.into()))
}

fn secret_name() -> Rule {
    rule(
        format!("self.matches('{}')", rules::SUBDOMAIN_PATTERN),
        "clientCredentials.secretName must be the name of a Secret: lower-case letters, digits, '-' and '.'",
    )
}

fn not_of_the_installation() -> Rule {
    rule(
        "!self.startsWith('agentwrit-')",
        "clientCredentials.secretName can't begin with agentwrit-: such names are the installation's own",
    )
}

fn overlap_range() -> Rule {
    rule(
        format!("self >= 0 && self <= {MAX_OVERLAP_SECONDS}"),
        format!("clientCredentials.overlapSeconds must be between 0 and {MAX_OVERLAP_SECONDS} seconds (a week)"),
    )
}

fn rotation_range() -> Rule {
    rule(
        format!("self >= {MIN_ROTATION_SECONDS} && self <= {MAX_ROTATION_SECONDS}"),
        format!(
            "clientCredentials.rotateEverySeconds must be between {MIN_ROTATION_SECONDS} and {MAX_ROTATION_SECONDS} seconds \
             (an hour to a year)"
        ),
    )
}

fn rotates_after_the_overlap() -> Rule {
    rule(
        "!has(self.rotateEverySeconds) || self.rotateEverySeconds > self.overlapSeconds",
        "clientCredentials.rotateEverySeconds must be longer than overlapSeconds: at most two secrets count at a time",
    )
}
