//! What clients of the contract do: log in, make launch tokens, register.

use agentwrit_protocol::claims::Claims;
use agentwrit_protocol::wire::{AdminAuthResponse, ChallengeResponse, LaunchTokenResponse, RegisterResponse};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::failure::{Failure, Result};
use super::http::{Connection, request};
use crate::{ADMIN_SECRET, Keys};

/// What launch tokens here allow.
pub const ALLOWED: &str = "read:data:*";
/// What agents here ask for.
pub const SCOPE: &str = "read:data:orders";

/// The body of a registration.
pub fn registration(keys: &Keys, launch_token: &str, nonce: &str, task: &str) -> String {
    format!(
        r#"{{"launch_token":"{launch_token}","nonce":"{nonce}","public_key":"{}","signature":"{}","orch_id":"load","task_id":"{task}","requested_scope":["{SCOPE}"]}}"#,
        keys.public(),
        keys.sign(nonce)
    )
}

/// Admin login.
///
/// # Errors
/// When it is refused.
pub async fn login(connection: &mut Connection) -> Result<String> {
    let body = format!(r#"{{"secret":"{ADMIN_SECRET}"}}"#);
    let answer = connection.send(&request("POST", "/v1/admin/auth", "", &body)).await?;
    let granted: AdminAuthResponse = answer.expect("admin login", 200)?;
    Ok(granted.access_token.expose().to_owned())
}

/// The request for a launch token that lives a day.
pub fn launch_request(admin: &str, single_use: bool, max_ttl: u32) -> Vec<u8> {
    let body = format!(
        r#"{{"agent_name":"load","allowed_scope":["{ALLOWED}"],"single_use":{single_use},"ttl":86400,"max_ttl":{max_ttl}}}"#
    );
    request("POST", "/v1/admin/launch-tokens", admin, &body)
}

/// A launch token.
///
/// # Errors
/// When it is refused.
pub async fn launch(connection: &mut Connection, admin: &str, single_use: bool, max_ttl: u32) -> Result<String> {
    let answer = connection.send(&launch_request(admin, single_use, max_ttl)).await?;
    let made: LaunchTokenResponse = answer.expect("launch token", 201)?;
    Ok(made.launch_token.expose().to_owned())
}

/// A nonce.
///
/// # Errors
/// When it is refused.
pub async fn challenge(connection: &mut Connection) -> Result<String> {
    let answer = connection.send(&request("GET", "/v1/challenge", "", "")).await?;
    let challenge: ChallengeResponse = answer.expect("challenge", 200)?;
    Ok(challenge.nonce)
}

/// Challenge and registration.
///
/// # Errors
/// When one of them is refused.
pub async fn register(connection: &mut Connection, keys: &Keys, launch: &str, task: &str) -> Result<RegisterResponse> {
    let nonce = challenge(connection).await?;
    let body = registration(keys, launch, &nonce, task);
    let answer = connection.send(&request("POST", "/v1/register", "", &body)).await?;
    answer.expect("register", 200)
}

/// The request that validates a token.
pub fn validation(token: &str) -> Vec<u8> {
    request("POST", "/v1/token/validate", "", &format!(r#"{{"token":"{token}"}}"#))
}

/// The claims of a token, unchecked.
///
/// # Errors
/// When it is none.
pub fn claims(token: &str) -> Result<Claims> {
    let payload = token.split('.').nth(1).unwrap_or_default();
    let decoded = URL_SAFE_NO_PAD.decode(payload).unwrap_or_default();
    serde_json::from_slice(&decoded).map_err(|error| Failure::Broker(format!("claims of a token: {error}")))
}
