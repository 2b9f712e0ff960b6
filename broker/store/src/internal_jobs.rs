//! Jobs of an implementation itself.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use tokio::sync::oneshot;

use crate::{EventDraft, Job, Result, Tx};

/// Counts itself among the events without a waiting caller, until it is dropped.
pub struct Unconfirmed(Arc<AtomicUsize>);

impl Unconfirmed {
    /// Counts one more.
    pub fn new(count: &Arc<AtomicUsize>) -> Self {
        count.fetch_add(1, Ordering::SeqCst);
        Self(Arc::clone(count))
    }
}

impl Drop for Unconfirmed {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

/// An event without a waiting caller.
pub struct Append {
    draft: Option<EventDraft>,
    /// Dropped with the job, after the commit.
    _unconfirmed: Unconfirmed,
}

impl Append {
    /// The job.
    pub fn new(draft: EventDraft, unconfirmed: Unconfirmed) -> Self {
        Self {
            draft: Some(draft),
            _unconfirmed: unconfirmed,
        }
    }
}

#[async_trait]
impl Job for Append {
    async fn run(&mut self, tx: &mut dyn Tx) -> Result<()> {
        if let Some(draft) = self.draft.take() {
            tx.audit(draft);
        }
        Ok(())
    }

    fn finish(self: Box<Self>, _result: Result<()>) {}
}

/// Waits for all that was queued before it.
pub struct Flush(oneshot::Sender<Result<()>>);

impl Flush {
    /// The job, and where its outcome goes.
    pub fn new() -> (Self, oneshot::Receiver<Result<()>>) {
        let (reply, answer) = oneshot::channel();
        (Self(reply), answer)
    }
}

#[async_trait]
impl Job for Flush {
    async fn run(&mut self, _tx: &mut dyn Tx) -> Result<()> {
        Ok(())
    }

    fn finish(self: Box<Self>, result: Result<()>) {
        if self.0.send(result).is_err() {
            tracing::trace!(target: "STORE", component = "Commit", "nobody waits for the answer");
        }
    }
}
