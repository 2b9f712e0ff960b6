//! What a program outside the cluster logs in with: the client of an AgentApp (`spec.clientCredentials`).

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::ids::PolicyUid;
use crate::lower_hex;
#[cfg(feature = "openapi")]
use crate::schema;
use crate::time::UnixSeconds;

/// First part of the client id of every AgentApp; no app of `/v1/admin/apps` has a client id of this form.
const CLIENT_ID_PREFIX: &str = "k8s-";
/// Hexadecimal digits of a client id.
const CLIENT_ID_DIGITS: usize = 16;
/// Characters of a client secret: 32 random bytes in lower-case hexadecimal digits.
pub const CLIENT_SECRET_CHARACTERS: usize = 64;
/// Secrets of one client that count at a time: the current one, and the one before until its overlap ends.
pub const MAX_CLIENT_SECRETS: usize = 2;

/// What the client of an AgentApp logs in with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct AppClient {
    /// Life of the client's tokens, seconds.
    #[cfg_attr(feature = "openapi", schema(minimum = 60, maximum = 86400, examples(1800)))]
    pub token_ttl_seconds: i64,
    /// The current secret, and the one before while it still counts.
    #[cfg_attr(feature = "openapi", schema(min_items = 1, max_items = 2))]
    pub secrets: Vec<ClientSecret>,
}

/// One secret of a client, known by its hash.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ClientSecret {
    /// SHA-256 of the secret's 64 characters, in lower-case hexadecimal digits.
    #[cfg_attr(feature = "openapi", schema(value_type = schema::Hex64))]
    pub sha256: String,
    /// The second from which it doesn't count any more, Unix time; absent: it counts until it is replaced.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<i64>, minimum = 0, nullable = false, examples(1_764_547_200)))]
    pub until: Option<UnixSeconds>,
}

impl ClientSecret {
    /// Whether it counts at this moment.
    pub fn counts(&self, now: UnixSeconds) -> bool {
        self.until.is_none_or(|until| now < until)
    }
}

impl AppClient {
    /// The hash of the secret that counts until it is replaced.
    pub fn current(&self) -> Option<&str> {
        let current = self.secrets.iter().find(|secret| secret.until.is_none());
        current.map(|secret| secret.sha256.as_str())
    }
}

/// The client id of the AgentApp with this `metadata.uid`: `k8s-` and 16 lower-hex digits.
pub fn client_id(uid: &PolicyUid) -> String {
    let hash = lower_hex(Sha256::digest(format!("client {uid}").as_bytes()));
    format!("{CLIENT_ID_PREFIX}{}", hash.get(..CLIENT_ID_DIGITS).unwrap_or(&hash))
}

/// Whether this is the client id of an AgentApp, by its form.
pub fn is_client_id(text: &str) -> bool {
    let digits = text.strip_prefix(CLIENT_ID_PREFIX);
    digits.is_some_and(|digits| digits.len() == CLIENT_ID_DIGITS && is_lower_hex(digits))
}

/// Lower-hex SHA-256 of a secret.
///
/// A secret is 256 random bits, so that nobody finds it by trying, however fast a try is: what makes bcrypt slow serves
/// secrets that people think of (`docs/adr/0018-client-credentials.md`).
pub fn secret_hash(secret: &str) -> String {
    lower_hex(Sha256::digest(secret.as_bytes()))
}

/// Whether a text is nothing but lower-case hexadecimal digits.
pub fn is_lower_hex(text: &str) -> bool {
    text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_id_is_told_by_its_form() {
        let id = client_id(&"7f2c8c1e-0b7d-4f3a-9a55-2f1d0c6b8e90".into());
        assert!(is_client_id(&id), "{id}");
        assert_ne!(id, client_id(&"7f2c8c1e-0b7d-4f3a-9a55-2f1d0c6b8e91".into()));
        for other in [
            "",
            "k8s-",
            "k8s-0123456789abcde",
            "k8s-0123456789abcdef0",
            "k8s-0123456789abcdeF",
            "or-0123456789abcdef",
            // Of an app of `/v1/admin/apps`.
            "k8s-0123456789ab",
        ] {
            assert!(!is_client_id(other), "{other:?}");
        }
    }

    #[test]
    fn a_previous_secret_counts_until_its_moment() {
        let at = |seconds| UnixSeconds::new(seconds);
        let secret = |until| ClientSecret {
            sha256: "a".repeat(64),
            until,
        };
        assert!(secret(None).counts(UnixSeconds::new(i64::MAX)));
        let previous = secret(Some(at(100)));
        assert_eq!((previous.counts(at(99)), previous.counts(at(100))), (true, false));
    }
}
