//! Whether a token allows a call: signature, then claims, then scope and chain.

use std::sync::Arc;

use agentwrit_protocol::claims::{Claims, SubjectKind};
use agentwrit_protocol::{Clock, Scope, ScopeSet, SpiffeId, Ttl, UnixSeconds};
use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::{Algorithm, Validation};

use crate::service::keys::{FetchError, KeyCache};

/// How far this service's clock may be behind the broker's: a fresh token is then good although its `nbf` is still
/// to come.
const CLOCK_LEEWAY: Ttl = Ttl::seconds(5);

/// What every token must say.
#[derive(Debug, Clone, Default)]
pub struct Expected {
    /// The claim `iss`, also when it is empty.
    pub issuer: String,
    /// An audience that `aud` must hold.
    pub audience: Option<String>,
}

/// Why a call is refused.
#[derive(Debug, thiserror::Error)]
pub enum Denial {
    /// There is no usable bearer token.
    #[error("{0}")]
    Credential(String),
    /// The token is not a good one.
    #[error("the token is not valid: {0}")]
    Token(String),
    /// The token itself lacks the scope.
    #[error("the token lacks the scope {0}")]
    Scope(Scope),
    /// A link of the chain lacks the scope: what it never had, it can't have handed on.
    #[error("link {link} of the delegation chain, {agent}, lacks the scope {scope}")]
    Chain {
        /// Counted from 1, the root.
        link: usize,
        /// Who delegated there.
        agent: String,
        /// What it lacks.
        scope: Scope,
    },
    /// Nothing can be checked at present.
    #[error(transparent)]
    Keys(#[from] FetchError),
}

/// Checks tokens with the broker's public keys, without asking the broker.
pub struct Verifier {
    keys: KeyCache,
    expected: Expected,
    clock: Arc<dyn Clock>,
}

impl Verifier {
    /// A verifier for tokens that say what is `expected`.
    pub fn new(keys: KeyCache, expected: Expected, clock: Arc<dyn Clock>) -> Self {
        Self { keys, expected, clock }
    }

    /// Whether tokens can be checked.
    pub async fn ready(&self) -> bool {
        self.keys.ready().await
    }

    /// The claims of a token that allows `scope`.
    ///
    /// # Errors
    /// Names the first thing that is wrong.
    pub async fn authorise(&self, token: &str, scope: &Scope) -> Result<Claims, Denial> {
        let claims = self.authenticate(token).await?;
        let held = claims.scopes().map_err(|error| Denial::Token(error.to_string()))?;
        if !held.covers(scope) {
            return Err(Denial::Scope(scope.clone()));
        }
        // The whole chain, not only its end: one link that lacked the scope spoils it.
        for (index, record) in claims.delegation_chain.iter().enumerate() {
            let held = ScopeSet::parse(&record.scope).map_err(|error| Denial::Token(error.to_string()))?;
            if !held.covers(scope) {
                return Err(Denial::Chain {
                    link: index + 1,
                    agent: record.agent.clone(),
                    scope: scope.clone(),
                });
            }
        }
        Ok(claims)
    }

    async fn authenticate(&self, token: &str) -> Result<Claims, Denial> {
        let refused = |reason: &str| Denial::Token(reason.to_owned());
        let header =
            jsonwebtoken::decode_header(token).map_err(|_| refused("it is not a JWT that this service reads"))?;
        if header.alg != Algorithm::EdDSA {
            return Err(refused("its algorithm is not EdDSA"));
        }
        if header.typ.as_deref() != Some("JWT") {
            return Err(refused("its type is not JWT"));
        }
        let kid = header.kid.ok_or_else(|| refused("it names no key"))?;
        let key = self
            .keys
            .key(&kid)
            .await?
            .ok_or_else(|| refused("it names a key that the broker doesn't publish"))?;
        let claims = jsonwebtoken::decode::<Claims>(token, &key, &signature_only())
            .map_err(|error| match error.kind() {
                ErrorKind::InvalidSignature => refused("its signature is wrong"),
                _ => refused("its claims can't be read"),
            })?
            .claims;
        self.check_claims(&claims)?;
        Ok(claims)
    }

    fn check_claims(&self, claims: &Claims) -> Result<(), Denial> {
        let refused = |reason: String| Err(Denial::Token(reason));
        let now = self.clock.unix_seconds();
        if claims.exp <= UnixSeconds::default() || now > claims.exp {
            return refused(format!("it expired {} s ago", now - claims.exp));
        }
        if now + CLOCK_LEEWAY < claims.nbf {
            return refused(format!("it is good only in {} s", claims.nbf - now));
        }
        if claims.iss != self.expected.issuer {
            return refused("it was issued by somebody else".to_owned());
        }
        if let Some(audience) = &self.expected.audience
            && !claims.aud.contains(audience)
        {
            return refused(format!("it is not for the audience {audience}"));
        }
        if claims.subject_kind() != SubjectKind::Agent || SpiffeId::parse(&claims.sub).is_err() {
            return refused("its subject is not an agent".to_owned());
        }
        Ok(())
    }
}

/// jsonwebtoken checks the signature; expiry and the rest are checked above, with our clock.
fn signature_only() -> Validation {
    let mut validation = Validation::new(Algorithm::EdDSA);
    validation.validate_exp = false;
    validation.validate_nbf = false;
    validation.validate_aud = false;
    validation.leeway = 0;
    validation.required_spec_claims.clear();
    validation
}
