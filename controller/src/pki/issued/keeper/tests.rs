//! The keeper with an API server that holds what matters to it. A new keeper is a controller that has just begun.

use agentwrit_protocol::clock::ManualClock;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use serde_json::Value;
use tempfile::TempDir;
use tokio::sync::mpsc;

use super::*;
use crate::ending_namespaces::tests::old_is_ending;
use crate::leader::guard::guarded;
use crate::metrics::Metrics;
use crate::pki::authority::{Authority, PemPair};
use crate::pki::ca_reach::Reach;
use crate::pki::fake::{ApiServer, LEAF};
use crate::pki::{MANAGED_BY, MANAGER};

const OVERLAP: Duration = Duration::from_hours(1);
const ISSUED: &str = "/api/v1/namespaces/system/secrets/agentwrit-broker-issued";
const MAP: &str = "/api/v1/namespaces/system/configmaps/agentwrit-issuers";
const WEBHOOK: &str = "agentwrit-controller.system.svc";
const BROKER: &str = "agentwrit-broker.system.svc";

/// One API server, the files of one pod, and the time.
struct World {
    server: ApiServer,
    clock: Arc<ManualClock>,
    folder: TempDir,
    readiness: Arc<Readiness>,
}

impl World {
    fn new() -> Self {
        Self {
            server: ApiServer::default(),
            clock: Arc::new(ManualClock::at(1_800_000_000)),
            folder: tempfile::tempdir().unwrap(),
            readiness: Arc::default(),
        }
    }

    fn ca(&self) -> Authority {
        Authority::from_pem(&Authority::generate("issuer", self.clock.now()).unwrap()).unwrap()
    }

    fn secrets(&self) -> Secrets {
        Secrets::new(self.server.client(), "system")
    }

    fn keeper(&self, leads: bool) -> IssuedKeeper {
        let leadership = Leadership::fixed(leads.then_some(1));
        let client = guarded(&self.server.client(), &leadership, &old_is_ending());
        let secrets = Secrets::new(client.clone(), "system");
        let metrics = Arc::new(Metrics::new().unwrap());
        let reporter = Reporter::new(self.server.client(), "system", "controller-0", metrics);
        let reach = Reach::new(client.clone(), secrets.clone());
        let patience = Patience::new(reach, mpsc::unbounded_channel().0, reporter.clone());
        let sources = Sources {
            secrets,
            webhook: self.folder.path().to_owned(),
            replicas: Replicas {
                client: self.server.client(),
                namespace: "system".to_owned(),
                port: 9443,
                name: WEBHOOK.to_owned(),
            },
        };
        let tells = (reporter, Arc::clone(&self.readiness));
        IssuedKeeper::new(
            (sources, client, patience),
            leadership,
            self.clock.clone(),
            tells,
            OVERLAP,
        )
    }

    /// As cert-manager does.
    fn issue(&self, webhook: &Authority, broker: &Authority) {
        let issue = |ca: &Authority, name: &str| ca.issue(&[name.to_owned()], self.clock.now()).unwrap();
        self.issue_webhook(&issue(webhook, WEBHOOK), webhook.certificate());
        let pair = issue(broker, BROKER);
        let bytes = |text: &str| ByteString(text.as_bytes().to_vec());
        let data = json!({"tls.crt": bytes(pair.certificate()), "tls.key": bytes(pair.key()),
            "ca.crt": bytes(broker.certificate())});
        self.server
            .put(ISSUED, json!({"metadata": {"name": BROKER_ISSUED}, "data": data}));
    }

    fn issue_webhook(&self, pair: &PemPair, ca: &str) {
        for (name, text) in [("tls.crt", pair.certificate()), ("tls.key", pair.key()), ("ca.crt", ca)] {
            std::fs::write(self.folder.path().join(name), text).unwrap();
        }
    }

    /// What the leader publishes: caBundle, the namespaces' ConfigMaps, and the broker's certificate.
    async fn publish(&self, trusted: &Trusted) {
        self.server.publish(&trusted.bundle, &["shop"]);
        let now = self.clock.unix_seconds();
        let shown = trusted.signer.certificates();
        self.secrets()
            .issued_broker_leaf(shown, &trusted.bundle, now)
            .await
            .unwrap();
    }

    /// Whose certificate the broker has.
    fn broker_of<'a>(&self, cas: &[&'a Authority]) -> &'a str {
        let secret: Secret = serde_json::from_value(self.server.get(LEAF).unwrap()).unwrap();
        let leaf = text(&secret, CERTIFICATE).unwrap();
        cas.iter().find(|ca| ca.signed(&leaf)).unwrap().certificate()
    }

    fn events(&self) -> Vec<String> {
        self.server.events()
    }
}

fn is(trusted: &Trusted, shown: &[&Authority], bundle: &[&Authority]) {
    let concat = |cas: &[&Authority]| -> String { cas.iter().map(|ca| ca.certificate()).collect() };
    assert_eq!(trusted.signer.certificates(), concat(shown), "shown");
    assert_eq!(trusted.bundle, concat(bundle), "trusted");
}

#[tokio::test]
async fn an_issuers_ca_is_followed_in_steps() {
    let world = World::new();
    let (one, two) = (world.ca(), world.ca());
    world.issue(&one, &one);
    // Killed after each look.
    let look = async || world.keeper(true).look().await.unwrap();
    let first = look().await;
    is(&first, &[&one], &[&one]);
    world.publish(&first).await;
    assert_eq!(world.broker_of(&[&one, &two]), one.certificate());

    world.issue(&two, &two);
    let announced = look().await;
    is(&announced, &[&one], &[&one, &two]);
    world.clock.advance(9000);
    is(&look().await, &[&one], &[&one, &two]);
    world.clock.advance(9000);
    let waits = look().await;
    is(&waits, &[&one], &[&one, &two]);
    // Only now does everybody trust both.
    world.publish(&announced).await;
    assert_eq!(world.broker_of(&[&one, &two]), one.certificate(), "pods may be behind");
    look().await;
    world.clock.advance(3599);
    is(&look().await, &[&one], &[&one, &two]);
    world.clock.advance(1);
    let promoted = look().await;
    is(&promoted, &[&one, &two], &[&one, &two]);
    let left = look().await;
    is(&left, &[&two], &[&two, &one]);

    // The broker still has what the first one signed.
    world.clock.advance(9000);
    look().await;
    world.clock.advance(9000);
    is(&look().await, &[&two], &[&two, &one]);
    world.publish(&left).await;
    assert_eq!(world.broker_of(&[&one, &two]), two.certificate());
    look().await;
    world.clock.advance(3600);
    let alone = look().await;
    is(&alone, &[&two], &[&two]);
}

#[tokio::test]
async fn our_own_ca_is_followed_by_the_issuers() {
    let world = World::new();
    let (own, issuer) = (world.ca(), world.ca());
    world.server.publish(own.certificate(), &["shop"]);
    world.secrets().broker_leaf(&own, world.clock.as_ref()).await.unwrap();
    world.issue(&issuer, &issuer);
    let mut keeper = world.keeper(true);
    let announced = keeper.look().await.unwrap();
    is(&announced, &[&own], &[&own, &issuer]);
    world.publish(&announced).await;
    assert_eq!(world.broker_of(&[&own, &issuer]), own.certificate());
    keeper.look().await.unwrap();
    world.clock.advance(3600);
    let promoted = keeper.look().await.unwrap();
    world.publish(&promoted).await;
    assert_eq!(world.broker_of(&[&own, &issuer]), issuer.certificate());
    keeper.look().await.unwrap();
    keeper.look().await.unwrap();
    world.clock.advance(3600);
    is(&keeper.look().await.unwrap(), &[&issuer], &[&issuer]);
}

#[tokio::test]
async fn nothing_is_trusted_before_something_is_issued() {
    let world = World::new();
    assert!(world.keeper(true).look().await.is_none());
    assert!(world.server.get(MAP).is_none());
    let told = world.events().join("\n");
    for words in [
        "WebhookCertificateNotIssued: the Secret agentwrit-webhook-issued can't be used: it isn't there",
        "BrokerCertificateNotIssued: the Secret agentwrit-broker-issued can't be used: it isn't there",
    ] {
        assert!(told.contains(words), "{told}");
    }
    // An ACME issuer.
    let ca = world.ca();
    world.issue_webhook(&ca.issue(&[WEBHOOK.to_owned()], world.clock.now()).unwrap(), "");
    assert!(world.keeper(true).look().await.is_none());
    let told = world.events().join("\n");
    assert!(told.contains("ca.crt is missing or empty"), "{told}");
    let ready = world.readiness.sentence().unwrap();
    assert!(
        ready.contains("webhook_certificate") && ready.contains("ca.crt is missing or empty"),
        "{ready}"
    );

    world.issue(&ca, &ca);
    is(&world.keeper(true).look().await.unwrap(), &[&ca], &[&ca]);
    let ready = world.readiness.sentence().unwrap();
    assert!(!ready.contains("ca.crt"), "{ready}");
}

#[tokio::test]
async fn a_broken_secret_takes_no_trust_away() {
    let world = World::new();
    let ca = world.ca();
    world.issue(&ca, &ca);
    let mut keeper = world.keeper(true);
    let trusted = keeper.look().await.unwrap();
    world.publish(&trusted).await;
    world.server.remove(ISSUED);
    std::fs::write(world.folder.path().join("tls.key"), "half").unwrap();
    world.clock.advance(90_000);
    is(&keeper.look().await.unwrap(), &[&ca], &[&ca]);
    world.publish(&trusted).await;
    assert_eq!(world.broker_of(&[&ca]), ca.certificate(), "it is kept");
    let told = world.events().join("\n");
    assert!(told.contains("tls.key can't be used with tls.crt"), "{told}");
}

#[tokio::test]
async fn a_lost_config_map_is_written_back() {
    let world = World::new();
    let (one, two) = (world.ca(), world.ca());
    world.issue(&one, &one);
    let mut keeper = world.keeper(true);
    keeper.look().await.unwrap();
    world.issue(&two, &two);
    keeper.look().await.unwrap();
    world.server.remove(MAP);
    is(&keeper.look().await.unwrap(), &[&one], &[&one, &two]);
    let mut emptied = world.server.get(MAP).unwrap();
    emptied["data"] = json!({"ca.crt": "rubbish"});
    world.server.put(MAP, emptied);
    is(&keeper.look().await.unwrap(), &[&one], &[&one, &two]);
    assert!(world.server.get(MAP).unwrap()["data"]["ca.crt"] == one.certificate());
    // Nobody has it in memory: what is published says what is trusted.
    let published = format!("{}{}", one.certificate(), two.certificate());
    world.server.publish(&published, &["shop"]);
    world.server.remove(MAP);
    let again = world.keeper(true).look().await.unwrap();
    assert!([&one, &two].iter().all(|ca| again.bundle.contains(ca.certificate())));
}

#[tokio::test]
async fn a_follower_uses_what_the_leader_wrote_and_writes_nothing() {
    let world = World::new();
    let ca = world.ca();
    world.issue(&ca, &ca);
    assert!(world.keeper(false).look().await.is_none());
    assert!(world.server.get(MAP).is_none());
    world.keeper(true).look().await.unwrap();
    let before = world.server.get(MAP);
    is(&world.keeper(false).look().await.unwrap(), &[&ca], &[&ca]);
    assert_eq!(world.server.get(MAP), before);
}

#[tokio::test]
async fn a_config_map_of_somebody_else_is_left_alone() {
    let world = World::new();
    let (ca, other) = (world.ca(), world.ca());
    world.issue(&ca, &ca);
    let map =
        |labels: Value| json!({"metadata": {"name": STATE, "labels": labels}, "data": {"ca.crt": other.certificate()}});
    let foreign = world.server.put(MAP, map(json!({})));
    assert!(world.keeper(true).look().await.is_none());
    assert_eq!(world.server.get(MAP), Some(foreign));
    let told = world.events().join("\n");
    assert!(
        told.contains("IssuersNotKept") && told.contains("is not ours"),
        "{told}"
    );
    world.server.put(MAP, map(json!({MANAGED_BY: MANAGER})));
    is(&world.keeper(true).look().await.unwrap(), &[&other], &[&other, &ca]);
}

#[tokio::test]
async fn who_may_not_read_what_the_leader_needs_lets_another_lead() {
    let world = World::new();
    let ca = world.ca();
    world.issue(&ca, &ca);
    let mut keeper = world.keeper(true);
    let unfit = keeper.leadership.unfit();
    keeper.look().await.unwrap();
    assert!(!unfit.has_changed().unwrap());
    world.server.forbid(ISSUED);
    assert!(keeper.look().await.is_none() && unfit.has_changed().unwrap());
}
