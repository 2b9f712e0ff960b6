//! What an implementation of the store has to do and to keep.

use std::any::Any;
use std::time::Duration;

use agentwrit_protocol::StoreMark;
use async_trait::async_trait;

use super::{Compared, DiskSpace, EventDraft, Job, Result};

/// An implementation of the store. [`super::Store`] is what services hold of it.
///
/// What every implementation keeps, and the suite `testing::suite` holds it to:
///
/// * **Atomicity.** What a command writes, its audit events and its revocation changes are committed in one transaction,
///   or nothing of them is. The caller is answered after the commit. Many commands may share a transaction; when one of
///   them fails with an error, none of them has happened, and each caller hears an error. A refusal by a rule is an
///   outcome, not an error.
/// * **Order.** Commands that one caller submits one after the other see each other's effects. Commands of a batch see
///   what those before them in the batch have written, as if each had been committed alone. Rules are decided in the
///   transaction, so that of two commands that would both use something up only one does.
/// * **The chain.** The audit events of all commands form one chain without gaps: numbers from 1, each with the hash of
///   the one before, in the order of the commands and, within one, of its calls of `audit`. No two transactions may
///   append to it at once: a writer holds the head until its commit. Checkpoints are appended as
///   `agentwrit_protocol::audit::MAX_UNSIGNED` and an hour at most without one demand, and the last signed statement is
///   kept outside the trail, so that a trail that was cut off is noticed at the next opening.
/// * **Visibility.** Before the caller is answered the revocation listener has heard of the changes, in the order of
///   commits. A read sees everything whose caller was answered before it began.
/// * **Status indexes** ([`super::StatusLists`]). Whatever opens a session or a delegation gives it, in the same
///   transaction, an index that none holds whose tokens may live, drawn evenly from all free ones of the open lists
///   (`agentwrit_protocol::status_list::Bounds` says when the next list is opened, and when they are full). A transaction
///   that fails, or a process that dies, has drawn nothing. An index is given back no earlier than
///   `agentwrit_protocol::status_list::free_from` the row's `last_exp`, by the earlier of both clocks, and within two hours of
///   that. While the lists are full, commands that open ([`super::Command::OPENS`]) are refused with
///   [`StoreError::StatusListsFull`](super::StoreError::StatusListsFull) and have not run; their batch goes on without them.
///   A store with one writer may keep in memory what is held. One with many asks the rows, under the lock that it writes the
///   chain with: some random places at a time, of which it takes those that no row holds, so that each free one is as likely.
///   An end sets the bits of the session and of all below it in its own transaction, at one moment; also an end in bulk, of
///   a restored store or an accepted clock.
/// * **Taking authority away** ([`super::Command::TAKES_AUTHORITY`]) works as long as anything does: such commands have
///   places in the queue and room on the disk that others can't use, are not refused while the trail can't be exported,
///   and the mark outside the store is written before they are answered, so that a copy of before can't pass for the
///   store.
/// * **A restored store** is noticed ([`StoreBackend::compare`]) and begins a new epoch; what it may have forgotten is
///   refused by `min_iat`.
#[async_trait]
pub trait StoreBackend: Any + Send + Sync {
    /// Takes a job for a transaction. It is finished after the commit, or with the error when there was none.
    ///
    /// # Errors
    /// When it can't be taken; it is then dropped without having run. With
    /// [`StoreError::Clock`](super::StoreError::Clock) when it issues something while the wall clock is wrong, with
    /// [`StoreError::SigningKey`](super::StoreError::SigningKey) when it does while no token can be signed.
    fn submit(&self, job: Box<dyn Job>) -> Result<()>;

    /// Runs a job that only reads, and finishes it. It doesn't hold up commits where that can be avoided.
    ///
    /// # Errors
    /// When the store is not open or can't be read.
    async fn read(&self, job: Box<dyn Job>) -> Result<()>;

    /// Takes an event without a wait for its commit: a denial of a stranger. False when it wasn't taken, for there is little room
    /// in the queue or on the disk, which strangers must not take from others.
    fn append(&self, draft: EventDraft) -> bool;

    /// Waits until the events of [`StoreBackend::append`] so far are committed or refused.
    ///
    /// # Errors
    /// When they can't be committed now.
    async fn settle(&self) -> Result<()>;

    /// Whether it can work at all; nothing brings one back that can't but a new process.
    fn alive(&self) -> bool;

    /// Whether what is committed survives the process.
    fn persistent(&self) -> bool;

    /// Whether the store is open.
    fn connected(&self) -> bool;

    /// Why the configured store is not open, as a word.
    fn failure(&self) -> Option<&'static str>;

    /// What to do about it: the setting, and what would be right. `None` when that isn't known.
    fn failure_advice(&self) -> Option<&'static str> {
        None
    }

    /// Sets whether only what takes authority away is done, since the trail can't be exported and nothing may be dropped.
    fn refuse(&self, refuses: bool);

    /// Whether that is so.
    fn refuses(&self) -> bool;

    /// What is known of the store's disk; `None` when it has none of its own.
    fn disk_space(&self) -> Option<DiskSpace>;

    /// Whether the disk is nearly full.
    fn scarce(&self) -> bool;

    /// Waits until a segment of the trail is sealed.
    async fn sealed(&self);

    /// How old what the revocation listener has heard may be, when that is too old for an answer; `None` when it isn't. A
    /// store with one writer, which hands the listener each commit, always has it as it is.
    fn view_age(&self) -> Option<Duration> {
        None
    }

    /// Whether other processes write to it too.
    fn shared(&self) -> bool {
        false
    }

    /// Hands the listener what it lacks now: nothing where there is one writer.
    ///
    /// # Errors
    /// When the store can't be asked.
    async fn bring_view_up(&self) -> Result<()> {
        Ok(())
    }

    /// Events in the trail.
    fn event_count(&self) -> i64;

    /// The store's epoch: new at creation and at every restore; empty before the store was open.
    fn epoch(&self) -> String;

    /// Compares the store with the text of a mark that is kept outside it. A store that was put back from a
    /// copy begins a new epoch and refuses all tokens of before.
    ///
    /// # Errors
    /// When the store is not open or fails.
    async fn compare(&self, mark: Option<&str>) -> Result<Compared>;

    /// Begins a new epoch because a person says so, with this event: all tokens and launch tokens of before are
    /// refused, and agents start over. `EpochDue` is emptied. Also while the store only takes authority away.
    ///
    /// # Errors
    /// When the store is not open or fails.
    async fn begin_epoch(&self, event: EventDraft) -> Result<StoreMark>;

    /// Commits what waits, closes the store, and answers when that is done; once.
    ///
    /// # Errors
    /// When it fails, or hangs.
    async fn close(&self) -> Result<()>;
}
