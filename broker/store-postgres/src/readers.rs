//! The connections that read, beside the committer's.

use std::sync::Arc;
use std::time::Duration;

use agentwrit_protocol::Clock;
use agentwrit_store::{DatabaseFailure, Job, Outage, Result, StoreError};
use deadpool::Runtime;
use deadpool::managed::{Manager, Metrics, Object, Pool, PoolError, RecycleError, RecycleResult, TimeoutType};
use deadpool_postgres::ClientWrapper;
use parking_lot::Mutex;

use crate::connector::connect;
use crate::error::{NO_ANSWER, trouble};
use crate::feed::look_once;
use crate::link::Link;
use crate::settings::Settings;
use crate::shared::Shared;
use crate::tx::PgTx;

/// How long a read may take; the server ends a statement before.
const READ: Duration = Duration::from_secs(15);
const STARVED: &str = "pool_acquire";

struct Connections(Settings);

impl Manager for Connections {
    type Type = ClientWrapper;
    type Error = StoreError;

    async fn create(&self) -> Result<ClientWrapper> {
        connect(&self.0).await
    }

    async fn recycle(&self, client: &mut ClientWrapper, _: &Metrics) -> RecycleResult<StoreError> {
        if client.is_closed() {
            return Err(RecycleError::message("closed"));
        }
        Ok(())
    }
}

/// A bounded pool of connections.
pub(crate) struct Readers {
    pool: Pool<Connections>,
    starved: Mutex<Outage>,
}

impl Readers {
    pub(crate) fn new(settings: &Settings) -> Result<Self> {
        let pool = Pool::builder(Connections(settings.clone()))
            .max_size(settings.pool)
            .wait_timeout(Some(settings.pool_wait))
            .runtime(Runtime::Tokio1)
            .build()
            .map_err(|error| trouble("open", DatabaseFailure::Connection, error.to_string()))?;
        Ok(Self {
            pool,
            starved: Mutex::default(),
        })
    }

    async fn connection(&self, shared: &Shared) -> Result<Object<Connections>> {
        match self.pool.get().await {
            Ok(connection) => {
                let failures = self.starved.lock().over();
                if failures > 0 {
                    tracing::info!(target: "STORE", component = "Pool", failures, "the database pool has connections again");
                }
                Ok(connection)
            }
            Err(PoolError::Timeout(TimeoutType::Wait)) => {
                shared.observer.failed(STARVED);
                if let Some(failures) = self.starved.lock().failed(shared.clock.monotonic()) {
                    tracing::error!(target: "STORE", component = "Pool", failures, size = shared.settings.pool,
                        "database pool acquire timed out — request path starved");
                }
                Err(StoreError::PoolStarved)
            }
            Err(PoolError::Backend(error)) => Err(error),
            Err(PoolError::Closed) => Err(StoreError::NotOpen),
            Err(other) => Err(trouble("connect", DatabaseFailure::Connection, other.to_string())),
        }
    }

    /// Runs a job that only reads, in a transaction of one moment.
    pub(crate) async fn read(&self, shared: &Arc<Shared>, job: Box<dyn Job>) -> Result<()> {
        let connection = self.connection(shared).await?;
        // A task of its own: a caller that hangs up leaves no transaction behind on a connection that others will use.
        let reading = tokio::spawn(read(connection, Arc::clone(shared), job));
        reading.await.map_err(|_| StoreError::NotOpen)?
    }

    /// Brings the revocation view up to the store as it is now, for all that ask at once.
    pub(crate) async fn bring_up(&self, shared: &Arc<Shared>) -> Result<()> {
        let since = shared.clock.monotonic();
        let _turn = shared.asking.lock().await;
        // Another has asked meanwhile.
        if shared.view.is_newer_than(since) {
            return Ok(());
        }
        let connection = self.connection(shared).await?;
        let asking = Arc::clone(shared);
        // A task of its own: a caller that hangs up leaves no transaction behind on a connection that others will use.
        let looking = tokio::spawn(async move {
            let looked = tokio::time::timeout(READ, look_once(&connection, &asking)).await;
            let looked = looked.unwrap_or_else(|_| Err(too_slow()));
            if looked.is_err() {
                drop(Object::take(connection));
            }
            looked
        });
        looking.await.map_err(|_| StoreError::NotOpen)?
    }

    /// Waits for those that read, as long as a read may take, and closes all connections.
    pub(crate) fn close(&self) {
        self.pool.close();
    }
}

async fn read(connection: Object<Connections>, shared: Arc<Shared>, mut job: Box<dyn Job>) -> Result<()> {
    let read = tokio::time::timeout(READ, transaction(&connection, &shared, job.as_mut())).await;
    let read = read.unwrap_or_else(|_| Err(too_slow()));
    match read {
        Ok(()) => {
            job.finish(Ok(()));
            Ok(())
        }
        Err(error) => {
            // Whatever state it is in.
            drop(Object::take(connection));
            shared.observer.failed(error.operation());
            Err(error)
        }
    }
}

async fn transaction(client: &ClientWrapper, shared: &Shared, job: &mut dyn Job) -> Result<()> {
    let mut link = Link::begin_read(client).await?;
    job.run(&mut PgTx::new(&mut link, shared, None)).await?;
    link.end_read().await
}

/// A read may be slow for its own reasons, and the database well.
fn too_slow() -> StoreError {
    trouble("read", DatabaseFailure::Timeout, NO_ANSWER)
}
