//! Apps (`docs/wire-contract.md` §12): what an admin does with them, and what they do themselves.

use agentwrit_protocol::Sensitive;
use agentwrit_protocol::apps::{
    App, AppAuthRequest, AppAuthResponse, AppsResponse, RegisterAppRequest, RegisterAppResponse, RemoveAppResponse,
    UpdateAppRequest,
};
use agentwrit_protocol::wire::{LaunchTokenRequest, LaunchTokenResponse};
use http::Method;

use crate::error::Error;
use crate::token::escape;
use crate::transport::{BrokerClient, Call};

const APPS: &str = "/v1/admin/apps";

fn path_of(app_id: &str) -> String {
    format!("{APPS}/{}", escape(app_id))
}

impl BrokerClient {
    /// `POST /v1/admin/apps`: a new app and its secret, which is shown only here; needs `admin:launch-tokens:*`.
    pub async fn register_app(
        &self,
        token: &Sensitive,
        request: &RegisterAppRequest,
    ) -> Result<RegisterAppResponse, Error> {
        let call = Call::new(Method::POST, APPS).bearer(token).json(request)?;
        self.send(call).await?.read()
    }

    /// `GET /v1/admin/apps`: every app, newest first; needs `admin:launch-tokens:*`.
    pub async fn apps(&self, token: &Sensitive) -> Result<AppsResponse, Error> {
        self.send(Call::new(Method::GET, APPS).bearer(token)).await?.read()
    }

    /// `GET /v1/admin/apps/{id}`; needs `admin:launch-tokens:*`.
    pub async fn app(&self, token: &Sensitive, app_id: &str) -> Result<App, Error> {
        let call = Call::new(Method::GET, path_of(app_id)).bearer(token);
        self.send(call).await?.read()
    }

    /// `PUT /v1/admin/apps/{id}`: changes all that the request names, or nothing; needs `admin:launch-tokens:*`.
    pub async fn update_app(&self, token: &Sensitive, app_id: &str, request: &UpdateAppRequest) -> Result<App, Error> {
        let call = Call::new(Method::PUT, path_of(app_id)).bearer(token).json(request)?;
        self.send(call).await?.read()
    }

    /// `DELETE /v1/admin/apps/{id}`: deregisters it, and revokes its tokens; needs `admin:launch-tokens:*`.
    pub async fn remove_app(&self, token: &Sensitive, app_id: &str) -> Result<RemoveAppResponse, Error> {
        let call = Call::new(Method::DELETE, path_of(app_id)).bearer(token);
        self.send(call).await?.read()
    }

    /// `POST /v1/app/auth`: an app's credentials for its token.
    pub async fn app_auth(&self, client_id: &str, client_secret: &Sensitive) -> Result<AppAuthResponse, Error> {
        let body = AppAuthRequest {
            client_id: Some(client_id.to_owned()),
            client_secret: Some(client_secret.clone()),
        };
        let call = Call::new(Method::POST, "/v1/app/auth").json(&body)?;
        self.send(call).await?.read()
    }

    /// `POST /v1/app/launch-tokens`, with an app's token.
    pub async fn app_launch_token(
        &self,
        token: &Sensitive,
        request: &LaunchTokenRequest,
    ) -> Result<LaunchTokenResponse, Error> {
        let call = Call::new(Method::POST, "/v1/app/launch-tokens")
            .bearer(token)
            .json(request)?;
        self.send(call).await?.read()
    }
}
