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
        Self::before(socket, false).await
    }

    /// The same; what the server tells by itself, its notifications, is lost.
    pub(crate) async fn start_deaf(socket: PathBuf) -> Result<Self> {
        Self::before(socket, true).await
    }

    async fn before(socket: PathBuf, deaf: bool) -> Result<Self> {
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
                        () = back(deaf, from_server, to_client, mode) => {}
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

async fn back(deaf: bool, from: impl AsyncRead + Unpin, to: impl AsyncWrite + Unpin, mode: watch::Receiver<Mode>) {
    if deaf {
        // It ends with an error, as every connection does that ends.
        let _ = pass_but_notifications(from, to).await;
    } else {
        pass(from, to, mode).await;
    }
}

/// Passes the server's messages: a letter, four bytes of length, which count themselves, and the rest (PostgreSQL, protocol 3.0).
async fn pass_but_notifications(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
) -> std::io::Result<()> {
    const NOTIFICATION: u8 = b'A';
    loop {
        let kind = from.read_u8().await?;
        let length = from.read_u32().await?;
        let mut rest = vec![0_u8; usize::try_from(length.saturating_sub(4)).unwrap_or_default()];
        from.read_exact(&mut rest).await?;
        if kind == NOTIFICATION {
            continue;
        }
        let mut message = vec![kind];
        message.extend(length.to_be_bytes());
        message.extend(rest);
        to.write_all(&message).await?;
    }
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
