//! The broker's two listeners.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use agentwrit_server::tls::Tls;
use agentwrit_server::{Budget, Listener, ListenerMetrics, SOCKET_BUFFER, Settings, Times, TlsSource, bind};
use agentwrit_store::StoreError;
use tokio::net::TcpListener;
use tokio::signal::unix::Signal;
use tokio::sync::watch;

use super::{housekeeping, tls_files};
use crate::broker::{AppState, Broker};
use crate::http::{HttpStack, MAX_HEAD, MAX_HEADERS, router};

const DRAIN: Duration = Duration::from_secs(10);
/// What probes and scrapes that are under way get once everything else is done.
const LAST_PROBES: Duration = Duration::from_secs(1);
/// Connections of the ops listener, apart from those of the API, so that probes get through.
const OPS_CONNECTIONS: usize = 256;
/// Largest header block on the ops listener, bytes, and most lines of it.
const MAX_OPS_HEAD: usize = 16 * 1024;
const MAX_OPS_HEADER_LINES: usize = 100;

/// A listener can't be opened.
#[derive(Debug, thiserror::Error)]
#[error("listen on {address}: {source}")]
pub struct ListenError {
    address: SocketAddr,
    #[source]
    source: std::io::Error,
}

/// How a broker came to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// What was under way was answered, or had its time; the store is closed.
    InOrder,
    /// Somebody could not wait: connections were cut, and the store was left as after a crash.
    AtOnce,
}

/// Open sockets that are not served yet.
pub struct Server {
    broker: AppState,
    tls: Option<Arc<Tls>>,
    api: Listener,
    ops: Option<Listener>,
    hangup: Option<Signal>,
}

fn api_settings() -> Settings {
    Settings {
        times: Times::API,
        budget: Budget::of_process(),
        max_head: MAX_HEAD,
        max_header_lines: MAX_HEADERS,
        keep_alive: true,
        socket_buffer: SOCKET_BUFFER,
    }
}

fn ops_settings() -> Settings {
    Settings {
        times: Times::OPS,
        budget: Budget::small(OPS_CONNECTIONS),
        max_head: MAX_OPS_HEAD,
        max_header_lines: MAX_OPS_HEADER_LINES,
        keep_alive: true,
        socket_buffer: SOCKET_BUFFER,
    }
}

fn listen(address: SocketAddr) -> Result<TcpListener, ListenError> {
    bind(address).map_err(|source| ListenError { address, source })
}

impl Server {
    /// Opens the sockets.
    ///
    /// # Errors
    /// When an address is taken or not ours.
    pub fn bind(broker: AppState, tls: Option<Tls>) -> Result<Self, ListenError> {
        let tls = tls.map(Arc::new);
        let source = tls.clone().map(|tls| -> Arc<dyn TlsSource> { tls });
        let api = Listener::new(listen(broker.config.listen)?, api_settings(), source);
        let ops = match broker.config.ops {
            Some(address) => Some(Listener::new(listen(address)?, ops_settings(), None)),
            None => None,
        };
        let mut listeners = vec![("api", api.usage())];
        listeners.extend(ops.as_ref().map(|ops| ("ops", ops.usage())));
        let counted = ListenerMetrics::new("", listeners);
        if let Err(error) = counted.and_then(|counted| broker.metrics.register(Box::new(counted))) {
            tracing::warn!(target: "HTTP", component = "Metrics", error = %error, "connections are not counted");
        }
        Ok(Self {
            broker,
            tls,
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
        self.api.address()
    }

    /// Address of the ops listener.
    ///
    /// # Errors
    /// When the system can't say.
    pub fn ops_address(&self) -> std::io::Result<Option<SocketAddr>> {
        self.ops.as_ref().map(Listener::address).transpose()
    }

    /// Answers until `stop`; then drains for up to 10 s and closes the store within another 10 s, while the ops listener
    /// says that the broker is stopping. When what `stop` gives is there too, it ends at once.
    ///
    /// # Errors
    /// When the store could not be closed.
    pub async fn serve<H: Future<Output = ()>>(self, stop: impl Future<Output = H>) -> Result<Ended, StoreError> {
        let Self {
            broker,
            tls,
            api,
            ops,
            hangup,
        } = self;
        let (api_stops, ops_stops) = (watch::Sender::new(()), watch::Sender::new(()));
        let answer = Arc::new(HttpStack::new(Arc::clone(&broker), router::api(&broker)));
        let probe = Arc::new(HttpStack::plain(Arc::clone(&broker), router::ops(&broker)));
        let probes = async {
            match &ops {
                Some(listener) => listener.serve(&probe, &ops_stops).await,
                None => std::future::pending().await,
            }
        };
        let serving = async {
            let work = async {
                tokio::join!(
                    api.serve(&answer, &api_stops),
                    tls_files::watch(tls.as_deref(), hangup),
                    housekeeping::run(Arc::clone(&broker)),
                );
            };
            let hurry = tokio::select! {
                () = work => None,
                hurry = stop => Some(hurry),
            };
            broker.stop_serving();
            drop(api);
            let hurried = async {
                match hurry {
                    Some(hurry) => hurry.await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                closed = drain(&broker, &api_stops) => closed.map(|()| Ended::InOrder),
                () = hurried => Ok(Ended::AtOnce),
            }
        };
        // Probes are answered to the end: whoever asks for readiness must hear that it is over.
        let ended = tokio::select! {
            () = probes => Ok(Ended::InOrder),
            ended = serving => ended,
        };
        drop(ops);
        if matches!(ended, Ok(Ended::InOrder)) {
            all_closed(&ops_stops, LAST_PROBES).await;
        }
        ended
    }
}

/// Lets requests finish, then commits what waits and closes the store.
async fn drain(broker: &Broker, stops: &watch::Sender<()>) -> Result<(), StoreError> {
    if !all_closed(stops, DRAIN).await {
        tracing::warn!(target: "HTTP", component = "Shutdown", "connections were still busy after 10 s");
    }
    broker.denials.flush_suppressed();
    broker.store.close().await
}

/// Tells connections to end after the request that is under way; whether they did in time.
async fn all_closed(stop: &watch::Sender<()>, within: Duration) -> bool {
    // No receiver, no connection.
    stop.send(()).is_err() || tokio::time::timeout(within, stop.closed()).await.is_ok()
}
