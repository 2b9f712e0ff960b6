//! Making tokens from claims, and looking at tokens for anybody who asks.

use std::borrow::Cow;

use agentwrit_protocol::claims::Claims;
use agentwrit_protocol::session::TokenState;
use agentwrit_protocol::{Sensitive, Times};
use agentwrit_store::Session;
use agentwrit_tokens::key_set::SigningError;
use agentwrit_tokens::revocation_view::View;
use agentwrit_tokens::verifier::Verified;

use crate::broker::Broker;

/// A token could not be made.
#[derive(Debug, thiserror::Error)]
pub enum SignError {
    /// The claims are no JSON.
    #[error("claims can't be written: {0}")]
    Json(#[from] serde_json::Error),
    /// The key failed.
    #[error("token can't be signed: {0}")]
    Key(#[from] SigningError),
}

/// A signed token and its life.
#[derive(Debug)]
pub struct Issued {
    /// The token.
    pub token: Sensitive,
    /// Seconds.
    pub expires_in: i64,
}

/// Signs and counts; `nbf` is `AA_NBF_SKEW_SECONDS` before `iat` in every token.
///
/// # Errors
/// When the claims are no JSON, or the key fails.
pub fn sign(broker: &Broker, claims: &Claims) -> Result<Issued, SignError> {
    let claims = &dated(claims, broker.config.nbf_skew);
    let token = broker
        .keys
        .sign(&agentwrit_protocol::go_json::to_vec(claims.as_ref())?)?;
    broker.verifier.issued(&token);
    broker.metrics.token_issued(&claims.scope);
    Ok(Issued {
        token: Sensitive::from(token),
        expires_in: claims.exp.saturating_sub(claims.iat),
    })
}

/// A verifier whose clock is this many seconds behind takes the token all the same.
fn dated(claims: &Claims, skew: i64) -> Cow<'_, Claims> {
    if skew == 0 {
        return Cow::Borrowed(claims);
    }
    Cow::Owned(Claims {
        nbf: claims.iat.saturating_sub(skew),
        ..claims.clone()
    })
}

/// Whether a token with these claims would be born under a revocation. Its node is then ended with its opening: the
/// revocation may be forgotten before the token expires, and the token must not come to life by that.
pub fn is_born_revoked(view: &View, claims: &Claims, times: Times) -> bool {
    matches!(view.state(claims, times), TokenState::Ended(_))
}

/// Claims of the current token of a new session.
pub fn session_claims(broker: &Broker, session: &Session) -> Claims {
    Claims {
        iss: broker.config.issuer.clone(),
        sub: session.agent_id.clone(),
        aud: audience(broker),
        exp: session.exp,
        nbf: session.iat,
        iat: session.iat,
        jti: session.jti.clone(),
        sid: session.sid.clone(),
        scope: session.scope.clone(),
        task_id: session.task_id.clone(),
        orch_id: session.orch_id.clone(),
        delegation_chain: Vec::new(),
        chain_hash: String::new(),
        delegation_nodes: Vec::new(),
    }
}

/// `aud` of new tokens.
pub fn audience(broker: &Broker) -> Vec<String> {
    let audience = &broker.config.audience;
    if audience.is_empty() {
        Vec::new()
    } else {
        vec![audience.clone()]
    }
}

/// What `/v1/token/validate` says.
#[derive(Debug)]
pub enum Validity {
    /// It stands.
    Valid(Verified),
    /// It doesn't; nobody hears why.
    Invalid,
    /// The store has not been loaded: nothing can be said.
    Unknown,
}

/// Whether a token stands now. The audience is not looked at.
pub fn validate(broker: &Broker, token: &str) -> Validity {
    match broker.verifier.verify(token) {
        Ok(verified) => match verified.state {
            TokenState::Active => Validity::Valid(verified),
            TokenState::Unknown => Validity::Unknown,
            TokenState::Renewed | TokenState::Ended(_) | TokenState::Forgotten => Validity::Invalid,
        },
        Err(_) => Validity::Invalid,
    }
}
