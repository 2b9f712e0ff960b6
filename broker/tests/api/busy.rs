//! A store whose one writer is busy.

use agentwrit_testkit::{Harness, stores};
use std::time::Duration;

use agentwrit_store::{Command, Result, Tx};
use async_trait::async_trait;
use tokio::sync::oneshot;

/// Keeps the writer busy from when it says so until it is let go.
struct Busy {
    begun: oneshot::Sender<()>,
    until: oneshot::Receiver<()>,
}

#[async_trait]
impl Command for Busy {
    type Outcome = ();

    async fn run(self, _tx: &mut dyn Tx) -> Result<()> {
        self.begun.send(()).unwrap();
        // The writer of a file is a thread, that of a database a task, whose thread others need.
        if stores::on_postgres() {
            self.until.await.unwrap();
        } else {
            self.until.blocking_recv().unwrap();
        }
        Ok(())
    }
}

/// Does what must not need the writer, while it is busy.
pub async fn while_the_writer_is_busy(harness: &Harness, work: impl Future<Output = ()>) {
    let (begun, begins) = oneshot::channel();
    let (let_go, until) = oneshot::channel();
    let work = async {
        begins.await.unwrap();
        work.await;
        let_go.send(()).unwrap();
    };
    let all = futures_util::future::join(harness.state.store.commit(Busy { begun, until }), work);
    // Whoever needs the writer would wait for ever.
    let all = tokio::time::timeout(Duration::from_mins(1), all).await;
    all.expect("nothing waits for the writer").0.unwrap();
}
