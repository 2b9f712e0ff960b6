//! Bodies of the token API (`docs/wire-contract.md` §§6-15).
//!
//! Members of requests are optional here, because absent and `null` mean the same on the wire and the broker answers
//! each missing one with its own sentence.

use serde::{Deserialize, Serialize};

use crate::claims::{Claims, DelegationRecord};
#[cfg(feature = "openapi")]
use crate::schema;
use crate::sensitive::Sensitive;
use crate::ttl::Ttl;

/// Version of this contract; the product's own is in `--version`, `/readyz` and a metric.
pub const WIRE_VERSION: &str = "2.0.0";

/// The answer of `GET /v1/challenge`, with status 200.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ChallengeResponse {
    /// 64 lower-hex characters; sign the decoded bytes.
    #[cfg_attr(feature = "openapi", schema(value_type = schema::Hex64))]
    pub nonce: String,
    /// Seconds until the nonce is refused.
    #[cfg_attr(feature = "openapi", schema(value_type = i64, minimum = 1, maximum = 30, examples(30)))]
    pub expires_in: Ttl,
}

/// The body of `POST /v1/register`.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(default)]
pub struct RegisterRequest {
    /// 64 lower-hex characters.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(value_type = schema::HexSecret, required))]
    pub launch_token: Option<Sensitive>,
    /// As `/v1/challenge` gave it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(value_type = schema::Hex64, required))]
    pub nonce: Option<String>,
    /// Raw Ed25519 public key, standard base64 with padding.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(value_type = schema::PublicKey, required))]
    pub public_key: Option<String>,
    /// Ed25519 over the hex-decoded nonce, standard base64 with padding.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(value_type = schema::Signature, required))]
    pub signature: Option<String>,
    /// Second path segment of the SPIFFE id.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(value_type = schema::Segment, required))]
    pub orch_id: Option<String>,
    /// Third path segment of the SPIFFE id.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(value_type = schema::Segment, required))]
    pub task_id: Option<String>,
    /// What the agent wants; all of it must be allowed by the launch token.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(value_type = schema::Scopes, required))]
    pub requested_scope: Option<Vec<String>>,
    /// Seconds; can only shorten; 0 and less count as absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(examples(120)))]
    pub requested_ttl: Option<i64>,
}

/// The answer of `POST /v1/register`, with status 200.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct RegisterResponse {
    /// The agent's SPIFFE id.
    #[cfg_attr(feature = "openapi", schema(value_type = schema::SpiffeId))]
    pub agent_id: String,
    /// The token.
    #[cfg_attr(feature = "openapi", schema(value_type = schema::Jwt))]
    pub access_token: Sensitive,
    /// Seconds.
    #[cfg_attr(feature = "openapi", schema(value_type = i64, minimum = 0, examples(300)))]
    pub expires_in: Ttl,
}

/// The body of `POST /v1/token/validate`.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(default)]
pub struct ValidateRequest {
    /// The token to look at.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(value_type = String, required, min_length = 1, examples("eyJhbGciOi...")))]
    pub token: Option<Sensitive>,
}

/// The answer of `POST /v1/token/validate`, with status 200, whatever the token.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ValidateResponse {
    /// Whether the token stands now.
    #[cfg_attr(feature = "openapi", schema(examples(true)))]
    pub valid: bool,
    /// The claims of a token that stands.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(nullable = false))]
    pub claims: Option<Claims>,
    /// `token is invalid or expired`, for one that doesn't.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(
        feature = "openapi",
        schema(nullable = false, pattern = "^token is invalid or expired$")
    )]
    pub error: Option<String>,
}

/// The optional body of `POST /v1/token/renew`. It counts for attested agents only.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(default)]
pub struct RenewRequest {
    /// Seconds, 0 to 30, for which the predecessor still stands.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(minimum = 0, maximum = 30, examples(10)))]
    pub overlap_seconds: Option<i64>,
}

/// The answer of `POST /v1/token/renew`, with status 200.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct RenewResponse {
    /// The new token.
    #[cfg_attr(feature = "openapi", schema(value_type = schema::Jwt))]
    pub access_token: Sensitive,
    /// Seconds.
    #[cfg_attr(feature = "openapi", schema(value_type = i64, minimum = 0, examples(300)))]
    pub expires_in: Ttl,
}

/// The body of `POST /v1/delegate`.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(default)]
pub struct DelegateRequest {
    /// SPIFFE id of the agent to delegate to.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(value_type = schema::SpiffeId, required))]
    pub delegate_to: Option<String>,
    /// What to pass on; all of it must be covered by the bearer's scopes.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(value_type = schema::Scopes, required))]
    pub scope: Option<Vec<String>>,
    /// Seconds, default 60; never longer than the bearer's token.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(examples(60)))]
    pub ttl: Option<i64>,
}

/// The answer of `POST /v1/delegate`, with status 200.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct DelegateResponse {
    /// The token.
    #[cfg_attr(feature = "openapi", schema(value_type = schema::Jwt))]
    pub access_token: Sensitive,
    /// Seconds.
    #[cfg_attr(feature = "openapi", schema(value_type = i64, minimum = 0, examples(60)))]
    pub expires_in: Ttl,
    /// Who delegated to whom, root first.
    pub delegation_chain: Vec<DelegationRecord>,
}

/// The body of `POST /v1/revoke`.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(default)]
pub struct RevokeRequest {
    /// `token`, `agent`, `task` or `chain`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(value_type = schema::RevocationLevel, required))]
    pub level: Option<String>,
    /// jti, subject, task id, or agent id of the chain's root.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(value_type = String, required, min_length = 1, max_length = 16384, examples("report-7")))]
    pub target: Option<String>,
}

/// The answer of `POST /v1/revoke`, with status 200.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct RevokeResponse {
    /// Always true.
    #[cfg_attr(feature = "openapi", schema(value_type = schema::True))]
    pub revoked: bool,
    /// As asked.
    #[cfg_attr(feature = "openapi", schema(value_type = schema::RevocationLevel))]
    pub level: String,
    /// As asked.
    #[cfg_attr(feature = "openapi", schema(examples("report-7")))]
    pub target: String,
    /// Entries written: always 1.
    #[cfg_attr(feature = "openapi", schema(minimum = 1, maximum = 1, examples(1)))]
    pub count: i64,
    /// Sessions and delegations that ended by it. Only with attestation on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(nullable = false, minimum = 0, examples(1)))]
    pub sessions_ended: Option<i64>,
    /// Pods that are in quarantine because of it, also those that were before. Only with attestation on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(nullable = false, minimum = 0, examples(1)))]
    pub pods_quarantined: Option<i64>,
}

/// The body of `POST /v1/admin/revoke-matching`: exactly one of the first six.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(default)]
pub struct RevokeMatchingRequest {
    /// All pods of this namespace.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(max_length = 63, examples("shop")))]
    pub namespace: Option<String>,
    /// All pods that launched under this AgentApp: `namespace/name`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(max_length = 317, examples("shop/orders")))]
    pub app: Option<String>,
    /// All pods that launched under this LaunchToken: `namespace/name`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(max_length = 317, examples("shop/order-reader")))]
    pub policy: Option<String>,
    /// All pods on this node.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(max_length = 253, examples("worker-7")))]
    pub node: Option<String>,
    /// All pods that run under this ServiceAccount: `namespace/name`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(max_length = 317, examples("shop/order-reader")))]
    pub service_account: Option<String>,
    /// Every token that there is: a new epoch begins.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<bool>))]
    pub all: bool,
    /// The broker's `AA_INSTALLATION`, or without one its trust domain; `all` needs it. Nothing happens when it is
    /// another.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(examples("agentwrit-system/agentwrit")))]
    pub installation: Option<String>,
    /// Only counts.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<bool>))]
    pub dry_run: bool,
}

/// The answer of `POST /v1/admin/revoke-matching`, with status 200.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct RevokeMatchingResponse {
    /// `namespace`, `app`, `policy`, `node`, `service_account` or `all`.
    #[cfg_attr(feature = "openapi", schema(examples("namespace")))]
    pub selector: String,
    /// What it was given; of `all` the installation.
    #[cfg_attr(feature = "openapi", schema(examples("shop")))]
    pub target: String,
    /// Whether it was only counted.
    pub dry_run: bool,
    /// Pods that match, also those whose sessions have ended.
    #[cfg_attr(feature = "openapi", schema(minimum = 0, examples(12)))]
    pub pods: i64,
    /// Agents that could use a token, each with a session of its own.
    #[cfg_attr(feature = "openapi", schema(minimum = 0, examples(12)))]
    pub agents: i64,
    /// Delegations by and to them that could be used.
    #[cfg_attr(feature = "openapi", schema(minimum = 0, examples(3)))]
    pub delegations: i64,
    /// Launch tokens that were neither used nor expired.
    #[cfg_attr(feature = "openapi", schema(minimum = 0, examples(1)))]
    pub launch_tokens: i64,
    /// Sessions, and delegations to these pods, that ended by it; 0 when it was only counted.
    #[cfg_attr(feature = "openapi", schema(minimum = 0, examples(13)))]
    pub sessions_ended: i64,
    /// Pods that are in quarantine because of it, also those that were before.
    #[cfg_attr(feature = "openapi", schema(minimum = 0, examples(12)))]
    pub pods_quarantined: i64,
    /// The epoch that began, with `all`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(nullable = false))]
    pub epoch: Option<String>,
}

/// The body of `POST /v1/admin/auth`.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(default)]
pub struct AdminAuthRequest {
    /// The admin secret.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(value_type = String, required, min_length = 1, examples("the-admin-secret")))]
    pub secret: Option<Sensitive>,
    /// Legacy shape; refused when non-empty.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(deprecated, max_length = 0))]
    pub client_id: Option<String>,
    /// Legacy shape; refused when non-empty.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<String>, deprecated, max_length = 0))]
    pub client_secret: Option<Sensitive>,
}

/// The answer of `POST /v1/admin/auth`, with status 200.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct AdminAuthResponse {
    /// The admin token.
    #[cfg_attr(feature = "openapi", schema(value_type = schema::Jwt))]
    pub access_token: Sensitive,
    /// Seconds.
    #[cfg_attr(feature = "openapi", schema(value_type = i64, minimum = 0, examples(300)))]
    pub expires_in: Ttl,
    /// `Bearer`.
    #[cfg_attr(feature = "openapi", schema(pattern = "^Bearer$", examples("Bearer")))]
    pub token_type: String,
}

/// The body of `POST /v1/admin/launch-tokens`.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(default)]
pub struct LaunchTokenRequest {
    /// Free text.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(value_type = String, required, min_length = 1, max_length = 16384, examples("order-reader")))]
    pub agent_name: Option<String>,
    /// Ceiling of what the agent may ask for.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(value_type = schema::Scopes, required))]
    pub allowed_scope: Option<Vec<String>>,
    /// Longest life of the agent's token, seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(examples(300)))]
    pub max_ttl: Option<i64>,
    /// Whether one registration uses the launch token up; default true.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub single_use: Option<bool>,
    /// Life of the launch token itself, seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(maximum = 86400, examples(30)))]
    pub ttl: Option<i64>,
}

/// What a launch token allows.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct LaunchPolicy {
    /// Ceiling of scopes.
    #[cfg_attr(feature = "openapi", schema(value_type = schema::Scopes))]
    pub allowed_scope: Vec<String>,
    /// Longest life of the agent's token, seconds.
    #[cfg_attr(feature = "openapi", schema(value_type = i64, minimum = 1, examples(300)))]
    pub max_ttl: Ttl,
}

/// The answer of `POST /v1/admin/launch-tokens`, with status 201.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct LaunchTokenResponse {
    /// 64 lower-hex characters.
    #[cfg_attr(feature = "openapi", schema(value_type = schema::HexSecret))]
    pub launch_token: Sensitive,
    /// RFC 3339, seconds, UTC.
    #[cfg_attr(feature = "openapi", schema(value_type = schema::Timestamp))]
    pub expires_at: String,
    /// What it allows.
    pub policy: LaunchPolicy,
}

/// The answer of `GET /v1/health`, with status 200.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct HealthResponse {
    /// `ok`.
    #[cfg_attr(feature = "openapi", schema(pattern = "^ok$", examples("ok")))]
    pub status: String,
    /// Version of the wire contract, `2.0.0`.
    #[cfg_attr(feature = "openapi", schema(pattern = r"^2\.0\.0$", examples("2.0.0")))]
    pub version: String,
    /// Seconds since start.
    #[cfg_attr(feature = "openapi", schema(minimum = 0, examples(86)))]
    pub uptime: i64,
    /// Whether the store answers.
    #[cfg_attr(feature = "openapi", schema(examples(true)))]
    pub db_connected: bool,
    /// Events in the trail.
    #[cfg_attr(feature = "openapi", schema(minimum = 0, examples(17)))]
    pub audit_events_count: i64,
}

/// The answer of `GET /v1/audit/events`, with status 200.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct AuditEventsResponse {
    /// In order of insertion.
    pub events: Vec<crate::audit::AuditEvent>,
    /// Matches before paging.
    #[cfg_attr(feature = "openapi", schema(minimum = 0, examples(1)))]
    pub total: i64,
    /// As asked, default 0.
    #[cfg_attr(feature = "openapi", schema(minimum = 0, examples(0)))]
    pub offset: i64,
    /// As asked, default 100, at most 1000.
    #[cfg_attr(feature = "openapi", schema(minimum = 1, maximum = 1000, examples(100)))]
    pub limit: i64,
    /// Only when a `cursor` was asked for: where the next page starts. The trail ends here for now when there are
    /// fewer events than `limit`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(nullable = false))]
    pub next_cursor: Option<String>,
}
