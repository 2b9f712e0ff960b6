//! Tokens: nothing unsigned passes, and what passes is what was signed.

use std::sync::Arc;

use agentwrit_protocol::clock::ManualClock;
use agentwrit_protocol::session::RevocationView;
use agentwrit_protocol::{JudgingClock, UnixSeconds};
use agentwrit_tokens::key_set::KeySet;
use agentwrit_tokens::shared_revocation_view::SharedRevocationView;
use agentwrit_tokens::verifier::Verifier;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ed25519_dalek::{Signer, SigningKey};
use serde::Deserialize;

const SEED: [u8; 32] = [7; 32];
const NOW: UnixSeconds = UnixSeconds::new(1_800_000_000);

/// What is looked at again of what was signed; the rest may be anything that is skipped.
#[derive(Deserialize)]
struct Signed {
    sub: String,
    exp: UnixSeconds,
}

#[derive(Deserialize)]
struct Header {
    alg: String,
    kid: Option<String>,
}

struct Checks {
    keys: Arc<KeySet>,
    verifier: Verifier,
}

thread_local! {
    static CHECKS: Checks = checks();
}

fn checks() -> Checks {
    let keys = Arc::new(KeySet::of_seed(&SEED).unwrap());
    let view = Arc::new(SharedRevocationView::unloaded());
    view.replace(RevocationView::loaded(UnixSeconds::default(), []));
    let clock = Arc::new(JudgingClock::new(Arc::new(ManualClock::at(NOW.get()))));
    let verifier = Verifier::new(Arc::clone(&keys), view, clock, String::new());
    Checks { keys, verifier }
}

/// The first byte says what the rest is: a token, the payload of a signed one, or the header of one.
pub fn run(input: &[u8]) {
    let Some((kind, rest)) = input.split_first() else {
        return;
    };
    CHECKS.with(|checks| match kind % 3 {
        0 => checks.unsigned(rest),
        1 => checks.payload(rest),
        _ => checks.header(rest),
    });
}

impl Checks {
    fn unsigned(&self, text: &[u8]) {
        let token = String::from_utf8_lossy(text);
        assert!(
            self.verifier.verify(&token).is_err(),
            "a token nobody signed: {token:?}"
        );
    }

    fn payload(&self, payload: &[u8]) {
        let token = self.keys.sign(payload).unwrap();
        let Ok(verified) = self.verifier.verify(&token) else {
            return;
        };
        let claims = verified.claims;
        assert!(!claims.sub.is_empty() && !claims.jti.is_empty());
        assert!(claims.exp >= NOW && claims.nbf <= NOW);
        // What the claims say is what is in the token, whatever else is there.
        let signed: Signed = serde_json::from_slice(payload).unwrap();
        assert_eq!(signed.sub, claims.sub);
        assert_eq!(signed.exp, claims.exp);
        let again = self.keys.sign(&serde_json::to_vec(claims.as_ref()).unwrap()).unwrap();
        assert_eq!(*self.verifier.verify(&again).unwrap().claims, *claims);
        // Another key's signature over the same is no token.
        let foreign = KeySet::of_seed(&[8; 32]).unwrap().sign(payload).unwrap();
        let (_, signature) = foreign.rsplit_once('.').unwrap();
        let (signed, _) = token.rsplit_once('.').unwrap();
        assert!(self.verifier.verify(&format!("{signed}.{signature}")).is_err());
    }

    fn header(&self, header: &[u8]) {
        let payload = format!(r#"{{"sub":"a","jti":"b","exp":{NOW},"iat":{NOW}}}"#);
        let message = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(payload));
        let signature = SigningKey::from_bytes(&SEED).sign(message.as_bytes()).to_bytes();
        let token = format!("{message}.{}", URL_SAFE_NO_PAD.encode(signature));
        if self.verifier.verify(&token).is_ok() {
            let header: Header = serde_json::from_slice(header).unwrap();
            assert_eq!(header.alg, "EdDSA");
            let kid = header.kid.unwrap_or_default();
            assert!(kid.is_empty() || kid == self.keys.kid(), "a foreign kid: {kid:?}");
        }
    }
}
