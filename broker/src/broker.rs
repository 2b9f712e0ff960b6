//! The broker's parts, put together once and shared by every request.

use std::sync::Arc;
use std::time::Duration;

use agentwrit_attest::Attestation;
use agentwrit_protocol::audit::EventType;
use agentwrit_protocol::{Clock, Entropy, JudgingClock};
use agentwrit_retention::AuditRetention;
use agentwrit_server::{Source, Turns};
use agentwrit_store::{DenialDraft, Store, StoreError};
use agentwrit_store_sqlite::READERS;
use agentwrit_tokens::key_set::KeySet;
use agentwrit_tokens::revocation_view::View;
use agentwrit_tokens::verifier::Verifier;

use crate::config::Config;
use crate::http::handlers::health::LiveAgents;
use crate::ids::IdGenerator;
use crate::limits::{Asker, Limits};
use crate::metrics::Metrics;
use crate::passwords::HashedSecrets;
use crate::service::session::presented::Standing;

/// What handlers and services work with.
pub struct Broker {
    /// As loaded at start.
    pub config: Config,
    /// Where the time comes from.
    pub clock: Arc<dyn Clock>,
    /// The time that tokens are judged by.
    pub judging: Arc<JudgingClock>,
    /// Where randomness comes from.
    pub entropy: Arc<dyn Entropy>,
    /// New ids of all kinds.
    pub ids: IdGenerator,
    /// Signing keys.
    pub keys: Arc<KeySet>,
    /// Revocation view.
    pub view: Arc<View>,
    /// Token checks.
    pub verifier: Verifier,
    /// The store.
    pub store: Store,
    /// Turns at reading the store for callers that showed no credential yet.
    pub reads: Turns,
    /// Rate limits.
    pub limits: Arc<Limits>,
    /// Metrics.
    pub metrics: Arc<Metrics>,
    /// Launch tokens of whose users the transaction is asked at once.
    pub launch_tokens: Standing,
    /// The count of live agents that scrapes share.
    pub live_agents: LiveAgents,
    /// Exports and drops old parts of the audit trail.
    pub retention: AuditRetention,
    /// Attestation of pods, when configured.
    pub attestation: Option<Arc<Attestation>>,
    /// Key of the comparison of admin secrets, random per process.
    pub compare_key: [u8; 32],
    /// Secrets of apps.
    pub client_secrets: HashedSecrets,
    /// The admin secret, when its hash is what is configured.
    pub admin_secrets: HashedSecrets,
    /// Monotonic reading at start.
    pub started: Duration,
}

/// Reads of strangers at once, and how many of them may wait.
pub(crate) const STRANGERS_READING: usize = READERS - 1;
pub(crate) const STRANGERS_WAITING: usize = 1_024;

/// State of the routers.
pub type AppState = Arc<Broker>;

impl Broker {
    /// Reads for a caller that showed no credential yet. Sources take turns, and not at all of the store's readers: one
    /// stays for callers that are known.
    ///
    /// # Errors
    /// As for [`Store::read`]; also when too many wait.
    pub async fn read_for<T>(
        &self,
        source: Source,
        reading: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, StoreError> {
        let _turn = self.reads.acquire(source).await.map_err(|_| StoreError::QueueFull)?;
        reading.await
    }

    /// The key that nonces are authenticated with.
    pub fn nonce_key(&self) -> [u8; 32] {
        agentwrit_tokens::nonce::key_of_store(self.keys.nonce_key(), &self.store.epoch())
    }

    /// Seconds since start.
    pub fn uptime_seconds(&self) -> i64 {
        let uptime = self.clock.monotonic().saturating_sub(self.started);
        i64::try_from(uptime.as_secs()).unwrap_or(i64::MAX)
    }

    /// Audits a denial that comes before a verified credential: nobody waits for its commit, and beyond the rate of
    /// its source it is only counted.
    pub fn audit_denial(&self, source: std::net::IpAddr, denial: DenialDraft) {
        let denial = denial.source(&source.to_string());
        if let Some(event) = self.limits.pass(Asker::Source(source), denial)
            && !self.store.append(event)
        {
            self.limits.suppress();
        }
    }

    /// Audits a 429: one for each source and endpoint now and then, the others are only counted.
    pub fn audit_rate_limit(&self, source: std::net::IpAddr, path: &str) {
        if self.limits.audits_hit(source, path) {
            let event = DenialDraft::denied(EventType::AppRateLimited, "rate limit exceeded");
            self.audit_denial(source, event.resource(path).error_kind("rate_limited"));
        } else {
            self.metrics.denials_suppressed.inc();
        }
    }
}
