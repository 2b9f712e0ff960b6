//! What goes on beside the commands: opening on a thread that may block, and reminders each second.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use agentwrit_protocol::Clock;
use agentwrit_store::queue::Message;
use agentwrit_store::{Result, StoreError, StoreLocation};
use tokio::sync::mpsc;
use tokio::time::MissedTickBehavior;

use super::open::{Held, Opened, open};
use super::shared::Shared;

const REOPEN_EVERY: Duration = Duration::from_secs(1);

/// Tells what a stand-in means, and leaves a note for the next start with the store.
pub(super) fn note_memory_run(shared: &Shared) {
    match shared.memory_run.note(shared.clock.now()) {
        Ok(()) => {
            tracing::warn!(target: "STORE", component = "InitDB",
                "running on memory, which ends with this process: the next start with the store refuses all tokens of before");
        }
        Err(error) => {
            tracing::error!(target: "STORE", component = "InitDB", error = %error,
                "running on memory, and that can't be noted: the next start with the store knows nothing of what is revoked now");
        }
    }
}

/// Opens a store on a thread that may block; its lock is held also when it can't be opened.
pub(super) async fn opened(kind: &StoreLocation, shared: &Arc<Shared>) -> (Held, Result<Opened>) {
    let (kind, shared) = (kind.clone(), Arc::clone(shared));
    let opening = tokio::task::spawn_blocking(move || {
        let mut held = Held::default();
        let opened = open(&kind, &shared, &mut held);
        (held, opened)
    });
    opening
        .await
        .unwrap_or_else(|_| (Held::default(), Err(StoreError::NotOpen)))
}

/// Reminds the committer of a store that isn't open, looks at the disk and brings the mark up to date, until there is
/// no committer.
pub(super) async fn remind(queue: mpsc::WeakSender<Message>, shared: Arc<Shared>, file: Option<PathBuf>) {
    let mut timer = tokio::time::interval(REOPEN_EVERY);
    timer.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        timer.tick().await;
        let Some(queue) = queue.upgrade().filter(|queue| !queue.is_closed()) else {
            return;
        };
        if !shared.status.open.load(Ordering::SeqCst) && queue.try_send(Message::Reopen).is_err() {
            tracing::trace!(target: "STORE", component = "InitDB", "the queue is full; the next second will do");
        }
        drop(queue);
        if let Some(file) = file.clone() {
            let shared = Arc::clone(&shared);
            // A disk that hangs holds up nothing but this.
            let look = move || {
                shared.status.space.look(&file);
                if shared.status.open.load(Ordering::SeqCst) {
                    shared.mark.keep(|| shared.status.mark());
                }
            };
            if let Err(error) = tokio::task::spawn_blocking(look).await {
                tracing::debug!(target: "STORE", component = "Space", error = %error, "free space is not known");
            }
        }
    }
}
