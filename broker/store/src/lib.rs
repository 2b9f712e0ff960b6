//! The store: every state change and the audit events that tell of it commit in one transaction.
//!
//! A change is a [`Command`]; one committer gathers the commands that wait into one transaction and answers them
//! after the commit, so that one fsync serves many callers. A rule-based refusal is an `Ok(outcome)`; an `Err` rolls
//! the whole batch back, and every command of it is answered with [`StoreError`], which is 503 on the wire.
#![deny(missing_docs)]

pub mod apps;
pub mod audit;
mod backend;
mod clock;
mod command;
pub mod content;
mod declared;
mod disk_space;
mod error;
mod handle;
pub mod internal_jobs;
mod job;
pub mod launch;
mod location;
mod maintenance;
pub mod meta;
pub mod nonce;
mod outage;
pub mod pods;
pub mod policy;
pub mod queue;
mod remembered;
pub mod revocation;
pub mod segment;
pub mod session;
pub mod signing_keys;
pub mod status;
pub mod stored_json;
mod stored_word;
mod surroundings;
#[cfg(feature = "testing")]
pub mod testing;

pub use agentwrit_protocol::audit::SignedStatement;
pub use agentwrit_protocol::revocation_change::ViewChange;
pub use agentwrit_protocol::signing_keys::SigningKey;
pub use apps::{AppRecord, Apps};
pub use audit::{
    Asker, AuditQuery, AuditSink, DenialDraft, DenialGate, Draft, EventDraft, EventFilter, EventPage, FilterColumn,
};
pub use backend::StoreBackend;
pub use clock::TxClock;
pub use command::{Command, Foreseen, Headroom, TakesAuthority, Tx, TxFuture};
pub use declared::{Declared, Installation, PutBack};
pub use disk_space::DiskSpace;
pub use error::{BoxError, DatabaseFailure, Result, StoreError};
pub use handle::Store;
pub use job::Job;
pub use launch::{Attested, LaunchToken, LaunchTokenHash, LaunchTokens};
pub use location::StoreLocation;
pub use maintenance::{Maintenance, SweepTask};
pub use meta::{Meta, MetaKey};
pub use nonce::Nonces;
pub use outage::Outage;
pub use pods::{HeldByPod, Holdings, KnownPod, PodGroups, PodSelector};
pub use policy::{PodStanding, Policies};
pub use remembered::{Compared, Remembered};
pub use revocation::{Revocation, RevocationLevel, Revocations};
pub use segment::{Retention, Segment, Segments, WhenFull};
pub use session::{Delegated, EndReason, Renewal, Session, Sessions};
pub use signing_keys::SigningKeyRecords;
pub use status::StatusLists;
pub use stored_word::FromStored;
pub use surroundings::{CheckpointSigner, RevocationListener, RevocationLoad, StoreObserver, Surroundings};
