//! What a token says about itself; the broker checks it, we only read it.

use agentwrit_protocol::Sensitive;
use agentwrit_protocol::claims::{Claims, unverified};

/// A token as the broker gave it, with what is needed to keep it fresh.
#[derive(Debug, Clone)]
pub struct Issued {
    /// The token.
    pub token: Sensitive,
    /// The agent's SPIFFE id.
    pub agent_id: String,
    /// The token's id.
    pub jti: String,
    /// The pod's UID, as the broker knows it.
    pub task_id: String,
    /// How many scopes it holds.
    pub scopes: usize,
    /// Last second in which it is good, Unix time.
    pub exp: i64,
    /// Whole life, seconds, at least 1.
    pub life: i64,
}

impl Issued {
    /// Reads a token's claims; `None` when it isn't a token or is never valid.
    pub fn read(token: Sensitive) -> Option<Self> {
        let claims: Claims = unverified(token.expose())?;
        let life = claims.exp.get().checked_sub(claims.iat.get())?;
        (life > 0).then(|| Self {
            token,
            agent_id: claims.sub,
            jti: claims.jti.into(),
            task_id: claims.task_id.into(),
            scopes: claims.scope.len(),
            exp: claims.exp.get(),
            life,
        })
    }

    /// The same with the life from the broker's answer; `None` when that is not above 0.
    pub(crate) fn answered(token: Sensitive, expires_in: i64) -> Option<Self> {
        let issued = Self::read(token)?;
        (expires_in > 0).then_some(Self {
            life: expires_in,
            ..issued
        })
    }
}

#[cfg(test)]
mod tests {
    use agentwrit_testkit::unsigned_token;

    use super::*;

    #[test]
    fn claims_are_read_from_the_middle_part() {
        let issued = Issued::read(unsigned_token(100, 300, "a")).unwrap();
        assert_eq!((issued.life, issued.scopes, issued.task_id.as_str()), (300, 1, "pod-1"));
    }

    #[test]
    fn text_that_is_not_a_token_is_not_taken_for_one() {
        for text in ["", "a.b", "a.!!.c", "a.e30.c", "no dots"] {
            assert!(Issued::read(Sensitive::from(text)).is_none(), "{text}");
        }
        assert!(Issued::read(unsigned_token(100, 0, "a")).is_none());
        assert!(Issued::answered(unsigned_token(100, 5, "a"), 0).is_none());
    }
}
