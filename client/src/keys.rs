//! Signing keys (`docs/keys.md`), as an admin sees them.

use agentwrit_protocol::Sensitive;
use agentwrit_protocol::signing_keys::wire::{
    RetireKeyRequest, RetireKeyResponse, RotateKeyResponse, SigningKeysResponse,
};
use http::Method;

use crate::error::Error;
use crate::policy::Epoched;
use crate::token::escape;
use crate::transport::{BrokerClient, Call};

const KEYS: &str = "/v1/admin/keys";

impl BrokerClient {
    /// `GET /v1/admin/keys`: every signing key, retired ones included; needs `admin:revoke:*`.
    pub async fn signing_keys(&self, token: &Sensitive) -> Result<SigningKeysResponse, Error> {
        self.send(Call::new(Method::GET, KEYS).bearer(token)).await?.read()
    }

    /// `GET /v1/k8s/signing-keys`: the same for the controller.
    ///
    /// # Errors
    /// See [`Error`]; a broker of before answers `not_found`.
    pub async fn signing_keys_for_controller(&self) -> Result<SigningKeysResponse, Error> {
        let path = "/v1/k8s/signing-keys".to_owned();
        let answer: Epoched<SigningKeysResponse> = self.attested(Method::GET, path, None::<&()>).await?;
        Ok(answer.value)
    }

    /// `POST /v1/admin/keys/rotate`: asks for another signing key; needs `admin:revoke:*`.
    pub async fn rotate_key(&self, token: &Sensitive) -> Result<RotateKeyResponse, Error> {
        let call = Call::new(Method::POST, format!("{KEYS}/rotate")).bearer(token);
        self.send(call).await?.read()
    }

    /// `POST /v1/admin/keys/{kid}/retire`: retires a key that no token needs, or `now` one that has leaked, with every
    /// token that there is; needs `admin:revoke:*`.
    pub async fn retire_key(&self, token: &Sensitive, kid: &str, now: bool) -> Result<RetireKeyResponse, Error> {
        let path = format!("{KEYS}/{}/retire", escape(kid));
        let call = Call::new(Method::POST, path)
            .bearer(token)
            .json(&RetireKeyRequest { now })?;
        self.send(call).await?.read()
    }
}
