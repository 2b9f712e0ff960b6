//! The keeper with an API server that holds what matters to it. A new keeper at each look is a controller that was killed
//! after whatever was written last.

use agentwrit_protocol::clock::ManualClock;
use parking_lot::Mutex;
use serde_json::json;
use tokio::sync::mpsc;

use super::*;
use crate::ending_namespaces::tests::old_is_ending;
use crate::leader::guard::guarded;
use crate::metrics::Metrics;
use crate::pki::ca_distribution::{CaEvent, CaEvents};
use crate::pki::ca_reach::Reach;
use crate::pki::fake::{ApiServer, LEAF};

const OVERLAP: Duration = Duration::from_hours(1);
const SECRET: &str = "/api/v1/namespaces/system/secrets/agentwrit-ca";

/// One API server, and the time.
#[derive(Clone)]
struct World {
    server: ApiServer,
    clock: Arc<ManualClock>,
    events: CaEvents,
    behind: Arc<Mutex<mpsc::UnboundedReceiver<CaEvent>>>,
}

impl World {
    fn new() -> Self {
        let (events, behind) = mpsc::unbounded_channel();
        Self {
            server: ApiServer::default(),
            clock: Arc::new(ManualClock::at(1_800_000_000)),
            events,
            behind: Arc::new(Mutex::new(behind)),
        }
    }

    /// A controller that begins now.
    fn keeper(&self, leads: bool) -> CaKeeper {
        let leadership = Leadership::fixed(leads.then_some(1));
        let client = guarded(&self.server.client(), &leadership, &old_is_ending());
        let secrets = Secrets::new(client.clone(), "system");
        let metrics = Arc::new(Metrics::new().unwrap());
        let reporter = Reporter::new(self.server.client(), "system", "controller-0", metrics);
        let both = (Lives::default(), OVERLAP);
        let reach = Reach::new(client, secrets.clone());
        let patience = Patience::new(reach, self.events.clone(), reporter.clone());
        CaKeeper::new((secrets, patience), leadership, self.clock.clone(), reporter, both)
    }

    /// One look of a controller that is killed afterwards.
    async fn look(&self) -> Trusted {
        self.keeper(true).look().await.unwrap()
    }

    /// What the leader publishes.
    fn publish(&self, trusted: &Trusted, namespaces: &[&str]) {
        self.server.publish(&trusted.bundle, namespaces);
    }

    /// The broker's certificate, as the leader keeps it.
    async fn issue(&self, trusted: &Trusted) {
        let secrets = Secrets::new(self.server.client(), "system");
        secrets
            .broker_leaf(authority(trusted), self.clock.as_ref())
            .await
            .unwrap();
    }

    fn ask(&self, annotation: &str) {
        let mut secret = self.server.get(SECRET).unwrap();
        secret["metadata"]["annotations"][annotation] = json!("now");
        self.server.put(SECRET, secret);
    }

    fn events(&self) -> Vec<String> {
        self.server.events()
    }

    fn pass(&self, seconds: i64) {
        self.clock.advance(seconds);
    }
}

fn authority(trusted: &Trusted) -> &Authority {
    match &trusted.signer {
        Signer::Own(authority) => authority,
        Signer::Issuers { .. } => panic!("our own CA signs"),
    }
}

/// Whether these certificates sign and are trusted.
fn is(trusted: &Trusted, signing: &str, bundle: &[&str]) {
    assert_eq!(trusted.signer.certificates(), signing);
    let all: Vec<&str> = bundle.iter().map(|certificate| certificate.trim()).collect();
    assert_eq!(trusted.bundle.trim_end(), all.join("\n"));
}

#[tokio::test]
async fn no_step_comes_before_all_trust_the_last_one() {
    let world = World::new();
    let installed = world.look().await;
    let old = installed.signer.certificates().to_owned();
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
    assert!(world.server.get(LEAF).is_some());
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
    assert_ne!(promoted.signer.certificates(), installed.signer.certificates());
    let secret = world.server.get(SECRET).unwrap();
    let wishes = secret["metadata"]["annotations"].as_object().unwrap();
    assert!(wishes.is_empty(), "{wishes:?}");
}

#[tokio::test]
async fn a_lost_or_broken_secret_is_told_and_healed() {
    let world = World::new();
    let mut keeper = world.keeper(true);
    let first = keeper.look().await.unwrap();
    let old = first.signer.certificates().to_owned();
    world.server.remove(SECRET);
    let healed = keeper.look().await.unwrap();
    assert_eq!(healed.signer.certificates(), old);
    assert!(healed.bundle.starts_with(old.trim()) && healed.bundle.matches("BEGIN").count() == 2);
    let told = world.events();
    assert!(
        told.len() == 1 && told[0].starts_with("CADeleted: Secret system/agentwrit-ca: it was deleted"),
        "{told:?}"
    );
    let mut broken = world.server.get(SECRET).unwrap();
    broken["data"]["tls.key"] = json!("AAAA");
    world.server.put(SECRET, broken);
    let again = keeper.look().await.unwrap();
    assert_eq!((again.signer.certificates(), &again.bundle), (&*old, &healed.bundle));
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
    let mut secret = world.server.get(SECRET).unwrap();
    secret["metadata"]["labels"] = json!({});
    secret["data"].as_object_mut().unwrap().remove("ca.crt");
    let written = world.server.put(SECRET, secret);
    world.ask("agentwrit.io/rotate");
    let mut keeper = world.keeper(true);
    is(
        &keeper.look().await.unwrap(),
        installed.signer.certificates(),
        &[&installed.bundle],
    );
    let mut broken = written;
    broken["data"]["tls.key"] = json!("AAAA");
    let broken = world.server.put(SECRET, broken);
    assert!(keeper.look().await.is_some());
    let used = keeper.look().await.unwrap();
    is(&used, installed.signer.certificates(), &[&installed.bundle]);
    assert!(world.keeper(true).look().await.is_none(), "nobody knows another");
    assert_eq!(world.server.get(SECRET), Some(broken));
    let told = world.events();
    assert!(
        told.len() == 2 && told.iter().all(|told| told.starts_with("CANotKept: ")),
        "{told:?}"
    );
}

/// As after cert-manager signed, or where the Secret was lost at a stop.
#[tokio::test]
async fn what_others_have_published_is_trusted_for_an_overlap() {
    let world = World::new();
    let before = Authority::generate("issuer", world.clock.now()).unwrap();
    let before = before.certificate();
    world.server.publish(before, &["shop"]);
    let mut keeper = world.keeper(true);
    let first = keeper.look().await.unwrap();
    let own = first.signer.certificates().to_owned();
    is(&first, &own, &[&own, before]);
    world.publish(&first, &["shop"]);
    keeper.look().await.unwrap();
    world.pass(3600);
    is(&keeper.look().await.unwrap(), &own, &[&own]);
    // Likewise when there is a CA of our own already.
    world.server.publish(before, &["shop"]);
    is(&world.look().await, &own, &[&own, before]);
}

#[tokio::test]
async fn who_may_not_read_the_ca_lets_another_lead() {
    let world = World::new();
    world.server.forbid(SECRET);
    let mut keeper = world.keeper(true);
    let unfit = keeper.leadership.unfit();
    assert!(keeper.look().await.is_none() && unfit.has_changed().unwrap());
    let mut follower = world.keeper(false);
    let unfit = follower.leadership.unfit();
    assert!(follower.look().await.is_none() && !unfit.has_changed().unwrap());
}
