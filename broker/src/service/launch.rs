//! Launch tokens made by people.

use agentwrit_protocol::audit::EventType;
use agentwrit_protocol::wire::LaunchTokenRequest;
use agentwrit_protocol::{EntropyError, ScopeError, ScopeSet, Sensitive};
use async_trait::async_trait;

use crate::broker::Broker;
use crate::store::{Command, EventDraft, LaunchToken, LaunchTokenHash, Result as StoreResult, StoreError, Tx};

/// Life of a launch token when none is asked for, seconds.
const DEFAULT_LIFE: i64 = 30;
/// Longest life of a launch token, seconds.
const LONGEST_LIFE: i64 = 86_400;

/// Why there is no launch token.
#[derive(Debug, thiserror::Error)]
pub enum LaunchError {
    /// A scope is malformed.
    #[error(transparent)]
    Scope(#[from] ScopeError),
    /// A scope that agents can't hold.
    #[error("scope {0:?} is reserved: agents can't hold admin: and app: scopes")]
    Reserved(String),
    /// No name.
    #[error("agent_name is required")]
    Name,
    /// No scope.
    #[error("allowed_scope must not be empty")]
    Empty,
    /// A life too long.
    #[error("ttl must be at most {LONGEST_LIFE} seconds")]
    Life,
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// There is no randomness.
    #[error(transparent)]
    Entropy(#[from] EntropyError),
}

impl LaunchError {
    const fn kind(&self) -> &'static str {
        match self {
            Self::Scope(_) => "invalid_scope_format",
            Self::Reserved(_) => "reserved_scope",
            Self::Name => "missing_agent_name",
            Self::Empty => "empty_allowed_scope",
            Self::Life => "invalid_ttl",
            Self::Store(_) => "unavailable",
            Self::Entropy(_) => "entropy",
        }
    }
}

/// A launch token, told once.
#[derive(Debug)]
pub struct Launched {
    /// The token.
    pub token: Sensitive,
    /// What was stored.
    pub stored: LaunchToken,
}

struct Wanted {
    agent_name: String,
    allowed_scope: ScopeSet,
    max_ttl: i64,
    life: i64,
    single_use: bool,
}

fn check(broker: &Broker, request: LaunchTokenRequest) -> Result<Wanted, LaunchError> {
    let allowed_scope = ScopeSet::parse(request.allowed_scope.unwrap_or_default())?;
    if let Some(scope) = allowed_scope.first_reserved() {
        return Err(LaunchError::Reserved(scope.to_string()));
    }
    let agent_name = request
        .agent_name
        .filter(|name| !name.is_empty())
        .ok_or(LaunchError::Name)?;
    if allowed_scope.is_empty() {
        return Err(LaunchError::Empty);
    }
    let life = request.ttl.filter(|ttl| *ttl > 0).unwrap_or(DEFAULT_LIFE);
    if life > LONGEST_LIFE {
        return Err(LaunchError::Life);
    }
    // Without a ceiling, a bound all the same: moments must not overflow.
    let max_ttl = request
        .max_ttl
        .filter(|ttl| *ttl > 0)
        .unwrap_or(broker.config.default_ttl)
        .min(1_000_000_000);
    Ok(Wanted {
        agent_name,
        allowed_scope,
        max_ttl: broker.config.clamp_ttl(max_ttl),
        life,
        single_use: request.single_use.unwrap_or(true),
    })
}

/// Makes a launch token for a person.
///
/// # Errors
/// The first rule that the request breaks, audited.
pub async fn create(
    broker: &Broker,
    request: LaunchTokenRequest,
    creator: &str,
    source: &str,
) -> Result<Launched, LaunchError> {
    match check(broker, request) {
        Ok(wanted) => mint(broker, wanted, creator, source).await,
        Err(error) => {
            let event = EventDraft::denied(EventType::LaunchTokenDenied, error.to_string())
                .ids(creator, "", "")
                .actor(creator)
                .source(source)
                .error_kind(error.kind());
            broker.store.commit(Deny(event)).await?;
            Err(error)
        }
    }
}

/// The launch token of `AA_SEED_TOKENS`.
///
/// # Errors
/// When the store or randomness fails.
pub async fn create_seed(broker: &Broker) -> Result<Launched, LaunchError> {
    let wanted = Wanted {
        agent_name: "seed".to_owned(),
        allowed_scope: ScopeSet::parse(["*:*:*"])?,
        max_ttl: broker.config.clamp_ttl(3600),
        life: 3600,
        single_use: true,
    };
    mint(broker, wanted, "seed", "").await
}

async fn mint(broker: &Broker, wanted: Wanted, creator: &str, source: &str) -> Result<Launched, LaunchError> {
    let token = broker.random_hex::<32>()?;
    // Whole seconds, as the answer shows them; good through the second it names.
    let expires_at = broker
        .clock
        .unix_seconds()
        .saturating_add(wanted.life)
        .saturating_mul(1000);
    let stored = LaunchToken {
        hash: LaunchTokenHash::of(&token),
        agent_name: wanted.agent_name,
        allowed_scope: wanted.allowed_scope,
        max_ttl: wanted.max_ttl,
        single_use: wanted.single_use,
        expires_at: expires_at.saturating_add(999),
        consumed_at: None,
        created_by: creator.to_owned(),
        correlation_id: broker.random_hex::<16>()?,
        attested: None,
    };
    let detail = format!(
        "launch token for {:?}: scopes {}, max_ttl {}, created by {creator}",
        stored.agent_name,
        stored.allowed_scope.to_strings().join(" "),
        stored.max_ttl
    );
    let event = EventDraft::success(EventType::LaunchTokenIssued, detail)
        .actor(creator)
        .source(source)
        .correlation_id(&stored.correlation_id);
    broker
        .store
        .commit(Mint {
            token: stored.clone(),
            event,
        })
        .await?;
    broker.metrics.launch_tokens_created.inc();
    Ok(Launched {
        token: Sensitive::from(token),
        stored,
    })
}

struct Mint {
    token: LaunchToken,
    event: EventDraft,
}

#[async_trait]
impl Command for Mint {
    type Outcome = ();

    async fn run(self, tx: &mut dyn Tx) -> StoreResult<()> {
        tx.insert_launch_token(&self.token).await?;
        tx.audit(self.event);
        Ok(())
    }
}

struct Deny(EventDraft);

#[async_trait]
impl Command for Deny {
    type Outcome = ();

    async fn run(self, tx: &mut dyn Tx) -> StoreResult<()> {
        tx.audit(self.0);
        Ok(())
    }
}
