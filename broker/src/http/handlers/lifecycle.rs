//! Renewal, release, revocation.

use agentwrit_protocol::ErrorCode;
use agentwrit_protocol::claims::Claims;
use agentwrit_protocol::renewal_proof::PROOF_HEADER;
use agentwrit_protocol::wire::{RenewRequest, RenewResponse, RevokeRequest, RevokeResponse};
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::StatusCode;

use crate::http::{ApiError, ApiRequest, AppState, IDEMPOTENCY_KEY, authorize, reply};
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

/// `POST /v1/token/renew`.
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

/// `POST /v1/token/release`.
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

/// `POST /v1/revoke`.
pub(in crate::http) async fn revoke(State(broker): State<AppState>, call: ApiRequest) -> Result<Response, ApiError> {
    let bearer = authorize(&broker, &call, Requirement::admin("admin:revoke:*")).await?;
    let request: RevokeRequest = call.json()?;
    let given = |value: Option<String>| value.filter(|text| !text.is_empty());
    let (Some(level), Some(target)) = (given(request.level), given(request.target)) else {
        return Err(ApiError::invalid("level and target are required"));
    };
    let reach = broker
        .revoker()
        .revoke(&level, &target, &bearer.claims.sub, &call.source_text())
        .await?;
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
