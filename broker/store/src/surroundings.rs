//! What a store needs from the process around it. The broker implements these traits; a store knows nothing else of it.

use std::sync::Arc;
use std::time::Duration;

use agentwrit_protocol::audit::{CheckpointKeys, SignedStatement};
use agentwrit_protocol::status_list::Bounds;
use agentwrit_protocol::{Clock, Entropy, JudgingClock, SteeredClock, UnixSeconds};

use super::{BoxError, DenialGate, SigningKey, ViewChange};

/// Signs checkpoints of the audit chain, and checks those that it or another key has signed.
pub trait CheckpointSigner: CheckpointKeys + Send + Sync {
    /// Signs a text.
    ///
    /// # Errors
    /// When the cryptographic library fails.
    fn sign(&self, message: &str) -> Result<SignedStatement, BoxError>;

    /// Learns the public keys of a store that is being opened, before its trail is checked.
    fn learn(&self, keys: &[SigningKey]);

    /// Whether tokens can be signed: a command that issues something is refused otherwise.
    fn can_sign_tokens(&self) -> bool;
}

/// Hears what the store does, for metrics. Called on the store's own threads: it must not block.
pub trait StoreObserver: Send + Sync {
    /// An operation failed.
    fn failed(&self, operation: &'static str);
    /// A transaction that appends audit events took this long, up to its commit.
    fn audit_write_took(&self, duration: Duration);
    /// Events of these types were committed.
    fn audited(&self, event_types: &[&str]);
    /// The audit trail takes about so many bytes, and has so many sealed segments.
    fn trail_takes(&self, bytes: i64, segments: i64);
    /// The store was found or declared to be put back from a copy, by this rule.
    fn restored(&self, rule: &'static str);
    /// The disk of the store has so many bytes left.
    fn disk_free(&self, bytes: u64);
    /// So many status lists are open, and so many indexes free in them.
    fn status_indexes(&self, lists: u32, free: u32);
}

/// Follows the revocations in the store, for checks of tokens that don't ask it.
pub trait RevocationListener: Send + Sync {
    /// The store is opened or has begun a new epoch: what the answer takes replaces all that was known, when it is
    /// done. Tokens issued before `min_iat` are refused.
    fn load(&self, min_iat: UnixSeconds) -> Box<dyn RevocationLoad + '_>;
    /// These changes were committed. Called before the callers of the commit are answered, in the order of commits.
    fn changed(&self, changes: Vec<ViewChange>);
}

/// What a store holds of revocations, on its way into memory: row by row, for there may be a million of them. Whatever was
/// known stands until it is done, and stays when it is dropped before.
pub trait RevocationLoad: Send {
    /// Takes one in.
    fn take(&mut self, change: ViewChange);
    /// That was all.
    fn done(self: Box<Self>);
}

/// All of it.
#[derive(Clone)]
pub struct Surroundings {
    /// Where the time comes from.
    pub clock: Arc<dyn Clock>,
    /// The time that tokens are judged by; the store keeps its high-water mark.
    pub judging: Arc<JudgingClock>,
    /// Where randomness comes from.
    pub entropy: Arc<dyn Entropy>,
    /// Signs the audit chain.
    pub signer: Arc<dyn CheckpointSigner>,
    /// Metrics.
    pub observer: Arc<dyn StoreObserver>,
    /// Follows revocations.
    pub revocations: Arc<dyn RevocationListener>,
    /// Decides which denials the audit trail holds.
    pub gate: Arc<dyn DenialGate>,
    /// The clock that a store with a clock of its own sets: `clock` is this one then.
    pub reference: Option<Arc<SteeredClock>>,
    /// How many status indexes there are: the default but in tests.
    pub status_lists: Bounds,
}
