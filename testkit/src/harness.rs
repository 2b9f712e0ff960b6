//! A broker on a port of its own, and the people, apps and agents that call it.

use std::ops::Deref;
use std::sync::Arc;

use agentwrit_broker::process::assemble::StartError;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::answer::Answer;
use crate::broker::Broker;
use crate::fake_cluster::FakeCluster;
use crate::keys::registration;
use crate::setup::Setup;

/// A registered app and its credentials.
#[derive(Debug, Clone)]
pub struct App {
    pub id: String,
    pub client_id: String,
    pub secret: String,
}

/// A broker on a port of its own.
pub struct Harness(Broker);

impl Deref for Harness {
    type Target = Broker;

    fn deref(&self) -> &Broker {
        &self.0
    }
}

fn text(answer: &Value, name: &str) -> String {
    answer[name].as_str().unwrap().to_owned()
}

impl Harness {
    pub async fn new() -> Self {
        Self::with(&[]).await
    }

    /// With these settings; see [`Setup::set`].
    pub async fn with(settings: &[(&str, &str)]) -> Self {
        Self::start(Setup::new(settings)).await
    }

    /// With these settings, and this Kubernetes to ask.
    pub async fn in_cluster(cluster: Arc<FakeCluster>, settings: &[(&str, &str)]) -> Self {
        Self::start(Setup::new(settings).with_cluster(cluster)).await
    }

    /// With these settings in a folder that exists.
    pub async fn in_folder(folder: Arc<TempDir>, settings: &[(&str, &str)]) -> Result<Self, StartError> {
        Ok(Self(Setup::in_folder(folder, settings).listen().await?))
    }

    /// As it is set up, for the first time or once more.
    pub async fn start(setup: Setup) -> Self {
        Self(setup.listen().await.unwrap())
    }

    /// Stops it in good order and gives back what a successor is started with.
    pub async fn stop(self) -> Setup {
        self.0.stop().await
    }

    /// Stops it and starts a successor with changed settings, at the same time of day.
    pub async fn restart(self, settings: &[(&str, &str)]) -> Self {
        let mut setup = self.stop().await;
        setup.set(settings);
        Self::start(setup).await
    }

    /// Stops it and starts a successor with `--accept-clock`.
    pub async fn restart_accepting_the_clock(self) -> Self {
        let mut setup = self.stop().await;
        setup.accept_clock = true;
        Self::start(setup).await
    }

    /// Writes bytes, closes that direction, and reads all that comes back.
    pub async fn raw(&self, request: &[u8]) -> String {
        let mut stream = TcpStream::connect(self.address()).await.unwrap();
        // The broker may answer and close before it has read everything.
        stream.write_all(request).await.ok();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await.ok();
        String::from_utf8_lossy(&answer).into_owned()
    }

    /// A registered app with the ceiling `read:data:*`.
    pub async fn app(&self, name: &str, changes: Value) -> App {
        let mut body = json!({"name": name, "scopes": ["read:data:*"]});
        crate::merge(&mut body, &changes);
        let admin = self.admin().await;
        let answer = self.post_as(&admin, "/v1/admin/apps", body.to_string()).await.ok();
        App {
            id: text(&answer, "app_id"),
            client_id: text(&answer, "client_id"),
            secret: text(&answer, "client_secret"),
        }
    }

    pub async fn app_auth(&self, app: &App) -> Answer {
        let body = json!({"client_id": app.client_id, "client_secret": app.secret});
        self.post("/v1/app/auth", body.to_string()).await
    }

    /// An app's token.
    pub async fn app_token(&self, app: &App) -> String {
        text(&self.app_auth(app).await.ok(), "access_token")
    }

    /// A launch token of an admin's.
    pub async fn launch(&self, changes: Value) -> String {
        let mut body = json!({"agent_name": "reader", "allowed_scope": ["read:data:*"], "ttl": 3600});
        crate::merge(&mut body, &changes);
        let admin = self.admin().await;
        let answer = self.post_as(&admin, "/v1/admin/launch-tokens", body.to_string());
        text(&answer.await.ok(), "launch_token")
    }

    /// A complete body for `/v1/register`, with changes.
    pub async fn registration(&self, launch_token: &str, changes: Value) -> Value {
        registration(launch_token, &self.nonce().await, changes)
    }

    pub async fn register(&self, launch_token: &str, changes: Value) -> Answer {
        let body = self.registration(launch_token, changes).await;
        self.post("/v1/register", body.to_string()).await
    }

    /// A registered agent: id and token.
    pub async fn agent(&self, changes: Value) -> (String, String) {
        let launch_token = self.launch(json!({})).await;
        let answer = self.register(&launch_token, changes).await.ok();
        (text(&answer, "agent_id"), text(&answer, "access_token"))
    }
}
