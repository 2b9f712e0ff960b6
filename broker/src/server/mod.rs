//! Listeners and connections.

mod connection;
#[cfg(test)]
mod connection_tests;
mod descriptors;
mod files;
mod pace;
mod stream;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::signal::unix::Signal;
use tokio::sync::watch;

use self::connection::converse;
pub(crate) use self::descriptors::raise_limit;
use self::pace::{Room, Times};
use crate::background;
use crate::broker::AppState;
use crate::http::{Front, router};
use crate::store::StoreError;
use crate::tls::Tls;

const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);
const DRAIN: Duration = Duration::from_secs(10);
/// After a failed accept, which mostly means that file descriptors ran out.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Connections of the ops listener, apart from those of the API, so that probes get through.
const OPS_CONNECTIONS: usize = 256;

/// A listener can't be opened.
#[derive(Debug, thiserror::Error)]
#[error("listen on {address}: {source}")]
pub struct ListenError {
    address: SocketAddr,
    #[source]
    source: std::io::Error,
}

/// Open sockets that nobody answers yet.
pub struct Server {
    broker: AppState,
    tls: Option<Arc<Tls>>,
    api: TcpListener,
    ops: Option<TcpListener>,
    hangup: Option<Signal>,
}

fn room(most: usize) -> Arc<Room> {
    Arc::new(Room::new(Times::CONTRACT, most))
}

async fn listen(address: SocketAddr) -> Result<TcpListener, ListenError> {
    TcpListener::bind(address)
        .await
        .map_err(|source| ListenError { address, source })
}

impl Server {
    /// Opens the sockets.
    ///
    /// # Errors
    /// When an address is taken or not ours.
    pub async fn bind(broker: AppState, tls: Option<Tls>) -> Result<Self, ListenError> {
        let api = listen(broker.config.listen).await?;
        let ops = match broker.config.ops {
            Some(address) => Some(listen(address).await?),
            None => None,
        };
        Ok(Self {
            broker,
            tls: tls.map(Arc::new),
            api,
            ops,
            hangup: None,
        })
    }

    /// With TLS files that are read again at once when this signal comes.
    #[must_use]
    pub fn reload_on(mut self, hangup: Signal) -> Self {
        self.hangup = Some(hangup);
        self
    }

    /// Address of the API listener, with the port that the system chose for port 0.
    ///
    /// # Errors
    /// When the system can't say.
    pub fn address(&self) -> std::io::Result<SocketAddr> {
        self.api.local_addr()
    }

    /// Address of the ops listener.
    ///
    /// # Errors
    /// When the system can't say.
    pub fn ops_address(&self) -> std::io::Result<Option<SocketAddr>> {
        self.ops.as_ref().map(TcpListener::local_addr).transpose()
    }

    /// Answers until `stop`; then drains for up to 10 s and closes the store within another 10 s.
    ///
    /// # Errors
    /// When the store could not be closed.
    pub async fn serve(self, stop: impl Future<Output = ()>) -> Result<(), StoreError> {
        let (stopping, _) = watch::channel(());
        let most = descriptors::connections();
        let (api_room, ops_room) = (room(most), room(OPS_CONNECTIONS));
        let api = Arc::new(Front::new(Arc::clone(&self.broker), router::api(&self.broker)));
        let ops = Arc::new(Front::plain(Arc::clone(&self.broker), router::ops(&self.broker)));
        let work = async {
            tokio::join!(
                accept(&self.api, self.tls.as_ref(), &api, &api_room, &stopping),
                async {
                    if let Some(listener) = &self.ops {
                        accept(listener, None, &ops, &ops_room, &stopping).await;
                    }
                },
                files::watch(self.tls.as_deref(), self.hangup),
                background::run(Arc::clone(&self.broker)),
            );
        };
        tokio::select! {
            () = work => {}
            () = stop => {}
        }
        drop((self.api, self.ops));
        // No receiver, no connection.
        if stopping.send(()).is_ok() && tokio::time::timeout(DRAIN, stopping.closed()).await.is_err() {
            tracing::warn!(target: "HTTP", component = "Shutdown", "connections were still busy after 10 s");
        }
        background::tell_suppressed(&self.broker);
        self.broker.store.close().await
    }
}

/// Takes connections for ever.
async fn accept(
    listener: &TcpListener,
    tls: Option<&Arc<Tls>>,
    front: &Arc<Front>,
    room: &Arc<Room>,
    stop: &watch::Sender<()>,
) {
    loop {
        // Nobody closes this semaphore.
        let Some(place) = room.place().await else { return };
        let (stream, peer) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(target: "HTTP", component = "Accept", error = %error, "connection lost");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let (front, room, stop) = (Arc::clone(front), Arc::clone(room), stop.subscribe());
        let acceptor = tls.map(|tls| tls.acceptor());
        tokio::spawn(async move {
            let _place = place;
            if let Err(error) = stream.set_nodelay(true) {
                tracing::trace!(target: "HTTP", component = "Accept", error = %error, "no TCP_NODELAY");
            }
            let Some(acceptor) = acceptor else {
                return converse(stream, peer.ip(), front, room, stop).await;
            };
            if let Some(stream) = Box::pin(handshake(acceptor, stream)).await {
                converse(stream, peer.ip(), front, room, stop).await;
            } else {
                tracing::trace!(target: "HTTP", component = "TLS", peer = %peer, "handshake failed");
            }
        });
    }
}

async fn handshake(
    acceptor: tokio_rustls::TlsAcceptor,
    stream: TcpStream,
) -> Option<tokio_rustls::server::TlsStream<TcpStream>> {
    tokio::time::timeout(HANDSHAKE_TIMEOUT, acceptor.accept(stream))
        .await
        .ok()?
        .ok()
}
