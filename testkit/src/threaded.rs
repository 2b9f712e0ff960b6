//! A broker in a thread of its own, for tests without a runtime.

use std::sync::Arc;
use std::thread::JoinHandle;

use tempfile::TempDir;
use tokio::sync::oneshot;

use crate::setup::Setup;

/// A broker on a port of its own; stopped when dropped.
pub struct ThreadedBroker {
    pub url: String,
    pub folder: Arc<TempDir>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl ThreadedBroker {
    pub fn start(setup: Setup) -> Self {
        let scheme = if setup.has("AA_TLS_MODE") { "https" } else { "http" };
        let folder = Arc::clone(&setup.folder);
        let (stop, stopped) = oneshot::channel();
        let (send, receive) = std::sync::mpsc::channel();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            runtime.block_on(async {
                let broker = setup.listen().await.unwrap();
                send.send(broker.address().port()).unwrap();
                // Also stopped when nobody is there any more to say so.
                stopped.await.ok();
                broker.stop().await;
            });
        });
        let port = receive.recv().expect("the broker starts");
        Self {
            url: format!("{scheme}://localhost:{port}"),
            folder,
            stop: Some(stop),
            thread: Some(thread),
        }
    }
}

impl Drop for ThreadedBroker {
    fn drop(&mut self) {
        if let Some(stop) = self.stop.take() {
            stop.send(()).ok();
        }
        let ended = self.thread.take().map(JoinHandle::join);
        // A test that fails already has its reason.
        if !std::thread::panicking() {
            assert!(ended.is_none_or(|ended| ended.is_ok()), "the broker's thread panicked");
        }
    }
}
