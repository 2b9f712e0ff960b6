//! Keeping the store small.

use async_trait::async_trait;

use super::Result;

/// What grows, and is swept of what can never matter again, by both clocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SweepTask {
    /// Status indexes whose last token is long expired are given back
    /// ([`free_status_indexes`](super::StatusLists::free_status_indexes)).
    StatusIndexes,
    /// Launch tokens.
    LaunchTokens,
    /// Burned nonces.
    Nonces,
    /// Revocations.
    Revocations,
    /// Sessions and delegations, with what their last renewal is known by. One stays until its status index was given back.
    Sessions,
    /// Tombstones of policies and pods, quarantines that have an end, and what limits pods.
    Policies,
    /// Changes of the revocation view that every replica has heard of.
    ViewChanges,
}

impl SweepTask {
    /// All, in the order in which they are done.
    pub const ALL: [Self; 7] = [
        Self::StatusIndexes,
        Self::LaunchTokens,
        Self::Nonces,
        Self::Revocations,
        Self::Sessions,
        Self::Policies,
        Self::ViewChanges,
    ];

    /// The word for metrics and the log.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::StatusIndexes => "status_indexes",
            Self::LaunchTokens => "launch_tokens",
            Self::Nonces => "nonces",
            Self::Revocations => "revocations",
            Self::Sessions => "sessions",
            Self::Policies => "policies",
            Self::ViewChanges => "view_changes",
        }
    }
}

/// What is done now and then so that the store doesn't grow.
#[async_trait]
pub trait Maintenance {
    /// Takes the sweeping upon itself until [`Maintenance::end_sweeps`]; false when another replica has.
    async fn begin_sweeps(&mut self) -> Result<bool>;
    /// Leaves it to others.
    async fn end_sweeps(&mut self) -> Result<()>;
    /// Removes some rows, and returns how many that were, or were looked at; 0 when nothing is left.
    async fn sweep(&mut self, task: SweepTask) -> Result<u64>;
    /// Brings some of the events, all but the last `keep`, into the short form in which the trail is kept, and returns how
    /// many were looked at; 0 when nothing is left.
    async fn shorten_trail(&mut self, keep: i64) -> Result<u64>;
}
