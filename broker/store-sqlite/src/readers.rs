//! A few read-only connections beside the committer's, each used by one thread at a time.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use agentwrit_store::{Result, StoreError};
use parking_lot::Mutex;
use rusqlite::Connection;
use tokio::sync::Semaphore;

use super::open::connect_reader;
use super::statements::Statements;

/// Connections that read at once.
pub const READERS: usize = 4;
/// How long a query waits for a free one.
const WAIT: Duration = Duration::from_secs(5);

/// An idle connection, and the number of the store's opening that it belongs to.
struct Idle {
    opening: u64,
    connection: Connection,
}

/// The connections; they are made when they are needed and thrown away after a failure.
pub(crate) struct Readers {
    path: PathBuf,
    permits: Arc<Semaphore>,
    idle: Arc<Mutex<Vec<Idle>>>,
}

impl Readers {
    pub(crate) fn new(path: PathBuf) -> Self {
        Self {
            path,
            permits: Arc::new(Semaphore::new(READERS)),
            idle: Arc::default(),
        }
    }

    /// Runs `work` between BEGIN and ROLLBACK on a thread that may block; `opening` numbers the store's openings, so
    /// that no connection to a file that was replaced is used again.
    pub(crate) async fn run<T, W>(&self, opening: u64, work: W) -> Result<T>
    where
        T: Send + 'static,
        W: FnOnce(&mut Connection) -> Result<T> + Send + 'static,
    {
        let permit = tokio::time::timeout(WAIT, Arc::clone(&self.permits).acquire_owned())
            .await
            .map_err(|_| StoreError::QueueFull)?
            .map_err(|_| StoreError::NotOpen)?;
        let (idle, path) = (Arc::clone(&self.idle), self.path.clone());
        let reading = tokio::task::spawn_blocking(move || {
            let mut connection = match take(&idle, opening) {
                Some(connection) => connection,
                None => connect_reader(&path)?,
            };
            connection.change("begin_read", "BEGIN", [])?;
            let found = work(&mut connection)?;
            connection.change("end_read", "ROLLBACK", [])?;
            idle.lock().push(Idle { opening, connection });
            drop(permit);
            Ok(found)
        });
        reading.await.map_err(|_| StoreError::NotOpen)?
    }

    /// Waits for those that read, and closes all connections.
    pub(crate) async fn close(&self) {
        // Its error means that it was closed before.
        let all = self
            .permits
            .acquire_many(u32::try_from(READERS).unwrap_or(u32::MAX))
            .await;
        self.permits.close();
        self.idle.lock().clear();
        drop(all);
    }
}

/// An idle connection of this opening; those of earlier ones are closed.
fn take(idle: &Mutex<Vec<Idle>>, opening: u64) -> Option<Connection> {
    let mut idle = idle.lock();
    idle.retain(|idle| idle.opening == opening);
    idle.pop().map(|idle| idle.connection)
}
