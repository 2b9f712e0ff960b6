//! Putting the broker together.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use agentwrit_attest::{AttestMetrics, Attestation, Attestor, AttestorError, KubeAttestor, ReviewLimit};
use agentwrit_limits::Limits;
use agentwrit_protocol::status_list::Bounds;
use agentwrit_protocol::{Clock, Entropy, EntropyError, JudgingClock, SteeredClock};
use agentwrit_retention::AuditRetention;
use agentwrit_server::Source;
use agentwrit_store::{Store, StoreError};
use agentwrit_store_postgres::{PostgresStore, Settings};
use agentwrit_store_sqlite::SqliteStore;
use agentwrit_tokens::key_set::{KeySet, KeySnapshot};
use agentwrit_tokens::key_source::KeyError;
use agentwrit_tokens::nonce::NonceIssuer;
use agentwrit_tokens::shared_revocation_view::SharedRevocationView;
use agentwrit_tokens::verifier::Verifier;

use super::store_surroundings::{ChainSigner, ViewFollower};
use crate::broker::{AppState, Broker};
use crate::config::{Config, StorePlace};
use crate::ids::IdGenerator;
use crate::metrics::Metrics;
use crate::passwords::{AdminSecrets, HashedSecrets};
use crate::service::denial_auditor::DenialAuditor;
use crate::service::k8s::policy::ceilings;
use crate::service::session::launch_token_check::RecentLaunchTokens;
use crate::service::session::token::TokenIssuer;
use crate::service::signing_keys::{Followed, Looks};
use crate::service::stranger_reads::StrangerReads;

/// Why the broker doesn't start: a `FATAL: …` line each.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The signing key.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// The store.
    #[error("init database: {0}")]
    Store(#[from] StoreError),
    /// Randomness.
    #[error(transparent)]
    Entropy(#[from] EntropyError),
    /// A metric is defined wrongly.
    #[error("metrics: {0}")]
    Metrics(#[from] prometheus::Error),
    /// Attestation.
    #[error("attestation: {0}")]
    Attestation(#[from] AttestorError),
}

/// What the world around the broker is made of; tests bring their own.
pub struct Surroundings {
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Randomness.
    pub entropy: Arc<dyn Entropy>,
    /// Kubernetes, when it isn't the one the process runs in.
    pub attestor: Option<Arc<dyn Attestor>>,
    /// How many status indexes there are: the default but in tests.
    pub status_lists: Bounds,
    /// Whether it dates by the clock of a database that replicas share. Not where a test moves the clock, which can't move
    /// the server's.
    pub dates_by_database: bool,
}

/// Reads the key, opens the store, and puts the broker together.
///
/// # Errors
/// When the broker must not start.
pub async fn assemble(config: Config, surroundings: Surroundings) -> Result<AppState, StartError> {
    let Surroundings {
        clock,
        entropy,
        attestor,
        status_lists,
        dates_by_database,
    } = surroundings;
    // Replicas date by the clock of what they share.
    let is_shared = matches!(config.store, StorePlace::Postgres(_)) && dates_by_database;
    let reference = is_shared.then(|| Arc::new(SteeredClock::new(Arc::clone(&clock))));
    let clock = match &reference {
        Some(steered) => Arc::<SteeredClock>::clone(steered),
        None => clock,
    };
    let held = config
        .signing_keys
        .load_or_create(config.signing_key_required, entropy.as_ref())?;
    let keys = Arc::new(KeySet::new(KeySnapshot::provisional(held.pairs)));
    let metrics = Arc::new(Metrics::new()?);
    let view = Arc::new(SharedRevocationView::unloaded());
    let (mut compare_key, mut client_key, mut admin_key) = ([0_u8; 32], [0_u8; 32], [0_u8; 32]);
    for key in [&mut compare_key, &mut client_key, &mut admin_key] {
        entropy.fill(key)?;
    }
    let judging = Arc::new(JudgingClock::new(Arc::clone(&clock)));
    let limits = Arc::new(Limits::new(
        &config.limits(),
        &clock,
        metrics.denials_suppressed.clone(),
    ));
    let surroundings = agentwrit_store::Surroundings {
        clock: Arc::clone(&clock),
        judging: Arc::clone(&judging),
        entropy: Arc::clone(&entropy),
        signer: Arc::new(ChainSigner {
            keys: Arc::clone(&keys),
            judging: Arc::clone(&judging),
            times: config.key_times(),
        }),
        observer: Arc::<Metrics>::clone(&metrics),
        revocations: Arc::new(ViewFollower(Arc::clone(&view))),
        gate: Arc::<Limits>::clone(&limits),
        reference: reference.clone(),
        status_lists,
    };
    let attestation = attestation(&config, attestor, &limits, &clock, &metrics).await?;
    let store = open_store(&config, held.made, surroundings).await?;
    metrics.audit_events_loaded.set(store.event_count());
    tracing::info!(target: "STORE", component = "Load", count = store.event_count(), "audit events loaded");
    let retention = AuditRetention::new(
        config.retention.clone(),
        config.store.file().map(Path::to_owned),
        store.clone(),
        Arc::clone(&clock),
        Arc::clone(&judging),
        Arc::<Metrics>::clone(&metrics),
    );
    let tokens = TokenIssuer {
        verifier: Verifier::new(
            Arc::clone(&keys),
            Arc::clone(&view),
            Arc::clone(&judging),
            config.issuer.clone(),
        ),
        metrics: Arc::clone(&metrics),
        issuer: config.issuer.clone(),
        audience: config.audience.clone(),
        nbf_skew: config.nbf_skew,
        keys: Arc::clone(&keys),
        view,
    };
    let broker = Arc::new(Broker {
        denials: DenialAuditor::new(store.clone(), Arc::clone(&limits), Arc::clone(&metrics)),
        limits,
        started: clock.monotonic(),
        ids: IdGenerator::new(Arc::clone(&clock), Arc::clone(&entropy)),
        nonces: NonceIssuer::new(keys, Arc::clone(&entropy)),
        followed_keys: Followed::default(),
        looks_at_keys: Looks::default(),
        app_secrets: HashedSecrets::of_apps(client_key, config.secret_cost),
        admin_secrets: AdminSecrets::new(compare_key, admin_key),
        config,
        clock,
        judging,
        reference,
        entropy,
        tokens,
        store,
        strangers: StrangerReads::new(),
        metrics,
        recent_launch_tokens: RecentLaunchTokens::default(),
        retention,
        attestation,
        stopping: AtomicBool::new(false),
    });
    begin(&broker).await;
    Ok(broker)
}

/// What has to be so before anybody is answered. A store that can't be opened yet is looked at later.
async fn begin(broker: &Broker) {
    // Before anything is signed.
    if let Err(error) = broker.key_follower().follow().await {
        tracing::warn!(target: "KEYS", component = "Follow", error = %error, "the signing keys are not known to the store yet");
    }
    // Before anybody uses what a narrower ceiling takes away.
    if let Err(error) = ceilings::hold(&broker.store, &broker.config.scope_ceilings).await
        && !broker.config.scope_ceilings.digest().is_empty()
    {
        tracing::warn!(target: "K8S", component = "Ceilings", error = %error, "sessions are not held to the ceilings of their namespaces yet");
    }
}

async fn open_store(
    config: &Config,
    key_is_new: bool,
    surroundings: agentwrit_store::Surroundings,
) -> Result<Store, StoreError> {
    let declared = config.declared;
    let installation = config.owner();
    match &config.store {
        StorePlace::Embedded(location) => {
            let options = agentwrit_store_sqlite::OpenOptions {
                location: location.clone(),
                required: config.store_required,
                mark: config.store_mark.clone(),
                signing_key: config.signing_keys.path().to_owned(),
                key_is_new,
                max_ttl: config.max_ttl,
                retention: config.retention.clone(),
                installation,
                declared,
            };
            Ok(Store::new(SqliteStore::open(options, surroundings).await?))
        }
        StorePlace::Postgres(settings) => {
            let options = agentwrit_store_postgres::OpenOptions {
                settings: Settings::clone(settings),
                mark: config.store_mark.clone(),
                key_is_new,
                max_ttl: config.max_ttl,
                retention: config.retention.clone(),
                installation,
                declared,
            };
            Ok(Store::new(PostgresStore::open(options, surroundings).await?))
        }
    }
}

/// The limit of `TokenReview`s, as attestation asks for it.
struct Reviews(Arc<Limits>);

impl ReviewLimit for Reviews {
    fn allows_review(&self, source: Source) -> bool {
        self.0.review(source)
    }
}

async fn attestation(
    config: &Config,
    attestor: Option<Arc<dyn Attestor>>,
    limits: &Arc<Limits>,
    clock: &Arc<dyn Clock>,
    registry: &Metrics,
) -> Result<Option<Arc<Attestation>>, StartError> {
    let Some(config) = &config.attest else {
        return Ok(None);
    };
    let attestor: Arc<dyn Attestor> = match attestor {
        Some(attestor) => attestor,
        None => Arc::new(KubeAttestor::connect().await?),
    };
    let metrics = AttestMetrics::new()?;
    for collector in metrics.collectors() {
        registry.register(collector)?;
    }
    let settings = agentwrit_attest::Settings {
        audience: config.audience.clone(),
        controller_subject: config.controller_subject.clone(),
    };
    let limit = Arc::new(Reviews(Arc::clone(limits)));
    let attestation = Attestation::new(attestor, limit, Arc::clone(clock), settings, metrics);
    Ok(Some(Arc::new(attestation)))
}
