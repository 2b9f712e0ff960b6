//! What can go wrong with a store.

/// An error of a driver or a library that the store doesn't know by its type.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// What kind of failure a database reported.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DatabaseFailure {
    /// There is no room on its disk.
    DiskFull,
    /// The system failed to read or write.
    Io,
    /// A database server can't be reached, doesn't answer, or has no room for another connection.
    Connection,
    /// It took too long: a statement, or a wait for a lock.
    Timeout,
    /// The database server refuses who we are, or lacks what we ask for: password, rights, TLS, database.
    Access,
    /// The database takes no writes, as a standby.
    ReadOnly,
    /// Anything else.
    Other,
}

impl DatabaseFailure {
    const fn kind(self) -> &'static str {
        match self {
            Self::DiskFull => "disk_full",
            Self::Io => "io",
            Self::Connection => "connection",
            Self::Timeout => "timeout",
            Self::Access => "access",
            Self::ReadOnly => "read_only",
            Self::Other => "database",
        }
    }
}

/// Why the store could not do it; nothing changed.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The database refused or failed.
    #[error("store operation {operation} failed: {source}{}{}", if advice.is_empty() { "" } else { ": " }, advice)]
    Database {
        /// What was being done, such as `insert_session`; also a metric label.
        operation: &'static str,
        /// What kind of failure it is.
        failure: DatabaseFailure,
        /// What the driver said.
        #[source]
        source: BoxError,
        /// Which setting it is about, and what would be right; empty when that isn't known. It has nothing of the driver's text.
        advice: &'static str,
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
    Signing(#[source] BoxError),
    /// Another process holds the lock file.
    #[error("{path} is held by another process: only one broker may use a store")]
    Locked {
        /// The lock file.
        path: String,
    },
    /// It is another installation's, or of another trust domain.
    #[error(
        "{differences}: name this installation's own store in AA_DB_PATH or AA_DATABASE_URL, correct the setting, or, when \
         the store has moved here and no broker of before runs any more, start once with --adopt-installation"
    )]
    OtherInstallation {
        /// What the store says and what the settings say.
        differences: String,
    },
    /// A person has moved its content elsewhere.
    #[error(
        "{path} was moved to {to}, and what happened since is only there: name that in AA_DATABASE_URL, and leave AA_DB_PATH \
         out; to go back to this file as it was then, start once with --restored: all tokens of before are refused"
    )]
    Moved {
        /// The file.
        path: String,
        /// Where to, and when.
        to: String,
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
    /// The system can't read the store's mark, so that it isn't known whether the store was put back from a copy.
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
    /// No key is held that may sign tokens: nothing is issued.
    #[error("no signing key is held that may sign tokens: nothing is issued")]
    SigningKey,
    /// The disk is full: what is left is for what takes authority away.
    #[error("the disk is full: only what takes authority away is still written")]
    DiskFull,
    /// Another command of the same batch failed, and the batch was rolled back.
    #[error("the batch was rolled back")]
    RolledBack,
    /// The answer to the COMMIT was lost, and the store can't be asked whether it happened.
    #[error("it isn't known whether the batch was committed")]
    Unknown,
    /// The store isn't open; the broker retries each second.
    #[error("the store is not open")]
    NotOpen,
    /// The audit trail can't be exported, the disk is down to its reserve, and `AA_AUDIT_FULL=refuse` says to drop nothing.
    #[error("the audit trail can't be exported and the disk is nearly full: only what takes authority away is done")]
    AuditFull,
    /// All status lists are full: nothing is registered or delegated.
    #[error("all status lists are full: nothing is registered or delegated until indexes are free again")]
    StatusListsFull,
    /// More commands wait than the queue holds.
    #[error("too many commands wait for the store")]
    QueueFull,
    /// All connections for reads are in use, and none became free in time.
    #[error("database pool acquire timed out — request path starved")]
    PoolStarved,
    /// A command waited for something other than the store, which would hold up all others.
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
    /// Which setting is wrong, and what would be right; `None` when that isn't known.
    pub fn advice(&self) -> Option<&'static str> {
        match self {
            Self::Database { advice, .. } if !advice.is_empty() => Some(advice),
            _ => None,
        }
    }

    /// A static word for metrics and `/readyz`.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Database { failure, .. } => failure.kind(),
            Self::Corrupt { .. } => "corrupt",
            Self::BrokenChain(_) => "broken_chain",
            Self::Signing(_) => "signing",
            Self::Locked { .. } => "locked",
            Self::OtherInstallation { .. } => "installation",
            Self::Moved { .. } => "moved",
            Self::File { .. } => "file",
            Self::Mark { .. } => "mark",
            Self::Clock => "clock",
            Self::SigningKey => "signing_key",
            Self::DiskFull => "disk_full",
            Self::RolledBack => "rolled_back",
            Self::Unknown => "unknown",
            Self::NotOpen => "not_open",
            Self::AuditFull => "audit_full",
            Self::StatusListsFull => "status_lists_full",
            Self::QueueFull => "queue_full",
            Self::PoolStarved => "pool_starved",
            Self::Waited => "waited",
            Self::NotClosed { .. } => "not_closed",
            Self::Entropy(_) => "entropy",
        }
    }

    /// The failed operation, the label of `agentwrit_db_errors_total`.
    pub fn operation(&self) -> &'static str {
        match self {
            Self::Database { operation, .. } => operation,
            Self::Locked { .. }
            | Self::OtherInstallation { .. }
            | Self::Moved { .. }
            | Self::File { .. }
            | Self::Mark { .. } => "open",
            other => other.kind(),
        }
    }
}

/// What every store function returns.
pub type Result<T> = std::result::Result<T, StoreError>;
