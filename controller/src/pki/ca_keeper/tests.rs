//! The keeper with an API server that holds what matters to it. A new keeper at each look is a controller that was killed
//! after whatever was written last.

use std::collections::BTreeMap;
use std::convert::Infallible;

use agentwrit_protocol::clock::ManualClock;
use agentwrit_protocol::inject::CA_CONFIG_MAP;
use axum::http::{Method, Request, Response};
use kube::Client;
use kube::client::Body;
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::sync::mpsc;

use super::*;
use crate::ending_namespaces::tests::old_is_ending;
use crate::leader::guard::guarded;
use crate::metrics::Metrics;
use crate::pki::ca_bundle::CONFIGURATION;
use crate::pki::{MANAGED_BY, MANAGER};

const OVERLAP: Duration = Duration::from_hours(1);

/// Objects by path, with the versions that the API server gives them.
#[derive(Default)]
struct ApiServer {
    objects: BTreeMap<String, Value>,
    version: u64,
    events: Vec<String>,
}

const SECRET: &str = "/api/v1/namespaces/system/secrets/agentwrit-ca";
const LEAF: &str = "/api/v1/namespaces/system/secrets/agentwrit-broker-tls";
const WEBHOOKS: &str = "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations/agentwrit-injector";

impl ApiServer {
    fn put(&mut self, path: &str, mut object: Value) -> Value {
        self.version += 1;
        object["metadata"]["resourceVersion"] = json!(self.version.to_string());
        self.objects.insert(path.to_owned(), object.clone());
        object
    }

    fn answer(&mut self, method: &Method, path: &str, body: &[u8]) -> (u16, Value) {
        let status = |code: u16| {
            let reason = if code == 404 { "NotFound" } else { "Conflict" };
            (
                code,
                json!({"kind": "Status", "status": "Failure", "code": code, "reason": reason, "message": reason}),
            )
        };
        if path.contains("/events") {
            let event: Value = serde_json::from_slice(body).unwrap();
            self.events.push(format!(
                "{}: {}",
                event["reason"].as_str().unwrap(),
                event["note"].as_str().unwrap()
            ));
            return (201, event);
        }
        if path == "/api/v1/configmaps" {
            let maps = self.objects.iter().filter(|(path, _)| path.contains("/configmaps/"));
            let items: Vec<Value> = maps.map(|(_, map)| map.clone()).collect();
            return (
                200,
                json!({"kind": "ConfigMapList", "apiVersion": "v1", "metadata": {}, "items": items}),
            );
        }
        if *method == Method::POST {
            let object: Value = serde_json::from_slice(body).unwrap();
            let path = format!("{path}/{}", object["metadata"]["name"].as_str().unwrap());
            if self.objects.contains_key(&path) {
                return status(409);
            }
            return (201, self.put(&path, object));
        }
        let Some(present) = self.objects.get(path) else {
            return status(404);
        };
        if *method == Method::GET {
            return (200, present.clone());
        }
        let (mut object, changes) = (present.clone(), serde_json::from_slice::<Value>(body).unwrap());
        if changes["metadata"]["resourceVersion"] != object["metadata"]["resourceVersion"] {
            return status(409);
        }
        json_patch::merge(&mut object, &changes);
        (200, self.put(path, object))
    }
}

/// One API server, and the time.
#[derive(Clone)]
struct World {
    server: Arc<Mutex<ApiServer>>,
    clock: Arc<ManualClock>,
    events: CaEvents,
    behind: Arc<Mutex<mpsc::UnboundedReceiver<CaEvent>>>,
}

impl World {
    fn new() -> Self {
        let (events, behind) = mpsc::unbounded_channel();
        Self {
            server: Arc::default(),
            clock: Arc::new(ManualClock::at(1_800_000_000)),
            events,
            behind: Arc::new(Mutex::new(behind)),
        }
    }

    fn client(&self) -> Client {
        let server = Arc::clone(&self.server);
        let send = move |request: Request<Body>| {
            let server = Arc::clone(&server);
            async move {
                let (parts, body) = request.into_parts();
                let body = body.collect_bytes().await.unwrap();
                let (code, answer) = server.lock().answer(&parts.method, parts.uri.path(), &body);
                let body = Body::from(serde_json::to_vec(&answer).unwrap());
                Ok::<_, Infallible>(Response::builder().status(code).body(body).unwrap())
            }
        };
        Client::new(tower::service_fn(send), "system")
    }

    /// A controller that begins now.
    fn keeper(&self, leads: bool) -> CaKeeper {
        let leadership = Leadership::fixed(leads.then_some(1));
        let client = guarded(&self.client(), &leadership, &old_is_ending());
        let secrets = Secrets::new(client.clone(), "system");
        let metrics = Arc::new(Metrics::new().unwrap());
        let reporter = Reporter::new(self.client(), "system", "controller-0", metrics);
        let both = (Lives::default(), OVERLAP);
        CaKeeper::new(
            (secrets.clone(), Reach::new(client, secrets), self.events.clone()),
            leadership,
            self.clock.clone(),
            reporter,
            both,
        )
    }

    /// One look of a controller that is killed afterwards.
    async fn look(&self) -> Trusted {
        self.keeper(true).look().await.unwrap()
    }

    /// What the leader publishes.
    fn publish(&self, trusted: &Trusted, namespaces: &[&str]) {
        let mut server = self.server.lock();
        let bundle = k8s_openapi::ByteString(trusted.bundle.as_bytes().to_vec());
        let webhook = json!({"name": "pod.inject.agentwrit.io", "admissionReviewVersions": ["v1"], "sideEffects": "None",
            "clientConfig": {"caBundle": bundle}});
        server.put(
            WEBHOOKS,
            json!({"metadata": {"name": CONFIGURATION}, "webhooks": [webhook]}),
        );
        for namespace in namespaces {
            let labels = json!({MANAGED_BY: MANAGER});
            let map = json!({"metadata": {"name": CA_CONFIG_MAP, "namespace": namespace, "labels": labels},
                "data": {"ca.crt": trusted.bundle}});
            server.put(
                &format!("/api/v1/namespaces/{namespace}/configmaps/{CA_CONFIG_MAP}"),
                map,
            );
        }
    }

    /// The broker's certificate, as the leader keeps it.
    async fn issue(&self, trusted: &Trusted) {
        let secrets = Secrets::new(self.client(), "system");
        secrets
            .broker_leaf(&trusted.authority, self.clock.as_ref())
            .await
            .unwrap();
    }

    fn ask(&self, annotation: &str) {
        let mut server = self.server.lock();
        let mut secret = server.objects[SECRET].clone();
        secret["metadata"]["annotations"][annotation] = json!("now");
        server.put(SECRET, secret);
    }

    fn events(&self) -> Vec<String> {
        std::mem::take(&mut self.server.lock().events)
    }

    fn pass(&self, seconds: i64) {
        self.clock.advance(seconds);
    }
}

/// Whether these certificates sign and are trusted.
fn is(trusted: &Trusted, signing: &str, bundle: &[&str]) {
    assert_eq!(trusted.authority.certificate(), signing);
    let all: Vec<&str> = bundle.iter().map(|certificate| certificate.trim()).collect();
    assert_eq!(trusted.bundle.trim_end(), all.join("\n"));
}

#[tokio::test]
async fn no_step_comes_before_all_trust_the_last_one() {
    let world = World::new();
    let installed = world.look().await;
    let old = installed.authority.certificate().to_owned();
    world.publish(&installed, &["shop", "bank"]);
    world.issue(&installed).await;
    world.ask("agentwrit.io/rotate");
    let announced = world.look().await;
    let new = announced
        .bundle
        .trim()
        .strip_prefix(old.trim())
        .unwrap()
        .trim()
        .to_owned()
        + "\n";
    is(&announced, &old, &[&old, &new]);

    // The controller was away for a day before it could publish that.
    world.pass(86_400);
    is(&world.look().await, &old, &[&old, &new]);
    world.publish(&announced, &["shop"]);
    world.pass(86_400);
    while world.behind.lock().try_recv().is_ok() {}
    is(&world.look().await, &old, &[&old, &new]);
    let asked = world.behind.lock().try_recv();
    assert!(
        matches!(&asked, Ok(CaEvent::Needed(namespace)) if namespace == "bank"),
        "{asked:?}"
    );
    world.publish(&announced, &["shop", "bank"]);
    is(&world.look().await, &old, &[&old, &new]);
    world.pass(3599);
    is(&world.look().await, &old, &[&old, &new]);
    // Somebody puts one back in the last moment.
    world.publish(&installed, &["bank"]);
    world.pass(1);
    is(&world.look().await, &old, &[&old, &new]);
    world.publish(&announced, &["bank"]);
    let promoted = world.look().await;
    is(&promoted, &new, &[&new, &old]);

    // Away again, and the broker shows what the old one signed.
    world.pass(86_400);
    world.publish(&promoted, &["shop", "bank"]);
    is(&world.look().await, &new, &[&new, &old]);
    world.issue(&promoted).await;
    is(&world.look().await, &new, &[&new, &old]);
    world.pass(3599);
    is(&world.look().await, &new, &[&new, &old]);
    world.pass(1);
    is(&world.look().await, &new, &[&new]);
    is(&world.look().await, &new, &[&new]);
    assert_eq!(world.events(), Vec::<String>::new());
    assert!(world.server.lock().objects.contains_key(LEAF));
}

#[tokio::test]
async fn who_is_behind_for_long_is_named_and_can_be_left_behind() {
    let world = World::new();
    let installed = world.look().await;
    world.publish(&installed, &["shop"]);
    world.ask("agentwrit.io/rotate");
    let mut keeper = world.keeper(true);
    let announced = keeper.look().await.unwrap();
    for (namespaces, behind) in [
        (&[][..], "namespaces shop"),
        (&["shop"][..], "caBundle of agentwrit-injector"),
    ] {
        world.publish(if namespaces.is_empty() { &announced } else { &installed }, &[]);
        for namespace in namespaces {
            world.publish(&announced, &[namespace]);
            world.publish(&installed, &[]);
        }
        assert!(keeper.look().await.is_some() && world.events().is_empty());
        world.pass(600);
        assert!(keeper.look().await.is_some());
        let told = world.events();
        assert!(
            told.len() == 1 && told[0].starts_with("CARotationWaits: ") && told[0].contains(behind),
            "{told:?}"
        );
        keeper = world.keeper(true);
    }
    world.ask("agentwrit.io/promote");
    let promoted = keeper.look().await.unwrap();
    assert_ne!(promoted.authority.certificate(), installed.authority.certificate());
    let secret = world.server.lock().objects[SECRET].clone();
    let wishes = secret["metadata"]["annotations"].as_object().unwrap();
    assert!(wishes.is_empty(), "{wishes:?}");
}

#[tokio::test]
async fn a_lost_or_broken_secret_is_told_and_healed() {
    let world = World::new();
    let mut keeper = world.keeper(true);
    let first = keeper.look().await.unwrap();
    let old = first.authority.certificate().to_owned();
    world.server.lock().objects.remove(SECRET);
    let healed = keeper.look().await.unwrap();
    assert_eq!(healed.authority.certificate(), old);
    assert!(healed.bundle.starts_with(old.trim()) && healed.bundle.matches("BEGIN").count() == 2);
    let told = world.events();
    assert!(
        told.len() == 1 && told[0].starts_with("CADeleted: Secret system/agentwrit-ca: it was deleted"),
        "{told:?}"
    );
    let mut broken = world.server.lock().objects[SECRET].clone();
    broken["data"]["tls.key"] = json!("AAAA");
    world.server.lock().put(SECRET, broken);
    let again = keeper.look().await.unwrap();
    assert_eq!((again.authority.certificate(), &again.bundle), (&*old, &healed.bundle));
    let told = world.events();
    assert!(
        told.len() == 1 && told[0].starts_with("CABroken: ") && told[0].contains("private key"),
        "{told:?}"
    );
    assert!(!told[0].contains("BEGIN"), "{told:?}");
}

#[tokio::test]
async fn of_two_controllers_one_makes_the_ca() {
    let world = World::new();
    let (mut first, mut second, mut standby) = (world.keeper(true), world.keeper(true), world.keeper(false));
    assert!(standby.look().await.is_none(), "who doesn't lead makes none");
    // Both believe to lead, and both have found nothing.
    let (one, two) = tokio::join!(first.look(), second.look());
    assert!(one.is_some() || two.is_some());
    let looks = [first.look().await, second.look().await, standby.look().await];
    let all: Vec<String> = looks.into_iter().map(|look| look.unwrap().bundle).collect();
    assert!(
        all.iter()
            .all(|bundle| *bundle == all[0] && bundle.matches("BEGIN").count() == 1)
    );
    // And one announces the successor.
    world.ask("agentwrit.io/rotate");
    let _ = tokio::join!(first.look(), second.look());
    let looks = [first.look().await, second.look().await, standby.look().await];
    let all: Vec<String> = looks.into_iter().map(|look| look.unwrap().bundle).collect();
    assert!(
        all.iter()
            .all(|bundle| *bundle == all[0] && bundle.matches("BEGIN").count() == 2)
    );
    assert_eq!(world.events(), Vec::<String>::new());
}

#[tokio::test]
async fn a_persons_own_secret_is_used_and_never_written() {
    let world = World::new();
    let installed = world.look().await;
    let mut secret = world.server.lock().objects[SECRET].clone();
    secret["metadata"]["labels"] = json!({});
    secret["data"].as_object_mut().unwrap().remove("ca.crt");
    let written = world.server.lock().put(SECRET, secret);
    world.ask("agentwrit.io/rotate");
    let mut keeper = world.keeper(true);
    is(
        &keeper.look().await.unwrap(),
        installed.authority.certificate(),
        &[&installed.bundle],
    );
    let mut broken = written;
    broken["data"]["tls.key"] = json!("AAAA");
    let broken = world.server.lock().put(SECRET, broken);
    assert!(keeper.look().await.is_some());
    let used = keeper.look().await.unwrap();
    is(&used, installed.authority.certificate(), &[&installed.bundle]);
    assert!(world.keeper(true).look().await.is_none(), "nobody knows another");
    assert_eq!(world.server.lock().objects[SECRET], broken);
    let told = world.events();
    assert!(
        told.len() == 2 && told.iter().all(|told| told.starts_with("CANotKept: ")),
        "{told:?}"
    );
}
