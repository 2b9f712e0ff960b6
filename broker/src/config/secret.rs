//! The admin secret: what is acceptable, and how a presented one is compared.

use std::path::PathBuf;
use std::str::FromStr;

use agentwrit_protocol::Sensitive;
use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::hmac::{HMAC_SHA256, Key, sign};

use super::file;

/// bcrypt looks at no more bytes than these.
pub(crate) const BCRYPT_BYTES: usize = 72;
const SHORTEST: usize = 16;
const DENYLIST: [&str; 1] = ["change-me-in-production"];

/// Whether people can log in with a secret.
#[derive(Debug, Clone)]
pub enum AdminAuth {
    /// `AA_ADMIN_AUTH=off`.
    Off,
    /// With this secret.
    On(SecretSource),
}

/// Where the secret comes from.
#[derive(Debug, Clone)]
pub enum SecretSource {
    /// The environment: fixed for the life of the process.
    Environment(AdminSecret),
    /// The config file: read again at each login, so that a mounted Secret can be rotated.
    File {
        /// Which file.
        path: PathBuf,
        /// The last acceptable secret.
        secret: AdminSecret,
    },
}

impl SecretSource {
    /// The secret in force; what is wrong with a changed file comes second.
    pub fn current(&self) -> (AdminSecret, Option<String>) {
        match self {
            Self::Environment(secret) => (secret.clone(), None),
            Self::File { path, secret } => {
                let fresh = file::read(path)
                    .and_then(|file| {
                        file.admin_secret
                            .ok_or_else(|| "config file: no ADMIN_SECRET".to_owned())
                    })
                    .and_then(AdminSecret::accept);
                match fresh {
                    Ok(fresh) => (fresh, None),
                    Err(problem) => (secret.clone(), Some(problem)),
                }
            }
        }
    }
}

/// Whether a presented secret is one that everybody knows, and that no broker starts with.
pub fn known_to_everybody(presented: &str) -> bool {
    DENYLIST.contains(&presented)
}

/// An acceptable secret.
#[derive(Debug, Clone)]
pub enum AdminSecret {
    /// In plain text.
    Plain(Sensitive),
    /// As a bcrypt hash of 60 characters.
    Bcrypt(Sensitive),
}

impl AdminSecret {
    /// Accepts a secret, or says why not; the reason holds nothing of it.
    pub(super) fn accept(secret: Sensitive) -> Result<Self, String> {
        let text = secret.expose();
        if text.len() == 60 && ["$2a$", "$2b$", "$2y$"].iter().any(|prefix| text.starts_with(prefix)) {
            // The library looks at salt and digest only when it compares.
            let radix64 = |text: &str| {
                text.bytes()
                    .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'/'))
            };
            let well_formed = text.get(7..).is_some_and(radix64) && bcrypt::HashParts::from_str(text).is_ok();
            return if well_formed {
                Ok(Self::Bcrypt(secret))
            } else {
                Err("admin secret rejected: not a well-formed bcrypt hash".to_owned())
            };
        }
        if text.chars().count() < SHORTEST || known_to_everybody(text) {
            return Err("admin secret rejected: does not meet security requirements".to_owned());
        }
        if text.len() > BCRYPT_BYTES {
            return Err("admin secret rejected: longer than 72 bytes".to_owned());
        }
        Ok(Self::Plain(secret))
    }
}

/// Whether a secret in plain text is the presented one, in constant time; `key` is random and never leaves the process.
pub fn equal(secret: &Sensitive, presented: &Sensitive, key: &[u8; 32]) -> bool {
    let key = Key::new(HMAC_SHA256, key);
    let digest = |text: &Sensitive| sign(&key, text.expose().as_bytes());
    verify_slices_are_equal(digest(secret).as_ref(), digest(presented).as_ref()).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weak_secrets_are_refused_and_good_ones_compared_whole() {
        for weak in [
            "",
            "short",
            "change-me-in-production",
            "fifteen-letters",
            &"x".repeat(73),
        ] {
            assert!(AdminSecret::accept(weak.into()).is_err(), "{weak:?}");
        }
        let long = "x".repeat(72);
        assert!(matches!(
            AdminSecret::accept(long.as_str().into()),
            Ok(AdminSecret::Plain(_))
        ));
        assert!(equal(&long.as_str().into(), &long.as_str().into(), &[7; 32]));
        for wrong in ["", "x", &"x".repeat(71), &"x".repeat(73)] {
            assert!(!equal(&long.as_str().into(), &wrong.into(), &[7; 32]), "{wrong:?}");
        }
    }

    #[test]
    fn a_hash_is_accepted_whatever_its_plaintext() {
        let hash = bcrypt::hash("x", 4).unwrap();
        let secret = AdminSecret::accept(hash.as_str().into()).unwrap();
        assert!(matches!(secret, AdminSecret::Bcrypt(_)));
    }
}
