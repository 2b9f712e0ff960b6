//! Tokens: signed from claims.

use std::borrow::Cow;
use std::sync::Arc;

use agentwrit_protocol::claims::Claims;
use agentwrit_protocol::session::TokenState;
use agentwrit_protocol::{Jti, Sensitive, Times, Ttl, UnixSeconds, go_json};
use agentwrit_store::Session;
use agentwrit_tokens::key_set::{KeySet, SigningError};
use agentwrit_tokens::shared_revocation_view::SharedRevocationView;
use agentwrit_tokens::verifier::Verifier;

use crate::metrics::Metrics;

/// A token could not be made.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SignError {
    #[error("claims can't be written: {0}")]
    Json(#[from] serde_json::Error),
    #[error("token can't be signed: {0}")]
    Key(#[from] SigningError),
}

/// A signed token and its life.
#[derive(Debug)]
pub(crate) struct Issued {
    pub(crate) token: Sensitive,
    pub(crate) expires_in: Ttl,
}

/// Signs tokens with the settings that all of them share.
pub struct TokenIssuer {
    /// Signing keys.
    pub keys: Arc<KeySet>,
    /// What is revoked.
    pub view: Arc<SharedRevocationView>,
    /// Checks of presented tokens.
    pub verifier: Verifier,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) issuer: String,
    /// Empty: tokens have no audience, and none is asked for.
    pub(crate) audience: String,
    /// How long `nbf` is before `iat`: a verifier whose clock is that far behind takes the token all the same.
    pub(crate) nbf_skew: Ttl,
}

impl TokenIssuer {
    pub(crate) fn sign(&self, claims: &Claims) -> Result<Issued, SignError> {
        let claims = &self.dated(claims);
        let token = self.keys.sign(&go_json::to_vec(claims.as_ref())?)?;
        self.verifier.issued(&token);
        self.metrics.token_issued(&claims.scope);
        Ok(Issued {
            token: Sensitive::from(token),
            expires_in: claims.exp - claims.iat,
        })
    }

    fn dated<'c>(&self, claims: &'c Claims) -> Cow<'c, Claims> {
        if self.nbf_skew == Ttl::ZERO {
            return Cow::Borrowed(claims);
        }
        Cow::Owned(Claims {
            nbf: claims.iat - self.nbf_skew,
            ..claims.clone()
        })
    }

    /// Claims of the current token of a new session, with these audiences beside the broker's own.
    pub(crate) fn session_claims(&self, session: &Session, audiences: Vec<String>) -> Claims {
        let mut aud = self.audience();
        for audience in audiences {
            if !aud.contains(&audience) {
                aud.push(audience);
            }
        }
        Claims {
            iss: self.issuer.clone(),
            sub: session.agent_id.clone(),
            aud,
            exp: session.exp,
            nbf: session.iat,
            iat: session.iat,
            jti: session.jti.clone(),
            sid: session.sid.clone(),
            scope: session.scope.clone(),
            task_id: session.task_id.clone(),
            orch_id: session.orch_id.clone(),
            ..Claims::default()
        }
    }

    /// Claims of a token without a session: of an admin or an app.
    pub(crate) fn claims(&self, sub: &str, scope: &[&str], jti: Jti, now: UnixSeconds, ttl: Ttl) -> Claims {
        Claims {
            iss: self.issuer.clone(),
            sub: sub.to_owned(),
            aud: self.audience(),
            exp: now + ttl,
            nbf: now,
            iat: now,
            jti,
            scope: scope.iter().map(ToString::to_string).collect(),
            ..Claims::default()
        }
    }

    fn audience(&self) -> Vec<String> {
        Some(&self.audience)
            .filter(|audience| !audience.is_empty())
            .cloned()
            .into_iter()
            .collect()
    }
}

/// Whether a token with these claims would be born under a revocation. Its node is then ended with its opening: the
/// revocation may be forgotten before the token expires, and the token must not come to life by that.
pub(crate) fn is_born_revoked(view: &SharedRevocationView, claims: &Claims, times: Times) -> bool {
    matches!(view.state(claims, times), TokenState::Ended(_))
}
