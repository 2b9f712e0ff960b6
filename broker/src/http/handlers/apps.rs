//! Apps, as an admin sees them.

use agentwrit_protocol::ErrorCode;
use agentwrit_protocol::apps::{
    App, AppsResponse, RegisterAppRequest, RegisterAppResponse, RemoveAppResponse, UpdateAppRequest,
};
use agentwrit_protocol::timestamp::rfc3339_seconds;
use agentwrit_store::AppRecord;
use axum::extract::{Path, State};
use axum::response::Response;
use http::StatusCode;

use crate::http::{ApiError, ApiRequest, AppState, authorize_actor, reply};
use crate::service::actor::Actor;
use crate::service::apps::AppError;
use crate::service::authorize::Requirement;

type Answer = Result<Response, ApiError>;

async fn authorize_admin(broker: &AppState, call: &ApiRequest) -> Result<Actor, ApiError> {
    authorize_actor(broker, call, Requirement::admin("admin:launch-tokens:*")).await
}

fn shown(app: AppRecord) -> App {
    App {
        status: app.status(),
        app_id: app.app_id,
        name: app.name,
        client_id: app.client_id,
        scopes: app.scopes.to_strings(),
        token_ttl: app.token_ttl,
        created_at: rfc3339_seconds(app.created_at),
        updated_at: rfc3339_seconds(app.updated_at),
    }
}

#[cfg(feature = "openapi")]
const REFUSALS: [&str; 6] = [
    "invalid_request: scopes must be at most 32768 bytes of JSON",
    "invalid_scope_format: scopes has 1001 items: at most 1000 are allowed",
    "invalid_scope_format: scopes[0] is 8193 bytes long: at most 8192 are allowed",
    "invalid_scope_format: scope \"read:orders\" is not of the form action:resource:identifier with three \
     non-empty parts",
    "invalid_ttl: token_ttl 59 must be from 60 to 86400 seconds",
    "forbidden: scope \"admin:revoke:*\" is reserved: agents can't hold admin: and app: scopes",
];

/// Registers an app and makes its secret.
///
/// The name of a deregistered app is free again. An absent `token_ttl` means `AA_APP_TOKEN_TTL`.
#[cfg_attr(feature = "openapi", utoipa::path(
    post, path = "/v1/admin/apps", tag = "Apps", operation_id = "registerApp",
    security(("bearer" = ["admin:launch-tokens:*"])),
    request_body = RegisterAppRequest,
    responses((status = 201, body = RegisterAppResponse, description = "The app. Its secret is told this once.")),
    extensions(("x-refusals" = json!([
        REFUSALS,
        "invalid_request: scopes must not be empty",
        "invalid_request: name is required",
        "invalid_request: name \"X\" must be 2 to 64 characters of a-z, 0-9 and single inner hyphens, starting with a \
         letter and then a letter or digit, such as order-reader",
        "conflict: an app named \"order-service\" is registered already",
    ]))),
))]
pub(in crate::http) async fn register(State(broker): State<AppState>, call: ApiRequest) -> Answer {
    let actor = authorize_admin(&broker, &call).await?;
    let request: RegisterAppRequest = call.json()?;
    let registered = broker.apps().register(request, actor).await?;
    let answer = RegisterAppResponse {
        app_id: registered.app.app_id,
        client_id: registered.app.client_id,
        client_secret: registered.client_secret,
        scopes: registered.app.scopes.to_strings(),
        token_ttl: registered.app.token_ttl,
    };
    Ok(reply(StatusCode::CREATED, &answer))
}

/// Lists every app, the newest first.
///
/// Deregistered apps are among them.
#[cfg_attr(feature = "openapi", utoipa::path(
    get, path = "/v1/admin/apps", tag = "Apps", operation_id = "listApps",
    security(("bearer" = ["admin:launch-tokens:*"])),
    responses((status = 200, body = AppsResponse, description = "All of them.")),
))]
pub(in crate::http) async fn list(State(broker): State<AppState>, call: ApiRequest) -> Answer {
    authorize_admin(&broker, &call).await?;
    let apps: Vec<App> = broker.apps().list().await?.into_iter().map(shown).collect();
    let total = i64::try_from(apps.len()).unwrap_or(i64::MAX);
    Ok(reply(StatusCode::OK, &AppsResponse { apps, total }))
}

/// Shows one app.
#[cfg_attr(feature = "openapi", utoipa::path(
    get, path = "/v1/admin/apps/{app_id}", tag = "Apps", operation_id = "getApp",
    security(("bearer" = ["admin:launch-tokens:*"])),
    params(crate::http::openapi::AppPath),
    responses((status = 200, body = App, description = "The app.")),
    extensions(("x-refusals" = json!(["not_found: app not found"]))),
))]
pub(in crate::http) async fn get(
    State(broker): State<AppState>,
    Path(app_id): Path<String>,
    call: ApiRequest,
) -> Answer {
    authorize_admin(&broker, &call).await?;
    Ok(reply(StatusCode::OK, &shown(broker.apps().get(app_id).await?)))
}

/// Changes an app.
///
/// All that the body names is changed, or nothing. An empty `scopes` counts as absent. What the app and its agents
/// hold already stays as it is.
#[cfg_attr(feature = "openapi", utoipa::path(
    put, path = "/v1/admin/apps/{app_id}", tag = "Apps", operation_id = "updateApp",
    security(("bearer" = ["admin:launch-tokens:*"])),
    params(crate::http::openapi::AppPath),
    request_body = UpdateAppRequest,
    responses((status = 200, body = App, description = "The app as it is now.")),
    extensions(("x-refusals" = json!([
        "not_found: app not found",
        REFUSALS,
        "invalid_request: scopes or token_ttl is required",
    ]))),
))]
pub(in crate::http) async fn update(
    State(broker): State<AppState>,
    Path(app_id): Path<String>,
    call: ApiRequest,
) -> Answer {
    let actor = authorize_admin(&broker, &call).await?;
    let request: UpdateAppRequest = call.json()?;
    let app = broker.apps().update(app_id, request, actor).await?;
    Ok(reply(StatusCode::OK, &shown(app)))
}

/// Deregisters an app for good.
///
/// Its tokens are revoked at once. A repeated request gets the same answer.
#[cfg_attr(feature = "openapi", utoipa::path(
    delete, path = "/v1/admin/apps/{app_id}", tag = "Apps", operation_id = "removeApp",
    security(("bearer" = ["admin:launch-tokens:*"])),
    params(crate::http::openapi::AppPath),
    responses((status = 200, body = RemoveAppResponse, description = "The app is inactive.")),
    extensions(("x-refusals" = json!(["not_found: app not found"]))),
))]
pub(in crate::http) async fn remove(
    State(broker): State<AppState>,
    Path(app_id): Path<String>,
    call: ApiRequest,
) -> Answer {
    let actor = authorize_admin(&broker, &call).await?;
    let app = broker.apps().deregister(app_id, actor).await?;
    let answer = RemoveAppResponse {
        status: app.status(),
        app_id: app.app_id,
        deregistered_at: rfc3339_seconds(app.deregistered_at.unwrap_or(app.updated_at)),
    };
    Ok(reply(StatusCode::OK, &answer))
}

impl From<AppError> for ApiError {
    fn from(error: AppError) -> Self {
        match error {
            AppError::Input(error) => Self::new(error.code(), error.to_string()),
            AppError::NameTaken(_) => Self::new(ErrorCode::Conflict, error.to_string()),
            AppError::NotFound => Self::new(ErrorCode::NotFound, error.to_string()),
            AppError::Internal(error) => error.into(),
            AppError::Secret(_) | AppError::NoFreeId => {
                tracing::error!(target: "APPS", component = "Register", error = %error, "no app registered");
                Self::internal("app registration failed")
            }
        }
    }
}
