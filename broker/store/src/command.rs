//! What services do with a store: one atomic piece of work.

use std::pin::Pin;

use agentwrit_protocol::{SessionId, UnixMillis};
use async_trait::async_trait;

use super::{
    Apps, AuditQuery, AuditSink, LaunchTokenHash, LaunchTokens, Maintenance, Meta, Nonces, PodGroups, Policies, Result,
    Revocations, Segments, Sessions, SigningKeyRecords, StatusLists, TxClock,
};

/// How much may be written.
pub trait Headroom {
    /// Whether only what takes authority away is written: the disk is full, or the trail may drop nothing.
    fn only_takes_authority(&self) -> bool;
}

/// One transaction, as a command sees it: the repositories, the audit trail and the clock.
pub trait Tx:
    Apps
    + LaunchTokens
    + Sessions
    + StatusLists
    + Revocations
    + Nonces
    + Policies
    + PodGroups
    + Meta
    + SigningKeyRecords
    + Maintenance
    + Segments
    + AuditSink
    + AuditQuery
    + TxClock
    + Headroom
    + Send
{
}

impl<T> Tx for T where
    T: Apps
        + LaunchTokens
        + Sessions
        + StatusLists
        + Revocations
        + Nonces
        + Policies
        + PodGroups
        + PodGroups
        + Meta
        + SigningKeyRecords
        + SigningKeyRecords
        + Maintenance
        + Segments
        + AuditSink
        + AuditQuery
        + TxClock
        + Headroom
        + Send
{
}

/// A row that a command will ask for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Foreseen {
    /// The launch token with this hash.
    LaunchToken(LaunchTokenHash),
    /// The session or delegation with this id.
    Session(SessionId),
    /// A consumed nonce, and its expiry: whether there is one.
    Nonce(String, UnixMillis),
}

/// Whether a command takes authority away, and what the store does for it then when the disk is full.
pub enum TakesAuthority<C> {
    /// It doesn't.
    No,
    /// It may use the reserve. What it carries is too large to be kept for another try, so its caller tries again.
    Once,
    /// It may use the reserve, and is tried again with a copy when a part of that was given up for it.
    Again(fn(&C) -> C),
}

impl<C> TakesAuthority<C> {
    /// Whether it does.
    pub const fn is_yes(&self) -> bool {
        !matches!(self, Self::No)
    }

    /// The copy for another try.
    pub fn copy(&self, command: &C) -> Option<C> {
        match self {
            Self::Again(copy) => Some(copy(command)),
            Self::No | Self::Once => None,
        }
    }
}

/// One atomic piece of work on the store, decided by a rule.
///
/// It may wait for nothing but the transaction: while it runs, others wait for it. On the embedded store a transaction's
/// futures are ready at once, and a command that waits for anything else fails its batch; on a database behind a network
/// each of them is a round trip, so a command asks for as little as its rule needs.
#[async_trait]
pub trait Command: Sized + Send + 'static {
    /// What the caller hears after the commit; refusals by a rule are part of it.
    type Outcome: Send + 'static;

    /// Whether it takes authority away: such commands have room in the queue and on the disk that no other can take.
    const TAKES_AUTHORITY: TakesAuthority<Self> = TakesAuthority::No;

    /// Whether it makes room on the disk: such commands may use what is kept for taking authority away.
    const MAKES_ROOM: bool = false;

    /// Whether it issues something that lives by the wall clock: refused while that is wrong.
    const ISSUES: bool = false;

    /// Whether it opens a session or a delegation, which takes a status index: refused while the status lists are full. One
    /// that says nothing of it and opens one all the same fails its batch then.
    const OPENS: bool = false;

    /// Rows that it will ask for, whatever it decides. A store behind a network asks for those of a whole batch at once. One
    /// that foresees any writes to sessions, launch tokens and nonces by the methods of [`Tx`] that are about one of them.
    fn foresees(&self) -> Vec<Foreseen> {
        Vec::new()
    }

    /// Decides and writes.
    ///
    /// # Errors
    /// Only when the store fails: every command of the batch is then answered with 503, and nothing changed.
    async fn run(self, tx: &mut dyn Tx) -> Result<Self::Outcome>;
}

/// What a closure on a transaction returns: `Box::pin(async move { … })`.
pub type TxFuture<'t, T> = Pin<Box<dyn Future<Output = Result<T>> + Send + 't>>;

/// A closure as a command, where no rule needs a name.
pub(crate) struct Closure<F>(pub(crate) F);

#[async_trait]
impl<T, F> Command for Closure<F>
where
    T: Send + 'static,
    F: for<'t> FnOnce(&'t mut dyn Tx) -> TxFuture<'t, T> + Send + 'static,
{
    type Outcome = T;

    async fn run(self, tx: &mut dyn Tx) -> Result<T> {
        (self.0)(tx).await
    }
}
