//! One event: its wire form, its hash, and how it is sealed.

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::bounds::bound;
use super::sanitise;
use crate::lower_hex;
#[cfg(feature = "openapi")]
use crate::schema;

/// Stands before the hash of the extra fields at the end of a detail.
const EXT_HASH: &str = " ext_hash=";

#[allow(clippy::trivially_copy_pass_by_ref)] // the signature is serde's
fn is_zero(n: &i64) -> bool {
    *n == 0
}

/// One event as it is stored and served, in the key order of the wire.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(default)]
pub struct AuditEvent {
    /// `evt-` and at least six decimal digits.
    #[cfg_attr(
        feature = "openapi",
        schema(required, pattern = "^evt-[0-9]{6,}$", examples("evt-000001"))
    )]
    pub id: String,
    /// RFC 3339 UTC with up to nine fraction digits.
    #[cfg_attr(feature = "openapi", schema(value_type = schema::PreciseTimestamp, required))]
    pub timestamp: String,
    /// What happened, such as `token_issued`: a closed set.
    #[cfg_attr(feature = "openapi", schema(value_type = super::EventType, required))]
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
    #[cfg_attr(feature = "openapi", schema(required, examples("admin logged in")))]
    pub detail: String,
    /// Request path of a refused bearer.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub resource: String,
    /// `success` or `denied`.
    #[serde(skip_serializing_if = "String::is_empty")]
    #[cfg_attr(feature = "openapi", schema(value_type = schema::Outcome))]
    pub outcome: String,
    /// Length of the delegation chain.
    #[serde(skip_serializing_if = "is_zero")]
    pub deleg_depth: i64,
    /// Hash of the delegation chain.
    #[serde(skip_serializing_if = "String::is_empty")]
    #[cfg_attr(feature = "openapi", schema(value_type = schema::Hex64))]
    pub deleg_chain_hash: String,
    /// Never set by the broker; part of the hash.
    #[serde(skip_serializing_if = "is_zero")]
    pub bytes_transferred: i64,
    /// Extra fields, chained through `ext_hash`.
    #[serde(flatten)]
    pub extra: ExtraFields,
    /// SHA-256 of this event and of the hash before, in lower-case hexadecimal digits.
    #[cfg_attr(feature = "openapi", schema(value_type = schema::Hex64, required))]
    pub hash: String,
    /// `hash` of the event before.
    #[cfg_attr(feature = "openapi", schema(value_type = schema::Hex64, required))]
    pub prev_hash: String,
}

/// Fields beside the contract's, top-level members on the wire, omitted when empty.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
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

/// [`ExtraFields`] as RFC 8785 has them: keys sorted, and of string members the escapes that `serde_json` writes.
#[derive(Serialize)]
struct SortedFields<'a> {
    #[serde(skip_serializing_if = "str::is_empty")]
    actor: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    correlation_id: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    error_kind: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    pod_uid: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    policy_uid: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    source: &'a str,
}

impl ExtraFields {
    /// Lower-hex SHA-256 of the RFC 8785 JSON of the non-empty fields; `None` when all are empty.
    pub fn hash(&self) -> Option<String> {
        let sorted = SortedFields {
            actor: &self.actor,
            correlation_id: &self.correlation_id,
            error_kind: &self.error_kind,
            pod_uid: &self.pod_uid,
            policy_uid: &self.policy_uid,
            source: &self.source,
        };
        // Strings always have a JSON form.
        let json = serde_json::to_vec(&sorted).unwrap_or_default();
        (json != b"{}").then(|| lower_hex(Sha256::digest(json)))
    }
}

impl AuditEvent {
    /// The id of the event with this number, which starts at 1.
    pub fn id_for(sequence: i64) -> String {
        format!("evt-{sequence:06}")
    }

    /// The number in an id, which has one spelling only.
    pub fn sequence_of(id: &str) -> Option<i64> {
        let sequence = id.strip_prefix("evt-")?.parse().ok()?;
        (sequence >= 0 && Self::id_for(sequence) == id).then_some(sequence)
    }

    /// Seals the event: cuts what is too long ([`super::MAX_EVENT_BYTES`]), sanitises the detail, appends `ext_hash`, chains and hashes.
    pub fn seal(&mut self, sequence: i64, prev_hash: &str) {
        self.id = Self::id_for(sequence);
        bound(self);
        self.detail = sanitise(&self.detail);
        if let Some(hash) = self.extra.hash() {
            self.detail.push_str(EXT_HASH);
            self.detail.push_str(&hash);
        } else if claimed_ext_hash(&self.detail).is_some() {
            // Free text must not claim extra fields.
            self.detail.push('.');
        }
        prev_hash.clone_into(&mut self.prev_hash);
        self.hash = self.compute_hash();
    }

    /// Lower-hex SHA-256 of the 13 values of `docs/wire-contract.md` §15.2 joined by `|`.
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
        lower_hex(Sha256::digest(values.join("|").as_bytes()))
    }
}

/// The hash that a detail ends with, if it claims one.
pub(super) fn claimed_ext_hash(detail: &str) -> Option<&str> {
    let (_, hash) = detail.rsplit_once(EXT_HASH)?;
    let is_hash = hash.len() == 64 && hash.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    is_hash.then_some(hash)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::GENESIS_HASH;

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
    fn ids_have_one_spelling() {
        for (id, sequence) in [
            ("evt-000001", Some(1)),
            ("evt-000000", Some(0)),
            ("evt-1234567", Some(1_234_567)),
            ("evt-1", None),
            ("evt-0000001", None),
            ("evt-+00001", None),
            ("evt--00001", None),
            ("EVT-000001", None),
            ("evt-99999999999999999999", None),
            ("", None),
        ] {
            assert_eq!(AuditEvent::sequence_of(id), sequence, "{id}");
        }
    }

    #[test]
    fn free_text_can_t_claim_extra_fields() {
        let claim = format!("name=x ext_hash={GENESIS_HASH}");
        let mut event = AuditEvent {
            detail: claim.clone(),
            ..AuditEvent::default()
        };
        event.seal(1, GENESIS_HASH);
        assert_eq!(event.detail, format!("{claim}."));
        assert_eq!(claimed_ext_hash(&event.detail), None);
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
