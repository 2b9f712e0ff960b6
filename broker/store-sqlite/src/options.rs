//! How the store is to be opened.

use std::path::PathBuf;

use agentwrit_protocol::Ttl;
use agentwrit_store::{Declared, Installation, Retention, StoreLocation};

/// How the store is to be opened.
#[derive(Debug, Clone)]
pub struct OpenOptions {
    /// Where it lives.
    pub location: StoreLocation,
    /// Whether one that can't open is retried; else a store in memory stands in for it.
    pub required: bool,
    /// The file outside the store that remembers where it stood.
    pub mark: PathBuf,
    /// The file of the signing key, beside which a run on memory is noted.
    pub signing_key: PathBuf,
    /// Whether the signing key was made just now, so that no store can have been beside it before.
    pub key_is_new: bool,
    /// `AA_MAX_TTL`; 0 = no bound.
    pub max_ttl: Ttl,
    /// How long the audit trail is kept.
    pub retention: Retention,
    /// Whose brokers these are.
    pub installation: Installation,
    /// What a person says at this start.
    pub declared: Declared,
}

#[cfg(feature = "testing")]
impl OpenOptions {
    /// In a file of this folder, with its mark beside it.
    pub fn in_folder(folder: &std::path::Path) -> Self {
        let file = |name: &str| folder.join(name);
        Self {
            location: StoreLocation::File(file("data.db")),
            required: true,
            mark: file("data.db.mark"),
            signing_key: file("signing.key"),
            key_is_new: true,
            max_ttl: Ttl::ZERO,
            retention: Retention::default(),
            installation: Installation::default(),
            declared: Declared::default(),
        }
    }
}

#[cfg(test)]
impl OpenOptions {
    /// A store in memory, and nothing beside it.
    pub(crate) fn in_memory() -> Self {
        Self {
            location: StoreLocation::Memory,
            required: false,
            mark: "not/there/mark".into(),
            signing_key: "not/there/signing.key".into(),
            key_is_new: true,
            max_ttl: Ttl::ZERO,
            retention: Retention::default(),
            installation: Installation::default(),
            declared: Declared::default(),
        }
    }
}
