//! Validation, renewal, release, revocation.

use agentwrit_protocol::ErrorCode::{
    InsufficientScope, InvalidRequest, PolicyChanged, ProofInvalid, ProofRequired, ProofStale, Revoked, Superseded,
    Suspended, Unauthorized,
};
use agentwrit_protocol::wire;
use serde_json::json;
use utoipa::openapi::response::ResponseBuilder;

use super::super::endpoint::Endpoint;
use super::super::grammar::{choice, constant, filled, filled_up_to, flag, jwt, matching, number, token};
use super::super::schemas::Schemas;

pub const TAG: &str = "Tokens";

pub fn endpoints(schemas: &mut Schemas) -> Vec<Endpoint> {
    schemas.shape::<wire::ValidateRequest>(|shape| shape.member("token", filled("eyJhbGciOi...")).requires(&["token"]));
    schemas.shape::<wire::ValidateResponse>(|shape| {
        shape.written().member("error", constant("token is invalid or expired"))
    });
    schemas.shape::<wire::RenewRequest>(|shape| shape.member("overlap_seconds", number(0, Some(30), 10)));
    schemas.shape::<wire::RenewResponse>(|shape| {
        shape
            .member("access_token", jwt())
            .member("expires_in", number(0, None, 300))
    });
    schemas.shape::<wire::RevokeRequest>(|shape| {
        shape
            .member("level", choice(["token", "agent", "task", "chain"]))
            .member("target", filled_up_to(16_384, "report-7"))
            .requires(&["level", "target"])
    });
    schemas.shape::<wire::RevokeResponse>(|shape| {
        shape
            .member("revoked", flag(true))
            .member("level", choice(["token", "agent", "task", "chain"]))
            .member("count", number(1, Some(1), 1))
            .member("sessions_ended", number(0, None, 1))
            .member("pods_quarantined", number(0, None, 1))
    });
    vec![validate(), renew(), release(), revoke()]
}

fn validate() -> Endpoint {
    Endpoint::post(
        "/v1/token/validate",
        TAG,
        "validateToken",
        "Whether a token stands now, and its claims",
    )
    .says("200 whatever the token. The audience is not checked. Not audited.")
    .takes("ValidateRequest", json!({"token": "eyJhbGciOi..."}))
    .answers(
        200,
        "Its claims, or that it does not stand.",
        "ValidateResponse",
        json!({"valid": false, "error": "token is invalid or expired"}),
    )
    .refuses(InvalidRequest, "token field is required")
    .stores()
}

fn renew() -> Endpoint {
    Endpoint::post("/v1/token/renew", TAG, "renewToken", "The session's next token")
        .says(
            "For agents only. The bearer ends, and exactly one of several renewals at once wins. The body and \
             `Idempotency-Key` count for attested agents (pods) only; for all others the body is ignored, whatever it \
             is. The token of an attested agent's session whose launch said `renewal_proof: true` (no delegated one) is \
             renewed only with the header `Agentwrit-Proof`: Ed25519, by the key that the session registered with, over \
             the ASCII text `agentwrit-renewal-v1\\n<trust domain>\\n<jti>\\n<t>`. `t` is the broker's time, within \
             60 s; refusals of a proof tell it in `Date`. They spend nothing.",
        )
        .bearer()
        .in_header(
            "Idempotency-Key",
            "Makes a retry safe: the same bearer with the same key gets the same token for 60 s.",
            matching("^[!-~]{1,128}$", "renewal-17"),
        )
        .in_header(
            "Agentwrit-Proof",
            "Proof that the caller holds the session's key; a repeated renewal brings a fresh one.",
            matching(
                "^v1;t=(0|[1-9][0-9]{0,11});sig=[A-Za-z0-9_-]{85}[AQgw]$",
                &format!("v1;t=1800000000;sig={}", "A".repeat(86)),
            ),
        )
        .may_take("RenewRequest", json!({"overlap_seconds": 10}))
        .answers(
            200,
            "The new token.",
            "RenewResponse",
            json!({"access_token": token(), "expires_in": 300}),
        )
        .limited()
        .refuses(InvalidRequest, "overlap_seconds 31 must be from 0 to 30")
        .refuses(
            InvalidRequest,
            "Idempotency-Key must be 1 to 128 visible ASCII characters",
        )
        .refuses(Unauthorized, "token renewal failed")
        .refuses(InsufficientScope, "only tokens of agents can be renewed or delegated")
        .refuses(Revoked, "token has been revoked")
        .refuses(Suspended, "token has been revoked")
        .refuses(PolicyChanged, "token has been revoked")
        .refuses(Superseded, "token has been revoked")
        .refuses(
            ProofRequired,
            "the token of this session is renewed only with the header Agentwrit-Proof",
        )
        .refuses(
            ProofInvalid,
            "the header Agentwrit-Proof must be v1;t=<Unix seconds>;sig=<64 bytes in base64url without padding>, once",
        )
        .refuses(
            ProofInvalid,
            "the header Agentwrit-Proof is not a signature of this session's key over this token",
        )
        .refuses(
            ProofStale,
            "the time of the header Agentwrit-Proof is 75 s from the broker's, at most 60 are accepted",
        )
}

fn release() -> Endpoint {
    Endpoint::post("/v1/token/release", TAG, "releaseToken", "Gives the bearer back")
        .says("The body is ignored. For an agent, its session and all that descends from it end.")
        .bearer()
        .answers_with(204, ResponseBuilder::new().description("The token is dead."))
}

fn revoke() -> Endpoint {
    Endpoint::post("/v1/revoke", TAG, "revoke", "Ends tokens, agents, tasks or delegation chains")
        .says(
            "Effective at once and everywhere, and for good; the same answer for unknown targets and repeats. The target is \
             a jti (`token`), a subject (`agent`), a task id (`task`), or the agent id of a chain's root (`chain`). With attestation \
             on, the pod behind the target is quarantined, and the answer has `sessions_ended` and `pods_quarantined`.",
        )
        .bearer_with("admin:revoke:*")
        .takes("RevokeRequest", json!({"level": "task", "target": "report-7"}))
        .answers(
            200,
            "Revoked.",
            "RevokeResponse",
            json!({"revoked": true, "level": "task", "target": "report-7", "count": 1}),
        )
        .refuses(InvalidRequest, "level and target are required")
        .refuses(InvalidRequest, "target of 20000 characters is too long: it must be at most 16384")
        .refuses(InvalidRequest, "target \"admin\" can't be revoked at level agent: revoke its tokens instead")
        .refuses(InvalidRequest, "invalid revocation level: \"all\" must be token, agent, task or chain")
}
