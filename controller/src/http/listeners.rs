//! What the controller's two listeners allow.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use agentwrit_server::{Budget, Listener, SOCKET_BUFFER, Settings, Times, TlsSource, bind};
use tokio::sync::watch;

use super::Routes;

/// Largest body on the ops listener, bytes: its endpoints need none.
pub(crate) const MAX_OPS_BODY: usize = 4 * 1024;

/// An address can't be had.
#[derive(Debug, thiserror::Error)]
#[error("can't listen on {address} ({what})")]
pub struct ListenError {
    pub(crate) address: SocketAddr,
    pub(crate) what: &'static str,
    #[source]
    pub(crate) source: std::io::Error,
}

/// A listener, and the address that it has.
pub(crate) fn listen(
    what: &'static str,
    address: SocketAddr,
    settings: Settings,
    tls: Option<Arc<dyn TlsSource>>,
) -> Result<(Listener, SocketAddr), ListenError> {
    let failed = |source| ListenError { address, what, source };
    let listener = Listener::new(bind(address).map_err(failed)?, settings, tls);
    let found = listener.address().map_err(failed)?;
    Ok((listener, found))
}

/// The webhook's. The API server gives up after 5 s, so nothing takes longer; its requests have small heads.
pub(crate) fn webhook() -> Settings {
    let limit = Duration::from_secs(5);
    Settings {
        times: Times {
            handshake: limit,
            header: limit,
            read: limit,
            write: limit,
            ..Times::API
        },
        budget: Budget::of_process(),
        max_head: 64 * 1024,
        max_header_lines: 100,
        keep_alive: true,
        socket_buffer: SOCKET_BUFFER,
    }
}

pub(crate) fn ops() -> Settings {
    Settings {
        times: Times::OPS,
        budget: Budget::small(128),
        max_head: 16 * 1024,
        max_header_lines: 100,
        keep_alive: true,
        socket_buffer: SOCKET_BUFFER,
    }
}

/// Serves for ever: the process ends with its tasks.
pub(crate) async fn serve(listener: Listener, routes: Routes) {
    let (stop, _) = watch::channel(());
    listener.serve(&Arc::new(routes), &stop).await;
}
