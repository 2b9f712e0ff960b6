//! Admin login and launch tokens.

use agentwrit_protocol::ErrorCode::{Forbidden, InvalidRequest, InvalidScopeFormat, InvalidTtl, Unauthorized};
use agentwrit_protocol::wire;
use serde_json::json;

use super::super::endpoint::Endpoint;
use super::super::grammar::{
    any_number, at_most, constant, empty, filled, filled_up_to, jwt, moment, number, scopes, secret_hex, token,
};
use super::super::schemas::Schemas;

pub const TAG: &str = "Admin";

pub fn endpoints(schemas: &mut Schemas) -> Vec<Endpoint> {
    schemas.shape::<wire::AdminAuthRequest>(|shape| {
        shape
            .member("secret", filled("the-admin-secret"))
            .member("client_id", empty())
            .member("client_secret", empty())
            .requires(&["secret"])
    });
    schemas.shape::<wire::AdminAuthResponse>(|shape| {
        shape
            .member("access_token", jwt())
            .member("expires_in", number(0, None, 300))
            .member("token_type", constant("Bearer"))
    });
    schemas.shape::<wire::LaunchTokenRequest>(|shape| {
        shape
            .member("agent_name", filled_up_to(16_384, "order-reader"))
            .member("allowed_scope", scopes(&["read:orders:*"]))
            .member("max_ttl", any_number(300))
            .member("ttl", at_most(86_400, 30))
            .requires(&["agent_name", "allowed_scope"])
    });
    schemas.shape::<wire::LaunchPolicy>(|shape| {
        shape
            .member("allowed_scope", scopes(&["read:orders:*"]))
            .member("max_ttl", number(1, None, 300))
    });
    schemas.shape::<wire::LaunchTokenResponse>(|shape| {
        shape
            .member("launch_token", secret_hex(64))
            .member("expires_at", moment(0))
    });
    vec![auth(), launch_tokens()]
}

fn auth() -> Endpoint {
    Endpoint::post("/v1/admin/auth", TAG, "adminAuth", "The admin secret against a token")
        .says(
            "5 a second and at most 10 at once for each address, counted before anything else. Nothing but white space \
             may follow the body's first value.",
        )
        .takes("AdminAuthRequest", json!({"secret": "the-admin-secret"}))
        .answers(
            200,
            "A token with the scopes `admin:launch-tokens:*`, `admin:revoke:*` and `admin:audit:*`.",
            "AdminAuthResponse",
            json!({"access_token": token(), "expires_in": 300, "token_type": "Bearer"}),
        )
        .limited()
        .refuses(
            InvalidRequest,
            "client_id and client_secret are not accepted here: send {\"secret\": \"...\"}",
        )
        .refuses(InvalidRequest, "secret is required")
        .refuses(Unauthorized, "invalid credentials")
        .refuses(Forbidden, "admin login is off (AA_ADMIN_AUTH)")
        .stores()
}

fn launch_tokens() -> Endpoint {
    Endpoint::post(
        "/v1/admin/launch-tokens",
        TAG,
        "createLaunchToken",
        "A launch token for one agent",
    )
    .says(
        "The ceiling of what the agent may ask for. `max_ttl` of 0 and less is `AA_DEFAULT_TTL`, and it is clamped to \
             `AA_MAX_TTL`; `ttl` of 0 and less is 30.",
    )
    .bearer_with("admin:launch-tokens:*")
    .takes(
        "LaunchTokenRequest",
        json!({"agent_name": "order-reader", "allowed_scope": ["read:orders:*"], "max_ttl": 300, "ttl": 60}),
    )
    .answers(
        201,
        "The launch token, told this once.",
        "LaunchTokenResponse",
        json!({
            "launch_token": "4f2a9c071be6d853".repeat(4),
            "expires_at": "2026-11-21T09:30:00Z",
            "policy": {"allowed_scope": ["read:orders:*"], "max_ttl": 300},
        }),
    )
    .refuses(InvalidRequest, "allowed_scope must be at most 32768 bytes of JSON")
    .refuses(
        InvalidScopeFormat,
        "allowed_scope has 1001 items: at most 1000 are allowed",
    )
    .refuses(
        InvalidScopeFormat,
        "allowed_scope[0] is 8193 bytes long: at most 8192 are allowed",
    )
    .refuses(InvalidRequest, "agent_name is required")
    .refuses(
        InvalidRequest,
        "agent_name of 20000 characters is too long: it must be at most 16384",
    )
    .refuses(InvalidRequest, "allowed_scope must not be empty")
    .refuses(InvalidTtl, "ttl must be at most 86400 seconds")
    .refuses(
        InvalidScopeFormat,
        "scope \"read:orders\" is not of the form action:resource:identifier with three non-empty parts",
    )
    .refuses(
        Forbidden,
        "scope \"admin:revoke:*\" is reserved: agents can't hold admin: and app: scopes",
    )
}
