//! Launch tokens made by people and by apps.

use std::sync::Arc;

use agentwrit_protocol::apps::SUBJECT_PREFIX;
use agentwrit_protocol::audit::EventType;
use agentwrit_protocol::excerpt::{EVENT_SCOPES_BYTES, describe_request, excerpt, excerpt_list, list_scopes};
use agentwrit_protocol::k8s::PolicyState;
use agentwrit_protocol::wire::LaunchTokenRequest;
use agentwrit_protocol::{EntropyError, JudgingClock, ScopeError, ScopeSet, Sensitive, Ttl};
use agentwrit_store::policy::{PolicyKey, app_of_subject};
use agentwrit_store::{
    AppRecord, Command, DenialDraft, EventDraft, LaunchToken, LaunchTokenHash, Result as StoreResult, Store,
    StoreError, Tx,
};
use async_trait::async_trait;
use prometheus::IntCounter;

use super::denial_auditor::DenialAuditor;
use super::error::{Internal, from_internal};
use super::scope_limits::{CeilingError, ScopeLimits, check_length};
use super::session::launch_token_check::RecentLaunchTokens;
use crate::config::{Config, ScopeCeilings};
use crate::ids::IdGenerator;

/// Life of a launch token when none is asked for.
const DEFAULT_LIFE: Ttl = Ttl::seconds(30);
/// Longest life of a launch token.
const LONGEST_LIFE: Ttl = Ttl::seconds(86_400);
/// Longest name of an agent, characters.
const LONGEST_NAME: usize = 16 * 1024;

/// Why there is no launch token.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LaunchError {
    #[error("app not found")]
    UnknownApp,
    #[error("allowed_scope exceeds the app's scope ceiling; allowed scopes: {}", .0.to_strings().join(" "))]
    Ceiling(ScopeSet),
    /// Of an AgentApp whose namespace may not have these scopes.
    #[error("allowed_scope: {0}")]
    NamespaceCeiling(String),
    /// Of an AgentApp that is suspended, or withdrawn.
    #[error("the app is suspended")]
    SuspendedApp,
    #[error(transparent)]
    Scopes(#[from] CeilingError),
    #[error("agent_name is required")]
    Name,
    /// The name is too long; how long it is.
    #[error("agent_name of {0} characters is too long: it must be at most {LONGEST_NAME}")]
    NameLength(usize),
    #[error("allowed_scope must not be empty")]
    Empty,
    #[error("ttl must be at most {LONGEST_LIFE} seconds")]
    Life,
    #[error(transparent)]
    Internal(#[from] Internal),
}

from_internal!(LaunchError: StoreError, EntropyError);

/// Bytes of an app's scopes that an event repeats at most.
const CEILING_EXCERPT_BYTES: usize = 512;

impl LaunchError {
    /// For the audit trail, which repeats only the beginning of a long ceiling.
    fn in_trail(&self) -> String {
        match self {
            Self::Ceiling(allowed) => format!(
                "allowed_scope exceeds the app's scope ceiling; allowed scopes: {}",
                excerpt_list(&allowed.to_strings(), CEILING_EXCERPT_BYTES)
            ),
            other => other.to_string(),
        }
    }

    /// The type and `error_kind` of its event; None when it is not audited.
    const fn audited_as(&self) -> Option<(EventType, &'static str)> {
        let kind = match self {
            // That the app was deregistered or suspended is in the trail already; and what fails in here is no denial.
            Self::UnknownApp | Self::SuspendedApp | Self::Internal(_) => return None,
            Self::Ceiling(_) => return Some((EventType::ScopeCeilingExceeded, "scope_ceiling")),
            Self::NamespaceCeiling(_) => return Some((EventType::ScopeCeilingExceeded, "namespace_ceiling")),
            Self::Scopes(error) => error.kind(),
            Self::Name => "missing_agent_name",
            Self::NameLength(_) => "agent_name_length",
            Self::Empty => "empty_allowed_scope",
            Self::Life => "invalid_ttl",
        };
        Some((EventType::LaunchTokenDenied, kind))
    }
}

/// A launch token, shown only this once.
#[derive(Debug)]
pub(crate) struct Launched {
    pub(crate) token: Sensitive,
    pub(crate) stored: LaunchToken,
}

struct Wanted {
    agent_name: String,
    allowed_scope: ScopeSet,
    max_ttl: Ttl,
    life: Ttl,
    single_use: bool,
}

/// A launch token before it is stored.
struct Prepared {
    token: Sensitive,
    stored: LaunchToken,
    source: String,
}

impl Prepared {
    fn event(&self) -> EventDraft {
        let LaunchToken {
            agent_name,
            allowed_scope,
            max_ttl,
            created_by,
            correlation_id,
            ..
        } = &self.stored;
        let detail = format!(
            "launch token for {:?}: scopes {}, max_ttl {max_ttl}, created by {created_by}",
            excerpt(agent_name),
            list_scopes(&allowed_scope.to_strings(), EVENT_SCOPES_BYTES),
        );
        EventDraft::success(EventType::LaunchTokenIssued, detail)
            .actor(created_by)
            .source(&self.source)
            .correlation_id(correlation_id)
    }
}

/// Makes launch tokens for people and apps.
pub(crate) struct LaunchTokens<'a> {
    pub(crate) store: &'a Store,
    pub(crate) judging: &'a JudgingClock,
    pub(crate) ids: &'a IdGenerator,
    pub(crate) recent: &'a RecentLaunchTokens,
    pub(crate) denials: &'a DenialAuditor,
    pub(crate) created: &'a IntCounter,
    pub(crate) scope_limits: ScopeLimits,
    pub(crate) config: &'a Config,
}

impl LaunchTokens<'_> {
    /// Makes a launch token for a person or an app: the creator is the subject of the bearer.
    /// A refusal is audited.
    pub(crate) async fn create(
        &self,
        request: LaunchTokenRequest,
        creator: &str,
        source: &str,
    ) -> Result<Launched, LaunchError> {
        let launched = self.attempt(&request, creator, source).await;
        if let Err(error) = &launched {
            self.deny(error, &request, creator, source).await?;
        }
        launched
    }

    async fn attempt(
        &self,
        request: &LaunchTokenRequest,
        creator: &str,
        source: &str,
    ) -> Result<Launched, LaunchError> {
        let asked = request.allowed_scope.as_deref().unwrap_or_default();
        check_length("allowed_scope", asked)?;
        let app_id = creator.strip_prefix(SUBJECT_PREFIX);
        if app_id.is_some() {
            // On the app's path the bounds come before the app and its ceiling.
            self.scope_limits
                .check("allowed_scope", asked)
                .map_err(CeilingError::from)?;
        }
        let scopes = ScopeSet::parse(asked);
        let app = app_id.map(|_| AppCeiling {
            subject: creator.to_owned(),
            asked: scopes.as_ref().ok().cloned(),
            ceilings: Arc::clone(&self.config.scope_ceilings),
        });
        let prepared = self
            .check(request, scopes)
            .and_then(|wanted| self.prepare(wanted, creator, source));
        match (app, prepared) {
            // Only an app that is registered and under its ceiling learns what is wrong with the request.
            (Some(app), Err(error)) => Err(self.store.read(app).await?.err().unwrap_or(error)),
            (app, prepared) => self.mint(app, prepared?).await,
        }
    }

    fn check(&self, request: &LaunchTokenRequest, scopes: Result<ScopeSet, ScopeError>) -> Result<Wanted, LaunchError> {
        let asked = request.allowed_scope.as_deref().unwrap_or_default();
        let allowed_scope = self.scope_limits.admit("allowed_scope", asked, scopes)?;
        let agent_name = request.agent_name.as_deref().unwrap_or_default();
        if agent_name.is_empty() {
            return Err(LaunchError::Name);
        }
        let length = agent_name.chars().count();
        if length > LONGEST_NAME {
            return Err(LaunchError::NameLength(length));
        }
        if allowed_scope.is_empty() {
            return Err(LaunchError::Empty);
        }
        let life = request.ttl.filter(|ttl| *ttl > 0).map_or(DEFAULT_LIFE, Ttl::seconds);
        if life > LONGEST_LIFE {
            return Err(LaunchError::Life);
        }
        // Without a ceiling, a bound all the same: moments must not overflow.
        let max_ttl = request
            .max_ttl
            .filter(|ttl| *ttl > 0)
            .map_or(self.config.default_ttl, Ttl::seconds)
            .min(Ttl::seconds(1_000_000_000));
        Ok(Wanted {
            agent_name: agent_name.to_owned(),
            allowed_scope,
            max_ttl: self.config.clamp_ttl(max_ttl),
            life,
            single_use: request.single_use.unwrap_or(true),
        })
    }

    /// Audits a denial.
    async fn deny(
        &self,
        error: &LaunchError,
        request: &LaunchTokenRequest,
        creator: &str,
        source: &str,
    ) -> Result<(), StoreError> {
        let Some((event_type, kind)) = error.audited_as() else {
            return Ok(());
        };
        let names = [
            ("agent_name", request.agent_name.as_deref().unwrap_or_default()),
            ("app", creator.strip_prefix(SUBJECT_PREFIX).unwrap_or_default()),
        ];
        let description = describe_request(Some(request.allowed_scope.as_deref().unwrap_or_default()), &names);
        let denial = DenialDraft::denied(event_type, error.in_trail())
            .with_request(&description)
            .agent(creator)
            .actor(creator)
            .source(source)
            .error_kind(kind);
        self.denials.admin_or_app(creator, denial).await
    }

    /// The launch token of `AA_SEED_TOKENS`.
    pub(crate) async fn create_seed(&self) -> Result<Launched, LaunchError> {
        let wanted = Wanted {
            agent_name: "seed".to_owned(),
            allowed_scope: ScopeSet::parse(["*:*:*"]).map_err(CeilingError::from)?,
            max_ttl: self.config.clamp_ttl(Ttl::seconds(3600)),
            life: Ttl::seconds(3600),
            single_use: true,
        };
        self.mint(None, self.prepare(wanted, "seed", "")?).await
    }

    fn prepare(&self, wanted: Wanted, creator: &str, source: &str) -> Result<Prepared, LaunchError> {
        let token = self.ids.random_hex::<32>()?;
        let expires_at = self.judging.times().judged + wanted.life;
        let stored = LaunchToken {
            hash: LaunchTokenHash::of(&token),
            agent_name: wanted.agent_name,
            allowed_scope: wanted.allowed_scope,
            max_ttl: wanted.max_ttl,
            single_use: wanted.single_use,
            expires_at,
            consumed_at: None,
            created_by: creator.to_owned(),
            correlation_id: self.ids.random_hex::<16>()?,
            attested: None,
        };
        Ok(Prepared {
            token: Sensitive::from(token),
            stored,
            source: source.to_owned(),
        })
    }

    async fn mint(&self, app: Option<AppCeiling>, prepared: Prepared) -> Result<Launched, LaunchError> {
        let launched = self.store.commit(Mint { app, prepared }).await??;
        let LaunchToken { hash, expires_at, .. } = &launched.stored;
        let now = self.judging.times().judged;
        self.recent.add(hash.clone(), *expires_at, now);
        self.created.inc();
        Ok(launched)
    }
}

/// What an app asks for, against what it may.
struct AppCeiling {
    /// `sub` of its token.
    subject: String,
    /// None when one of the scopes is malformed: nothing covers it.
    asked: Option<ScopeSet>,
    ceilings: Arc<ScopeCeilings>,
}

impl AppCeiling {
    /// The longest life of an agent's tokens, when the app has one.
    async fn check(&self, tx: &mut dyn Tx) -> StoreResult<Result<Option<Ttl>, LaunchError>> {
        let key = app_of_subject(&self.subject);
        let (scopes, longest) = match self.app(tx, key.as_ref()).await? {
            Ok(app) => app,
            Err(error) => return Ok(Err(error)),
        };
        let Some(asked) = self.asked.as_ref().filter(|asked| scopes.covers_all(asked)) else {
            return Ok(Err(LaunchError::Ceiling(scopes)));
        };
        // A client of an AgentApp has no more than the agents of its namespace.
        let refusal = key.and_then(|PolicyKey { namespace, .. }| {
            let ceiling = self.ceilings.of(&namespace);
            ceiling.refusal(&namespace, &asked.to_strings())
        });
        Ok(match refusal {
            None => Ok(longest),
            Some(sentence) => Err(LaunchError::NamespaceCeiling(sentence)),
        })
    }

    async fn app(
        &self,
        tx: &mut dyn Tx,
        key: Option<&PolicyKey>,
    ) -> StoreResult<Result<(ScopeSet, Option<Ttl>), LaunchError>> {
        let Some(key) = key else {
            let app_id = self.subject.strip_prefix(SUBJECT_PREFIX).unwrap_or_default();
            let app = tx.app(app_id).await?.filter(AppRecord::is_active);
            return Ok(app.map(|app| (app.scopes, None)).ok_or(LaunchError::UnknownApp));
        };
        let policy = tx.policy(key).await?;
        let policy = policy.filter(|policy| policy.client_subject().as_ref() == Some(&self.subject));
        let Some(policy) = policy else {
            return Ok(Err(LaunchError::UnknownApp));
        };
        if policy.state != PolicyState::Ready {
            return Ok(Err(LaunchError::SuspendedApp));
        }
        let spec = policy.accepted.as_ref().and_then(|accepted| accepted.spec.app());
        // What the store holds was checked; a malformed scope would cover nothing.
        let app = spec.map(|spec| {
            let scopes = spec.scopes.iter().filter_map(|scope| scope.parse().ok()).collect();
            (scopes, Some(Ttl::seconds(spec.max_agent_ttl_seconds)))
        });
        Ok(app.ok_or(LaunchError::UnknownApp))
    }
}

#[async_trait]
impl Command for AppCeiling {
    type Outcome = Result<Option<Ttl>, LaunchError>;

    async fn run(self, tx: &mut dyn Tx) -> StoreResult<Self::Outcome> {
        self.check(tx).await
    }
}

struct Mint {
    app: Option<AppCeiling>,
    prepared: Prepared,
}

#[async_trait]
impl Command for Mint {
    type Outcome = Result<Launched, LaunchError>;
    const ISSUES: bool = true;

    async fn run(self, tx: &mut dyn Tx) -> StoreResult<Self::Outcome> {
        let mut prepared = self.prepared;
        if let Some(app) = &self.app {
            match app.check(tx).await? {
                Ok(Some(longest)) => prepared.stored.max_ttl = prepared.stored.max_ttl.min(longest),
                Ok(None) => {}
                Err(error) => return Ok(Err(error)),
            }
        }
        let event = prepared.event();
        let Prepared { token, stored, .. } = prepared;
        tx.insert_launch_token(&stored).await?;
        tx.audit(event);
        Ok(Ok(Launched { token, stored }))
    }
}
