//! Two controllers, each a process of its own: one leads, the other stands by. What happens when the leader is stopped
//! in the middle of a write, and when it is killed.
//!
//! The controller of the other tests works on all objects of the API server, also on those of these tests: `cargo test
//! --test apiserver -- replicas::` runs these, and `--skip replicas::` those.

mod absence;
mod clock;
mod events;
mod issued;
mod namespaces;
mod program;
mod rotation;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use agentwrit_crds::LaunchToken;
use agentwrit_protocol::Clock;
use agentwrit_protocol::system::SystemClock;
use k8s_openapi::api::admissionregistration::v1::MutatingWebhookConfiguration;
use k8s_openapi::api::core::v1::{Namespace, Pod, ServiceAccount};
use k8s_openapi::api::events::v1::Event;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::{Api, ResourceExt};
use serde_json::{Value, json};

use crate::broker::{Broker, Trap, Write};
use crate::chart;
use crate::objects::{app_becomes, create_app, create_token, pod_json, pods, token_json};
use crate::world::{World, client, install_crds, is_shared, wait, wait_for};
use program::{Replica, signal};

/// Shorter than by default, so that the test is; what follows from it has the same proportions.
const LEASE: &str = "6s";
/// The Lease and five seconds.
const TAKEN_OVER: Duration = Duration::from_secs(11);

/// Tests may begin in the same millisecond.
static WORLDS: AtomicUsize = AtomicUsize::new(0);

/// Two namespaces, and no controller yet.
async fn world() -> World {
    assert!(
        !is_shared(),
        "these tests have a run of their own: cargo test --test apiserver -- replicas::"
    );
    let client = client().await;
    install_crds(&client).await;
    let number = WORLDS.fetch_add(1, Ordering::SeqCst);
    let run = format!("r{:x}-{number}", SystemClock.unix_millis().get() & 0xff_ffff);
    let (release, namespace) = (format!("awt-system-{run}"), format!("replicas-{run}"));
    for (name, labels) in [(&release, json!({})), (&namespace, json!({chart::RUN: run}))] {
        let object = json!({"metadata": {"name": name, "labels": labels}});
        let api: Api<Namespace> = Api::all(client.clone());
        let object = serde_json::from_value(object).unwrap();
        api.create(&PostParams::default(), &object).await.unwrap();
    }
    let accounts: Api<ServiceAccount> = Api::namespaced(client.clone(), &namespace);
    wait("the ServiceAccount default", || async {
        accounts.get_opt("default").await.unwrap()
    })
    .await;
    let (broker, broker_address) = Broker::start().await;
    World {
        client,
        namespace,
        broker,
        broker_address,
        run,
        release,
        ops: broker_address,
    }
}

/// The name of this test's webhook configuration.
fn configuration(world: &World) -> String {
    format!("agentwrit-injector-{}", world.namespace)
}

/// The API server calls this replica from now on.
async fn call(world: &World, replica: &Replica) {
    let url = format!("https://{}/mutate", replica.webhook);
    let api: Api<MutatingWebhookConfiguration> = Api::all(world.client.clone());
    let name = configuration(world);
    if api.get_opt(&name).await.unwrap().is_some() {
        patch_webhooks(world, "url", &json!(url)).await;
    } else {
        chart::register_webhooks(&world.client, &world.release, &world.run, (&name, &url)).await;
    }
    replica.is_ready().await;
    let asked = || async { replica.metric("admissions_total{outcome=\"injected\"}").await };
    let before = asked().await;
    wait("the API server asks it", || async {
        let _ = try_pod(world).await;
        (asked().await > before).then_some(())
    })
    .await;
}

/// Sets a member of clientConfig of both webhooks.
async fn patch_webhooks(world: &World, member: &str, value: &Value) {
    let operation =
        |index| json!({"op": "add", "path": format!("/webhooks/{index}/clientConfig/{member}"), "value": value});
    let patch: json_patch::Patch = serde_json::from_value(json!([operation(0), operation(1)])).unwrap();
    let api: Api<MutatingWebhookConfiguration> = Api::all(world.client.clone());
    let patch = Patch::Json::<()>(patch);
    api.patch(&configuration(world), &PatchParams::default(), &patch)
        .await
        .unwrap();
}

async fn try_pod(world: &World) -> Result<Pod, kube::Error> {
    let dry = PostParams {
        dry_run: true,
        ..PostParams::default()
    };
    let pod = serde_json::from_value(pod_json()).unwrap();
    pods(world).create(&dry, &pod).await
}

/// Pods that are made without a pause, until it is told to stop; not stored.
struct Load {
    stop: Arc<AtomicBool>,
    made: Arc<AtomicUsize>,
    task: tokio::task::JoinHandle<Vec<String>>,
}

impl Load {
    fn start(world: &World) -> Self {
        let (stop, made) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let (stopped, count) = (Arc::clone(&stop), Arc::clone(&made));
        let api = pods(world);
        let task = tokio::spawn(async move {
            let dry = PostParams {
                dry_run: true,
                ..PostParams::default()
            };
            let pod: Pod = serde_json::from_value(pod_json()).unwrap();
            let mut refused = Vec::new();
            // Enough to meet every moment, and not so much that nothing else is done.
            let mut pace = tokio::time::interval(Duration::from_millis(10));
            while !stopped.load(Ordering::SeqCst) {
                pace.tick().await;
                match api.create(&dry, &pod).await {
                    Ok(pod) if pod.labels().contains_key("agentwrit.io/injected") => {
                        count.fetch_add(1, Ordering::SeqCst);
                    }
                    Ok(_) => refused.push("not injected".to_owned()),
                    Err(error) => refused.push(error.to_string()),
                }
            }
            refused
        });
        Self { stop, made, task }
    }

    async fn none_was_refused(self) {
        self.stop.store(true, Ordering::SeqCst);
        let refused = self.task.await.unwrap();
        let made = self.made.load(Ordering::SeqCst);
        assert!(refused.is_empty() && made > 0, "{made} injected, refused: {refused:?}");
    }
}

async fn change(world: &World, name: &str, ttl: i64) -> i64 {
    let patch = Patch::Merge(json!({"spec": {"maxTTLSeconds": ttl}}));
    let tokens = world.launch_tokens();
    let changed = tokens.patch(name, &PatchParams::default(), &patch).await.unwrap();
    changed.metadata.generation.unwrap()
}

/// Waits until the broker holds this generation and the status says so.
async fn arrives(world: &World, name: &str, generation: i64, limit: Duration) {
    wait_for(
        &format!("generation {generation} of {name} is enforced"),
        limit,
        || async {
            let held = world.broker.launch_token(&world.namespace, name)?;
            let token = world.launch_tokens().get(name).await.unwrap();
            let observed = token.status?.observed_generation?;
            (held.generation == generation && observed == generation).then_some(())
        },
    )
    .await;
}

/// The writes of this run's policies, in the order in which they arrived.
fn writes(world: &World) -> Vec<Write> {
    let writes = world.broker.memory().writes.clone();
    writes
        .into_iter()
        .filter(|write| write.namespace == world.namespace)
        .collect()
}

/// Each change was taken by the broker once, and no epoch was lower than one before.
fn nothing_was_done_twice(world: &World) {
    let writes = writes(world);
    let mut count: BTreeMap<(&str, i64), usize> = BTreeMap::new();
    let accepted: Vec<&Write> = writes.iter().filter(|write| write.accepted).collect();
    for write in &accepted {
        *count.entry((&write.policy, write.generation)).or_default() += 1;
    }
    assert!(count.values().all(|count| *count == 1), "{count:?}");
    let orders = accepted
        .iter()
        .map(|write| (write.order.lease_epoch, write.order.sequence));
    let epochs: Vec<i64> = orders.map(|(epoch, _)| epoch).collect();
    assert!(epochs.is_sorted(), "{writes:?}");
}

/// Waits until the broker hears that this pod has ended, of which the cluster knows nothing.
async fn is_told(world: &World, name: &str) {
    let uid = format!("{name}-{}", world.namespace);
    wait(&format!("the end of {name}"), || async { world.broker.end_of(&uid) }).await;
}

async fn synced_events(world: &World) -> BTreeMap<String, usize> {
    let api: Api<Event> = Api::namespaced(world.client.clone(), &world.namespace);
    let all = api.list(&ListParams::default()).await.unwrap();
    let mut count = BTreeMap::new();
    for event in all
        .items
        .into_iter()
        .filter(|event| event.reason.as_deref() == Some("Synced"))
    {
        let times = event.series.map_or(1, |series| usize::try_from(series.count).unwrap());
        *count.entry(event.regarding.unwrap().name.unwrap()).or_default() += times;
    }
    count
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stopped_and_a_killed_leader_are_followed_once() {
    let world = world().await;
    // Before there is a controller.
    create_app(&world, &["read:orders:*"]).await;
    create_token(&world, &["read:orders:1"]).await;
    for name in ["second", "third"] {
        let mut token = token_json(&["read:orders:2"]);
        token["metadata"]["name"] = json!(name);
        let token: LaunchToken = serde_json::from_value(token).unwrap();
        world
            .launch_tokens()
            .create(&PostParams::default(), &token)
            .await
            .unwrap();
    }
    world.broker.hold_pod(&world.namespace, "ended-while-nobody-led");
    let first = Replica::start(&world, "first", LEASE).await;
    first.leads(true).await;
    app_becomes(&world, "Synced").await;
    for name in ["reader", "second", "third"] {
        arrives(&world, name, 1, TAKEN_OVER).await;
    }
    is_told(&world, "ended-while-nobody-led").await;
    let second = Replica::start(&world, "second", LEASE).await;
    second.leads(false).await;
    call(&world, &second).await;
    let _ = (first.written(), second.written());

    // The leader stops while the broker answers it: its next step would be to write the status.
    let load = Load::start(&world);
    let pid = first.pid();
    let namespace = world.namespace.clone();
    world.broker.memory().trap = Some(Trap(Box::new(move |memory| {
        signal(pid, "STOP");
        memory.hold_pod(&namespace, "ended-after-the-stop");
    })));
    let generation = change(&world, "reader", 600).await;
    arrives(&world, "reader", generation, TAKEN_OVER).await;
    second.leads(true).await;
    is_told(&world, "ended-after-the-stop").await;
    load.none_was_refused().await;
    assert!(!second.written().is_empty(), "it wrote the status");
    let _ = first.written();
    let worked = "reconciliations_total{kind=\"LaunchToken\",result=\"ok\"}";
    signal(pid, "CONT");
    first.leads(false).await;
    let before = first.metric(worked).await;
    let generation = change(&world, "second", 600).await;
    arrives(&world, "second", generation, TAKEN_OVER).await;
    wait("the old leader has seen that change", || async {
        (first.metric(worked).await > before).then_some(())
    })
    .await;
    assert_eq!(first.written(), Vec::<String>::new(), "it no longer leads");
    nothing_was_done_twice(&world);

    // Now the other one is killed, and the first leads again.
    call(&world, &first).await;
    let load = Load::start(&world);
    second.kill().await;
    world.broker.hold_pod(&world.namespace, "ended-after-the-kill");
    let generation = change(&world, "third", 600).await;
    arrives(&world, "third", generation, TAKEN_OVER).await;
    first.leads(true).await;
    is_told(&world, "ended-after-the-kill").await;
    load.none_was_refused().await;
    nothing_was_done_twice(&world);
    let mut epochs: Vec<i64> = writes(&world).iter().map(|write| write.order.lease_epoch).collect();
    epochs.dedup();
    assert_eq!(epochs, [1, 2, 3], "one epoch for each lead");
    let told = synced_events(&world).await;
    assert!(
        told.is_empty(),
        "that a new object is well is no news to a new leader either: {told:?}"
    );

    let parameters = DeleteParams::default();
    let all = ListParams::default();
    world
        .launch_tokens()
        .delete_collection(&parameters, &all)
        .await
        .unwrap();
    world.apps().delete("orders", &parameters).await.unwrap();
    wait("the objects are gone", || async {
        let left = world.launch_tokens().list(&all).await.unwrap().items.len();
        (left == 0 && world.apps().get_opt("orders").await.unwrap().is_none()).then_some(())
    })
    .await;
    let namespaces: Api<Namespace> = Api::all(world.client.clone());
    for name in [&world.namespace, &world.release] {
        namespaces.delete(name, &parameters).await.unwrap();
    }
    first.kill().await;
}
