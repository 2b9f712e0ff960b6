//! How the store is to be opened.

use std::path::PathBuf;

use agentwrit_protocol::Ttl;
use agentwrit_store::{Declared, Installation, Retention};

use crate::settings::Settings;

/// How the store is to be opened.
#[derive(Debug, Clone)]
pub struct OpenOptions {
    /// Where the database is.
    pub settings: Settings,
    /// The file outside the store that remembers where it stood.
    pub mark: PathBuf,
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
