//! Validation rules that more than one field shares, as the API server evaluates them.

use agentwrit_protocol::dns_label::{MAX_LABEL_BYTES, MAX_RESOURCE_NAME_BYTES};
use agentwrit_protocol::k8s::{MAX_ACTIVE_AGENTS, MAX_AUDIENCE_BYTES, MAX_AUDIENCES, MAX_DELEGATION_NAMESPACES};
use agentwrit_protocol::scope::{MAX_SCOPE_BYTES, MAX_SCOPES};
use agentwrit_protocol::ttl::{MAX_TTL_SECONDS, MIN_POLICY_TTL_SECONDS};
use kube::core::{Message, Rule};
use schemars::{Schema, json_schema};

/// Most ServiceAccounts in one LaunchToken.
const MAX_SERVICE_ACCOUNTS: usize = 16;
/// Longest ServiceAccount name: a DNS subdomain (RFC 1123).
const MAX_SUBDOMAIN: usize = 253;
/// `action:resource:identifier`; no white space, comma or bar anywhere, and colons only in the identifier.
const SCOPE_PATTERN: &str = r"^[^:\s,|]+:[^:\s,|]+:[^\s,|]+$";
const LABEL_PATTERN: &str = "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$";
pub(crate) const SUBDOMAIN_PATTERN: &str = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$";

/// metadata.name must be a DNS label.
pub(crate) fn name_is_label() -> Rule {
    Rule::new(format!("self.metadata.name.matches('{LABEL_PATTERN}')")).message(Message::Message(
        "metadata.name must be a DNS label: lower-case letters, digits and '-', beginning and ending with a letter or \
         digit"
            .into(),
    ))
}

/// metadata.name must be short.
pub(crate) fn name_is_short() -> Rule {
    Rule::new(format!("size(self.metadata.name) <= {MAX_RESOURCE_NAME_BYTES}")).message(Message::Message(format!(
        "metadata.name must have at most {MAX_RESOURCE_NAME_BYTES} characters"
    )))
}

/// Bounds of a TTL field.
pub(crate) fn ttl_range(field: &str) -> Rule {
    Rule::new(format!("self >= {MIN_POLICY_TTL_SECONDS} && self <= {MAX_TTL_SECONDS}")).message(Message::Message(
        format!(
            "{field} must be between {MIN_POLICY_TTL_SECONDS} and {MAX_TTL_SECONDS} seconds (one minute to one day)"
        ),
    ))
}

/// Bounds of `maxActiveAgents`.
pub(crate) fn max_active_agents() -> Rule {
    Rule::new(format!("self >= 1 && self <= {MAX_ACTIVE_AGENTS}")).message(Message::Message(format!(
        "maxActiveAgents must be between 1 and {MAX_ACTIVE_AGENTS}; leave it out for any number"
    )))
}

/// A name that refers to an object of ours.
pub(crate) fn reference_is_label(field: &str) -> Rule {
    Rule::new(format!("self.matches('{LABEL_PATTERN}')")).message(Message::Message(format!(
        "{field} must be the name of an AgentApp: a DNS label of at most {MAX_RESOURCE_NAME_BYTES} characters"
    )))
}

/// A field that stays as it was created.
pub(crate) fn immutable(field: &str, instead: &str) -> Rule {
    Rule::new("self == oldSelf").message(Message::Message(format!("{field} can't be changed; {instead}")))
}

/// A list of 1..=64 scopes without duplicates, each with its own sentence.
pub(crate) fn scope_list(field: &str) -> Schema {
    list(
        MAX_SCOPES,
        MAX_SCOPE_BYTES,
        Some(&format!("{field} must list at least one scope")),
        &[
            ItemRule {
                rule: format!("self.matches(r'{SCOPE_PATTERN}')"),
                message: format!(
                    "{field}: each scope must have the form action:resource:identifier without white space, comma or \
                     '|', for example read:orders:*"
                ),
            },
            ItemRule {
                rule: format!("size(bytes(self)) <= {MAX_SCOPE_BYTES}"),
                message: format!("{field}: each scope must have at most {MAX_SCOPE_BYTES} bytes"),
            },
            ItemRule {
                rule: "!self.startsWith('admin:') && !self.startsWith('app:')".into(),
                message: format!(
                    "{field}: scopes beginning with admin: or app: are reserved for people and applications and can't \
                     be granted to agents"
                ),
            },
        ],
    )
}

/// A list of 1..=16 `ServiceAccount` names without duplicates.
pub(crate) fn service_account_list() -> Schema {
    list(
        MAX_SERVICE_ACCOUNTS,
        MAX_SUBDOMAIN,
        Some("serviceAccountNames must name at least one ServiceAccount"),
        &[ItemRule {
            rule: format!("self.matches('{SUBDOMAIN_PATTERN}')"),
            message:
                "serviceAccountNames: each item must be the name of a ServiceAccount of this namespace: lower-case \
                      letters, digits, '-' and '.', without the namespace"
                    .into(),
        }],
    )
}

/// A list of at most 16 audiences without duplicates.
pub(crate) fn audience_list() -> Schema {
    list(
        MAX_AUDIENCES,
        MAX_AUDIENCE_BYTES,
        None,
        &[
            ItemRule {
                rule: r"self.matches('^[^\\s\\p{Z}\\p{Cc}]+$')".into(),
                message: "audiences: each item must have at least one character, and no white space or control \
                          characters"
                    .into(),
            },
            ItemRule {
                rule: format!("size(bytes(self)) <= {MAX_AUDIENCE_BYTES}"),
                message: format!("audiences: each item must have at most {MAX_AUDIENCE_BYTES} bytes"),
            },
        ],
    )
}

/// A list of at most 64 namespaces without duplicates.
pub(crate) fn namespace_list() -> Schema {
    list(
        MAX_DELEGATION_NAMESPACES,
        MAX_LABEL_BYTES,
        None,
        &[ItemRule {
            rule: format!("self.matches('{LABEL_PATTERN}')"),
            message: "delegation.allowedNamespaces: each item must be the name of a namespace: lower-case letters, \
                      digits and '-', beginning and ending with a letter or digit"
                .into(),
        }],
    )
}

struct ItemRule {
    rule: String,
    message: String,
}

fn list(max_items: usize, max_length: usize, at_least_one: Option<&str>, rules: &[ItemRule]) -> Schema {
    let rules: Vec<_> = rules
        .iter()
        .map(|item| {
            serde_json::json!({
                "rule": item.rule,
                "message": item.message,
                // The message alone when the value can't be shown in a line.
                "messageExpression": format!("\"{}, but found '\" + self + \"'\"", item.message),
            })
        })
        .collect();
    let mut schema = json_schema!({
        "type": "array",
        "maxItems": max_items,
        "x-kubernetes-list-type": "set",
        "items": { "type": "string", "maxLength": max_length, "x-kubernetes-validations": rules },
    });
    if let Some(message) = at_least_one {
        let rules = serde_json::json!([{ "rule": "size(self) >= 1", "message": message }]);
        schema.insert("x-kubernetes-validations".to_owned(), rules);
    }
    schema
}
