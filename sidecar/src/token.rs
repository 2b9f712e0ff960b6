//! What a token says about itself; the broker checks it, we only read it.

use agentwrit_protocol::claims::{Claims, unverified};
use agentwrit_protocol::{Jti, PodUid, Sensitive, Ttl, UnixSeconds};

/// A token as the broker gave it, with what is needed to keep it fresh.
#[derive(Debug, Clone)]
pub struct Issued {
    /// The token.
    pub token: Sensitive,
    /// The agent's SPIFFE id.
    pub agent_id: String,
    /// The token's id.
    pub jti: Jti,
    /// The pod's UID, as the broker knows it.
    pub pod_uid: PodUid,
    /// How many scopes it holds.
    pub scopes: usize,
    /// Last second in which it is good.
    pub exp: UnixSeconds,
    /// Whole life, at least 1 s.
    pub life: Ttl,
}

impl Issued {
    /// Reads a token's claims; `None` when it isn't a token or is never valid.
    pub fn read(token: Sensitive) -> Option<Self> {
        let claims: Claims = unverified(token.expose())?;
        let life = claims.exp - claims.iat;
        life.is_positive().then(|| Self {
            token,
            agent_id: claims.sub,
            jti: claims.jti,
            pod_uid: String::from(claims.task_id).into(),
            scopes: claims.scope.len(),
            exp: claims.exp,
            life,
        })
    }

    /// The same with the life from the broker's answer; `None` when that is not above 0.
    pub(crate) fn answered(token: Sensitive, expires_in: Ttl) -> Option<Self> {
        let issued = Self::read(token)?;
        expires_in.is_positive().then_some(Self {
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
        assert_eq!(
            (issued.life, issued.scopes, issued.pod_uid.as_str()),
            (Ttl::seconds(300), 1, "pod-1")
        );
    }

    #[test]
    fn text_that_is_not_a_token_is_not_taken_for_one() {
        for text in ["", "a.b", "a.!!.c", "a.e30.c", "no dots"] {
            assert!(Issued::read(Sensitive::from(text)).is_none(), "{text}");
        }
        assert!(Issued::read(unsigned_token(100, 0, "a")).is_none());
        for expires_in in [0, -1, i64::MIN] {
            let answered = Issued::answered(unsigned_token(100, 5, "a"), Ttl::seconds(expires_in));
            assert!(answered.is_none(), "{expires_in}");
        }
    }
}
