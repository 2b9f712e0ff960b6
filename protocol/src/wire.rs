//! Bodies of the token API (`docs/wire-contract.md` §§6-15).
//!
//! Members of requests are optional here, because absent and `null` mean the same on the wire and the broker answers
//! each missing one with its own sentence.

use serde::{Deserialize, Serialize};

use crate::claims::{Claims, DelegationRecord};
use crate::sensitive::Sensitive;

/// Version of this contract; the product's own is in `--version`, `/readyz` and a metric.
pub const WIRE_VERSION: &str = "2.0.0";

/// `GET /v1/challenge` → 200.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ChallengeResponse {
    /// 64 lower-hex characters; sign the decoded bytes.
    pub nonce: String,
    /// Seconds until the nonce is refused.
    pub expires_in: i64,
}

/// `POST /v1/register`.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(default)]
pub struct RegisterRequest {
    /// 64 lower-hex characters.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub launch_token: Option<Sensitive>,
    /// As `/v1/challenge` gave it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub nonce: Option<String>,
    /// Raw Ed25519 public key, standard base64 with padding.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub public_key: Option<String>,
    /// Ed25519 over the hex-decoded nonce, standard base64 with padding.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub signature: Option<String>,
    /// Second path segment of the SPIFFE id.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub orch_id: Option<String>,
    /// Third path segment of the SPIFFE id.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub task_id: Option<String>,
    /// What the agent wants; all of it must be allowed by the launch token.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub requested_scope: Option<Vec<String>>,
    /// Seconds; can only shorten; 0 and less count as absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub requested_ttl: Option<i64>,
}

/// `POST /v1/register` → 200.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct RegisterResponse {
    /// The agent's SPIFFE id.
    pub agent_id: String,
    /// The token.
    pub access_token: Sensitive,
    /// Seconds.
    pub expires_in: i64,
}

/// `POST /v1/token/validate`.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(default)]
pub struct ValidateRequest {
    /// The token to look at.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token: Option<Sensitive>,
}

/// `POST /v1/token/validate` → 200, whatever the token.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ValidateResponse {
    /// Whether the token stands now.
    pub valid: bool,
    /// The claims of a token that stands.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub claims: Option<Claims>,
    /// `token is invalid or expired`, for one that doesn't.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// Optional body of `POST /v1/token/renew`, honoured for attested agents.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(default)]
pub struct RenewRequest {
    /// Seconds, 0 to 30, for which the predecessor still stands.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub overlap_seconds: Option<i64>,
}

/// `POST /v1/token/renew` → 200.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct RenewResponse {
    /// The new token.
    pub access_token: Sensitive,
    /// Seconds.
    pub expires_in: i64,
}

/// `POST /v1/delegate`.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(default)]
pub struct DelegateRequest {
    /// SPIFFE id of the agent to delegate to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub delegate_to: Option<String>,
    /// What to pass on; all of it must be covered by the bearer's scopes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scope: Option<Vec<String>>,
    /// Seconds, default 60; never longer than the bearer's token.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ttl: Option<i64>,
}

/// `POST /v1/delegate` → 200.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct DelegateResponse {
    /// The token.
    pub access_token: Sensitive,
    /// Seconds.
    pub expires_in: i64,
    /// Who delegated to whom, root first.
    pub delegation_chain: Vec<DelegationRecord>,
}

/// `POST /v1/revoke`.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(default)]
pub struct RevokeRequest {
    /// `token`, `agent`, `task` or `chain`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub level: Option<String>,
    /// jti, subject, task id, or agent id of the chain's root.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target: Option<String>,
}

/// `POST /v1/revoke` → 200.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct RevokeResponse {
    /// Always true.
    pub revoked: bool,
    /// As asked.
    pub level: String,
    /// As asked.
    pub target: String,
    /// Entries written: always 1.
    pub count: i64,
    /// Sessions and delegations that ended by it. Only with attestation on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sessions_ended: Option<i64>,
    /// Pods that are in quarantine because of it, also those that were before. Only with attestation on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pods_quarantined: Option<i64>,
}

/// `POST /v1/admin/auth`.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(default)]
pub struct AdminAuthRequest {
    /// The admin secret.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub secret: Option<Sensitive>,
    /// Legacy shape; refused when non-empty.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_id: Option<String>,
    /// Legacy shape; refused when non-empty.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_secret: Option<Sensitive>,
}

/// `POST /v1/admin/auth` → 200.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct AdminAuthResponse {
    /// The admin token.
    pub access_token: Sensitive,
    /// Seconds.
    pub expires_in: i64,
    /// `Bearer`.
    pub token_type: String,
}

/// `POST /v1/admin/launch-tokens`.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(default)]
pub struct LaunchTokenRequest {
    /// Free text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub agent_name: Option<String>,
    /// Ceiling of what the agent may ask for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub allowed_scope: Option<Vec<String>>,
    /// Longest life of the agent's token, seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_ttl: Option<i64>,
    /// Whether one registration uses the launch token up; default true.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub single_use: Option<bool>,
    /// Life of the launch token itself, seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ttl: Option<i64>,
}

/// What a launch token allows.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct LaunchPolicy {
    /// Ceiling of scopes.
    pub allowed_scope: Vec<String>,
    /// Longest life of the agent's token, seconds.
    pub max_ttl: i64,
}

/// `POST /v1/admin/launch-tokens` → 201.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct LaunchTokenResponse {
    /// 64 lower-hex characters.
    pub launch_token: Sensitive,
    /// RFC 3339, seconds, UTC.
    pub expires_at: String,
    /// What it allows.
    pub policy: LaunchPolicy,
}

/// `GET /v1/health` → 200.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct HealthResponse {
    /// `ok`.
    pub status: String,
    /// Version of the wire contract, `2.0.0`.
    pub version: String,
    /// Seconds since start.
    pub uptime: i64,
    /// Whether the store answers.
    pub db_connected: bool,
    /// Events in the trail.
    pub audit_events_count: i64,
}

/// `GET /v1/audit/events` → 200.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct AuditEventsResponse {
    /// In order of insertion.
    pub events: Vec<crate::audit::AuditEvent>,
    /// Matches before paging.
    pub total: i64,
    /// As asked, default 0.
    pub offset: i64,
    /// As asked, default 100, at most 1000.
    pub limit: i64,
    /// Only when a `cursor` was asked for: where the next page starts. The trail ends here for now when there are
    /// fewer events than `limit`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_cursor: Option<String>,
}
