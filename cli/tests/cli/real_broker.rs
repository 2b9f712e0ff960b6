//! The broker itself, on a port of its own, in a thread of the test.

use std::collections::HashMap;
use std::sync::Arc;
use std::thread::JoinHandle;

use agentwrit_broker::config::Config;
use agentwrit_broker::server::Server;
use agentwrit_broker::startup::{Surroundings, assemble};
use agentwrit_broker::system::{SystemClock, SystemEntropy};
use agentwrit_server::tls::Tls;
use tempfile::TempDir;
use tokio::sync::oneshot;

use super::support::{Ended, awrit};

pub(crate) const SECRET: &str = "correct-horse-battery";

pub(crate) struct RealBroker {
    pub(crate) url: String,
    pub(crate) folder: TempDir,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl RealBroker {
    pub(crate) fn new() -> Self {
        Self::with(tempfile::tempdir().unwrap(), &[("AA_ADMIN_SECRET", SECRET)])
    }

    /// A broker whose key and store are in `folder`, with these settings.
    pub(crate) fn with(folder: TempDir, changes: &[(&str, &str)]) -> Self {
        let path = |name: &str| folder.path().join(name).display().to_string();
        let mut settings: HashMap<String, String> = [
            ("AA_PORT", "0".to_owned()),
            ("AA_SIGNING_KEY_PATH", path("signing.key")),
            ("AA_DB_PATH", path("data.db")),
        ]
        .map(|(name, value)| (name.to_owned(), value))
        .into();
        settings.extend(
            changes
                .iter()
                .map(|(name, value)| ((*name).to_owned(), (*value).to_owned())),
        );
        let scheme = if settings.contains_key("AA_TLS_MODE") {
            "https"
        } else {
            "http"
        };
        let (stop, stopped) = oneshot::channel();
        let (tell, told) = std::sync::mpsc::channel();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            runtime.block_on(async {
                let config = Config::load(&|name| settings.get(name).cloned()).unwrap();
                let tls = config.tls.clone().map(|files| Tls::load(files).unwrap());
                let surroundings = Surroundings {
                    clock: Arc::new(SystemClock::new()),
                    entropy: Arc::new(SystemEntropy),
                    attestor: None,
                };
                let broker = assemble(config, surroundings).await.unwrap();
                let server = Server::bind(broker, tls).unwrap();
                tell.send(server.address().unwrap().port()).unwrap();
                server
                    .serve(async move {
                        stopped.await.ok();
                    })
                    .await
                    .unwrap();
            });
        });
        let port = told.recv().unwrap();
        Self {
            url: format!("{scheme}://localhost:{port}"),
            folder,
            stop: Some(stop),
            thread: Some(thread),
        }
    }

    /// Runs `awrit` as its admin; neither secret nor token may show.
    pub(crate) fn awrit(&self, arguments: &[&str]) -> Ended {
        let ended = awrit(&self.environment(), arguments);
        for text in [&ended.out, &ended.err] {
            assert!(!text.contains(SECRET) && !text.contains("eyJ"), "{ended:?}");
        }
        ended
    }

    pub(crate) fn environment(&self) -> [(&str, &str); 2] {
        [("AACTL_BROKER_URL", self.url.as_str()), ("AACTL_ADMIN_SECRET", SECRET)]
    }

    /// Asks it something in the test's own runtime.
    pub(crate) fn ask<T>(&self, work: impl AsyncFnOnce(agentwrit_client::BrokerClient) -> T) -> T {
        let client = agentwrit_client::BrokerClient::new(agentwrit_client::ClientConfig::new(&self.url)).unwrap();
        tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap()
            .block_on(work(client))
    }

    /// A token of the admin's.
    pub(crate) fn admin_token(&self) -> agentwrit_protocol::Sensitive {
        self.ask(async |client| client.admin_auth(&SECRET.into()).await.unwrap().access_token)
    }
}

impl Drop for RealBroker {
    fn drop(&mut self) {
        if let Some(stop) = self.stop.take() {
            stop.send(()).ok();
        }
        if let Some(thread) = self.thread.take() {
            // A test that failed already needs no second panic.
            thread.join().ok();
        }
    }
}
