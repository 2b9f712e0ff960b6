//! The Lease: one leads, the next takes over with a higher epoch.

use std::sync::Arc;

use agentwrit_controller::{Elector, Leadership, MARK_ANNOTATION, Metrics, Reporter};
use agentwrit_protocol::StoreMark;
use agentwrit_protocol::system::SystemClock;
use k8s_openapi::api::coordination::v1::Lease;
use kube::Api;
use kube::api::{DeleteParams, Patch, PatchParams};
use serde_json::json;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::world::{World, wait};

struct Replica {
    leadership: Leadership,
    stop: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

impl Replica {
    fn start(world: &World, name: &str) -> Self {
        let metrics = Arc::new(Metrics::new().unwrap());
        let reporter = Reporter::new(world.client.clone(), &world.namespace, name, Arc::clone(&metrics));
        let clock = Arc::new(SystemClock);
        let (elector, leadership) =
            Elector::new(world.client.clone(), &world.namespace, name, clock, reporter, metrics);
        let (stop, stopped) = oneshot::channel();
        let task = tokio::spawn(elector.run(async move { drop(stopped.await) }));
        Self { leadership, stop, task }
    }

    async fn leads(&self) -> i64 {
        wait("the lead", || async { self.leadership.claim() }).await.epoch
    }

    async fn stop(self) {
        drop(self.stop);
        self.task.await.unwrap();
    }
}

fn leases(world: &World) -> Api<Lease> {
    Api::namespaced(world.client.clone(), &world.namespace)
}

#[tokio::test]
async fn a_released_lease_goes_on_with_a_higher_epoch() {
    let world = World::new("lease").await;
    let first = Replica::start(&world, "a");
    assert_eq!(first.leads().await, 1);
    let second = Replica::start(&world, "b");
    first.stop().await;
    assert_eq!(second.leads().await, 2);
    second.stop().await;
    let spec = leases(&world).get("agentwrit-controller").await.unwrap().spec.unwrap();
    assert_eq!(
        (spec.holder_identity.as_deref(), spec.lease_transitions),
        (Some(""), Some(2))
    );
    world.done().await;
}

#[tokio::test]
async fn a_restarted_process_of_the_same_pod_raises_the_epoch_at_once() {
    let world = World::new("lease").await;
    let first = Replica::start(&world, "a");
    assert_eq!(first.leads().await, 1);
    // Killed: nothing is given back.
    first.task.abort();
    let again = Replica::start(&world, "a");
    assert_eq!(again.leads().await, 2);
    again.stop().await;
    world.done().await;
}

#[tokio::test]
async fn a_taken_lease_stops_its_holder_and_a_deleted_one_does_not() {
    let world = World::new("lease").await;
    let replica = Replica::start(&world, "a");
    assert_eq!(replica.leads().await, 1);
    leases(&world)
        .delete("agentwrit-controller", &DeleteParams::default())
        .await
        .unwrap();
    wait("a new Lease with a higher epoch", || async {
        replica.leadership.claim().filter(|claim| claim.epoch == 2)
    })
    .await;

    let taken = Patch::Merge(json!({"spec": {"holderIdentity": "b", "leaseTransitions": 3}}));
    leases(&world)
        .patch("agentwrit-controller", &PatchParams::default(), &taken)
        .await
        .unwrap();
    wait("no claim any more", || async {
        replica.leadership.claim().is_none().then_some(())
    })
    .await;
    replica.stop().await;
    let spec = leases(&world).get("agentwrit-controller").await.unwrap().spec.unwrap();
    assert_eq!(
        spec.holder_identity.as_deref(),
        Some("b"),
        "another's Lease is not given back"
    );
    world.done().await;
}

async fn annotated(world: &World, namespace: &str) -> Option<String> {
    let leases: Api<Lease> = Api::namespaced(world.client.clone(), namespace);
    let lease = leases.get_opt("agentwrit-controller").await.unwrap()?;
    lease.metadata.annotations?.get(MARK_ANNOTATION).cloned()
}

#[tokio::test]
async fn the_lease_remembers_the_brokers_store_for_the_next_leader() {
    let world = World::new("lease").await;
    let mark = |sequence| StoreMark {
        epoch: "0f".repeat(16),
        sequence,
        head: "a1".repeat(32),
    };
    let first = Replica::start(&world, "a");
    first.leads().await;
    let claim = first.leadership.claim().unwrap();
    assert_eq!(first.leadership.mark(claim), None);
    first.leadership.remember(claim, mark(7));
    wait("the annotation", || async {
        (annotated(&world, &world.namespace).await? == mark(7).text()).then_some(())
    })
    .await;
    first.stop().await;
    let second = Replica::start(&world, "b");
    second.leads().await;
    let claim = second.leadership.claim().unwrap();
    assert_eq!(second.leadership.mark(claim), Some(mark(7).text()));
    second.stop().await;
    world.done().await;
}

#[tokio::test]
async fn each_look_shows_the_broker_its_last_mark() {
    let world = World::new("lease").await;
    wait("a mark that comes back", || async {
        let shown = world.broker.memory().shown.clone();
        let last = shown.last()?.clone()?;
        assert_eq!(
            StoreMark::parse(&last).unwrap().sequence,
            i64::try_from(shown.len()).unwrap() - 1
        );
        Some(())
    })
    .await;
    wait("the annotation", || async {
        StoreMark::parse(&annotated(&world, &world.release).await?).ok()
    })
    .await;
    world.done().await;
}
