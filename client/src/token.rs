//! The token API (`docs/wire-contract.md` §§6-11 and §16).

use agentwrit_protocol::wire::{
    AdminAuthRequest, AdminAuthResponse, ChallengeResponse, HealthResponse, LaunchTokenRequest, LaunchTokenResponse,
    RegisterRequest, RegisterResponse, RenewRequest, RenewResponse, RevokeMatchingRequest, RevokeMatchingResponse,
    RevokeRequest, RevokeResponse, ValidateRequest, ValidateResponse,
};
use agentwrit_protocol::{Sensitive, Ttl};
use http::Method;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use crate::error::Error;
use crate::jwks::Jwks;
use crate::transport::{BrokerClient, Call};

/// Everything but the unreserved characters of RFC 3986 §2.3.
const ESCAPED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// `value` as one path segment or query value.
pub(crate) fn escape(value: &str) -> String {
    utf8_percent_encode(value, ESCAPED).to_string()
}

/// What a renewal asks for and brings; the broker uses it for attested agents.
#[derive(Debug, Clone, Copy, Default)]
pub struct Renewal<'a> {
    /// How long the old token is still valid, 0 to 30 seconds.
    pub overlap: Option<Ttl>,
    /// Asking again with it within 60 s answers the same token.
    pub idempotency_key: Option<&'a str>,
    /// The header `Agentwrit-Proof`: see [`agentwrit_protocol::renewal_proof`].
    pub proof: Option<&'a str>,
}

impl BrokerClient {
    /// `GET /v1/challenge`: a nonce to sign.
    pub async fn challenge(&self) -> Result<ChallengeResponse, Error> {
        self.send(Call::new(Method::GET, "/v1/challenge")).await?.read()
    }

    /// `POST /v1/register`: a launch token and a signed nonce for an agent's token.
    pub async fn register(&self, request: &RegisterRequest) -> Result<RegisterResponse, Error> {
        let call = Call::new(Method::POST, "/v1/register").json(request)?;
        self.send(call).await?.read()
    }

    /// `POST /v1/token/validate`: whether a token is valid now; one that isn't is no error.
    pub async fn validate(&self, token: &Sensitive) -> Result<ValidateResponse, Error> {
        let body = ValidateRequest {
            token: Some(token.clone()),
        };
        let call = Call::new(Method::POST, "/v1/token/validate").json(&body)?;
        self.send(call).await?.read()
    }

    /// `POST /v1/token/renew`.
    pub async fn renew(&self, token: &Sensitive, renewal: Renewal<'_>) -> Result<RenewResponse, Error> {
        let mut call = Call::new(Method::POST, "/v1/token/renew")
            .bearer(token)
            .idempotency_key(renewal.idempotency_key)
            .proof(renewal.proof);
        if let Some(overlap) = renewal.overlap {
            call = call.json(&RenewRequest {
                overlap_seconds: Some(overlap.get()),
            })?;
        }
        self.send(call).await?.read()
    }

    /// `POST /v1/token/release`: gives the token, and the authority behind it, back.
    pub async fn release(&self, token: &Sensitive) -> Result<(), Error> {
        let call = Call::new(Method::POST, "/v1/token/release").bearer(token);
        self.send(call).await.map(|_| ())
    }

    /// `POST /v1/revoke` at level `token`, `agent`, `task` or `chain`; needs `admin:revoke:*`.
    pub async fn revoke(&self, token: &Sensitive, level: &str, target: &str) -> Result<RevokeResponse, Error> {
        let body = RevokeRequest {
            level: Some(level.to_owned()),
            target: Some(target.to_owned()),
        };
        let call = Call::new(Method::POST, "/v1/revoke").bearer(token).json(&body)?;
        self.send(call).await?.read()
    }

    /// `POST /v1/admin/revoke-matching`: ends all that pods of a name hold, or all that there is; needs `admin:revoke:*`.
    pub async fn revoke_matching(
        &self,
        token: &Sensitive,
        request: &RevokeMatchingRequest,
    ) -> Result<RevokeMatchingResponse, Error> {
        let path = "/v1/admin/revoke-matching";
        let call = Call::new(Method::POST, path).bearer(token).json(request)?;
        self.send(call).await?.read()
    }

    /// `POST /v1/admin/auth`: the admin secret for a short-lived admin token.
    pub async fn admin_auth(&self, secret: &Sensitive) -> Result<AdminAuthResponse, Error> {
        let body = AdminAuthRequest {
            secret: Some(secret.clone()),
            ..AdminAuthRequest::default()
        };
        let call = Call::new(Method::POST, "/v1/admin/auth").json(&body)?;
        self.send(call).await?.read()
    }

    /// `POST /v1/admin/launch-tokens`; needs `admin:launch-tokens:*`.
    pub async fn admin_launch_token(
        &self,
        token: &Sensitive,
        request: &LaunchTokenRequest,
    ) -> Result<LaunchTokenResponse, Error> {
        let call = Call::new(Method::POST, "/v1/admin/launch-tokens")
            .bearer(token)
            .json(request)?;
        self.send(call).await?.read()
    }

    /// `GET /v1/health`.
    pub async fn health(&self) -> Result<HealthResponse, Error> {
        self.send(Call::new(Method::GET, "/v1/health")).await?.read()
    }

    /// `GET /.well-known/jwks.json`: the keys that tokens are checked with.
    pub async fn jwks(&self) -> Result<Jwks, Error> {
        self.send(Call::new(Method::GET, "/.well-known/jwks.json"))
            .await?
            .read()
    }
}
