//! What cert-manager issues: the certificates of webhook and broker, each in a Secret with its key and with the CA by which
//! it is trusted. The controller signs nothing then.

mod broker;
pub(crate) mod keeper;
pub(crate) mod replicas;
mod roots;

use std::io::Read;
use std::path::Path;

use agentwrit_protocol::{Ttl, UnixSeconds};
use k8s_openapi::api::core::v1::Secret;

use super::authority::{PemPair, certificates, validity};
use super::secrets::{CERTIFICATE, KEY};
use super::trust::believes;

/// Secret and Certificate of the broker.
pub(crate) const BROKER_ISSUED: &str = "agentwrit-broker-issued";
/// Secret and Certificate of the webhook; in the controller's pod its entries are files.
pub(crate) const WEBHOOK_ISSUED: &str = "agentwrit-webhook-issued";
/// Entry with the CA.
const CA: &str = "ca.crt";
/// CA certificates in one Secret: a CA has one, and another one while it is changed.
const MAX_ROOTS: usize = 4;
/// No entry of a Secret is as long as this.
const MAX_BYTES: u64 = 256 * 1024;

/// What was found in a Secret, and is fit to be shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Issued {
    pub(crate) pair: PemPair,
    /// By what it is trusted, PEM, each by itself.
    roots: Vec<String>,
}

/// Why what cert-manager has issued can't be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IssuedError {
    /// The Secret isn't there.
    #[error("it isn't there; cert-manager makes it: kubectl describe certificate says what that waits for")]
    Missing,
    /// An entry isn't there.
    #[error("{0} is missing; delete the Secret, and cert-manager makes it again")]
    EntryMissing(&'static str),
    /// There is no CA.
    #[error(
        "ca.crt is missing or empty: this issuer doesn't say by what its certificates are trusted, as ACME issuers don't; \
         name one that does, such as a CA or Vault issuer, in certificates.issuerRef"
    )]
    CaMissing,
    /// An entry can't be read.
    #[error("{0} can't be read: {1}")]
    EntryUnreadable(&'static str, String),
    /// The key is another certificate's, or no key.
    #[error("tls.key can't be used with tls.crt: {0}; delete the Secret, and cert-manager makes it again")]
    KeyUnusable(String),
    /// Who trusts the CA doesn't believe the certificate.
    #[error(
        "who trusts its ca.crt doesn't believe its tls.crt for {name}: {why}; put the Certificate or its issuer right"
    )]
    NotBelieved {
        /// Of the server.
        name: String,
        /// In words.
        why: String,
    },
}

impl IssuedError {
    /// The same in one word.
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Missing => "secret_missing",
            Self::EntryMissing(_) => "entry_missing",
            Self::CaMissing => "ca_missing",
            Self::EntryUnreadable(..) => "entry_unreadable",
            Self::KeyUnusable(_) => "key_unusable",
            Self::NotBelieved { .. } => "certificate_not_believed",
        }
    }
}

impl Issued {
    /// What the Secret holds for a server of this name.
    fn from_secret(secret: Option<&Secret>, name: &str, now: UnixSeconds) -> Result<Self, IssuedError> {
        let data = secret.ok_or(IssuedError::Missing)?.data.as_ref();
        let entry = |entry: &'static str| {
            let bytes = data.and_then(|data| data.get(entry)).map(|bytes| bytes.0.clone());
            bytes.map(|bytes| text(entry, bytes)).transpose()
        };
        Self::of(entry, name, now)
    }

    /// The same from the files in which the kubelet keeps a Secret.
    pub(crate) fn from_folder(folder: &Path, name: &str, now: UnixSeconds) -> Result<Self, IssuedError> {
        let read = || Self::of(|entry| file(folder, entry), name, now);
        let first = read();
        if matches!(first, Err(IssuedError::EntryMissing(CERTIFICATE))) && !folder.join(KEY).exists() {
            return Err(IssuedError::Missing);
        }
        // The kubelet replaces all files at once, perhaps between two of our reads.
        first.or_else(|_| read())
    }

    fn of(
        entry: impl Fn(&'static str) -> Result<Option<String>, IssuedError>,
        name: &str,
        now: UnixSeconds,
    ) -> Result<Self, IssuedError> {
        let needed = |key| entry(key)?.ok_or(IssuedError::EntryMissing(key));
        let pair = PemPair {
            certificate: needed(CERTIFICATE)?,
            key: needed(KEY)?,
        };
        let ca = entry(CA)?.unwrap_or_default();
        if ca.trim().is_empty() {
            return Err(IssuedError::CaMissing);
        }
        let roots = certificates(&ca);
        if roots.is_empty() || roots.len() > MAX_ROOTS {
            let why = format!(
                "it has to hold one to {MAX_ROOTS} certificates, PEM, and holds {}",
                roots.len()
            );
            return Err(IssuedError::EntryUnreadable(CA, why));
        }
        if let Some(why) = roots.iter().find_map(|root| validity(root).err()) {
            return Err(IssuedError::EntryUnreadable(CA, why));
        }
        pair.certified().map_err(IssuedError::KeyUnusable)?;
        believes(roots.concat().as_bytes(), &pair.certificate, name, now).map_err(|why| IssuedError::NotBelieved {
            name: name.to_owned(),
            why,
        })?;
        Ok(Self { pair, roots })
    }
}

fn text(entry: &'static str, bytes: Vec<u8>) -> Result<String, IssuedError> {
    String::from_utf8(bytes).map_err(|_| IssuedError::EntryUnreadable(entry, "it is not text".to_owned()))
}

fn file(folder: &Path, entry: &'static str) -> Result<Option<String>, IssuedError> {
    let unreadable = |error: std::io::Error| IssuedError::EntryUnreadable(entry, error.to_string());
    let file = match std::fs::File::open(folder.join(entry)) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(unreadable(error)),
    };
    let mut bytes = Vec::new();
    file.take(MAX_BYTES).read_to_end(&mut bytes).map_err(unreadable)?;
    text(entry, bytes).map(Some)
}

/// Whether a new certificate may be shown in place of the present one that is still believed: everybody has trusted its
/// CA for an overlap, or the present one is about to end.
pub(crate) fn may_be_shown(shown: &str, new: &str, present: &str, name: &str, now: UnixSeconds) -> bool {
    let ends = || validity(present).is_ok_and(|(from, to)| now >= to - Ttl::seconds((to - from).get() / 6));
    believes(shown.as_bytes(), new, name, now).is_ok() || ends()
}

#[cfg(test)]
mod tests;
