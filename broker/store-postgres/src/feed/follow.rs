//! The connection that hears of other replicas' changes.

use std::future::poll_fn;
use std::sync::Arc;
use std::time::Duration;

use agentwrit_protocol::Clock;
use agentwrit_store::{Outage, Result};
use deadpool_postgres::ClientWrapper;
use tokio::sync::Notify;

use super::view::look;
use crate::connector::connect_listening;
use crate::error::{Operation, gone, hung};
use crate::link::Link;
use crate::shared::Shared;

/// How often the store is asked when nothing is heard: a NOTIFY may be lost with its connection. Well below the age at which a
/// view doesn't answer any more.
const LOOK_EVERY: Duration = Duration::from_millis(400);
/// Changes are gathered so long: many commits a second are few looks.
const GATHER: Duration = Duration::from_millis(10);
/// A look that takes longer is given up, with its connection.
const LONGEST_LOOK: Duration = Duration::from_secs(5);
/// How soon another connection is tried.
const AGAIN_AFTER: Duration = Duration::from_millis(250);
const FOLLOW: &str = "follow";
const LISTEN: &str = "LISTEN agentwrit_view";

/// Follows the store until the task is dropped.
pub(crate) async fn follow(shared: Arc<Shared>) {
    let mut outage = Outage::default();
    loop {
        let Err(error) = follow_one(&shared, &mut outage).await;
        shared.observer.failed(error.operation());
        if let Some(failures) = outage.failed(shared.clock.monotonic()) {
            tracing::warn!(target: "STORE", component = "Feed", operation = error.operation(), error = %error, failures,
                "the revocation feed is cut: while it is, each request asks the store");
        }
        tokio::time::sleep(AGAIN_AFTER).await;
    }
}

/// Follows on one connection, as long as that lasts.
async fn follow_one(shared: &Shared, outage: &mut Outage) -> Result<std::convert::Infallible> {
    let heard = Arc::new(Notify::new());
    let client = connect_listening(&shared.settings, &heard).await?;
    client.batch_execute(LISTEN).await.during("listen")?;
    loop {
        if client.is_closed() {
            return Err(gone(FOLLOW));
        }
        // Before the first opening there is nothing to bring up.
        if shared.view.seq().is_some() {
            let looking = tokio::time::timeout(LONGEST_LOOK, look_once(&client, shared));
            looking.await.unwrap_or_else(|_| Err(hung(FOLLOW)))?;
            let failures = outage.over();
            if failures > 0 {
                tracing::info!(target: "STORE", component = "Feed", failures, "the revocation feed is back");
            }
        }
        tokio::select! {
            () = heard.notified() => tokio::time::sleep(GATHER).await,
            () = tokio::time::sleep(LOOK_EVERY) => {}
        }
    }
}

/// Brings the view up to the store as it is now.
pub(crate) async fn look_once(client: &ClientWrapper, shared: &Shared) -> Result<()> {
    let mut link = Link::begin_read(client).await?;
    look(&mut link, shared).await?;
    link.end_read().await
}

/// Drives a connection, and wakes whoever waits for a notification.
pub(crate) async fn driven<S, T>(mut connection: tokio_postgres::Connection<S, T>, heard: Arc<Notify>)
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
    T: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
{
    while let Some(message) = poll_fn(|context| connection.poll_message(context)).await {
        match message {
            Ok(tokio_postgres::AsyncMessage::Notification(_)) => heard.notify_one(),
            Ok(_) => {}
            Err(error) => {
                let error = crate::error::described(&error);
                tracing::debug!(target: "STORE", component = "Feed", error, "the feed's connection ended");
                break;
            }
        }
    }
    // Whoever waits looks, and finds it gone.
    heard.notify_one();
}
