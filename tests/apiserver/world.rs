//! What all tests share: the API server with our CRDs, one controller, one broker, one webhook configuration.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, OnceLock, mpsc};
use std::time::Duration;

use agentwrit_controller::{Config, System, run};
use agentwrit_crds::{AgentApp, LaunchToken};
use agentwrit_protocol::Clock;
use agentwrit_protocol::system::{SystemClock, SystemEntropy};
use clap::Parser;
use k8s_openapi::api::admissionregistration::v1::MutatingWebhookConfiguration;
use k8s_openapi::api::core::v1::{Namespace, Secret, ServiceAccount};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use kube::{Api, Client, ResourceExt};
use serde_json::{Value, json};

use crate::broker::Broker;
use crate::chart;
use crate::plugin;

/// The longest that anything may take to become so.
pub const SOON: Duration = Duration::from_secs(30);

static SHARED: OnceLock<Shared> = OnceLock::new();
/// Whether this process has the controller that all tests but those of `replicas` share.
pub fn is_shared() -> bool {
    SHARED.get().is_some()
}

static NAMESPACES: AtomicU32 = AtomicU32::new(0);

struct Shared {
    broker: Broker,
    broker_address: std::net::SocketAddr,
    run: String,
    release: String,
    ops: std::net::SocketAddr,
}

/// One test's view: a client on its own runtime, and a namespace.
pub struct World {
    pub client: Client,
    pub namespace: String,
    pub broker: Broker,
    pub broker_address: std::net::SocketAddr,
    /// Value of the label that this run's namespaces have.
    pub run: String,
    /// The controller's own namespace.
    pub release: String,
    /// The controller's ops listener.
    pub ops: std::net::SocketAddr,
}

impl World {
    /// A new namespace with the `ServiceAccount` that pods need.
    pub async fn new(purpose: &str) -> Self {
        Self::with_labels(purpose, json!({})).await
    }

    /// The same, with labels on the namespace.
    pub async fn with_labels(purpose: &str, labels: Value) -> Self {
        Self::with(purpose, labels, json!({})).await
    }

    /// The same, with labels and annotations on the namespace.
    pub async fn with(purpose: &str, labels: Value, annotations: Value) -> Self {
        let shared = tokio::task::spawn_blocking(|| SHARED.get_or_init(start)).await.unwrap();
        let number = NAMESPACES.fetch_add(1, Ordering::SeqCst);
        let name = format!("{purpose}-{}-{number}", shared.run);
        Self::in_namespace(shared, name, labels, annotations).await
    }

    /// One of the namespaces in which AgentApps may have client credentials.
    pub async fn with_clients(number: usize) -> Self {
        let shared = tokio::task::spawn_blocking(|| SHARED.get_or_init(start)).await.unwrap();
        let name = with_clients(&shared.run)[number].clone();
        Self::in_namespace(shared, name, json!({}), json!({})).await
    }

    async fn in_namespace(shared: &Shared, name: String, mut labels: Value, annotations: Value) -> Self {
        let client = client().await;
        labels[chart::RUN] = json!(shared.run);
        let namespace = json!({"metadata": {"name": name, "labels": labels, "annotations": annotations}});
        let namespaces: Api<Namespace> = Api::all(client.clone());
        let namespace = serde_json::from_value(namespace).unwrap();
        namespaces.create(&PostParams::default(), &namespace).await.unwrap();
        let accounts: Api<ServiceAccount> = Api::namespaced(client.clone(), &name);
        wait("the ServiceAccount default", || async {
            accounts.get_opt("default").await.unwrap()
        })
        .await;
        Self {
            client,
            namespace: name,
            broker: shared.broker.clone(),
            broker_address: shared.broker_address,
            run: shared.run.clone(),
            release: shared.release.clone(),
            ops: shared.ops,
        }
    }

    pub fn apps(&self) -> Api<AgentApp> {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    pub fn launch_tokens(&self) -> Api<LaunchToken> {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    pub fn secrets(&self) -> Api<Secret> {
        Api::namespaced(self.client.clone(), &self.release)
    }

    /// Lets the namespace go; nobody waits for it.
    pub async fn done(self) {
        self.broker.fail(&self.namespace, None);
        let namespaces: Api<Namespace> = Api::all(self.client.clone());
        namespaces
            .delete(&self.namespace, &DeleteParams::default())
            .await
            .unwrap();
    }
}

/// The namespaces in which AgentApps may have client credentials.
fn with_clients(run: &str) -> [String; 18] {
    std::array::from_fn(|number| format!("clients-{run}-{number}"))
}

/// A client of the API server that KUBECONFIG names.
pub async fn client() -> Client {
    assert!(
        std::env::var_os("KUBECONFIG").is_some(),
        "KUBECONFIG is not set: run these tests by `scripts/test.sh apiserver`, or start an API server by `scripts/cluster.sh up --api-only` and export KUBECONFIG"
    );
    Client::try_default()
        .await
        .expect("a client for the API server that KUBECONFIG names")
}

/// Asks until the answer is there.
pub async fn wait<T, F: Future<Output = Option<T>>>(what: &str, ask: impl FnMut() -> F) -> T {
    wait_for(what, SOON, ask).await
}

/// Asks until the answer is there, at most for `limit`.
pub async fn wait_for<T, F: Future<Output = Option<T>>>(what: &str, limit: Duration, mut ask: impl FnMut() -> F) -> T {
    let asking = async {
        let mut pause = tokio::time::interval(Duration::from_millis(50));
        loop {
            pause.tick().await;
            if let Some(answer) = ask().await {
                return answer;
            }
        }
    };
    let answer = tokio::time::timeout(limit, asking).await;
    answer.unwrap_or_else(|_| panic!("{what}: not so within {limit:?}"))
}

/// Starts broker and controller on a thread that lives as long as the process.
fn start() -> Shared {
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(serve(sender));
    });
    receiver
        .recv()
        .expect("the controller starts; what went wrong stands above")
}

async fn serve(started: mpsc::Sender<Shared>) {
    // Shown with a failed test.
    let _ = tracing_subscriber::fmt()
        .with_env_filter("warn,agentwrit_controller=info")
        .try_init();
    let client = client().await;
    let run_name = format!("{:x}", SystemClock.unix_millis().get() & 0xff_ffff);
    let release = format!("awt-system-{run_name}");
    install_crds(&client).await;
    let namespace = serde_json::from_value(json!({"metadata": {"name": release}})).unwrap();
    Api::<Namespace>::all(client.clone())
        .create(&PostParams::default(), &namespace)
        .await
        .unwrap();

    let (broker, broker_address) = Broker::start().await;
    let token = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(token.path(), "the-controllers-own-token").unwrap();
    let config = Config::parse_from([
        "agentwrit-controller",
        &format!("--namespace={release}"),
        "--pod-name=controller-0",
        &format!("--broker-url=http://{broker_address}"),
        &format!("--attest-audience=agentwrit://{release}/agentwrit"),
        "--sidecar-image=localhost/agentwrit-sidecar:dev",
        "--sidecar-pull-policy=Never",
        "--sidecar-uid=64512",
        &format!("--identity-token-file={}", token.path().display()),
        "--webhook-address=127.0.0.1:0",
        "--webhook-names=127.0.0.1",
        "--ops-address=127.0.0.1:0",
        "--client-credentials=on",
        &format!("--client-credentials-namespaces={}", with_clients(&run_name).join(",")),
    ]);
    let system = System {
        client: client.clone(),
        clock: Arc::new(SystemClock),
        entropy: Arc::new(SystemEntropy),
    };
    let (listening, addresses) = tokio::sync::oneshot::channel();
    let controller = tokio::spawn(async move {
        run(config, system, listening, std::future::pending()).await.unwrap();
    });
    let addresses = addresses.await.expect("the controller listens");
    plugin::start(&client, &run_name).await;
    chart::install_policies(&client, &release, &run_name).await;
    let url = format!("https://{}/mutate", addresses.webhook);
    chart::register_webhooks(&client, &release, &run_name, ("agentwrit-injector", &url)).await;
    let configurations: Api<MutatingWebhookConfiguration> = Api::all(client);
    wait("caBundle", || async {
        let found = configurations.get("agentwrit-injector").await.unwrap();
        let webhooks = found.webhooks.unwrap_or_default();
        webhooks
            .iter()
            .all(|webhook| webhook.client_config.ca_bundle.is_some())
            .then_some(())
    })
    .await;
    let shared = Shared {
        broker,
        broker_address,
        run: run_name,
        release,
        ops: addresses.ops,
    };
    started
        .send(shared)
        .unwrap_or_else(|_| panic!("nobody waits for the controller"));
    controller.await.unwrap();
}

pub async fn install_crds(client: &Client) {
    let crds: Api<CustomResourceDefinition> = Api::all(client.clone());
    for crd in agentwrit_crds::yaml::crds() {
        let name = crd.name_any();
        let parameters = PatchParams::apply("agentwrit-tests").force();
        crds.patch(&name, &parameters, &Patch::Apply(&crd)).await.unwrap();
        wait(&format!("CRD {name} established"), || async {
            let conditions = crds.get_status(&name).await.unwrap().status?.conditions?;
            conditions
                .iter()
                .any(|c| c.type_ == "Established" && c.status == "True")
                .then_some(())
        })
        .await;
    }
}
