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

use crate::http::{ApiError, ApiRequest, AppState, authorize, reply};
use crate::service::apps::{Admin, AppError};
use crate::service::authorize::Requirement;

type Answer = Result<Response, ApiError>;

async fn admin(broker: &AppState, call: &ApiRequest) -> Result<Admin, ApiError> {
    let bearer = authorize(broker, call, Requirement::admin("admin:launch-tokens:*")).await?;
    Ok(Admin {
        subject: bearer.claims.sub.clone(),
        source: call.source_text(),
    })
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

/// `POST /v1/admin/apps`.
pub(in crate::http) async fn register(State(broker): State<AppState>, call: ApiRequest) -> Answer {
    let admin = admin(&broker, &call).await?;
    let request: RegisterAppRequest = call.json()?;
    let registered = broker.apps().register(request, admin).await?;
    let answer = RegisterAppResponse {
        app_id: registered.app.app_id,
        client_id: registered.app.client_id,
        client_secret: registered.client_secret,
        scopes: registered.app.scopes.to_strings(),
        token_ttl: registered.app.token_ttl,
    };
    Ok(reply(StatusCode::CREATED, &answer))
}

/// `GET /v1/admin/apps`.
pub(in crate::http) async fn list(State(broker): State<AppState>, call: ApiRequest) -> Answer {
    admin(&broker, &call).await?;
    let apps: Vec<App> = broker.apps().list().await?.into_iter().map(shown).collect();
    let total = i64::try_from(apps.len()).unwrap_or(i64::MAX);
    Ok(reply(StatusCode::OK, &AppsResponse { apps, total }))
}

/// `GET /v1/admin/apps/{id}`.
pub(in crate::http) async fn get(
    State(broker): State<AppState>,
    Path(app_id): Path<String>,
    call: ApiRequest,
) -> Answer {
    admin(&broker, &call).await?;
    Ok(reply(StatusCode::OK, &shown(broker.apps().get(app_id).await?)))
}

/// `PUT /v1/admin/apps/{id}`.
pub(in crate::http) async fn update(
    State(broker): State<AppState>,
    Path(app_id): Path<String>,
    call: ApiRequest,
) -> Answer {
    let admin = admin(&broker, &call).await?;
    let request: UpdateAppRequest = call.json()?;
    let app = broker.apps().update(app_id, request, admin).await?;
    Ok(reply(StatusCode::OK, &shown(app)))
}

/// `DELETE /v1/admin/apps/{id}`.
pub(in crate::http) async fn remove(
    State(broker): State<AppState>,
    Path(app_id): Path<String>,
    call: ApiRequest,
) -> Answer {
    let admin = admin(&broker, &call).await?;
    let app = broker.apps().deregister(app_id, admin).await?;
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
