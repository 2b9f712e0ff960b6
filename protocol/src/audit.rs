//! The audit trail: event, hash chain, sanitiser (contract §15, `kubernetes-api.md` §4 "Audit").

use std::fmt;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// `prev_hash` of the first event.
pub const GENESIS_HASH: &str = "0000000000000000000000000000000000000000000000000000000000000000";
/// What replaces a secret in a detail.
pub const REDACTED: &str = "***REDACTED***";
const SECRET_WORDS: [&str; 4] = ["secret", "password", "token_value", "private_key"];

macro_rules! event_types {
    ($($(#[$doc:meta])* $variant:ident = $text:literal,)*) => {
        /// The closed set of event types.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum EventType { $($(#[$doc])* $variant,)* }

        impl EventType {
            /// Every type.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// The type on the wire.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text,)* }
            }
        }
    };
}

event_types! {
    /// Admin login.
    AdminAuth = "admin_auth",
    /// Admin login with a wrong secret.
    AdminAuthFailed = "admin_auth_failed",
    /// A launch token was made.
    LaunchTokenIssued = "launch_token_issued",
    /// A launch token was refused.
    LaunchTokenDenied = "launch_token_denied",
    /// An app asked for more than its ceiling.
    ScopeCeilingExceeded = "scope_ceiling_exceeded",
    /// An agent registered.
    AgentRegistered = "agent_registered",
    /// Its token was issued.
    TokenIssued = "token_issued",
    /// A registration asked for more than its launch token allows.
    RegistrationPolicyViolation = "registration_policy_violation",
    /// A token was renewed.
    TokenRenewed = "token_renewed",
    /// A renewal was refused.
    TokenRenewalFailed = "token_renewal_failed",
    /// A token was given back.
    TokenReleased = "token_released",
    /// A person revoked.
    TokenRevoked = "token_revoked",
    /// A delegation was made.
    DelegationCreated = "delegation_created",
    /// A delegation asked for more than its delegator holds.
    DelegationAttenuationViolation = "delegation_attenuation_violation",
    /// A bearer was refused.
    TokenAuthFailed = "token_auth_failed",
    /// A revoked bearer was used.
    TokenRevokedAccess = "token_revoked_access",
    /// A bearer lacked the endpoint's scope.
    ScopeViolation = "scope_violation",
    /// An app was registered.
    AppRegistered = "app_registered",
    /// An app was changed.
    AppUpdated = "app_updated",
    /// An app was deregistered.
    AppDeregistered = "app_deregistered",
    /// An app logged in.
    AppAuthenticated = "app_authenticated",
    /// An app's login was refused.
    AppAuthFailed = "app_auth_failed",
    /// A source met a rate limit.
    AppRateLimited = "app_rate_limited",
    /// A pod was refused a launch token.
    AttestationDenied = "attestation_denied",
    /// A policy was written.
    PolicyApplied = "policy_applied",
    /// A policy was removed.
    PolicyRemoved = "policy_removed",
    /// A pod ended, and its sessions with it.
    PodEnded = "pod_ended",
    /// A later registration of the same pod took over.
    AgentSuperseded = "agent_superseded",
    /// A person's revocation hit an attested agent.
    PodQuarantined = "pod_quarantined",
    /// A person lifted the quarantine.
    PodReleased = "pod_released",
    /// A registration was refused.
    RegistrationDenied = "registration_denied",
    /// The chain so far, signed.
    AuditCheckpoint = "audit_checkpoint",
}

impl fmt::Display for EventType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// `success` or `denied`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It was done.
    Success,
    /// It was refused.
    Denied,
}

impl Outcome {
    /// The outcome on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Success => "success",
            Self::Denied => "denied",
        }
    }
}

#[allow(clippy::trivially_copy_pass_by_ref)] // the signature is serde's
fn is_zero(n: &i64) -> bool {
    *n == 0
}

/// One event as it is stored and served, in the key order of the wire.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct AuditEvent {
    /// `evt-` and at least six decimal digits.
    pub id: String,
    /// RFC 3339 UTC with up to nine fraction digits.
    pub timestamp: String,
    /// See [`EventType`].
    pub event_type: String,
    /// SPIFFE id, or the target of a revocation.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub agent_id: String,
    /// Task; the pod's UID for attested agents.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub task_id: String,
    /// Orchestration.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub orch_id: String,
    /// What happened, sanitised; ends with ` ext_hash=<hex>` when an extra field is set.
    pub detail: String,
    /// Request path of a refused bearer.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub resource: String,
    /// `success` or `denied`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub outcome: String,
    /// Length of the delegation chain.
    #[serde(skip_serializing_if = "is_zero")]
    pub deleg_depth: i64,
    /// Hash of the delegation chain.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub deleg_chain_hash: String,
    /// Never set by the broker; part of the hash.
    #[serde(skip_serializing_if = "is_zero")]
    pub bytes_transferred: i64,
    /// Extra fields, chained through `ext_hash`.
    #[serde(flatten)]
    pub extra: ExtraFields,
    /// See [`AuditEvent::compute_hash`].
    pub hash: String,
    /// `hash` of the event before.
    pub prev_hash: String,
}

/// Fields beside the contract's, top-level members on the wire, omitted when empty.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ExtraFields {
    /// Who did it: a subject or a ServiceAccount.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub actor: String,
    /// Where it came from: a network address.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub source: String,
    /// Made at launch; carried by every later event of that session.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub correlation_id: String,
    /// metadata.uid of the AgentApp or LaunchToken.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub policy_uid: String,
    /// metadata.uid of the pod.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub pod_uid: String,
    /// The precise kind of a refusal.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub error_kind: String,
}

impl ExtraFields {
    /// Lower-hex SHA-256 of the RFC 8785 JSON of the non-empty fields; `None` when all are empty.
    pub fn hash(&self) -> Option<String> {
        // RFC 8785 for string members: keys sorted, JSON escapes as serde_json writes them.
        let members = [
            ("actor", &self.actor),
            ("correlation_id", &self.correlation_id),
            ("error_kind", &self.error_kind),
            ("pod_uid", &self.pod_uid),
            ("policy_uid", &self.policy_uid),
            ("source", &self.source),
        ];
        let body: Vec<String> = members
            .into_iter()
            .filter(|(_, value)| !value.is_empty())
            .map(|(key, value)| format!("\"{key}\":{}", serde_json::Value::from(value.as_str())))
            .collect();
        (!body.is_empty()).then(|| hex::encode(Sha256::digest(format!("{{{}}}", body.join(",")).as_bytes())))
    }
}

impl AuditEvent {
    /// The id of the event with this number, which starts at 1.
    pub fn id_for(sequence: i64) -> String {
        format!("evt-{sequence:06}")
    }

    /// Seals the event: sanitises the detail, appends `ext_hash`, chains and hashes.
    pub fn seal(&mut self, sequence: i64, prev_hash: &str) {
        self.id = Self::id_for(sequence);
        self.detail = sanitise(&self.detail);
        if let Some(hash) = self.extra.hash() {
            self.detail.push_str(" ext_hash=");
            self.detail.push_str(&hash);
        }
        prev_hash.clone_into(&mut self.prev_hash);
        self.hash = self.compute_hash();
    }

    /// Lower-hex SHA-256 of the 13 values of contract §15.2 joined by `|`.
    pub fn compute_hash(&self) -> String {
        let depth = self.deleg_depth.to_string();
        let bytes = self.bytes_transferred.to_string();
        let values: [&str; 13] = [
            &self.prev_hash,
            &self.id,
            &self.timestamp,
            &self.event_type,
            &self.agent_id,
            &self.task_id,
            &self.orch_id,
            &self.detail,
            &self.resource,
            &self.outcome,
            &depth,
            &self.deleg_chain_hash,
            &bytes,
        ];
        hex::encode(Sha256::digest(values.join("|").as_bytes()))
    }
}

/// Masks what follows a secret-sounding word in a detail: after the first `=`, else after the first `: `.
pub fn sanitise(detail: &str) -> String {
    let names_secret = |text: &str| {
        let lower = text.to_lowercase();
        SECRET_WORDS.iter().any(|word| lower.contains(word))
    };
    if !names_secret(detail) {
        return detail.to_owned();
    }
    for separator in ["=", ": "] {
        if let Some((before, _)) = detail.split_once(separator)
            && names_secret(before)
        {
            return format!("{before}{separator}{REDACTED}");
        }
    }
    detail.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sanitiser_masks_after_the_first_separator() {
        let table = [
            ("agent registered", "agent registered"),
            ("secret=abc def", "secret=***REDACTED***"),
            ("PASSWORD: hunter2", "PASSWORD: ***REDACTED***"),
            ("x=1 secret=abc", "x=1 secret=abc"),
            ("my private_key: a=b", "my private_key: a=***REDACTED***"),
            ("wrong secret", "wrong secret"),
        ];
        for (given, wanted) in table {
            assert_eq!(sanitise(given), wanted);
        }
    }

    #[test]
    fn sealing_chains_and_binds_the_extra_fields() {
        let mut first = AuditEvent {
            event_type: "admin_auth".into(),
            detail: "x".into(),
            ..AuditEvent::default()
        };
        first.seal(1, GENESIS_HASH);
        assert_eq!((first.id.as_str(), first.detail.as_str()), ("evt-000001", "x"));
        let mut second = AuditEvent {
            detail: "y".into(),
            ..AuditEvent::default()
        };
        second.extra.pod_uid = "p".into();
        second.seal(2, &first.hash);
        // sha256 of {"pod_uid":"p"}
        let expected = hex::encode(Sha256::digest(br#"{"pod_uid":"p"}"#));
        assert_eq!(second.detail, format!("y ext_hash={expected}"));
        assert_eq!(second.prev_hash, first.hash);
        assert_eq!(second.hash, second.compute_hash());
        second.extra.pod_uid.clear();
        assert_eq!(second.extra.hash(), None);
    }

    #[test]
    fn empty_members_are_omitted_on_the_wire() {
        let mut event = AuditEvent {
            event_type: "admin_auth".into(),
            timestamp: "t".into(),
            ..AuditEvent::default()
        };
        event.seal(1, GENESIS_HASH);
        let text = serde_json::to_string(&event).unwrap();
        let wanted = format!(
            r#"{{"id":"evt-000001","timestamp":"t","event_type":"admin_auth","detail":"","hash":"{}","prev_hash":"{GENESIS_HASH}"}}"#,
            event.hash
        );
        assert_eq!(text, wanted);
        assert_eq!(serde_json::from_str::<AuditEvent>(&text).unwrap(), event);
    }
}
