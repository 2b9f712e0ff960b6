//! Renewal, release, revocation.

use agentwrit_protocol::ErrorCode;
use agentwrit_protocol::claims::Claims;
use agentwrit_protocol::renewal_proof::PROOF_HEADER;
use agentwrit_protocol::wire::{RenewRequest, RenewResponse, RevokeRequest, RevokeResponse};
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::StatusCode;

use crate::http::{ApiError, ApiRequest, AppState, IDEMPOTENCY_KEY, authorize, authorize_actor, reply};
use crate::service::authorize::Requirement;
use crate::service::error::Internal;
use crate::service::session::release::{self, Released};
use crate::service::session::renew::{RenewError, WishError, Wishes};
use crate::service::session::renewal_proof::PresentedProof;
use crate::service::session::revoke::RevokeError;

fn wishes(call: &ApiRequest, claims: &Claims) -> Result<Wishes, ApiError> {
    if !claims.is_attested() {
        // The body is ignored, whatever it is.
        return Ok(Wishes::default());
    }
    let body: RenewRequest = if call.body.is_empty() {
        RenewRequest::default()
    } else {
        call.json()?
    };
    let key = call.headers.get(IDEMPOTENCY_KEY);
    let key = key.map(|value| value.to_str().unwrap_or_default());
    Ok(Wishes::new(body.overlap_seconds.unwrap_or(0), key, proof(call))?)
}

fn proof(call: &ApiRequest) -> PresentedProof {
    let mut lines = call.headers.get_all(PROOF_HEADER).iter();
    match (lines.next().map(|line| line.to_str()), lines.next()) {
        (None, _) => PresentedProof::Nothing,
        (Some(Ok(line)), None) => PresentedProof::Line(line.to_owned()),
        (Some(_), _) => PresentedProof::Unreadable,
    }
}

#[cfg(feature = "openapi")]
const PROOF_REFUSALS: [&str; 4] = [
    "proof_required: the token of this session is renewed only with the header Agentwrit-Proof",
    "proof_invalid: the header Agentwrit-Proof must be v1;t=<Unix seconds>;sig=<64 bytes in base64url without \
     padding>, once",
    "proof_invalid: the header Agentwrit-Proof is not a signature of this session's key over this token",
    "proof_stale: the time of the header Agentwrit-Proof is 75 s from the broker's, at most 60 are accepted",
];

/// Exchanges a token for the next one of its session.
///
/// Only tokens of agents are renewed. The bearer ends, and exactly one of several renewals at once succeeds. The body
/// and `Idempotency-Key` count for attested agents (pods) only; for all others the body is ignored, whatever it is.
///
/// A session whose launch said `renewal_proof: true` is renewed only with the header `Agentwrit-Proof`, its delegated
/// tokens excepted. The proof is a signature (Ed25519) by the key that the session registered with, over the ASCII
/// text `agentwrit-renewal-v1\n<trust domain>\n<jti>\n<t>`. The time `t` is within 60 s of the broker's; a refused
/// proof is answered with the broker's time in `Date`. A refused proof spends nothing.
#[cfg_attr(feature = "openapi", utoipa::path(
    post, path = "/v1/token/renew", tag = "Tokens", operation_id = "renewToken",
    security(("bearer" = [])),
    params(crate::http::openapi::RenewHeaders),
    request_body(content = Option<RenewRequest>, description = "It may be left out."),
    responses((status = 200, body = RenewResponse, description = "The new token.")),
    extensions(("x-refusals" = json!([
        "rate_limited",
        "invalid_request: overlap_seconds 31 must be from 0 to 30",
        "invalid_request: Idempotency-Key must be 1 to 128 visible ASCII characters",
        "unauthorized: token renewal failed",
        "insufficient_scope: only tokens of agents can be renewed or delegated",
        "revoked: token has been revoked",
        "suspended: token has been revoked",
        "policy_changed: token has been revoked",
        "superseded: token has been revoked",
        PROOF_REFUSALS,
    ]))),
))]
pub(in crate::http) async fn renew(State(broker): State<AppState>, call: ApiRequest) -> Result<Response, ApiError> {
    let is_retry = call.headers.contains_key(IDEMPOTENCY_KEY);
    let bearer = authorize(&broker, &call, Requirement::renewal(is_retry)).await?;
    let wishes = wishes(&call, &bearer.claims)?;
    let issued = broker
        .renewer()
        .renew(&bearer.claims, wishes, call.origin(&call.path()))
        .await?;
    let answer = RenewResponse {
        access_token: issued.token,
        expires_in: issued.expires_in,
    };
    Ok(reply(StatusCode::OK, &answer))
}

impl From<WishError> for ApiError {
    fn from(error: WishError) -> Self {
        Self::invalid(error.to_string())
    }
}

impl From<RenewError> for ApiError {
    fn from(error: RenewError) -> Self {
        match error {
            RenewError::Revoked(code) => Self::revoked(code),
            RenewError::Rate(limited) => limited.into(),
            RenewError::Proof { refusal, judged_at } => Self::new(refusal.code(), refusal.to_string()).date(judged_at),
            RenewError::Internal(Internal::Store(error)) => error.into(),
            RenewError::Internal(_) => Self::internal("token renewal failed"),
            RenewError::Failed => Self::unauthorized(error.to_string()),
            RenewError::Policy(refusal) => Self::new(refusal.code, refusal.detail),
        }
    }
}

/// Gives the bearer back.
///
/// The body is ignored. The session of an agent ends, with all that descends from it.
#[cfg_attr(feature = "openapi", utoipa::path(
    post, path = "/v1/token/release", tag = "Tokens", operation_id = "releaseToken",
    security(("bearer" = [])),
    responses((status = 204, description = "The token is dead.")),
))]
pub(in crate::http) async fn release(State(broker): State<AppState>, call: ApiRequest) -> Result<Response, ApiError> {
    let bearer = authorize(&broker, &call, Requirement::ANY).await?;
    match release::release(
        &broker.store,
        &broker.metrics.tokens_revoked,
        &bearer.claims,
        call.origin(&call.path()),
    )
    .await?
    {
        Released::Done => Ok(StatusCode::NO_CONTENT.into_response()),
        Released::Already => Err(ApiError::revoked(ErrorCode::InsufficientScope)),
    }
}

/// Ends tokens, agents, tasks or delegation chains.
///
/// It takes effect at once and everywhere, and for good. Unknown targets and repeated requests get the same answer.
/// The target is a jti (`token`), a subject (`agent`), a task id (`task`), or the agent id of the root of a chain
/// (`chain`). With attestation on, the pod behind the target is quarantined, and the answer has `sessions_ended` and
/// `pods_quarantined`.
#[cfg_attr(feature = "openapi", utoipa::path(
    post, path = "/v1/revoke", tag = "Tokens", operation_id = "revoke",
    security(("bearer" = ["admin:revoke:*"])),
    request_body(content = RevokeRequest, example = json!({"level": "task", "target": "report-7"})),
    responses((
        status = 200, body = RevokeResponse, description = "The target is revoked.",
        example = json!({"revoked": true, "level": "task", "target": "report-7", "count": 1}),
    )),
    extensions(("x-refusals" = json!([
        "invalid_request: level and target are required",
        "invalid_request: target of 20000 characters is too long: it must be at most 16384",
        "invalid_request: target \"admin\" can't be revoked at level agent: revoke its tokens instead",
        "invalid_request: invalid revocation level: \"all\" must be token, agent, task or chain",
    ]))),
))]
pub(in crate::http) async fn revoke(State(broker): State<AppState>, call: ApiRequest) -> Result<Response, ApiError> {
    let actor = authorize_actor(&broker, &call, Requirement::admin("admin:revoke:*")).await?;
    let request: RevokeRequest = call.json()?;
    let given = |value: Option<String>| value.filter(|text| !text.is_empty());
    let (Some(level), Some(target)) = (given(request.level), given(request.target)) else {
        return Err(ApiError::invalid("level and target are required"));
    };
    let reach = broker.revoker().revoke(&level, &target, actor).await?;
    // The contract's body, byte for byte, where no pods are attested.
    let attesting = broker.attestation.is_some();
    Ok(reply(
        StatusCode::OK,
        &RevokeResponse {
            revoked: true,
            level,
            target,
            count: 1,
            sessions_ended: attesting.then_some(reach.sessions_ended),
            pods_quarantined: attesting.then_some(reach.pods_quarantined),
        },
    ))
}

impl From<RevokeError> for ApiError {
    fn from(error: RevokeError) -> Self {
        match error {
            RevokeError::Level(_) | RevokeError::Protected(_) | RevokeError::Length(_) => {
                Self::invalid(error.to_string())
            }
            RevokeError::Store(error) => error.into(),
        }
    }
}
