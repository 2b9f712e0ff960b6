//! The broker's parts, and the services that are made of them.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use agentwrit_attest::Attestation;
use agentwrit_limits::Limits;
use agentwrit_protocol::session::RenewLimits;
use agentwrit_protocol::{Clock, Entropy, JudgingClock, SteeredClock};
use agentwrit_retention::AuditRetention;
use agentwrit_store::Store;
use agentwrit_tokens::key_source::KeySource;
use agentwrit_tokens::nonce::NonceIssuer;

use crate::config::Config;
use crate::ids::IdGenerator;
use crate::metrics::Metrics;
use crate::passwords::{AdminSecrets, HashedSecrets};
use crate::service::admin::AdminLogin;
use crate::service::apps::Apps;
use crate::service::apps::login::AppLogin;
use crate::service::authorize::Authorizer;
use crate::service::denial_auditor::DenialAuditor;
use crate::service::k8s::callers::Callers;
use crate::service::launch::LaunchTokens;
use crate::service::rate_limit::RateLimits;
use crate::service::scope_limits::ScopeLimits;
use crate::service::session::delegate::Delegator;
use crate::service::session::launch_token_check::RecentLaunchTokens;
use crate::service::session::register::Registrar;
use crate::service::session::renew::Renewer;
use crate::service::session::revoke::Revoker;
use crate::service::session::revoke_matching::MatchingRevoker;
use crate::service::session::token::TokenIssuer;
use crate::service::signing_keys::person::KeyAdmin;
use crate::service::signing_keys::{Followed, KeyFollower, Looks};
use crate::service::stranger_reads::StrangerReads;
use crate::service::token_check::TokenCheck;

/// Put together once and shared by every request. A service gets the parts that it uses from the method of its name.
pub struct Broker {
    /// As loaded at start.
    pub config: Config,
    /// The time that tokens are judged by.
    pub judging: Arc<JudgingClock>,
    /// New ids of all kinds.
    pub ids: IdGenerator,
    /// New nonces, and old ones.
    pub nonces: NonceIssuer,
    /// Signs and checks tokens.
    pub tokens: TokenIssuer,
    /// The store.
    pub store: Store,
    /// Metrics.
    pub metrics: Arc<Metrics>,
    /// Exports and drops old parts of the audit trail.
    pub retention: AuditRetention,
    /// Audits denials.
    pub denials: DenialAuditor,
    pub(crate) clock: Arc<dyn Clock>,
    /// The same, when it is a database's.
    pub(crate) reference: Option<Arc<SteeredClock>>,
    pub(crate) entropy: Arc<dyn Entropy>,
    pub(crate) limits: Arc<Limits>,
    /// Attestation of pods, when configured.
    pub(crate) attestation: Option<Arc<Attestation>>,
    /// Monotonic reading at start.
    pub(crate) started: Duration,
    pub(crate) followed_keys: Followed,
    pub(crate) looks_at_keys: Looks,
    pub(crate) strangers: StrangerReads,
    pub(crate) recent_launch_tokens: RecentLaunchTokens,
    pub(crate) app_secrets: HashedSecrets,
    pub(crate) admin_secrets: AdminSecrets,
    /// Whether the process is on its way to its end.
    pub(crate) stopping: AtomicBool,
}

/// State of the routers.
pub type AppState = Arc<Broker>;

impl Broker {
    /// From now on it isn't ready: the process ends.
    pub(crate) fn stop_serving(&self) {
        self.stopping.store(true, Ordering::SeqCst);
    }

    /// What is wrong with this machine's clock, when it is far from that of the database.
    pub(crate) fn clock_skew(&self) -> Option<String> {
        let (skew, is_ahead) = self.reference.as_ref()?.skew()?;
        let direction = if is_ahead { "ahead of" } else { "behind" };
        Some(format!(
            "this machine's clock is {} s {direction} the database's, by which tokens are dated: set it right",
            skew.as_secs()
        ))
    }

    pub(crate) fn rate_limits(&self) -> RateLimits<'_> {
        RateLimits {
            limits: &self.limits,
            denials: &self.denials,
        }
    }

    pub(crate) fn authorizer(&self) -> Authorizer<'_> {
        Authorizer {
            tokens: &self.tokens,
            check: self.token_check(),
            judging: &self.judging,
            denials: &self.denials,
            clock_skew: &self.metrics.clock_skew,
        }
    }

    pub(crate) fn token_check(&self) -> TokenCheck<'_> {
        TokenCheck {
            verifier: &self.tokens.verifier,
            keys: self.key_follower(),
        }
    }

    pub(crate) fn registrar(&self) -> Registrar<'_> {
        Registrar {
            store: &self.store,
            judging: &self.judging,
            ids: &self.ids,
            nonces: &self.nonces,
            recent: &self.recent_launch_tokens,
            strangers: &self.strangers,
            denials: &self.denials,
            tokens: &self.tokens,
            counted: &self.metrics.registrations,
            trust_domain: &self.config.trust_domain,
            scope_limits: ScopeLimits::of(&self.config),
            max_ttl: self.config.max_ttl,
            ceilings: &self.config.scope_ceilings,
        }
    }

    pub(crate) fn renewer(&self) -> Renewer<'_> {
        Renewer {
            store: &self.store,
            clock: self.clock.as_ref(),
            ids: &self.ids,
            tokens: &self.tokens,
            rates: &self.limits,
            limits: RenewLimits {
                max_ttl: self.config.max_ttl,
                max_session_age: self.config.max_session_age,
            },
            ceilings: &self.config.scope_ceilings,
        }
    }

    pub(crate) fn delegator(&self) -> Delegator<'_> {
        Delegator {
            store: &self.store,
            clock: self.clock.as_ref(),
            ids: &self.ids,
            tokens: &self.tokens,
            limits: &self.limits,
            scope_limits: ScopeLimits::of(&self.config),
            max_ttl: self.config.max_ttl,
            ceilings: &self.config.scope_ceilings,
        }
    }

    pub(crate) fn revoker(&self) -> Revoker<'_> {
        Revoker {
            store: &self.store,
            counted: &self.metrics.tokens_revoked,
            by_identity: self.attestation.is_some(),
        }
    }

    pub(crate) fn matching_revoker(&self) -> MatchingRevoker<'_> {
        MatchingRevoker {
            store: &self.store,
            counted: &self.metrics.tokens_revoked,
            installation: self.config.installation.as_deref().unwrap_or(&self.config.trust_domain),
        }
    }

    pub(crate) fn launch_tokens(&self) -> LaunchTokens<'_> {
        LaunchTokens {
            store: &self.store,
            judging: &self.judging,
            ids: &self.ids,
            recent: &self.recent_launch_tokens,
            denials: &self.denials,
            created: &self.metrics.launch_tokens_created,
            scope_limits: ScopeLimits::of(&self.config),
            config: &self.config,
        }
    }

    pub(crate) fn callers<'a>(&'a self, attestation: &'a Attestation) -> Callers<'a> {
        Callers {
            attestation,
            store: &self.store,
            judging: &self.judging,
            entropy: self.entropy.as_ref(),
            recent: &self.recent_launch_tokens,
            denials: &self.denials,
            created: &self.metrics.launch_tokens_created,
            max_ttl: self.config.max_ttl,
            ceilings: &self.config.scope_ceilings,
        }
    }

    pub(crate) fn key_follower(&self) -> KeyFollower<'_> {
        KeyFollower {
            source: &self.config.signing_keys,
            keys: &self.tokens.keys,
            verifier: &self.tokens.verifier,
            store: &self.store,
            judging: &self.judging,
            entropy: self.entropy.as_ref(),
            times: self.config.key_times(),
            followed: &self.followed_keys,
            looks: &self.looks_at_keys,
        }
    }

    pub(crate) fn key_admin(&self) -> KeyAdmin<'_> {
        KeyAdmin {
            store: &self.store,
            follower: self.key_follower(),
            rotates: matches!(self.config.signing_keys, KeySource::Folder(_)),
        }
    }

    pub(crate) fn admin_login(&self) -> AdminLogin<'_> {
        AdminLogin {
            auth: &self.config.admin,
            secrets: &self.admin_secrets,
            store: &self.store,
            clock: self.clock.as_ref(),
            ids: &self.ids,
            tokens: &self.tokens,
            denials: &self.denials,
            counted: &self.metrics.admin_auth,
            ttl: self.config.clamp_ttl(self.config.admin_token_ttl),
        }
    }

    pub(crate) fn apps(&self) -> Apps<'_> {
        Apps {
            store: &self.store,
            secrets: &self.app_secrets,
            clock: self.clock.as_ref(),
            ids: &self.ids,
            scope_limits: ScopeLimits::of(&self.config),
            token_ttl: self.config.app_token_ttl,
        }
    }

    pub(crate) fn app_login(&self) -> AppLogin<'_> {
        AppLogin {
            store: &self.store,
            strangers: &self.strangers,
            secrets: &self.app_secrets,
            denials: &self.denials,
            clock: self.clock.as_ref(),
            ids: &self.ids,
            tokens: &self.tokens,
            config: &self.config,
        }
    }
}
