//! Listeners and connections.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::response::Response;
use http::Request;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};

use crate::background;
use crate::broker::AppState;
use crate::http::{Front, router};
use crate::tls::Tls;

const HEADER_TIMEOUT: Duration = Duration::from_secs(5);
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);
const DRAIN: Duration = Duration::from_secs(10);
const TLS_FILES_EVERY: Duration = Duration::from_secs(10);
/// After a failed accept, which mostly means that file descriptors ran out.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

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
        })
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

    /// Answers until `stop`; then drains for up to 10 s and closes the store.
    pub async fn serve(self, stop: impl Future<Output = ()>) {
        let graceful = GracefulShutdown::new();
        let api = Arc::new(Front::new(Arc::clone(&self.broker), router::api(&self.broker)));
        let ops = Arc::new(Front::plain(Arc::clone(&self.broker), router::ops(&self.broker)));
        let work = async {
            tokio::join!(
                accept(&self.api, self.tls.as_ref(), &api, &graceful),
                async {
                    if let Some(listener) = &self.ops {
                        accept(listener, None, &ops, &graceful).await;
                    }
                },
                watch_files(self.tls.as_deref()),
                background::run(Arc::clone(&self.broker)),
            );
        };
        tokio::select! {
            () = work => {}
            () = stop => {}
        }
        drop((self.api, self.ops));
        if tokio::time::timeout(DRAIN, graceful.shutdown()).await.is_err() {
            tracing::warn!(target: "HTTP", component = "Shutdown", "connections were still busy after 10 s");
        }
        background::tell_suppressed(&self.broker);
        self.broker.store.close().await;
    }
}

/// Takes connections for ever.
async fn accept(listener: &TcpListener, tls: Option<&Arc<Tls>>, front: &Arc<Front>, graceful: &GracefulShutdown) {
    loop {
        let (stream, peer) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(target: "HTTP", component = "Accept", error = %error, "connection lost");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let (front, watcher) = (Arc::clone(front), graceful.watcher());
        let acceptor = tls.map(|tls| tls.acceptor());
        tokio::spawn(async move {
            if let Err(error) = stream.set_nodelay(true) {
                tracing::trace!(target: "HTTP", component = "Accept", error = %error, "no TCP_NODELAY");
            }
            let Some(acceptor) = acceptor else {
                return converse(stream, peer.ip(), front, watcher).await;
            };
            if let Some(stream) = handshake(acceptor, stream).await {
                converse(stream, peer.ip(), front, watcher).await;
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

/// Answers the requests of one connection.
async fn converse<S>(stream: S, peer: IpAddr, front: Arc<Front>, watcher: hyper_util::server::graceful::Watcher)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let service = service_fn(move |request: Request<Incoming>| {
        let front = Arc::clone(&front);
        async move { Ok::<Response, std::convert::Infallible>(front.serve(request.map(Body::new), peer).await) }
    });
    let mut builder = hyper::server::conn::http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(HEADER_TIMEOUT);
    let connection = watcher.watch(builder.serve_connection(TokioIo::new(stream), service));
    if let Err(error) = connection.await {
        tracing::trace!(target: "HTTP", component = "Connection", error = %error, "connection ended");
    }
}

/// Reads the TLS files again, now and then, for ever.
async fn watch_files(tls: Option<&Tls>) {
    let Some(tls) = tls else {
        return std::future::pending().await;
    };
    let mut timer = tokio::time::interval(TLS_FILES_EVERY);
    loop {
        timer.tick().await;
        match tls.refresh() {
            Ok(true) => tracing::info!(target: "HTTP", component = "TLS", "certificate files have changed"),
            Ok(false) => {}
            Err(error) => {
                tracing::warn!(target: "HTTP", component = "TLS", error = %error, "keeping the last good certificate");
            }
        }
    }
}
