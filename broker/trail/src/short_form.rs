//! The short form of an event: what its row's number, moment and columns don't say.

use agentwrit_protocol::audit::{AuditEvent, ExtraFields};
use agentwrit_protocol::timestamp::rfc3339_nanos;
use agentwrit_protocol::{UnixNanos, lower_hex};
use agentwrit_store::Result;
use time::OffsetDateTime;

use crate::event::corrupt;

/// An event without what its row's number, moment and columns say.
pub struct Short {
    /// `event_type`.
    pub event_type: String,
    /// `outcome`.
    pub outcome: String,
    /// `agent_id`.
    pub agent_id: String,
    /// `task_id`.
    pub task_id: String,
    /// `orch_id`.
    pub orch_id: String,
    /// Without the `ext_hash`, which is made of the extra fields.
    pub detail: String,
    /// `resource`.
    pub resource: String,
    /// `deleg_depth`.
    pub deleg_depth: i64,
    /// `deleg_chain_hash`.
    pub deleg_chain_hash: String,
    /// The fields beside the contract's.
    pub extra: ExtraFields,
    /// `hash`, its bytes.
    pub hash: [u8; 32],
    /// `prev_hash`, its bytes.
    pub prev_hash: [u8; 32],
}

impl Short {
    /// The short form; `None` when a hash is none.
    pub fn of(event: &AuditEvent) -> Option<Self> {
        let bytes = |hash: &str| -> Option<[u8; 32]> { hex::decode(hash).ok()?.try_into().ok() };
        let detail = match event.extra.hash() {
            Some(hash) => event.detail.strip_suffix(&ext_hash(&hash))?,
            None => &event.detail,
        };
        Some(Self {
            event_type: event.event_type.clone(),
            outcome: event.outcome.clone(),
            agent_id: event.agent_id.clone(),
            task_id: event.task_id.clone(),
            orch_id: event.orch_id.clone(),
            detail: detail.to_owned(),
            resource: event.resource.clone(),
            deleg_depth: event.deleg_depth,
            deleg_chain_hash: event.deleg_chain_hash.clone(),
            extra: event.extra.clone(),
            hash: bytes(&event.hash)?,
            prev_hash: bytes(&event.prev_hash)?,
        })
    }

    /// Who and what it tells of, which many events share.
    pub fn who(&self) -> [&str; 8] {
        let extra = &self.extra;
        [
            &self.agent_id,
            &self.task_id,
            &self.orch_id,
            &extra.actor,
            &extra.source,
            &extra.correlation_id,
            &extra.policy_uid,
            &extra.pod_uid,
        ]
    }

    /// The event as it was sealed.
    ///
    /// # Errors
    /// When there is no such moment.
    pub fn restored(&self, sequence: i64, at: UnixNanos) -> Result<AuditEvent> {
        let at = OffsetDateTime::from_unix_timestamp_nanos(at.get().into()).map_err(corrupt)?;
        let mut detail = self.detail.clone();
        if let Some(hash) = self.extra.hash() {
            detail.push_str(&ext_hash(&hash));
        }
        Ok(AuditEvent {
            id: AuditEvent::id_for(sequence),
            timestamp: rfc3339_nanos(at),
            event_type: self.event_type.clone(),
            agent_id: self.agent_id.clone(),
            task_id: self.task_id.clone(),
            orch_id: self.orch_id.clone(),
            detail,
            resource: self.resource.clone(),
            outcome: self.outcome.clone(),
            deleg_depth: self.deleg_depth,
            deleg_chain_hash: self.deleg_chain_hash.clone(),
            bytes_transferred: 0,
            extra: self.extra.clone(),
            hash: lower_hex(self.hash),
            prev_hash: lower_hex(self.prev_hash),
        })
    }
}

fn ext_hash(hash: &str) -> String {
    format!(" ext_hash={hash}")
}
