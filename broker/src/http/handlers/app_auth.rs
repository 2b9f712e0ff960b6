//! `POST /v1/app/auth`.

use agentwrit_protocol::apps::{APP_SCOPES, AppAuthRequest, AppAuthResponse};
use agentwrit_protocol::{ErrorCode, Sensitive};
use axum::extract::State;
use axum::response::Response;
use http::StatusCode;

use crate::http::{ApiError, ApiRequest, AppState, reply};
use crate::passwords::SecretError;
use crate::service::apps::login::LoginError;
use crate::service::error::Internal;

/// Exchanges the credentials of an app for a token.
///
/// A client id may be used 10 times a minute, and 3 times at once; a body that names none counts for its address. An
/// address may ask 10 times a second, and 50 times at once. Every request counts, before anything else is looked at.
#[cfg_attr(feature = "openapi", utoipa::path(
    post, path = "/v1/app/auth", tag = "Apps", operation_id = "appAuth",
    request_body = AppAuthRequest,
    responses((
        status = 200, body = AppAuthResponse,
        description = "A token that lives as long as the `token_ttl` of the app says.",
    )),
    extensions(("x-refusals" = json!([
        "rate_limited",
        "invalid_request: client_id and client_secret are required",
        "unauthorized: Authentication failed",
        "unavailable",
        "unavailable: too many logins wait; nothing was changed",
    ]))),
))]
pub(in crate::http) async fn auth(State(broker): State<AppState>, call: ApiRequest) -> Result<Response, ApiError> {
    // The limiter goes by the same reading of the body as the login.
    let body = call.json::<AppAuthRequest>();
    let client_id = body.as_ref().ok().and_then(|body| body.client_id.as_deref());
    let client_id = client_id.filter(|id| !id.is_empty());
    broker.rate_limits().app_auth(call.origin(&call.path()), client_id)?;
    let AppAuthRequest {
        client_id,
        client_secret,
    } = body?;
    let client_id = client_id.filter(|id| !id.is_empty());
    let secret = client_secret.filter(|secret: &Sensitive| !secret.expose().is_empty());
    let (Some(client_id), Some(secret)) = (client_id, secret) else {
        return Err(ApiError::invalid("client_id and client_secret are required"));
    };
    let issued = broker.app_login().login(client_id, secret, call.source).await?;
    let answer = AppAuthResponse {
        access_token: issued.token,
        expires_in: issued.expires_in,
        token_type: "Bearer".to_owned(),
        scopes: APP_SCOPES.map(str::to_owned).to_vec(),
    };
    Ok(reply(StatusCode::OK, &answer))
}

impl From<LoginError> for ApiError {
    fn from(error: LoginError) -> Self {
        match error {
            LoginError::Credentials => Self::unauthorized(error.to_string()),
            LoginError::Secret(error) => error.into(),
            LoginError::Internal(Internal::Sign(error)) => {
                tracing::error!(target: "APPS", component = "Login", error = %error, "no token issued");
                Self::internal("login failed")
            }
            LoginError::Internal(error) => error.into(),
        }
    }
}

/// For the admin's login too.
impl From<SecretError> for ApiError {
    fn from(error: SecretError) -> Self {
        match error {
            SecretError::Busy => {
                let detail = "too many logins wait; nothing was changed";
                Self::new(ErrorCode::Unavailable, detail).retry_after(1)
            }
            SecretError::Interrupted | SecretError::Bcrypt => {
                tracing::error!(target: "AUTH", component = "Login", error = %error, "no token issued");
                Self::internal("login failed")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::service::admin::AdminError;

    #[test]
    fn a_line_that_is_full_is_no_refusal_of_the_credentials() {
        let busy = ApiError::from(LoginError::Secret(SecretError::Busy));
        assert_eq!(busy.code(), Some(ErrorCode::Unavailable));
        let admin = ApiError::from(AdminError::Secret(SecretError::Busy));
        assert_eq!(admin.code(), Some(ErrorCode::Unavailable));
        let failed = ApiError::from(LoginError::Secret(SecretError::Bcrypt));
        assert_eq!(failed.code(), Some(ErrorCode::InternalError));
    }
}
