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
use crate::broker::AppState;
use crate::http::{HttpStack, MAX_HEAD, MAX_HEADERS, router};

const DRAIN: Duration = Duration::from_secs(10);
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

    /// Answers until `stop`; then drains for up to 10 s and closes the store within another 10 s.
    ///
    /// # Errors
    /// When the store could not be closed.
    pub async fn serve(self, stop: impl Future<Output = ()>) -> Result<(), StoreError> {
        let (stopping, _) = watch::channel(());
        let api = Arc::new(HttpStack::new(Arc::clone(&self.broker), router::api(&self.broker)));
        let ops = Arc::new(HttpStack::plain(Arc::clone(&self.broker), router::ops(&self.broker)));
        let work = async {
            tokio::join!(
                self.api.serve(&api, &stopping),
                async {
                    if let Some(listener) = &self.ops {
                        listener.serve(&ops, &stopping).await;
                    }
                },
                tls_files::watch(self.tls.as_deref(), self.hangup),
                housekeeping::run(Arc::clone(&self.broker)),
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
        self.broker.denials.flush_suppressed();
        self.broker.store.close().await
    }
}
