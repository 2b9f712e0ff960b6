//! The store: every state change and the audit events that tell of it commit in one transaction.
//!
//! A change is a [`Command`]; one committer gathers the commands that wait into one transaction and answers them
//! after the commit, so that one fsync serves many callers. A rule-based refusal is an `Ok(outcome)`; an `Err` rolls
//! the whole batch back, and everybody in it hears [`StoreError`], which is 503 on the wire.

pub mod apps;
mod handle;
pub mod launch;
pub mod ledger;
mod mark;
mod memory_run;
pub mod meta;
pub mod nonce;
mod outage;
pub mod policy;
mod reserve;
pub mod revocation;
pub mod segment;
pub mod session;
mod space;
pub mod sqlite;

use async_trait::async_trait;

pub use apps::{AppRecord, Apps};
pub(crate) use handle::StoreStatus;
pub use handle::{Compared, Store, StoreKind};
pub use launch::{Attested, LaunchToken, LaunchTokenHash, LaunchTokens};
pub use ledger::{DenialDraft, Draft, EventDraft, EventFilter, EventPage, Ledger};
pub(crate) use mark::{MarkFile, Remembered};
pub(crate) use memory_run::MemoryRun;
pub use meta::{Meta, MetaKey};
pub use nonce::Nonces;
pub(crate) use outage::Outage;
pub use policy::Policies;
pub use revocation::{Revocation, RevocationLevel, Revocations};
pub use segment::{Retention, Segment, Segments, WhenFull};
pub use session::{Delegated, EndReason, Renewal, Session, Sessions};
pub(crate) use space::Room;
pub(crate) use sqlite::readers::READERS;

/// Why the store could not do it; nothing changed.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The database refused or failed.
    #[error("store operation {operation} failed: {source}")]
    Database {
        /// What was being done, such as `insert_session`; also a metric label.
        operation: &'static str,
        /// What the driver said.
        #[source]
        source: rusqlite::Error,
    },
    /// A row holds what the broker never wrote.
    #[error("store holds a malformed {what}: {why}")]
    Corrupt {
        /// Which thing.
        what: &'static str,
        /// What is wrong with it.
        why: String,
    },
    /// The audit chain doesn't verify.
    #[error("the audit chain is broken: {0}")]
    BrokenChain(agentwrit_protocol::audit::Break),
    /// A checkpoint of the audit chain could not be signed.
    #[error("the audit chain can't be signed: {0}")]
    Signing(#[from] crate::keys::SigningError),
    /// Another process holds the lock file.
    #[error("{path} is held by another process: only one broker may use a store")]
    Locked {
        /// The lock file.
        path: String,
    },
    /// The lock file or its directory can't be made.
    #[error("{path}: {source}")]
    File {
        /// Which file.
        path: String,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// The system can't read the store's mark, so that nobody knows whether the store was put back from a copy.
    #[error(
        "the store's mark {path} can't be read ({source}): mend that, name another file in AA_STORE_MARK, or start once \
         with --restored"
    )]
    Mark {
        /// The file.
        path: String,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// The wall clock is behind the high-water mark: nothing is issued by it.
    #[error("the wall clock is more than five minutes behind the store's high-water mark: nothing is issued")]
    Clock,
    /// The disk is full: what is left is for what takes authority away.
    #[error("the disk is full: only what takes authority away is still written")]
    DiskFull,
    /// Another command of the same batch failed, and the batch was rolled back.
    #[error("the batch was rolled back")]
    RolledBack,
    /// The store isn't open; the broker retries each second.
    #[error("the store is not open")]
    NotOpen,
    /// The audit trail can't be exported, the disk is down to its reserve, and `AA_AUDIT_FULL=refuse` says to drop nothing.
    #[error("the audit trail can't be exported and the disk is nearly full: only what takes authority away is done")]
    AuditFull,
    /// More commands wait than the queue holds.
    #[error("too many commands wait for the store")]
    QueueFull,
    /// A command waited for something other than the store, which would hold up everybody.
    #[error("a command waited for something other than the store")]
    Waited,
    /// It hangs, or the committer is gone.
    #[error("the store was not closed in good order, with {waiting} messages waiting for it")]
    NotClosed {
        /// Commands, and the close itself.
        waiting: usize,
    },
    /// Randomness for an id failed.
    #[error(transparent)]
    Entropy(#[from] agentwrit_protocol::EntropyError),
}

impl StoreError {
    /// A static word for metrics and `/readyz`.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Database { source, .. } => match source.sqlite_error_code() {
                Some(rusqlite::ErrorCode::DiskFull) => "disk_full",
                Some(rusqlite::ErrorCode::SystemIoFailure) => "io",
                _ => "database",
            },
            Self::Corrupt { .. } => "corrupt",
            Self::BrokenChain(_) => "broken_chain",
            Self::Signing(_) => "signing",
            Self::Locked { .. } => "locked",
            Self::File { .. } => "file",
            Self::Mark { .. } => "mark",
            Self::Clock => "clock",
            Self::DiskFull => "disk_full",
            Self::RolledBack => "rolled_back",
            Self::NotOpen => "not_open",
            Self::AuditFull => "audit_full",
            Self::QueueFull => "queue_full",
            Self::Waited => "waited",
            Self::NotClosed { .. } => "not_closed",
            Self::Entropy(_) => "entropy",
        }
    }

    /// The failed operation, the label of `agentwrit_db_errors_total`.
    pub fn operation(&self) -> &'static str {
        match self {
            Self::Database { operation, .. } => operation,
            Self::Locked { .. } | Self::File { .. } | Self::Mark { .. } => "open",
            other => other.kind(),
        }
    }
}

/// What every store function returns.
pub type Result<T> = std::result::Result<T, StoreError>;

/// Names the operation that a driver error came from.
pub(crate) trait Operation<T> {
    fn during(self, operation: &'static str) -> Result<T>;
}

impl<T> Operation<T> for std::result::Result<T, rusqlite::Error> {
    fn during(self, operation: &'static str) -> Result<T> {
        self.map_err(|source| StoreError::Database { operation, source })
    }
}

/// A word of a closed set, as the store holds it.
pub(crate) trait FromStored: Sized {
    /// What it is, for the error.
    const WHAT: &'static str;

    /// The value with this name.
    fn from_text(text: &str) -> Option<Self>;

    /// Reads a stored word.
    ///
    /// # Errors
    /// When the store holds another word.
    fn from_stored(text: &str) -> Result<Self> {
        Self::from_text(text).ok_or_else(|| StoreError::Corrupt {
            what: Self::WHAT,
            why: format!("{text:?}"),
        })
    }
}

/// One transaction, as a command sees it: the repositories and the ledger.
pub trait Tx:
    Apps + LaunchTokens + Sessions + Revocations + Nonces + Policies + Meta + Segments + Ledger + Send
{
}

impl<T: Apps + LaunchTokens + Sessions + Revocations + Nonces + Policies + Meta + Segments + Ledger + Send> Tx for T {}

/// One atomic piece of work on the store. The embedded store polls it once, on its own thread: it may wait for
/// nothing but the transaction, whose futures are ready at once there.
#[async_trait]
pub trait Command: Send + 'static {
    /// What the caller hears after the commit; refusals by a rule are part of it.
    type Outcome: Send + 'static;

    /// Whether it takes authority away: such commands have room in the queue and on the disk that no other can take.
    /// Small ones are tried again when the disk was full, see [`Command::again`].
    const TAKES_AUTHORITY: bool = false;

    /// Whether it makes room on the disk: such commands may use what is kept for taking authority away.
    const MAKES_ROOM: bool = false;

    /// Whether it issues something that lives by the wall clock: refused while that is wrong.
    const ISSUES: bool = false;

    /// The same once more, for another try with room from the reserve. Only what takes authority away has one.
    fn again(&self) -> Option<Self>
    where
        Self: Sized,
    {
        None
    }

    /// Decides and writes.
    ///
    /// # Errors
    /// Only when the store fails: everybody in the batch then hears 503 and nothing changed.
    async fn run(self, tx: &mut dyn Tx) -> Result<Self::Outcome>;
}
