//! Proof of possession at a renewal (`docs/kubernetes-api.md` §4): the header `Agentwrit-Proof` and the text that it
//! signs.
//!
//! The header is `v1;t=<Unix seconds>;sig=<base64url>`. The signature is Ed25519, by the key that the session was
//! registered with, over a [`RenewalText`]. It names the token by its jti, which changes with each renewal: a header that
//! was seen proves nothing for the next token.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use crate::ids::Jti;
use crate::time::UnixSeconds;
use crate::ttl::Ttl;

/// The header of a renewal that carries the proof.
pub const PROOF_HEADER: &str = "Agentwrit-Proof";
/// How far the time of a proof may be from the broker's, in either direction.
pub const PROOF_WINDOW: Ttl = Ttl::seconds(60);
/// First line of the text; tells it from anything else that the key may ever sign.
const PURPOSE: &str = "agentwrit-renewal-v1";
/// Bytes of a nonce, the other value that the same key signs.
const NONCE_BYTES: usize = 32;
/// Most digits of a time: the year 9999.
const MAX_TIME_DIGITS: usize = 12;

/// The text that is signed: `agentwrit-renewal-v1\n<trust domain>\n<jti>\n<t>`, ASCII.
///
/// It is never 32 bytes long, so that it can't be taken for a nonce.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RenewalText(String);

impl RenewalText {
    /// The text for one token at one time; `None` when a part is empty or not plain ASCII, the time is before 1970, or the
    /// whole is so short that it could be a nonce. No trust domain and jti of a broker are.
    pub fn new(trust_domain: &str, jti: &Jti, time: UnixSeconds) -> Option<Self> {
        let plain = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_graphic());
        if !plain(trust_domain) || !plain(jti) || time < UnixSeconds::default() {
            return None;
        }
        let text = format!("{PURPOSE}\n{trust_domain}\n{jti}\n{time}");
        (text.len() > NONCE_BYTES).then_some(Self(text))
    }

    /// The text for a token of the agent with this SPIFFE id, whose trust domain it names.
    pub fn of(agent_id: &str, jti: &Jti, time: UnixSeconds) -> Option<Self> {
        let (trust_domain, _) = agent_id.strip_prefix("spiffe://")?.split_once('/')?;
        Self::new(trust_domain, jti, time)
    }

    /// The bytes to sign.
    pub fn as_bytes(&self) -> &[u8] {
        self.0.as_bytes()
    }
}

/// A proof as the header carries it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RenewalProof {
    /// The time that was signed.
    pub time: UnixSeconds,
    /// Ed25519.
    pub signature: [u8; 64],
}

/// A header that is no proof.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the header {PROOF_HEADER} must be v1;t=<Unix seconds>;sig=<64 bytes in base64url without padding>, once")]
pub struct NotAProof;

impl RenewalProof {
    /// Reads a header. Every proof has one spelling.
    ///
    /// # Errors
    /// When it is written in any other way.
    pub fn parse(header: &str) -> Result<Self, NotAProof> {
        let rest = header.strip_prefix("v1;t=").ok_or(NotAProof)?;
        let (time, signature) = rest.split_once(";sig=").ok_or(NotAProof)?;
        let digits = (1..=MAX_TIME_DIGITS).contains(&time.len()) && time.bytes().all(|byte| byte.is_ascii_digit());
        if !digits || (time.len() > 1 && time.starts_with('0')) {
            return Err(NotAProof);
        }
        let time = time.parse().map(UnixSeconds::new).map_err(|_| NotAProof)?;
        let signature = URL_SAFE_NO_PAD.decode(signature).map_err(|_| NotAProof)?;
        let signature = signature.try_into().map_err(|_| NotAProof)?;
        Ok(Self { time, signature })
    }

    /// From the broker's time to this proof's, when that is too much; negative when the proof's is earlier.
    pub fn stale_by(&self, broker: UnixSeconds) -> Option<Ttl> {
        let (off, behind) = (self.time - broker, broker - self.time);
        (off.max(behind) > PROOF_WINDOW).then_some(off)
    }
}

impl fmt::Display for RenewalProof {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "v1;t={};sig={}", self.time, URL_SAFE_NO_PAD.encode(self.signature))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const JTI: &str = "0190c2d1a4b5c6d7e8f90a1b2c3d4e5f";

    #[test]
    fn the_text_names_purpose_domain_token_and_time() {
        let (token, time) = (Jti::from(JTI), UnixSeconds::new(1_800_000_000));
        let text = RenewalText::new("agentwrit.local", &token, time).unwrap();
        let wanted = format!("agentwrit-renewal-v1\nagentwrit.local\n{JTI}\n1800000000");
        assert_eq!(text.as_bytes(), wanted.as_bytes());
        let agent = "spiffe://agentwrit.local/agent/k8s.shop.orders/pod-1/0001";
        assert_eq!(RenewalText::of(agent, &token, time), Some(text));
        assert_eq!(RenewalText::of("admin", &token, time), None);
        for (domain, jti, time) in [
            ("", JTI, 1),
            ("d", "", 1),
            ("d\nd", JTI, 1),
            ("d", "j\n1", 1),
            ("d", "é", 1),
            ("d d", JTI, 1),
            ("d", JTI, -1),
            // 32 bytes in all.
            ("abcd", "efgh", 1),
        ] {
            let text = RenewalText::new(domain, &jti.into(), UnixSeconds::new(time));
            assert_eq!(text, None, "{domain:?} {jti:?} {time}");
        }
    }

    #[test]
    fn a_header_has_one_spelling() {
        let proof = RenewalProof {
            time: UnixSeconds::new(1_800_000_000),
            signature: [0xfb; 64],
        };
        let good = proof.to_string();
        assert_eq!(RenewalProof::parse(&good), Ok(proof));
        let signature = good.split_once("sig=").unwrap().1.to_owned();
        let with = |time: &str, signature: &str| format!("v1;t={time};sig={signature}");
        let shorter = signature.get(1..).unwrap();
        for bad in [
            String::new(),
            good.to_uppercase(),
            good.replace("v1", "v2"),
            good.replace("v1", "V1"),
            good.replace(";sig", "; sig"),
            good.replace("t=", "T="),
            format!("{good}=="),
            format!("{good},{good}"),
            format!("{good};x=1"),
            format!(" {good}"),
            with("1800000000", shorter),
            with("1800000000", &format!("{signature}AA")),
            // Standard base64 has other characters, and the last one holds bits that mean nothing.
            with("1800000000", &signature.replace(['-', '_'], "+")),
            with("1800000000", &format!("{}x", signature.get(..85).unwrap())),
            with("01800000000", &signature),
            with("+1800000000", &signature),
            with("-1", &signature),
            with("", &signature),
            with("1800000000000", &signature),
            with("18e8", &signature),
        ] {
            assert_eq!(RenewalProof::parse(&bad), Err(NotAProof), "{bad}");
        }
    }

    #[test]
    fn sixty_seconds_either_way_are_in_time() {
        let at = |time| RenewalProof {
            time: UnixSeconds::new(time),
            signature: [0; 64],
        };
        for (time, wanted) in [(940, None), (1060, None), (939, Some(-61)), (1061, Some(61))] {
            let stale_by = at(time).stale_by(UnixSeconds::new(1000));
            assert_eq!(stale_by.map(Ttl::get), wanted);
        }
    }

    proptest! {
        #[test]
        fn no_text_has_the_length_of_a_nonce(domain in "[!-~]{0,12}", jti in "[!-~]{0,12}", time in 0..100_000_000_000_i64) {
            if let Some(text) = RenewalText::new(&domain, &jti.into(), UnixSeconds::new(time)) {
                prop_assert_ne!(text.as_bytes().len(), NONCE_BYTES);
            }
        }

        #[test]
        fn what_is_written_reads_back(time in 0..=999_999_999_999_i64, half: [u8; 32]) {
            let mut signature = [0; 64];
            signature[..32].copy_from_slice(&half);
            let time = UnixSeconds::new(time);
            let proof = RenewalProof { time, signature };
            prop_assert_eq!(RenewalProof::parse(&proof.to_string()), Ok(proof));
        }

        #[test]
        fn two_texts_are_equal_only_when_their_parts_are(
            one in ("[!-~]{1,20}", "[!-~]{1,40}", 0..3_000_000_000_i64),
            other in ("[!-~]{1,20}", "[!-~]{1,40}", 0..3_000_000_000_i64),
        ) {
            let text = |(domain, jti, time): &(String, String, i64)| {
                RenewalText::new(domain, &jti.as_str().into(), UnixSeconds::new(*time))
            };
            if let (Some(a), Some(b)) = (text(&one), text(&other)) {
                prop_assert_eq!(a == b, one == other);
            }
        }

        #[test]
        fn reading_a_header_never_fails_otherwise(header in "(v1;t=)?[0-9]{0,14}(;sig=)?[A-Za-z0-9_=+-]{0,90}") {
            if let Ok(proof) = RenewalProof::parse(&header) {
                prop_assert_eq!(proof.to_string(), header);
            }
        }
    }
}
