//! Accepts connections: each gets a place at once, if need be in exchange for the idlest of the source that holds most.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use rustix::net::sockopt::{set_socket_recv_buffer_size, set_socket_send_buffer_size};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;

use crate::connection::{handshake, serve_connection};
use crate::deadlines::{Deadlines, Phase};
use crate::limits::Settings;
use crate::pool::{Occupancy, Pool};
use crate::service::Service;

/// How many connections a source may hold without being the one to make room among sources with one each.
const FEW_PLACES: usize = 4;
/// After a failed accept, which mostly means that file descriptors ran out.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Where the acceptor of a new connection comes from: it may change while the program runs.
pub trait TlsSource: Send + Sync + 'static {
    /// The acceptor of the next connection.
    fn acceptor(&self) -> TlsAcceptor;
}

/// An open socket and what its connections share.
pub struct Listener {
    socket: TcpListener,
    tls: Option<Arc<dyn TlsSource>>,
    settings: Arc<Settings>,
    pool: Arc<Pool>,
}

impl std::fmt::Debug for Listener {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Listener")
            .field("socket", &self.socket)
            .field("settings", &self.settings)
            .finish_non_exhaustive()
    }
}

/// What a listener's connections hold; for metrics.
#[derive(Clone)]
pub struct Usage(Arc<Pool>);

impl Usage {
    /// What they hold now.
    pub fn now(&self) -> Occupancy {
        self.0.occupancy()
    }
}

impl std::fmt::Debug for Usage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Usage").field(&self.now()).finish()
    }
}

impl Listener {
    /// Serves this socket; plain HTTP without `tls`.
    pub fn new(socket: TcpListener, settings: Settings, tls: Option<Arc<dyn TlsSource>>) -> Self {
        // Connections inherit them.
        let bounded = set_socket_send_buffer_size(&socket, settings.socket_buffer)
            .and_then(|()| set_socket_recv_buffer_size(&socket, settings.socket_buffer));
        if let Err(error) = bounded {
            tracing::warn!(target: "HTTP", component = "Listener", error = %error, "socket buffers keep their sizes");
        }
        Self {
            socket,
            tls,
            pool: Pool::new(
                settings.budget.bytes,
                settings.budget.reserve,
                settings.budget.place.saturating_mul(FEW_PLACES),
            ),
            settings: Arc::new(settings),
        }
    }

    /// The socket's address, with the port that the system chose for port 0.
    ///
    /// # Errors
    /// When the system can't say.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    /// What its connections hold, also while it serves.
    pub fn usage(&self) -> Usage {
        Usage(Arc::clone(&self.pool))
    }

    /// Accepts connections until it is dropped. Each ends by itself; with a change of `stop`, after the request that is
    /// under way.
    pub async fn serve<S: Service>(&self, service: &Arc<S>, stop: &watch::Sender<()>) {
        loop {
            match self.socket.accept().await {
                Ok((stream, peer)) => self.start(stream, peer.ip(), service, stop.subscribe()),
                Err(error) => {
                    tracing::warn!(target: "HTTP", component = "Accept", error = %error, "connection lost");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    fn start<S: Service>(&self, stream: TcpStream, peer: IpAddr, service: &Arc<S>, stop: watch::Receiver<()>) {
        let first = if self.tls.is_some() {
            Phase::Handshake
        } else {
            Phase::Idle
        };
        let Some(deadlines) = Deadlines::admitted(&self.pool, peer, &self.settings, first) else {
            tracing::trace!(target: "HTTP", component = "Accept", peer = %peer, "no room for the connection");
            return;
        };
        let (service, settings) = (Arc::clone(service), Arc::clone(&self.settings));
        let acceptor = self.tls.as_ref().map(|tls| tls.acceptor());
        tokio::spawn(async move {
            if let Err(error) = stream.set_nodelay(true) {
                tracing::trace!(target: "HTTP", component = "Accept", error = %error, "no TCP_NODELAY");
            }
            let Some(acceptor) = acceptor else {
                return serve_connection(stream, deadlines, peer, service, settings, stop).await;
            };
            if let Some(stream) = Box::pin(handshake(acceptor, stream, &deadlines)).await {
                serve_connection(stream, deadlines, peer, service, settings, stop).await;
            } else {
                tracing::trace!(target: "HTTP", component = "TLS", peer = %peer, "handshake failed");
            }
        });
    }
}
