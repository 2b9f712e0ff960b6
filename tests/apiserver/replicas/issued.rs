//! cert-manager signs, played by the test: it writes the broker's Secret, and as the kubelet the files of each replica.
//! Certificates and the issuer's CA change under load, and nobody has a reason not to believe.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use agentwrit_controller::{Authority, PemPair};
use agentwrit_protocol::Clock;
use agentwrit_protocol::system::SystemClock;
use k8s_openapi::ByteString;
use k8s_openapi::api::admissionregistration::v1::MutatingWebhookConfiguration;
use k8s_openapi::api::core::v1::{ConfigMap, Pod, Secret, ServiceAccount};
use kube::Api;
use kube::api::{Patch, PatchParams, PostParams};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use serde_json::json;
use tempfile::TempDir;

use super::program::{Replica, get};
use super::rotation::{Doubter, connect, events, text};
use super::{LEASE, Load, call, configuration, world};
use crate::objects::create_token;
use crate::world::{World, wait};

/// Short, so that the test is.
const OVERLAP: &str = "--ca-overlap=1s";
const BROKER: &str = "agentwrit-broker-issued";

fn issuer() -> Authority {
    Authority::from_pem(&Authority::generate("house", SystemClock.now()).unwrap()).unwrap()
}

/// The files of one replica, as the kubelet keeps those of a Secret: all change at once.
struct Files {
    folder: TempDir,
    name: String,
}

impl Files {
    fn new(world: &World) -> Self {
        Self {
            folder: tempfile::tempdir().unwrap(),
            name: format!("agentwrit-controller.{}.svc", world.release),
        }
    }

    fn settings(&self) -> Vec<String> {
        let folder = format!("--issued-webhook-folder={}", self.folder.path().display());
        vec!["--certificates=cert-manager".to_owned(), folder, OVERLAP.to_owned()]
    }

    fn pair(&self, ca: &Authority) -> PemPair {
        let names = [&*self.name, "127.0.0.1", "127.0.0.2", "127.0.0.3"].map(str::to_owned);
        ca.issue(&names, SystemClock.now()).unwrap()
    }

    /// Another certificate of this CA; what is shown then.
    fn issue(&self, ca: &Authority) -> CertificateDer<'static> {
        let pair = self.pair(ca);
        self.put(&pair, ca.certificate());
        CertificateDer::from_pem_slice(pair.certificate().as_bytes()).unwrap()
    }

    fn put(&self, pair: &PemPair, ca: &str) {
        let path = |name: &str| -> PathBuf { self.folder.path().join(name) };
        let version = format!("..{}", SystemClock.unix_millis().get());
        std::fs::create_dir(path(&version)).unwrap();
        for (name, text) in [("tls.crt", pair.certificate()), ("tls.key", pair.key()), ("ca.crt", ca)] {
            std::fs::write(path(&version).join(name), text).unwrap();
            if !path(name).is_symlink() {
                std::os::unix::fs::symlink(format!("..data/{name}"), path(name)).unwrap();
            }
        }
        std::os::unix::fs::symlink(&version, path("..next")).unwrap();
        std::fs::rename(path("..next"), path("..data")).unwrap();
    }
}

/// The broker's certificate.
async fn issue_broker(world: &World, ca: &Authority) {
    let name = format!("agentwrit-broker.{}.svc", world.release);
    let pair = ca.issue(&[name], SystemClock.now()).unwrap();
    put_broker(world, &pair, ca.certificate()).await;
}

async fn put_broker(world: &World, pair: &PemPair, ca: &str) {
    let bytes = |text: &str| ByteString(text.as_bytes().to_vec());
    let data = json!({"tls.crt": bytes(pair.certificate()), "tls.key": bytes(pair.key()), "ca.crt": bytes(ca)});
    let api = world.secrets();
    if api.get_opt(BROKER).await.unwrap().is_some() {
        let patch = Patch::Merge(json!({"data": data}));
        api.patch(BROKER, &PatchParams::default(), &patch).await.unwrap();
    } else {
        let secret = json!({"metadata": {"name": BROKER}, "type": "kubernetes.io/tls", "data": data});
        let secret: Secret = serde_json::from_value(secret).unwrap();
        api.create(&PostParams::default(), &secret).await.unwrap();
    }
}

/// What the API server trusts, in each webhook.
async fn ca_bundle(world: &World) -> String {
    let api: Api<MutatingWebhookConfiguration> = Api::all(world.client.clone());
    let found = api.get(&configuration(world)).await.unwrap();
    let bundle = found.webhooks.unwrap().remove(0).client_config.ca_bundle;
    bundle.map_or_else(String::new, |bundle| String::from_utf8(bundle.0).unwrap())
}

/// Waits until this CA alone is trusted, everywhere.
async fn is_alone(world: &World, ca: &str) {
    wait("one CA is trusted alone", || async {
        (ca_bundle(world).await.trim() == ca.trim()).then_some(())
    })
    .await;
    let maps: Api<ConfigMap> = Api::namespaced(world.client.clone(), &world.namespace);
    wait("pods trust it alone", || async {
        let trusted = maps.get_opt("agentwrit-ca").await.unwrap()?.data.unwrap();
        (trusted["ca.crt"].trim() == ca.trim()).then_some(())
    })
    .await;
}

/// Waits until this replica shows that.
async fn shows(world: &World, replica: &Replica, files: &Files, wanted: &CertificateDer<'static>) {
    wait(&format!("{} shows another certificate", replica.name), || async {
        let bundle = ca_bundle(world).await;
        let shown = connect(replica.webhook, &files.name, bundle.as_bytes()).await.ok()?;
        (shown == *wanted).then_some(())
    })
    .await;
}

async fn start(world: &World, name: &'static str, files: &Files, more: &[&str]) -> Replica {
    let settings = files.settings();
    let mut flags: Vec<&str> = settings.iter().map(String::as_str).collect();
    flags.extend(more);
    Replica::start_with(world, name, LEASE, &flags).await
}

/// A port that nobody has.
async fn free_port(address: &str) -> SocketAddr {
    let listener = tokio::net::TcpListener::bind((address, 0)).await.unwrap();
    listener.local_addr().unwrap()
}

/// The pod of a replica at this address, as the leader finds it.
async fn pod(world: &World, name: &str, address: &str) {
    let api: Api<Pod> = Api::namespaced(world.client.clone(), &world.release);
    let accounts: Api<ServiceAccount> = Api::namespaced(world.client.clone(), &world.release);
    wait("the ServiceAccount default", || async {
        accounts.get_opt("default").await.unwrap()
    })
    .await;
    let labels = json!({"app.kubernetes.io/name": "agentwrit", "app.kubernetes.io/component": "controller"});
    let pod = json!({"metadata": {"name": name, "labels": labels},
        "spec": {"containers": [{"name": "controller", "image": "localhost/none"}]}});
    let pod: Pod = serde_json::from_value(pod).unwrap();
    api.create(&PostParams::default(), &pod).await.unwrap();
    let status = json!({"status": {"phase": "Running", "podIP": address, "podIPs": [{"ip": address}]}});
    api.patch_status(name, &PatchParams::default(), &Patch::Merge(status))
        .await
        .unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_change_of_an_issuer_costs_an_admission() {
    let world = world().await;
    create_token(&world, &["read:orders:1"]).await;
    let (files, others) = (Files::new(&world), Files::new(&world));
    let (one, two, three) = (issuer(), issuer(), issuer());

    // Nothing is issued yet, then by an issuer without a CA.
    let ops = free_port("127.0.0.1").await;
    // All controllers have the same port.
    let port = free_port("127.0.0.2").await.port();
    let [at_two, at_three] = ["127.0.0.2", "127.0.0.3"].map(|address| format!("--webhook-address={address}:{port}"));
    let address = format!("--ops-address={ops}");
    let more = [&*address, &*at_two];
    let starting = async {
        let first = start(&world, "first", &files, &more).await;
        first.leads(true).await;
        first
    };
    let healing = async {
        let says = async |words: &str| {
            wait(words, || async {
                let told = get(ops, "/readyz").await.ok()?;
                (told.starts_with("HTTP/1.0 503") && told.contains(words)).then_some(())
            })
            .await;
        };
        says("agentwrit-webhook-issued can't be used: it isn't there").await;
        files.put(&files.pair(&one), "");
        says("ca.crt is missing or empty").await;
        issue_broker(&world, &one).await;
        (files.issue(&one), others.issue(&one))
    };
    let (first, _) = tokio::join!(starting, healing);
    let second = start(&world, "second", &others, &[&at_three]).await;
    pod(&world, "first", "127.0.0.2").await;
    pod(&world, "second", "127.0.0.3").await;
    call(&world, &second).await;
    first.is_ready().await;
    is_alone(&world, one.certificate()).await;
    wait("the broker's certificate", || async {
        world.secrets().get_opt("agentwrit-broker-tls").await.unwrap()
    })
    .await;

    let load = Load::start(&world);
    let doubter = Doubter::start(&world, &[&first, &second]);
    // Renewed by the same CA.
    let (shown, of_second) = (files.issue(&one), others.issue(&one));
    shows(&world, &first, &files, &shown).await;
    shows(&world, &second, &others, &of_second).await;
    // What can't be used changes nothing for those who have something.
    files.put(&files.pair(&one), "");
    wait("it is told", || async {
        events(&world)
            .await
            .contains("WebhookCertificateNotIssued")
            .then_some(())
    })
    .await;
    shows(&world, &first, &files, &shown).await;
    first.is_ready().await;

    // By another CA, which the second replica's kubelet brings later.
    issue_broker(&world, &two).await;
    let shown = files.issue(&two);
    wait("both are trusted", || async {
        let bundle = ca_bundle(&world).await;
        [&one, &two]
            .iter()
            .all(|ca| bundle.contains(ca.certificate()))
            .then_some(())
    })
    .await;
    shows(&world, &first, &files, &shown).await;
    // As long as the second one shows what the old CA signed, that is trusted.
    let maps: Api<ConfigMap> = Api::namespaced(world.client.clone(), &world.release);
    wait("no Secret names the old CA any more", || async {
        let data = maps.get("agentwrit-issuers").await.unwrap().data.unwrap();
        data["previous.crt"].contains(one.certificate()).then_some(())
    })
    .await;
    // Each look that finds somebody behind is counted; so many are several overlaps.
    let counted = || async { first.metric("errors_total{category=\"pki\"}").await };
    let before = counted().await;
    wait("the second one is waited for", || async {
        (counted().await > before + 5.5).then_some(())
    })
    .await;
    shows(&world, &second, &others, &of_second).await;
    assert!(ca_bundle(&world).await.contains(one.certificate()));
    let of_second = others.issue(&two);
    shows(&world, &second, &others, &of_second).await;
    is_alone(&world, two.certificate()).await;
    doubter.had_no_reason().await;

    // The leader is lost in the middle.
    let doubter = Doubter::start(&world, &[&second]);
    issue_broker(&world, &three).await;
    files.issue(&three);
    wait("a third one is trusted", || async {
        ca_bundle(&world).await.contains(three.certificate()).then_some(())
    })
    .await;
    first.kill().await;
    let of_second = others.issue(&three);
    second.leads(true).await;
    shows(&world, &second, &others, &of_second).await;
    is_alone(&world, three.certificate()).await;
    let leaf = world.secrets().get("agentwrit-broker-tls").await.unwrap();
    let issued = world.secrets().get(BROKER).await.unwrap();
    assert_eq!(text(&leaf, "tls.crt"), text(&issued, "tls.crt"));
    assert!(
        world.secrets().get_opt("agentwrit-ca").await.unwrap().is_none(),
        "no CA of our own"
    );
    doubter.had_no_reason().await;
    load.none_was_refused().await;
    second.kill().await;
}

/// As a rollout does it: the new replica has to be ready before the old one goes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn moving_to_cert_manager_and_back_costs_no_admission() {
    let world = world().await;
    create_token(&world, &["read:orders:1"]).await;
    let (files, house) = (Files::new(&world), issuer());
    let own = Replica::start_with(&world, "own", LEASE, &[OVERLAP]).await;
    call(&world, &own).await;
    wait("the broker's certificate", || async {
        world.secrets().get_opt("agentwrit-broker-tls").await.unwrap()
    })
    .await;
    let load = Load::start(&world);
    let doubter = Doubter::start(&world, &[&own]);
    let before = ca_bundle(&world).await;
    issue_broker(&world, &house).await;
    files.issue(&house);
    // The chart's Role changes before the pods do.
    own.forbid("/secrets/agentwrit-ca");
    let issued = start(&world, "issued", &files, &[]).await;
    issued.leads(true).await;
    issued.is_ready().await;
    own.is_ready().await;
    doubter.had_no_reason().await;
    let doubter = Doubter::start(&world, &[&issued]);
    call(&world, &issued).await;
    own.kill().await;
    is_alone(&world, house.certificate()).await;
    doubter.had_no_reason().await;

    issued.forbid("/secrets/agentwrit-broker-issued");
    let back = Replica::start_with(&world, "back", LEASE, &[OVERLAP]).await;
    back.leads(true).await;
    back.is_ready().await;
    issued.is_ready().await;
    call(&world, &back).await;
    issued.kill().await;
    is_alone(&world, &before).await;
    load.none_was_refused().await;
    tokio::time::timeout(Duration::from_secs(30), back.kill())
        .await
        .unwrap();
}
