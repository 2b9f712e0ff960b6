//! A socket before the server's that loses a COMMIT, or its answer, or whoever listens.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Notify;

use super::Server;
use crate::settings::Settings;

const SOCKET: &str = ".s.PGSQL.5432";
/// As it stands in a message of either side.
const COMMIT: &[u8] = b"COMMIT\0";
const LISTEN: &[u8] = b"LISTEN ";

/// What is lost of the next COMMIT.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lost {
    /// It doesn't arrive.
    Request,
    /// It does, and its answer is lost.
    Answer,
}

/// What it is told to lose.
#[derive(Default)]
struct Losing {
    next: Mutex<Option<Lost>>,
    done: Notify,
    deaf: AtomicBool,
}

impl Losing {
    /// Whether this is the one; then it is lost.
    fn takes(&self, what: Lost) -> bool {
        let mut next = self.next.lock();
        let is_it = *next == Some(what);
        if is_it {
            *next = None;
            self.done.notify_waiters();
        }
        is_it
    }
}

/// The proxy; it ends with the runtime that it was started on.
pub struct Proxy {
    folder: TempDir,
    losing: Arc<Losing>,
}

impl Proxy {
    /// Listens before this server, on the runtime that it is called on.
    pub fn start(server: &Server) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let listener = UnixListener::bind(folder.path().join(SOCKET)).unwrap();
        let losing = Arc::<Losing>::default();
        let (told, target) = (Arc::clone(&losing), server.folder.join(SOCKET));
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                // Refused while the server is away: the client hears the end.
                if let Ok(server) = UnixStream::connect(&target).await {
                    tokio::spawn(pass(client, server, Arc::clone(&told)));
                }
            }
        });
        Self { folder, losing }
    }

    /// How the owner reaches a database through it.
    pub fn settings(&self, database: &str) -> Settings {
        let url = format!("postgres://owner@/{database}?host={}", self.folder.path().display());
        Settings::parse(&url, None).unwrap()
    }

    /// Loses the next COMMIT so, with its connection.
    pub fn lose(&self, lost: Lost) {
        *self.losing.next.lock() = Some(lost);
    }

    /// Waits until that is lost.
    pub async fn has_lost(&self) {
        loop {
            let done = self.losing.done.notified();
            if self.losing.next.lock().is_none() {
                return;
            }
            done.await;
        }
    }

    /// From now on loses, or no longer does, each connection that asks to be notified.
    pub fn deafen(&self, deaf: bool) {
        self.losing.deaf.store(deaf, Ordering::SeqCst);
    }
}

fn has(what: &[u8], bytes: &[u8]) -> bool {
    bytes.windows(what.len()).any(|window| window == what)
}

/// Passes bytes both ways until a side ends, or the connection is to be lost.
async fn pass(client: UnixStream, server: UnixStream, losing: Arc<Losing>) {
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = server.into_split();
    let mut bytes = vec![0_u8; 64 * 1024];
    let mut answer = vec![0_u8; 64 * 1024];
    loop {
        tokio::select! {
            read = from_client.read(&mut bytes) => {
                let Some(read) = read.ok().and_then(|read| bytes.get(..read)).filter(|read| !read.is_empty()) else { return };
                if has(COMMIT, read) && losing.takes(Lost::Request) {
                    return;
                }
                if losing.deaf.load(Ordering::SeqCst) && has(LISTEN, read) {
                    return;
                }
                if to_server.write_all(read).await.is_err() { return }
            }
            read = from_server.read(&mut answer) => {
                let Some(read) = read.ok().and_then(|read| answer.get(..read)).filter(|read| !read.is_empty()) else { return };
                if has(COMMIT, read) && losing.takes(Lost::Answer) {
                    return;
                }
                if to_client.write_all(read).await.is_err() { return }
            }
        }
    }
}
