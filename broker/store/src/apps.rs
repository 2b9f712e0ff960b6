//! Apps as stored.

use agentwrit_protocol::apps::{AppStatus, SUBJECT_PREFIX};
use agentwrit_protocol::{ScopeSet, Sensitive, Ttl, UnixSeconds};
use async_trait::async_trait;

use super::Result;

/// An app.
#[derive(Debug, Clone)]
pub struct AppRecord {
    /// `app-<name>-<6 hex>`.
    pub app_id: String,
    /// Unique among the active ones.
    pub name: String,
    /// What it logs in with.
    pub client_id: String,
    /// bcrypt hash of its secret, which is stored nowhere.
    pub secret_hash: Sensitive,
    /// Ceiling of what its agents may be allowed.
    pub scopes: ScopeSet,
    /// Life of its tokens.
    pub token_ttl: Ttl,
    /// When it was registered.
    pub created_at: UnixSeconds,
    /// When it was changed last.
    pub updated_at: UnixSeconds,
    /// When it was deregistered; `None` while it is active.
    pub deregistered_at: Option<UnixSeconds>,
}

impl AppRecord {
    /// Whether it may be used.
    pub const fn is_active(&self) -> bool {
        self.deregistered_at.is_none()
    }

    /// The same, as the wire says it.
    pub const fn status(&self) -> AppStatus {
        if self.is_active() {
            AppStatus::Active
        } else {
            AppStatus::Inactive
        }
    }

    /// `sub` of its tokens.
    pub fn subject(&self) -> String {
        format!("{SUBJECT_PREFIX}{}", self.app_id)
    }
}

/// Repository of apps.
#[async_trait]
pub trait Apps {
    /// Stores a new one; false when its id or its client id is taken.
    async fn insert_app(&mut self, app: &AppRecord) -> Result<bool>;
    /// The one with this id, active or not.
    async fn app(&mut self, app_id: &str) -> Result<Option<AppRecord>>;
    /// The one with this client id, active or not.
    async fn app_by_client_id(&mut self, client_id: &str) -> Result<Option<AppRecord>>;
    /// Whether an active one has this name.
    async fn app_name_is_taken(&mut self, name: &str) -> Result<bool>;
    /// All of them, newest first.
    async fn apps(&mut self) -> Result<Vec<AppRecord>>;
    /// Writes scopes, life of tokens, and the moments of change and deregistration.
    async fn update_app(&mut self, app: &AppRecord) -> Result<()>;
}
