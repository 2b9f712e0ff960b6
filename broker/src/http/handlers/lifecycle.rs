//! Renewal, release, revocation.

use agentwrit_protocol::ErrorCode;
use agentwrit_protocol::claims::Claims;
use agentwrit_protocol::renewal_proof::PROOF_HEADER;
use agentwrit_protocol::wire::{RenewRequest, RenewResponse, RevokeRequest, RevokeResponse};
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::StatusCode;

use crate::broker::Broker;
use crate::http::{ApiError, AppState, Call, Guard, IDEMPOTENCY_KEY, authenticate, reply};
use crate::service::attested::is_attested;
use crate::service::authorize::{renewal_code, revoked};
use crate::service::release::{self, Released};
use crate::service::renew::{self, LONGEST_OVERLAP, RenewError, Wishes};
use crate::service::renewal_proof::Brought;
use crate::service::revoke::{self, RevokeError};

/// Longest Idempotency-Key, bytes.
const LONGEST_KEY: usize = 128;

fn wishes(call: &Call, claims: &Claims) -> Result<Wishes, ApiError> {
    if !is_attested(claims) {
        // The body is ignored, whatever it is.
        return Ok(Wishes::default());
    }
    let body: RenewRequest = if call.body.is_empty() {
        RenewRequest::default()
    } else {
        call.json()?
    };
    let overlap_seconds = body.overlap_seconds.unwrap_or(0);
    if !(0..=LONGEST_OVERLAP).contains(&overlap_seconds) {
        return Err(ApiError::invalid(format!(
            "overlap_seconds {overlap_seconds} must be from 0 to {LONGEST_OVERLAP}"
        )));
    }
    let key = match call.headers.get(IDEMPOTENCY_KEY) {
        None => None,
        Some(value) => match value.to_str() {
            Ok(key) if (1..=LONGEST_KEY).contains(&key.len()) => Some(key.to_owned()),
            _ => {
                let detail = format!("Idempotency-Key must be 1 to {LONGEST_KEY} visible ASCII characters");
                return Err(ApiError::invalid(detail));
            }
        },
    };
    Ok(Wishes {
        overlap_seconds,
        key,
        proof: proof(call),
    })
}

fn proof(call: &Call) -> Brought {
    let mut lines = call.headers.get_all(PROOF_HEADER).iter();
    match (lines.next().map(|line| line.to_str()), lines.next()) {
        (None, _) => Brought::Nothing,
        (Some(Ok(line)), None) => Brought::Line(line.to_owned()),
        (Some(_), _) => Brought::Unreadable,
    }
}

/// `POST /v1/token/renew`.
pub(in crate::http) async fn renew(State(broker): State<AppState>, call: Call) -> Result<Response, ApiError> {
    let bearer = authenticate(&broker, &call, Guard::RENEWAL).await?;
    let claims = &bearer.claims;
    let wishes = wishes(&call, claims)?;
    let issued = renew::renew(&broker, claims, wishes, &call.path(), &call.source_text())
        .await
        .map_err(|error| renewal_error(&broker, error, claims))?;
    let answer = RenewResponse {
        access_token: issued.token,
        expires_in: issued.expires_in,
    };
    Ok(reply(StatusCode::OK, &answer))
}

fn renewal_error(broker: &Broker, error: RenewError, claims: &Claims) -> ApiError {
    let attested = is_attested(claims);
    match error {
        RenewError::Ended(reason) if attested => revoked(renewal_code(reason)),
        RenewError::Replaced if attested => revoked(ErrorCode::Superseded),
        RenewError::Rate(seconds) => ApiError::rate_limited().retry_after(seconds),
        RenewError::Proof(refusal) => {
            ApiError::new(refusal.code(), refusal.to_string()).date(broker.clock.unix_seconds())
        }
        RenewError::Store(error) => error.into(),
        RenewError::Entropy(_) | RenewError::Sign(_) => ApiError::internal("token renewal failed"),
        other => ApiError::new(other.code(), other.to_string()),
    }
}

/// `POST /v1/token/release`.
pub(in crate::http) async fn release(State(broker): State<AppState>, call: Call) -> Result<Response, ApiError> {
    let bearer = authenticate(&broker, &call, Guard::ANY).await?;
    match release::release(&broker, &bearer.claims, &call.path(), &call.source_text()).await? {
        Released::Done => Ok(StatusCode::NO_CONTENT.into_response()),
        Released::Already => Err(revoked(ErrorCode::InsufficientScope)),
    }
}

/// `POST /v1/revoke`.
pub(in crate::http) async fn revoke(State(broker): State<AppState>, call: Call) -> Result<Response, ApiError> {
    let bearer = authenticate(&broker, &call, Guard::admin("admin:revoke:*")).await?;
    let request: RevokeRequest = call.json()?;
    let given = |value: Option<String>| value.filter(|text| !text.is_empty());
    let (Some(level), Some(target)) = (given(request.level), given(request.target)) else {
        return Err(ApiError::invalid("level and target are required"));
    };
    let (_, reach) = revoke::revoke(&broker, &level, &target, &bearer.claims.sub, &call.source_text()).await?;
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
