//! Proof of possession at a renewal: when its launch asked for it, an attested agent's session is renewed only with a
//! signature by the key that it was registered with. A token that was copied can't be renewed then.

use agentwrit_protocol::claims::Claims;
use agentwrit_protocol::renewal_proof::{NotAProof, PROOF_HEADER, PROOF_WINDOW, RenewalProof, RenewalText};
use agentwrit_protocol::{Clock, ErrorCode, Ttl, UnixSeconds};
use agentwrit_store::{Store, StoreError};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ed25519_dalek::{Signature, VerifyingKey};

use super::lineage::StoredLineage;

/// The header as it came.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) enum PresentedProof {
    #[default]
    Nothing,
    /// One line of text.
    Line(String),
    /// More than one line, or one that is no text.
    Unreadable,
}

/// Why a renewal is refused. Nothing is spent by it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ProofRefusal {
    #[error(
        "the token of this session is renewed only with the header {PROOF_HEADER}, signed by the key that it registered with"
    )]
    Required,
    #[error(transparent)]
    Malformed(#[from] NotAProof),
    /// Another key, another token, another trust domain or another time was signed.
    #[error(
        "the header {PROOF_HEADER} is not a signature of this session's key over this token and the time that it names"
    )]
    Signature,
    #[error(
        "the time of the header {PROOF_HEADER} is {0} s from the broker's, at most {PROOF_WINDOW} are accepted: \
         sign the time of the header Date"
    )]
    Stale(Ttl),
}

impl ProofRefusal {
    /// The code on the wire, which is also the kind in the audit trail.
    pub(crate) const fn code(self) -> ErrorCode {
        match self {
            Self::Required => ErrorCode::ProofRequired,
            Self::Malformed(_) | Self::Signature => ErrorCode::ProofInvalid,
            Self::Stale(_) => ErrorCode::ProofStale,
        }
    }
}

/// What was found before the transaction, for it is slow; it is looked at inside. Which key a session has, and whether
/// it needs a proof, never changes.
#[derive(Debug)]
pub(super) struct CheckedProof(Option<Result<(), ProofRefusal>>);

impl CheckedProof {
    /// Why the token of this node is not renewed.
    pub(super) fn refusal(&self, lineage: &StoredLineage) -> Option<ProofRefusal> {
        let root = lineage.root();
        let needed =
            lineage.node.delegated.is_none() && root.attested.as_ref().is_some_and(|bound| bound.renewal_proof);
        match self.0 {
            _ if !needed => None,
            Some(result) => result.err(),
            None => Some(ProofRefusal::Required),
        }
    }
}

/// Checks the proof of a bearer whose session needs one. A delegated token is renewed by the contract's rule.
pub(super) async fn check_if_needed(
    store: &Store,
    clock: &dyn Clock,
    bearer: &Claims,
    brought: &PresentedProof,
) -> Result<CheckedProof, StoreError> {
    let is_sessions_own = bearer.delegation_chain.is_empty() && bearer.delegation_nodes.is_empty();
    if !bearer.is_attested() || !is_sessions_own || bearer.sid.is_empty() {
        return Ok(CheckedProof(None));
    }
    let sid = bearer.sid.clone();
    let session = store.query(move |tx| Box::pin(async move { tx.session(&sid).await }));
    let bound = session.await?.and_then(|session| session.attested);
    let Some(bound) = bound.filter(|bound| bound.renewal_proof) else {
        return Ok(CheckedProof(None));
    };
    // By the clock that the header Date tells.
    let now = clock.unix_seconds();
    Ok(CheckedProof(Some(check(&bound.public_key, bearer, brought, now))))
}

fn check(public_key: &str, bearer: &Claims, brought: &PresentedProof, now: UnixSeconds) -> Result<(), ProofRefusal> {
    let proof = match brought {
        PresentedProof::Nothing => return Err(ProofRefusal::Required),
        PresentedProof::Unreadable => return Err(NotAProof.into()),
        PresentedProof::Line(line) => RenewalProof::parse(line)?,
    };
    if !is_signed(public_key, bearer, &proof) {
        return Err(ProofRefusal::Signature);
    }
    match proof.stale_by(now) {
        None => Ok(()),
        Some(off) => Err(ProofRefusal::Stale(off)),
    }
}

fn is_signed(public_key: &str, bearer: &Claims, proof: &RenewalProof) -> bool {
    let key = STANDARD.decode(public_key).ok();
    let key = key.and_then(|bytes| <[u8; 32]>::try_from(bytes).ok());
    let key = key.and_then(|bytes| VerifyingKey::from_bytes(&bytes).ok());
    let text = RenewalText::of(&bearer.sub, &bearer.jti, proof.time);
    let signature = Signature::from_bytes(&proof.signature);
    key.zip(text)
        .is_some_and(|(key, text)| key.verify_strict(text.as_bytes(), &signature).is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;
    use ed25519_dalek::{Signer as _, SigningKey};
    use proptest::prelude::*;

    const NOW: UnixSeconds = UnixSeconds::new(1_800_000_000);

    fn bearer(jti: &str) -> Claims {
        Claims {
            sub: "spiffe://agentwrit.local/agent/k8s.shop.orders/pod-1/0123456789abcdef".into(),
            jti: jti.into(),
            ..Claims::default()
        }
    }

    fn public(key: &SigningKey) -> String {
        STANDARD.encode(key.verifying_key().as_bytes())
    }

    fn signed(key: &SigningKey, domain: &str, jti: &str, time: UnixSeconds) -> RenewalProof {
        let text = RenewalText::new(domain, &jti.into(), time).unwrap();
        RenewalProof {
            time,
            signature: key.sign(text.as_bytes()).to_bytes(),
        }
    }

    fn line(proof: &RenewalProof) -> PresentedProof {
        PresentedProof::Line(proof.to_string())
    }

    #[test]
    fn a_signature_over_the_domain_token_and_time_is_a_proof() {
        let (key, other) = (SigningKey::from_bytes(&[3; 32]), SigningKey::from_bytes(&[4; 32]));
        let good = signed(&key, "agentwrit.local", "jti-1", NOW);
        let found = |brought: &PresentedProof| check(&public(&key), &bearer("jti-1"), brought, NOW);
        assert_eq!(found(&line(&good)), Ok(()));
        assert_eq!(found(&PresentedProof::Nothing), Err(ProofRefusal::Required));
        assert_eq!(found(&PresentedProof::Unreadable), Err(NotAProof.into()));
        assert_eq!(found(&PresentedProof::Line(format!("{good}="))), Err(NotAProof.into()));
        let moved = RenewalProof {
            time: NOW + Ttl::seconds(1),
            ..good.clone()
        };
        for wrong in [
            signed(&other, "agentwrit.local", "jti-1", NOW),
            signed(&key, "agentwrit.example", "jti-1", NOW),
            signed(&key, "agentwrit.local", "jti-2", NOW),
            moved,
        ] {
            assert_eq!(found(&line(&wrong)), Err(ProofRefusal::Signature), "{wrong}");
        }
        let nonce = RenewalProof {
            time: NOW,
            signature: key.sign(&[7; 32]).to_bytes(),
        };
        assert_eq!(found(&line(&nonce)), Err(ProofRefusal::Signature));
    }

    #[test]
    fn a_right_proof_outside_of_the_window_is_stale() {
        let key = SigningKey::from_bytes(&[3; 32]);
        for (off, is_stale) in [(-60, false), (60, false), (-61, true), (61, true), (-NOW.get(), true)] {
            let off = Ttl::seconds(off);
            let proof = signed(&key, "agentwrit.local", "jti-1", NOW + off);
            let wanted = if is_stale {
                Err(ProofRefusal::Stale(off))
            } else {
                Ok(())
            };
            let result = check(&public(&key), &bearer("jti-1"), &line(&proof), NOW);
            assert_eq!(result, wanted, "{off}");
        }
    }

    #[test]
    fn a_key_that_is_none_proves_nothing() {
        let proof = signed(&SigningKey::from_bytes(&[3; 32]), "agentwrit.local", "jti-1", NOW);
        // The last is the identity, under which anybody can make a signature.
        let mut identity = [0; 32];
        identity[0] = 1;
        for key in [
            String::new(),
            "***".into(),
            STANDARD.encode([1; 31]),
            STANDARD.encode(identity),
        ] {
            let mut forged = proof.clone();
            forged.signature = [0; 64];
            forged.signature[0] = 1;
            for proof in [&proof, &forged] {
                let result = check(&key, &bearer("jti-1"), &line(proof), NOW);
                assert_eq!(result, Err(ProofRefusal::Signature), "{key}");
            }
        }
    }

    proptest! {
        #[test]
        fn a_proof_of_one_token_is_none_of_the_next(
            seed: [u8; 32], old in "[0-9a-f]{32}", new in "[0-9a-f]{32}", off in -60..=60_i64,
        ) {
            let key = SigningKey::from_bytes(&seed);
            let seen = line(&signed(&key, "agentwrit.local", &old, NOW + Ttl::seconds(off)));
            prop_assert_eq!(check(&public(&key), &bearer(&old), &seen, NOW), Ok(()));
            if old != new {
                let result = check(&public(&key), &bearer(&new), &seen, NOW);
                prop_assert_eq!(result, Err(ProofRefusal::Signature));
            }
        }

        #[test]
        fn a_changed_proof_is_none(seed: [u8; 32], at in 0_usize..64, flip in 1..=255_u8) {
            let key = SigningKey::from_bytes(&seed);
            let mut proof = signed(&key, "agentwrit.local", "jti-1", NOW);
            proof.signature[at] ^= flip;
            let result = check(&public(&key), &bearer("jti-1"), &line(&proof), NOW);
            prop_assert_eq!(result, Err(ProofRefusal::Signature));
        }
    }
}
