//! Challenge, registration, delegation.

use agentwrit_protocol::ErrorCode::{
    Forbidden, InsufficientScope, InvalidRequest, InvalidScopeFormat, MaxActiveAgents, NotFound, PolicyChanged,
    PolicyNotReady, RateLimited, Revoked, ScopeViolation, Suspended, Unauthorized,
};
use agentwrit_protocol::wire;
use serde_json::json;

use super::super::endpoint::Endpoint;
use super::super::grammar::{any_number, base64, hex, jwt, number, scopes, secret_hex, segment, spiffe_id, token};
use super::super::schemas::Schemas;

pub const TAG: &str = "Agents";

/// Examples: a key, and its signature of a nonce.
const PUBLIC_KEY: &str = "GX9rI+FshTLGq8g4+tRO5e+pvXe7Uo8mGPxYMwzSg0k=";

fn signature() -> String {
    format!(
        "{}==",
        "Zm9yZ2VyeSBpcyBub3Qgc28gZWFzeQ"
            .chars()
            .cycle()
            .take(86)
            .collect::<String>()
    )
}

fn agent_id() -> &'static str {
    "spiffe://agentwrit.local/agent/orders/report-7/4f2a9c071be6d853"
}

pub fn endpoints(schemas: &mut Schemas) -> Vec<Endpoint> {
    schemas.shape::<wire::ChallengeResponse>(|shape| {
        shape
            .member("nonce", hex(64))
            .member("expires_in", number(1, Some(30), 30))
    });
    schemas.shape::<wire::RegisterRequest>(|shape| {
        shape
            .member("launch_token", secret_hex(64))
            .member("nonce", hex(64))
            .member("public_key", base64(32, PUBLIC_KEY))
            .member("signature", base64(64, &signature()))
            .member("orch_id", segment("orders"))
            .member("task_id", segment("report-7"))
            .member("requested_scope", scopes(&["read:orders:*"]))
            .member("requested_ttl", any_number(120))
            .requires(&[
                "launch_token",
                "nonce",
                "public_key",
                "signature",
                "orch_id",
                "task_id",
                "requested_scope",
            ])
    });
    schemas.shape::<wire::RegisterResponse>(|shape| {
        shape
            .member("agent_id", spiffe_id())
            .member("access_token", jwt())
            .member("expires_in", number(0, None, 300))
    });
    schemas.shape::<wire::DelegateRequest>(|shape| {
        shape
            .member("delegate_to", spiffe_id())
            .member("scope", scopes(&["read:orders:17"]))
            .member("ttl", any_number(60))
            .requires(&["delegate_to", "scope"])
    });
    schemas.shape::<wire::DelegateResponse>(|shape| {
        shape
            .member("access_token", jwt())
            .member("expires_in", number(0, None, 60))
    });
    vec![challenge(), register(), delegate()]
}

fn challenge() -> Endpoint {
    Endpoint::get("/v1/challenge", TAG, "challenge", "A nonce to sign")
        .says("Good for one registration within 30 s. At most `AA_CHALLENGE_RATE` a second for each address.")
        .answers(
            200,
            "The nonce.",
            "ChallengeResponse",
            json!({"nonce": "4f2a9c071be6d853".repeat(4), "expires_in": 30}),
        )
        .limited()
}

fn register() -> Endpoint {
    Endpoint::post(
        "/v1/register",
        TAG,
        "register",
        "Launch token, nonce and key against an identity and a token",
    )
    .says(
        "The signature is Ed25519 over the hex-decoded nonce. A refusal of the requested scope burns neither the \
             launch token nor the nonce; a refusal of key or signature burns the nonce. At most `AA_REGISTER_RATE` a \
             second for each address.",
    )
    .takes(
        "RegisterRequest",
        json!({
            "launch_token": "4f2a9c071be6d853".repeat(4),
            "nonce": "1be6d8534f2a9c07".repeat(4),
            "public_key": PUBLIC_KEY,
            "signature": signature(),
            "orch_id": "orders",
            "task_id": "report-7",
            "requested_scope": ["read:orders:*"],
        }),
    )
    .answers(
        200,
        "The agent is registered.",
        "RegisterResponse",
        json!({"agent_id": agent_id(), "access_token": token(), "expires_in": 300}),
    )
    .limited()
    .refuses(InvalidRequest, "orch_id or task_id can't be a segment of a SPIFFE id")
    .refuses(InvalidRequest, "requested_scope must be at most 32768 bytes of JSON")
    .refuses(
        InvalidScopeFormat,
        "requested_scope has 1001 items: at most 1000 are allowed",
    )
    .refuses(
        InvalidScopeFormat,
        "requested_scope[0] is 8193 bytes long: at most 8192 are allowed",
    )
    .refuses(InvalidRequest, "missing required field: launch_token")
    .refuses(Unauthorized, "launch token expired")
    .refuses(Unauthorized, "launch token already consumed")
    .refuses(Unauthorized, "nonce not found or expired")
    .refuses(Unauthorized, "nonce already consumed")
    .refuses(Unauthorized, "invalid Ed25519 public key: base64 decode failed")
    .refuses(Unauthorized, "invalid Ed25519 public key: wrong key size")
    .refuses(Unauthorized, "invalid Ed25519 public key: weak key")
    .refuses(
        Unauthorized,
        "nonce signature verification failed: base64 decode failed",
    )
    .refuses(Unauthorized, "nonce signature verification failed")
    .refuses(Unauthorized, "launch token not found")
    .refuses(
        Forbidden,
        "key, orch_id or task_id are not those of the pod that the launch token was made for",
    )
    .refuses(Revoked, "a person revoked the pod's agent")
    .refuses(Suspended, "the AgentApp or LaunchToken is suspended")
    .refuses(PolicyNotReady, "the policy is withdrawn until it is repaired")
    .refuses(PolicyChanged, "the policy changed since the launch")
    .refuses(MaxActiveAgents, "the LaunchToken's limit of live agents is reached")
    .refuses(ScopeViolation, "requested scope exceeds allowed scope")
    .stores()
}

fn delegate() -> Endpoint {
    Endpoint::post(
        "/v1/delegate",
        TAG,
        "delegate",
        "Passes on part of the bearer's authority to another agent",
    )
    .says(
        "At most five hops. The new token never outlives the bearer, and ends with it. `ttl` of 0 and less is 60, and \
             it is clamped to `AA_MAX_TTL`.",
    )
    .bearer()
    .takes(
        "DelegateRequest",
        json!({"delegate_to": agent_id(), "scope": ["read:orders:17"], "ttl": 60}),
    )
    .answers(
        200,
        "The delegate's token, and the chain within it.",
        "DelegateResponse",
        json!({
            "access_token": token(),
            "expires_in": 60,
            "delegation_chain": [{
                "agent": "spiffe://agentwrit.local/agent/orders/root-1/1be6d8534f2a9c07",
                "scope": ["read:orders:*"],
                "delegated_at": "2026-11-21T09:30:00.123456789Z",
                "signature": "4f2a9c071be6d853".repeat(8),
            }],
        }),
    )
    .limited()
    .refuses(
        RateLimited,
        "256 delegations stand under this session, which is the most: wait until some expire, or release them",
    )
    .refuses(InvalidRequest, "delegate_to is required")
    .refuses(
        InvalidRequest,
        "scope and delegation chain must be at most 32768 bytes of JSON each: ask for fewer scopes",
    )
    .refuses(InvalidRequest, "scope is required and must not be empty")
    .refuses(InvalidScopeFormat, "scope has 1001 items: at most 1000 are allowed")
    .refuses(
        InvalidScopeFormat,
        "scope[0] is 8193 bytes long: at most 8192 are allowed",
    )
    .refuses(InsufficientScope, "only tokens of agents can be renewed or delegated")
    .refuses(ScopeViolation, "delegation depth limit exceeded")
    .refuses(ScopeViolation, "delegated scope exceeds delegator scope")
    .refuses(NotFound, "delegate agent not found")
}
