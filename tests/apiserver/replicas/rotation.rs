//! The CA is broken, rotated, deleted and expired under load, and nobody who trusts what is published ever has a reason
//! not to believe: neither the API server nor a pod.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use agentwrit_controller::{Authority, Lives, PemPair};
use agentwrit_protocol::Clock;
use agentwrit_protocol::system::SystemClock;
use k8s_openapi::ByteString;
use k8s_openapi::api::admissionregistration::v1::MutatingWebhookConfiguration;
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use k8s_openapi::api::events::v1::Event;
use kube::Api;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams};
use rustls::client::danger::ServerCertVerifier;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, RootCertStore};
use serde_json::json;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::program::Replica;
use super::{LEASE, Load, call, configuration, patch_webhooks, world};
use crate::objects::{create_app, create_token};
use crate::world::{World, wait};

/// Short, so that the test is.
const OVERLAP: &str = "--ca-overlap=1s";
/// The Secret of an AgentApp's client.
const CLIENT: &str = "orders-client";

pub(super) fn text(secret: &Secret, key: &str) -> String {
    let data = secret.data.as_ref().and_then(|data| data.get(key));
    data.map_or_else(String::new, |value| String::from_utf8(value.0.clone()).unwrap())
}

fn roots(bundle: &[u8]) -> RootCertStore {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(bundle) {
        roots.add(certificate.unwrap()).unwrap();
    }
    roots
}

/// A new connection to this replica's webhook, as the API server makes one that trusts this caBundle; what it shows.
pub(super) async fn connect(
    replica: std::net::SocketAddr,
    name: &str,
    bundle: &[u8],
) -> Result<CertificateDer<'static>, String> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots(bundle))
        .with_no_client_auth();
    let stream = TcpStream::connect(replica).await.map_err(|error| error.to_string())?;
    let name = ServerName::try_from(name.to_owned()).unwrap();
    let connected = TlsConnector::from(Arc::new(config)).connect(name, stream).await;
    let connected = connected.map_err(|error| error.to_string())?;
    let shown = connected.get_ref().1.peer_certificates().unwrap();
    Ok(shown[0].clone().into_owned())
}

/// Whether a pod with this ConfigMap believes a broker with this Secret.
fn believes(bundle: &str, leaf: &str, name: &str) -> Result<(), String> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let roots = Arc::new(roots(bundle.as_bytes()));
    let verifier = rustls::client::WebPkiServerVerifier::builder_with_provider(roots, provider);
    let verifier = verifier.build().map_err(|error| error.to_string())?;
    let leaf = CertificateDer::from_pem_slice(leaf.as_bytes()).map_err(|error| error.to_string())?;
    let name = ServerName::try_from(name.to_owned()).unwrap();
    verifier
        .verify_server_cert(&leaf, &[], &name, &[], UnixTime::now())
        .map(drop)
        .map_err(|error| error.to_string())
}

/// Asks without a pause whether what is published is believed; says what wasn't.
pub(super) struct Doubter {
    stop: Arc<AtomicBool>,
    task: tokio::task::JoinHandle<(usize, Vec<String>)>,
}

impl Doubter {
    pub(super) fn start(world: &World, replicas: &[&Replica]) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let addresses: Vec<_> = replicas.iter().map(|replica| replica.webhook).collect();
        let configurations: Api<MutatingWebhookConfiguration> = Api::all(world.client.clone());
        let config_maps: Api<ConfigMap> = Api::namespaced(world.client.clone(), &world.namespace);
        let (secrets, configuration) = (world.secrets(), configuration(world));
        let (webhook, broker) = (
            format!("agentwrit-controller.{}.svc", world.release),
            format!("agentwrit-broker.{}.svc", world.release),
        );
        let task = tokio::spawn(async move {
            let (mut asked, mut doubts) = (0, Vec::new());
            let mut pace = tokio::time::interval(Duration::from_millis(20));
            while !stopped.load(Ordering::SeqCst) {
                pace.tick().await;
                // What is trusted is read first: a pod or an API server may be a little behind.
                let found = configurations.get(&configuration).await.unwrap();
                for configured in found.webhooks.unwrap() {
                    let bundle = configured.client_config.ca_bundle.unwrap();
                    for address in &addresses {
                        if let Err(why) = connect(*address, &webhook, &bundle.0).await {
                            doubts.push(format!("webhook {address}: {why}"));
                        }
                    }
                }
                let trusted = config_maps.get("agentwrit-ca").await.unwrap().data.unwrap();
                let leaf = secrets.get("agentwrit-broker-tls").await.unwrap();
                if let Err(why) = believes(&trusted["ca.crt"], &text(&leaf, "tls.crt"), &broker) {
                    doubts.push(format!("broker: {why}"));
                }
                asked += 1;
            }
            (asked, doubts)
        });
        Self { stop, task }
    }

    pub(super) async fn had_no_reason(self) {
        self.stop.store(true, Ordering::SeqCst);
        let (asked, doubts) = self.task.await.unwrap();
        assert!(doubts.is_empty() && asked > 0, "asked {asked} times: {doubts:?}");
    }
}

/// Waits until another CA signs, and is trusted alone: the certificates of before are all replaced.
async fn another(world: &World, before: &str) -> String {
    wait("another CA that is trusted alone", || async {
        let secret = world.secrets().get_opt("agentwrit-ca").await.unwrap()?;
        let (signing, trusted) = (text(&secret, "tls.crt"), text(&secret, "ca.crt"));
        (signing != before && signing.trim() == trusted.trim()).then_some(signing)
    })
    .await
}

/// Waits until the Secret of a program outside the cluster has this CA alone.
async fn clients_trust(world: &World, ca: &str) {
    let secrets: Api<Secret> = Api::namespaced(world.client.clone(), &world.namespace);
    wait("the client's Secret has the CA", || async {
        let secret = secrets.get_opt(CLIENT).await.unwrap()?;
        (text(&secret, "ca.crt").trim() == ca.trim()).then_some(())
    })
    .await;
}

fn data(pair: &PemPair) -> serde_json::Value {
    let bytes = |text: &str| ByteString(text.as_bytes().to_vec());
    json!({"tls.crt": bytes(pair.certificate()), "tls.key": bytes(pair.key())})
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_rotation_of_the_ca_costs_an_admission() {
    let world = world().await;
    create_app(&world, &["read:orders:*"]).await;
    create_token(&world, &["read:orders:1"]).await;
    let api = world.secrets();
    // Broken before anybody starts: the key belongs to another certificate.
    let now = SystemClock.now();
    let made = [(); 2].map(|()| Authority::generate("a", now).unwrap());
    let mut broken = data(&made[0]);
    broken["tls.key"] = data(&made[1])["tls.key"].clone();
    let labels = json!({"app.kubernetes.io/managed-by": "agentwrit-controller"});
    let secret =
        json!({"metadata": {"name": "agentwrit-ca", "labels": labels}, "type": "kubernetes.io/tls", "data": broken});
    let secret = serde_json::from_value(secret).unwrap();
    api.create(&PostParams::default(), &secret).await.unwrap();

    let namespaces = format!("--client-credentials-namespaces={}", world.namespace);
    let settings = [OVERLAP, "--client-credentials=on", &namespaces];
    let first = Replica::start_with(&world, "first", LEASE, &settings).await;
    first.leads(true).await;
    let second = Replica::start_with(&world, "second", LEASE, &settings).await;
    let healed = another(&world, made[0].certificate()).await;
    let client = json!({"spec": {"clientCredentials": {"secretName": CLIENT}}});
    let parameters = PatchParams::default();
    let client = Patch::Merge(client);
    world.apps().patch("orders", &parameters, &client).await.unwrap();
    clients_trust(&world, &healed).await;
    let maps: Api<ConfigMap> = Api::namespaced(world.client.clone(), &world.namespace);
    wait("the ConfigMap", || async {
        maps.get_opt("agentwrit-ca").await.unwrap()
    })
    .await;
    wait("the broker's certificate", || async {
        api.get_opt("agentwrit-broker-tls").await.unwrap()
    })
    .await;
    call(&world, &second).await;
    first.is_ready().await;

    let load = Load::start(&world);
    let doubter = Doubter::start(&world, &[&first, &second]);
    let replace = async |pair: &PemPair| {
        let patch = Patch::Merge(json!({"data": data(pair)}));
        api.patch("agentwrit-ca", &parameters, &patch).await.unwrap();
    };
    ask(&world).await;
    let rotated = another(&world, &healed).await;
    api.delete("agentwrit-ca", &DeleteParams::default()).await.unwrap();
    let again = another(&world, &rotated).await;
    let day = Duration::from_hours(24);
    let lives = Lives { ca: day, leaf: day };
    replace(&Authority::generate_living("a", now - 2 * day, lives).unwrap()).await;
    let healed = another(&world, &again).await;
    // Put there by hand, without a word to anybody who trusts the one before.
    let own = Authority::generate("house", now).unwrap();
    replace(&own).await;
    let used = another(&world, &healed).await;
    assert_eq!(used.trim(), own.certificate().trim());
    let told = events(&world).await;
    for reason in ["CABroken", "CADeleted", "CAExpired", "CAReplacedByHand"] {
        assert!(told.contains(reason), "{reason}: {told:?}");
    }
    // What is trusted now is the last CA alone, and both replicas have its certificates.
    clients_trust(&world, &used).await;
    first.is_ready().await;
    second.is_ready().await;
    doubter.had_no_reason().await;

    // The leader is lost in the middle.
    let doubter = Doubter::start(&world, &[&second]);
    ask(&world).await;
    wait("a successor is announced", || async {
        let secret = api.get("agentwrit-ca").await.unwrap();
        secret.data.unwrap().contains_key("next.crt").then_some(())
    })
    .await;
    first.kill().await;
    another(&world, &used).await;
    second.leads(true).await;
    second.is_ready().await;
    doubter.had_no_reason().await;
    load.none_was_refused().await;
    second.kill().await;
}

/// Asks for another CA.
async fn ask(world: &World) {
    let asked = Patch::Merge(json!({"metadata": {"annotations": {"agentwrit.io/rotate": "now"}}}));
    let secrets = world.secrets();
    secrets
        .patch("agentwrit-ca", &PatchParams::default(), &asked)
        .await
        .unwrap();
}

/// The reasons of the Events of the release namespace.
pub(super) async fn events(world: &World) -> BTreeSet<String> {
    let api: Api<Event> = Api::namespaced(world.client.clone(), &world.release);
    let all = api.list(&ListParams::default()).await.unwrap();
    all.items.into_iter().filter_map(|event| event.reason).collect()
}

/// A namespace whose ConfigMap can't be written holds a rotation up: its pods trust nobody else.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rotation_waits_for_the_last_config_map() {
    let world = world().await;
    create_token(&world, &["read:orders:1"]).await;
    let replica = Replica::start_with(&world, "first", LEASE, &[OVERLAP]).await;
    let maps: Api<ConfigMap> = Api::namespaced(world.client.clone(), &world.namespace);
    let map = wait("the ConfigMap", || async {
        maps.get_opt("agentwrit-ca").await.unwrap()
    })
    .await;
    let before = map.data.unwrap()["ca.crt"].clone();
    let frozen = Patch::Merge(json!({"immutable": true}));
    maps.patch("agentwrit-ca", &PatchParams::default(), &frozen)
        .await
        .unwrap();
    ask(&world).await;
    wait("it is told who is behind", || async {
        events(&world).await.contains("CARotationWaits").then_some(())
    })
    .await;
    let secret = world.secrets().get("agentwrit-ca").await.unwrap();
    assert_eq!(text(&secret, "tls.crt").trim(), before.trim(), "the old one signs");
    assert!(secret.data.unwrap().contains_key("next.crt"));
    maps.delete("agentwrit-ca", &DeleteParams::default()).await.unwrap();
    another(&world, &before).await;
    replica.kill().await;
}

/// Sets caBundle, as somebody might.
async fn inject(world: &World, certificate: &str) {
    let bundle = ByteString(certificate.as_bytes().to_vec());
    patch_webhooks(world, "caBundle", &json!(bundle)).await;
}

/// The API server trusts somebody else, as when caBundle was overwritten: a replica says that it isn't ready.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn readiness_is_what_the_live_ca_bundle_says() {
    let world = world().await;
    let first = Replica::start_with(&world, "first", LEASE, &[OVERLAP]).await;
    let second = Replica::start_with(&world, "second", LEASE, &[OVERLAP]).await;
    call(&world, &first).await;
    second.is_ready().await;
    // The leader would put it right at once.
    first.kill().await;
    let other = Authority::generate("other", SystemClock.now()).unwrap();
    inject(&world, other.certificate()).await;
    let told = wait("it isn't ready", || async {
        let told = second.get("/readyz").await;
        told.starts_with("HTTP/1.0 503").then_some(told)
    })
    .await;
    assert!(told.contains("ca_bundle"), "{told}");
    // Once it leads it puts that right.
    second.is_ready().await;
    second.kill().await;
}
