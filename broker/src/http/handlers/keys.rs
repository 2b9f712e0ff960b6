//! The signing keys, as an admin sees them.

use agentwrit_protocol::ErrorCode;
use agentwrit_protocol::signing_keys::wire::{
    RetireKeyRequest, RetireKeyResponse, RotateKeyResponse, SigningKeyView, SigningKeysResponse,
};
use agentwrit_protocol::signing_keys::{KeyState, SigningKey};
use agentwrit_protocol::timestamp::rfc3339_seconds;
use agentwrit_tokens::key_set::KeySnapshot;
use axum::extract::{Path, State};
use axum::response::Response;
use http::StatusCode;

use crate::http::{ApiError, ApiRequest, AppState, authorize_actor, reply};
use crate::service::actor::Actor;
use crate::service::authorize::Requirement;
use crate::service::signing_keys::person::KeysError;

type Answer = Result<Response, ApiError>;

async fn authorize_admin(broker: &AppState, call: &ApiRequest) -> Result<Actor, ApiError> {
    authorize_actor(broker, call, Requirement::admin("admin:revoke:*")).await
}

fn shown(held: &KeySnapshot, key: &SigningKey, state: KeyState) -> SigningKeyView {
    SigningKeyView {
        state,
        held: held.holds(&key.kid),
        kid: key.kid.clone(),
        x: key.x.clone(),
        published_at: rfc3339_seconds(key.published_at),
        signs_from: rfc3339_seconds(key.signs_from),
        retires_at: key.retires_at.map(rfc3339_seconds),
        retired_at: key.retirement.map(|retirement| rfc3339_seconds(retirement.at)),
        leaked: key.retirement.is_some_and(|retirement| retirement.leaked),
    }
}

/// Lists every signing key, in the order in which they were published.
///
/// Retired keys stay in the list, so that old statements of the audit trail can be checked.
#[cfg_attr(feature = "openapi", utoipa::path(
    get, path = "/v1/admin/keys", tag = "Keys", operation_id = "listSigningKeys",
    security(("bearer" = ["admin:revoke:*"])),
    responses((status = 200, body = SigningKeysResponse, description = "The keys.")),
))]
pub(in crate::http) async fn list(State(broker): State<AppState>, call: ApiRequest) -> Answer {
    authorize_admin(&broker, &call).await?;
    Ok(reply(StatusCode::OK, &all(&broker).await?))
}

/// Every key, for people and for the controller.
pub(super) async fn all(broker: &AppState) -> Result<SigningKeysResponse, KeysError> {
    let stored = broker.key_admin().list().await?;
    let held = broker.tokens.keys.current();
    let states = stored.keys.states(broker.judging.times().judged.second());
    Ok(SigningKeysResponse {
        keys: states.map(|(key, state)| shown(&held, key, state)).collect(),
        rotation_requested_at: stored.rotation.map(|rotation| rfc3339_seconds(rotation.at)),
    })
}

/// Asks for another signing key.
///
/// The broker makes it where it writes the folder of `AA_SIGNING_KEY_PATH`; in a cluster the controller does, which takes
/// a minute or two. It is published for `AA_KEY_PUBLISH_SECONDS` before it signs. Asking again changes nothing until then.
#[cfg_attr(feature = "openapi", utoipa::path(
    post, path = "/v1/admin/keys/rotate", tag = "Keys", operation_id = "rotateSigningKey",
    security(("bearer" = ["admin:revoke:*"])),
    responses((status = 202, body = RotateKeyResponse, description = "It was asked for, or is on its way.")),
    extensions(("x-refusals" = json!([
        "conflict: the signing key is one file: to rotate it, make a folder, move the file into it under a name that ends \
         with .key, and name the folder in AA_SIGNING_KEY_PATH",
        "conflict: 1000 signing keys are known: more can't be remembered",
    ]))),
))]
pub(in crate::http) async fn rotate(State(broker): State<AppState>, call: ApiRequest) -> Answer {
    let actor = authorize_admin(&broker, &call).await?;
    let keys = broker.key_admin();
    keys.rotate(actor).await?;
    let stored = keys.list().await?;
    let now = broker.judging.times().judged.second();
    // The key may have been made since it was asked for.
    let held = broker.tokens.keys.current();
    let next = stored.keys.next(now).map(|key| shown(&held, key, KeyState::Next));
    let answer = RotateKeyResponse {
        rotation_requested_at: stored.rotation.map(|rotation| rfc3339_seconds(rotation.at)),
        next,
    };
    Ok(reply(StatusCode::ACCEPTED, &answer))
}

/// Retires a signing key.
///
/// A key is retired by itself when its last token has expired. With `"now": true` it is retired at once, since it has
/// leaked: a new epoch begins, every token that there is is refused, and agents register again. Where no other key is
/// published, one is made as by a rotation, and signs at once.
#[cfg_attr(feature = "openapi", utoipa::path(
    post, path = "/v1/admin/keys/{kid}/retire", tag = "Keys", operation_id = "retireSigningKey",
    security(("bearer" = ["admin:revoke:*"])),
    params(crate::http::openapi::KeyPath),
    request_body(content = Option<RetireKeyRequest>, example = json!({"now": true})),
    responses((status = 200, body = RetireKeyResponse, description = "The key is retired, now or before.")),
    extensions(("x-refusals" = json!([
        "not_found: there is no signing key \"abc\": GET /v1/admin/keys lists them",
        "conflict: signing key kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k is active: it is retired by itself when its last \
         token has expired; say now if it has leaked: all tokens of before are then refused",
    ]))),
))]
pub(in crate::http) async fn retire(
    State(broker): State<AppState>,
    Path(kid): Path<String>,
    call: ApiRequest,
) -> Answer {
    let actor = authorize_admin(&broker, &call).await?;
    let request = if call.body.is_empty() {
        RetireKeyRequest::default()
    } else {
        call.json()?
    };
    let retired = broker.key_admin().retire(kid, request.now, actor).await?;
    let answer = RetireKeyResponse {
        kid: retired.kid,
        retired_at: rfc3339_seconds(retired.retirement.at),
        leaked: retired.retirement.leaked,
        epoch: retired.epoch,
    };
    Ok(reply(StatusCode::OK, &answer))
}

impl From<KeysError> for ApiError {
    fn from(error: KeysError) -> Self {
        match error {
            KeysError::Store(error) => error.into(),
            KeysError::NotFound(_) => Self::new(ErrorCode::NotFound, error.to_string()),
            KeysError::OneFile | KeysError::Full | KeysError::InUse { .. } => {
                Self::new(ErrorCode::Conflict, error.to_string())
            }
        }
    }
}
