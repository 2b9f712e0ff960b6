//! What a ServiceAccount token shows without a call: enough to spare the API server nonsense.

use std::fmt;

use agentwrit_protocol::inject::IDENTITY_TOKEN_SECONDS;
use agentwrit_protocol::k8s::DenialKind;
use agentwrit_protocol::{Ttl, UnixSeconds};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use secrecy::SecretString;
use serde::de::{SeqAccess, Visitor};
use serde::{Deserialize, Deserializer as _};
use serde_json::value::RawValue;

/// Longest bearer that is looked at, bytes.
const MAX_BEARER_BYTES: usize = 8 * 1024;
/// How far broker's and API server's clocks may differ; the API server decides in the end.
const CLOCK_LEEWAY: Ttl = Ttl::seconds(30);

const _: () = assert!(
    CLOCK_LEEWAY.get() < IDENTITY_TOKEN_SECONDS,
    "the leeway would make expiry meaningless"
);

/// The claims that are looked at; audiences in place, for there may be any number.
#[derive(Deserialize)]
struct Unverified<'a> {
    #[serde(borrow)]
    aud: Option<&'a RawValue>,
    exp: f64,
}

impl Unverified<'_> {
    /// Whether the audience is among those of the token; `None` when they are no text and no list of texts.
    fn is_for(&self, audience: &str) -> Option<bool> {
        let Some(aud) = self.aud else {
            return Some(false);
        };
        serde_json::Deserializer::from_str(aud.get())
            .deserialize_any(Among(audience))
            .ok()
    }
}

/// Looks for a text in one, or in a list of them, of which none is kept.
struct Among<'a>(&'a str);

impl<'de> Visitor<'de> for Among<'_> {
    type Value = bool;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string or an array of strings")
    }

    fn visit_str<E>(self, text: &str) -> Result<bool, E> {
        Ok(text == self.0)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut texts: A) -> Result<bool, A::Error> {
        let mut found = false;
        while let Some(text) = texts.next_element::<String>()? {
            found |= text == self.0;
        }
        Ok(found)
    }
}

/// The bearer of an `Authorization` header, when it may be worth a review at `now`.
pub(crate) fn precheck(header: Option<&str>, audience: &str, now: UnixSeconds) -> Result<SecretString, DenialKind> {
    let token = header
        .and_then(|text| text.strip_prefix("Bearer "))
        .filter(|token| !token.is_empty())
        .ok_or(DenialKind::BearerMissing)?;
    let payload = payload(token).ok_or(DenialKind::BearerMalformed)?;
    let claims: Unverified<'_> = serde_json::from_slice(&payload).map_err(|_| DenialKind::BearerMalformed)?;
    if !claims.is_for(audience).ok_or(DenialKind::BearerMalformed)? {
        return Err(DenialKind::BearerWrongAudience);
    }
    // NumericDate may have a fraction (RFC 7519 §2); its seconds fit an f64 without loss.
    let expires = time::OffsetDateTime::UNIX_EPOCH
        .checked_add(time::Duration::checked_seconds_f64(claims.exp).unwrap_or(time::Duration::ZERO));
    if expires.is_none_or(|at| UnixSeconds::from(at) + CLOCK_LEEWAY < now) {
        return Err(DenialKind::BearerExpired);
    }
    Ok(SecretString::from(token))
}

fn payload(token: &str) -> Option<Vec<u8>> {
    if token.len() > MAX_BEARER_BYTES {
        return None;
    }
    let mut segments = token.split('.');
    let (Some(header), Some(payload), Some(signature), None) =
        (segments.next(), segments.next(), segments.next(), segments.next())
    else {
        return None;
    };
    if header.is_empty() || signature.is_empty() {
        return None;
    }
    URL_SAFE_NO_PAD.decode(payload).ok()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use secrecy::ExposeSecret;

    use super::*;

    const OURS: &str = "agentwrit://agentwrit-system/agentwrit";

    fn header(payload: &str) -> String {
        format!("Bearer e30.{}.c2ln", URL_SAFE_NO_PAD.encode(payload))
    }

    fn check(payload: &str) -> Result<(), DenialKind> {
        precheck(Some(&header(payload)), OURS, UnixSeconds::new(1_000)).map(|_| ())
    }

    #[test]
    fn a_token_worth_a_review_is_passed_on_unchanged() {
        let token = precheck(
            Some(&header(&format!(r#"{{"aud":["x","{OURS}"],"exp":1001}}"#))),
            OURS,
            UnixSeconds::new(1_000),
        )
        .unwrap();
        assert_eq!(token.expose_secret().split('.').count(), 3);
        assert_eq!(check(&format!(r#"{{"aud":"{OURS}","exp":1001.5}}"#)), Ok(()));
    }

    #[test]
    fn audience_and_expiry_are_looked_at_first() {
        assert_eq!(
            check(r#"{"aud":["https://kubernetes.default.svc"],"exp":2000}"#),
            Err(DenialKind::BearerWrongAudience)
        );
        assert_eq!(check(r#"{"exp":2000}"#), Err(DenialKind::BearerWrongAudience));
        assert_eq!(
            check(&format!(r#"{{"aud":["{OURS}"],"exp":969}}"#)),
            Err(DenialKind::BearerExpired)
        );
        assert_eq!(check(&format!(r#"{{"aud":["{OURS}"],"exp":970}}"#)), Ok(()));
        assert_eq!(
            check(&format!(r#"{{"aud":["{OURS}"],"exp":1e300}}"#)),
            Err(DenialKind::BearerExpired)
        );
    }

    #[test]
    fn anything_that_is_no_jwt_is_refused_before_a_review() {
        for payload in [
            "",
            "null",
            "{}",
            r#"{"aud":5,"exp":2000}"#,
            r#"{"aud":["a"],"exp":"x"}"#,
            r#"{"aud":["a",5],"exp":2000}"#,
            r#"{"aud":[["a"]],"exp":2000}"#,
            r#"{"aud":{"a":"a"},"exp":2000}"#,
            r#"{"aud":["a"]}"#,
            "{",
        ] {
            assert_eq!(check(payload), Err(DenialKind::BearerMalformed), "{payload:?}");
        }
        for text in ["Bearer a.b", "Bearer a.b.c.d", "Bearer ..", "Bearer é.b.c"] {
            let refused = precheck(Some(text), OURS, UnixSeconds::new(1_000)).unwrap_err();
            assert!(
                matches!(refused, DenialKind::BearerMalformed | DenialKind::BearerMissing),
                "{text}"
            );
        }
        let padding = "x".repeat(MAX_BEARER_BYTES);
        assert_eq!(
            check(&format!(r#"{{"aud":["{OURS}"],"exp":2000,"pad":"{padding}"}}"#)),
            Err(DenialKind::BearerMalformed)
        );
    }

    #[test]
    fn only_the_bearer_scheme_counts() {
        assert_eq!(
            precheck(None, OURS, UnixSeconds::default()).unwrap_err(),
            DenialKind::BearerMissing
        );
        for text in ["", "Bearer", "Bearer ", "bearer a.b.c", "Basic a.b.c"] {
            assert_eq!(
                precheck(Some(text), OURS, UnixSeconds::default()).unwrap_err(),
                DenialKind::BearerMissing,
                "{text:?}"
            );
        }
    }
}
