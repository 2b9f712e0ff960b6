//! Token checks in the order of `docs/wire-contract.md` §13.3.

use std::sync::Arc;

use agentwrit_protocol::claims::Claims;
use agentwrit_protocol::session::{ChainError, TokenState, chain};
use agentwrit_protocol::{JudgingClock, UnixSeconds};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use parking_lot::{Mutex, MutexGuard};
use serde::Deserialize;

use crate::key_set::KeySet;
use crate::shared_revocation_view::SharedRevocationView;
use crate::token_cache::{TokenCache, digest};

/// Longest token looked at, bytes.
const MAX_TOKEN_BYTES: usize = 64 * 1024;
/// Longest token that is remembered, bytes: with the size of the cache, the bound of its memory.
const MAX_CACHED_BYTES: usize = 4 * 1024;

/// Why a token doesn't verify. The client never hears which.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// Not three segments of strict base64url with JSON in them.
    #[error("malformed token")]
    Malformed,
    /// `alg` is not `EdDSA`.
    #[error("unexpected algorithm")]
    Algorithm,
    /// `kid` names no published key.
    #[error("unknown key")]
    UnknownKey,
    /// The signature is not ours.
    #[error("bad signature")]
    Signature,
    /// `sub`, `jti` or `exp` is missing.
    #[error("missing claim")]
    MissingClaim,
    /// `exp` is over.
    #[error("token expired")]
    Expired,
    /// `nbf` is in the future.
    #[error("token not valid yet")]
    NotYetValid,
    /// `iss` is not ours.
    #[error("unexpected issuer")]
    Issuer,
    /// It is older than the store, which can't know whether it was revoked.
    #[error("token is older than the store")]
    IssuedBeforeStore,
    /// Its delegation chain is not what we make.
    #[error(transparent)]
    Chain(ChainError),
}

impl TokenError {
    /// Whether the token would pass if a key were known that isn't: its own, or that of a hop of its delegation chain,
    /// which may be newer than its own.
    pub const fn may_be_of_newer_key(self) -> bool {
        matches!(self, Self::UnknownKey | Self::Chain(ChainError::Signature))
    }

    /// A static word for the audit trail.
    pub const fn kind(self) -> &'static str {
        match self {
            Self::Malformed => "malformed_token",
            Self::Algorithm => "unexpected_algorithm",
            Self::UnknownKey => "unknown_key",
            Self::Signature => "bad_signature",
            Self::MissingClaim => "missing_claim",
            Self::Expired => "token_expired",
            Self::NotYetValid => "token_not_yet_valid",
            Self::Issuer => "unexpected_issuer",
            Self::IssuedBeforeStore => "token_older_than_store",
            Self::Chain(error) => error.kind(),
        }
    }
}

/// A token whose signature and times are good.
#[derive(Debug, Clone)]
pub struct Verified {
    /// Its claims.
    pub claims: Arc<Claims>,
    /// Its state; never [`TokenState::IssuedBeforeStore`].
    pub state: TokenState,
}

#[derive(Deserialize)]
struct Header {
    #[serde(default)]
    alg: String,
    #[serde(default)]
    kid: Option<String>,
}

impl Verified {
    /// Appends the JSON that was signed, of the token that this was made from.
    pub fn write_payload(&self, token: &str, to: &mut Vec<u8>) {
        let message = token.rsplit_once('.').map_or("", |(message, _)| message);
        let payload = message.split_once('.').map_or("", |(_, payload)| payload);
        // It was decoded when the token was first seen: this can't fail.
        let _ = URL_SAFE_NO_PAD.decode_vec(payload, to);
    }
}

/// Checks tokens.
pub struct Verifier {
    keys: Arc<KeySet>,
    view: Arc<SharedRevocationView>,
    clock: Arc<JudgingClock>,
    issuer: String,
    cache: Mutex<TokenCache>,
}

impl Verifier {
    /// A verifier; an empty issuer is not enforced.
    pub fn new(keys: Arc<KeySet>, view: Arc<SharedRevocationView>, clock: Arc<JudgingClock>, issuer: String) -> Self {
        Self {
            keys,
            view,
            clock,
            issuer,
            cache: Mutex::default(),
        }
    }

    /// Checks everything but audience and authority.
    ///
    /// # Errors
    /// The first check of `docs/wire-contract.md` §13.3 that fails; revocation is in [`Verified::state`].
    pub fn verify(&self, token: &str) -> Result<Verified, TokenError> {
        let claims = self.cached_or_checked(token)?;
        let times = self.clock.times();
        if claims.exp < times.judged.second() {
            // A step of the wall clock that may be taken back: the token must not come back with it.
            if claims.exp >= times.mark.second() {
                self.view.note_expired(&claims);
            }
            return Err(TokenError::Expired);
        }
        if claims.nbf != UnixSeconds::default() && times.wall.second() < claims.nbf {
            return Err(TokenError::NotYetValid);
        }
        if !self.issuer.is_empty() && claims.iss != self.issuer {
            return Err(TokenError::Issuer);
        }
        match self.view.state(&claims, times) {
            TokenState::IssuedBeforeStore => Err(TokenError::IssuedBeforeStore),
            state => Ok(Verified { claims, state }),
        }
    }

    /// Remembers a token that was signed here, so that its first use doesn't verify what we have just made.
    pub fn issued(&self, token: &str) {
        self.cache().issued.put(digest(token), ());
    }

    /// Forgets which signatures were good: a key is published no more.
    pub fn forget(&self) {
        *self.cache() = TokenCache::default();
    }

    fn cache(&self) -> MutexGuard<'_, TokenCache> {
        self.cache.lock()
    }

    /// The claims of a token that passes [`Self::check_signature_and_claims`], from the cache when it was seen before.
    fn cached_or_checked(&self, token: &str) -> Result<Arc<Claims>, TokenError> {
        if token.len() > MAX_TOKEN_BYTES {
            return Err(TokenError::Malformed);
        }
        let key = digest(token);
        let issued = {
            let mut cache = self.cache();
            if let Some(claims) = cache.claims.get(&key) {
                return Ok(claims);
            }
            cache.issued.get(&key).is_some()
        };
        let claims = Arc::new(self.check_signature_and_claims(token, issued)?);
        if token.len() <= MAX_CACHED_BYTES {
            self.cache().claims.put(key, Arc::clone(&claims));
        }
        Ok(claims)
    }

    /// Checks form, algorithm, key, signature, claims and delegation chain; the signatures of a token that was `issued`
    /// here are good.
    fn check_signature_and_claims(&self, token: &str, issued: bool) -> Result<Claims, TokenError> {
        let mut parts = token.split('.');
        let (Some(header), Some(payload), Some(signature), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(TokenError::Malformed);
        };
        let decoded = URL_SAFE_NO_PAD.decode(header).map_err(|_| TokenError::Malformed)?;
        let parsed: Header = serde_json::from_slice(&decoded).map_err(|_| TokenError::Malformed)?;
        if parsed.alg != "EdDSA" {
            return Err(TokenError::Algorithm);
        }
        let kid = parsed.kid.as_deref();
        if !self.keys.knows(kid) {
            return Err(TokenError::UnknownKey);
        }
        // Strict: one token has one spelling.
        if URL_SAFE_NO_PAD.decode(signature).map_or(0, |bytes| bytes.len()) != 64 {
            return Err(TokenError::Malformed);
        }
        let message = token
            .get(..header.len() + 1 + payload.len())
            .ok_or(TokenError::Malformed)?;
        if !issued && !self.keys.verify(kid, message, signature) {
            return Err(TokenError::Signature);
        }
        let decoded = URL_SAFE_NO_PAD.decode(payload).map_err(|_| TokenError::Malformed)?;
        // As a text: of bytes the parser looks only at members that it knows.
        let decoded = str::from_utf8(&decoded).map_err(|_| TokenError::Malformed)?;
        let claims: Claims = serde_json::from_str(decoded).map_err(|_| TokenError::Malformed)?;
        if claims.sub.is_empty() || claims.jti.is_empty() || claims.exp <= UnixSeconds::default() {
            return Err(TokenError::MissingClaim);
        }
        chain::check(&claims, |text, signature| {
            issued || self.keys.verify_text(text, signature)
        })
        .map_err(TokenError::Chain)?;
        Ok(claims)
    }
}

#[cfg(test)]
mod tests;
