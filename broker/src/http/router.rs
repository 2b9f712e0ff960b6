//! Which handler answers which path.

use agentwrit_protocol::ErrorCode;
use axum::Router;
use axum::routing::{get, post};
use http::Method;

use super::error::ApiError;
use super::handlers::{
    admin, app_auth, apps, audit, delegate, k8s, keys, launch, lifecycle, ops, public, register, revoke_matching,
};
use super::layers::access_log::shown_method;
use crate::broker::AppState;

/// The routes of the API listener.
pub fn api(broker: &AppState) -> Router {
    let mut router = Router::new()
        .route("/v1/challenge", get(public::challenge))
        .route("/v1/health", get(public::health))
        .route("/.well-known/jwks.json", get(public::jwks))
        .route("/.well-known/openid-configuration", get(public::discovery))
        .route("/openapi.json", get(public::openapi))
        .route("/v1/token/validate", post(public::validate))
        .route("/v1/register", post(register::register))
        .route("/v1/token/renew", post(lifecycle::renew))
        .route("/v1/token/release", post(lifecycle::release))
        .route("/v1/delegate", post(delegate::delegate))
        .route("/v1/revoke", post(lifecycle::revoke))
        .route("/v1/admin/auth", post(admin::auth))
        .route("/v1/admin/launch-tokens", post(launch::admin))
        .route("/v1/admin/revoke-matching", post(revoke_matching::revoke))
        .route("/v1/admin/apps", get(apps::list).post(apps::register))
        .route(
            "/v1/admin/apps/{app_id}",
            get(apps::get).put(apps::update).delete(apps::remove),
        )
        .route("/v1/admin/keys", get(keys::list))
        .route("/v1/admin/keys/rotate", post(keys::rotate))
        .route("/v1/admin/keys/{kid}/retire", post(keys::retire))
        .route("/v1/app/auth", post(app_auth::auth))
        .route("/v1/app/launch-tokens", post(launch::app))
        .route("/v1/audit/events", get(audit::events));
    if broker.config.api_metrics {
        router = router.route("/v1/metrics", get(ops::metrics));
    }
    if broker.config.ops.is_none() {
        router = router.merge(probes());
    }
    finish(router.merge(k8s::routes(broker)), broker)
}

/// The routes of the ops listener.
pub fn ops(broker: &AppState) -> Router {
    finish(probes().route("/metrics", get(ops::metrics)), broker)
}

fn probes() -> Router<AppState> {
    Router::new()
        .route("/livez", get(ops::livez))
        .route("/readyz", get(ops::readyz))
}

fn finish(router: Router<AppState>, broker: &AppState) -> Router {
    router
        .fallback(not_found)
        .method_not_allowed_fallback(method_not_allowed)
        .with_state(broker.clone())
}

/// Answer to an unknown path.
async fn not_found() -> ApiError {
    ApiError::new(ErrorCode::NotFound, "no such path")
}

/// Answer to a known path with another method.
async fn method_not_allowed(method: Method) -> ApiError {
    let detail = format!("method {} is not allowed here", shown_method(&method));
    ApiError::new(ErrorCode::MethodNotAllowed, detail)
}
