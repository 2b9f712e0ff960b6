//! What stands between the brokers and the server: it passes bytes, holds them up, or lets nobody through.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use agentwrit_testkit::load::failure::{Failure, Result};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, UnixStream};
use tokio::sync::watch;

/// What it does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    /// Passes bytes.
    Open,
    /// Takes none, as a network that drops packets.
    Stalled,
    /// Ends all connections, with what was under way on them, and takes no new ones.
    Cut,
}

/// The proxy; it ends with the value.
pub(crate) struct Proxy {
    /// Where it listens.
    pub(crate) address: SocketAddr,
    mode: watch::Sender<Mode>,
}

impl Proxy {
    /// Listens before the server with this socket.
    pub(crate) async fn start(socket: PathBuf) -> Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await;
        let listener = listener.map_err(Failure::system("listen for the brokers"))?;
        let address = listener
            .local_addr()
            .map_err(Failure::system("listen for the brokers"))?;
        let (mode, watched) = watch::channel(Mode::Open);
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let mut mode = watched.clone();
                let socket = socket.clone();
                tokio::spawn(async move {
                    if wait_open(&mut mode).await.is_none() {
                        return;
                    }
                    let Ok(server) = UnixStream::connect(&socket).await else {
                        return;
                    };
                    if client.set_nodelay(true).is_err() {
                        return;
                    }
                    let (from_client, to_client) = client.into_split();
                    let (from_server, to_server) = server.into_split();
                    // The end of one way is that of the other.
                    tokio::select! {
                        () = pass(from_client, to_server, mode.clone()) => {}
                        () = pass(from_server, to_client, mode) => {}
                    }
                });
            }
        });
        Ok(Self { address, mode })
    }

    /// From now on it does this.
    pub(crate) fn set(&self, mode: Mode) {
        self.mode.send_replace(mode);
    }
}

/// Waits until bytes may pass; `None` when the connection is to end.
async fn wait_open(mode: &mut watch::Receiver<Mode>) -> Option<()> {
    let settled = mode.wait_for(|mode| *mode != Mode::Stalled).await.ok()?;
    (*settled == Mode::Open).then_some(())
}

async fn pass(mut from: impl AsyncRead + Unpin, mut to: impl AsyncWrite + Unpin, mut mode: watch::Receiver<Mode>) {
    let mut bytes = vec![0_u8; 64 * 1024];
    loop {
        if wait_open(&mut mode).await.is_none() {
            return;
        }
        let read = tokio::select! {
            read = from.read(&mut bytes) => read,
            changed = mode.changed() => match changed {
                Ok(()) => continue,
                Err(_) => return,
            },
        };
        let read = read
            .ok()
            .and_then(|read| bytes.get(..read))
            .filter(|read| !read.is_empty());
        let Some(read) = read else { return };
        // What was read while it was stalled waits with it.
        if wait_open(&mut mode).await.is_none() || to.write_all(read).await.is_err() {
            return;
        }
    }
}
