//! What another team's webhook does to an injected pod: it stays, and what is ours still works; or it is refused.

use agentwrit_protocol::inject::{
    CONTAINER_NAME, IDENTITY_DIR, LABEL_INJECTED, TOKEN_DIR, TOKEN_FILE, VOLUME_IDENTITY, VOLUME_TOKEN,
};
use kube::api::PostParams;
use serde_json::{Value, json};

use crate::objects::pods;
use crate::plugin::{HABIT, HABITS, ORDERS, Order, PATCH, PLUGIN, SEEN};
use crate::world::{World, wait};

/// The tables of the webhook's own tests: patches of the pod below, once it is injected.
const KEPT: &str = include_str!("../../controller/src/webhook/reinvocation/cases/kept.json");
const PUT_BACK: &str = include_str!("../../controller/src/webhook/reinvocation/cases/put_back.json");
const REFUSED: &str = include_str!("../../controller/src/webhook/reinvocation/cases/refused.json");

fn pod(name: &str, annotation: &str, value: &str) -> Value {
    json!({
        "metadata": {
            "name": name,
            "labels": {"agentwrit.io/inject": "true"},
            "annotations": {"agentwrit.io/launch-token": "reader", annotation: value},
        },
        "spec": {
            // Its mounts would come before ours, and the tables count from ours.
            "automountServiceAccountToken": false,
            "initContainers": [{"name": "prepare", "image": "p"}],
            "containers": [{"name": "app", "image": "a"}, {"name": "log", "image": "l"}],
        },
    })
}

/// Creates a pod without storing it: what would be stored, or the sentence of the refusal.
async fn try_out(world: &World, pod: &Value) -> Result<Value, String> {
    let dry_run = PostParams {
        dry_run: true,
        ..PostParams::default()
    };
    let pod = serde_json::from_value(pod.clone()).unwrap();
    match pods(world).create(&dry_run, &pod).await {
        Ok(pod) => Ok(serde_json::to_value(pod).unwrap()),
        Err(kube::Error::Api(status)) => Err(status.message.clone()),
        Err(error) => panic!("{error}"),
    }
}

/// A namespace in which the other webhook is called in this order.
async fn among(order: &Order) -> World {
    let world = World::with_labels("plugins", json!({PLUGIN: order.name})).await;
    wait("the other webhook is called", || async {
        let shown = try_out(&world, &pod("first", HABIT, HABITS[0].name)).await.ok()?;
        shown["metadata"]["annotations"].get(SEEN).map(|_| ())
    })
    .await;
    world
}

/// Whether the other webhook was asked as the order says.
fn assert_asked(order: &Order, stored: &Value, case: &str) {
    let seen: usize = stored["metadata"]["annotations"][SEEN]
        .as_str()
        .unwrap()
        .parse()
        .unwrap();
    assert_eq!(seen > 0, order.meets_sidecar, "{}: {case}: {stored}", order.name);
}

fn named<'a>(list: &'a Value, name: &str) -> &'a Value {
    let mut items = list.as_array().unwrap().iter();
    items.find(|item| item["name"] == name).unwrap_or(&Value::Null)
}

/// The last variable of this name is the one that counts.
fn variable<'a>(container: &'a Value, name: &str) -> &'a Value {
    let mut variables = container["env"].as_array().unwrap().iter().rev();
    variables
        .find(|variable| variable["name"] == name)
        .map_or(&Value::Null, |variable| &variable["value"])
}

/// What makes injection work.
fn assert_works(world: &World, pod: &Value, case: &str) {
    let spec = &pod["spec"];
    let sidecar = named(&spec["initContainers"], CONTAINER_NAME);
    assert_eq!(sidecar["restartPolicy"], "Always", "{case}");
    assert!(sidecar["command"].is_null() && sidecar["args"].is_null(), "{case}");
    assert_eq!(variable(sidecar, "AGENTWRIT_LAUNCH_TOKEN"), "reader", "{case}");
    assert_eq!(variable(sidecar, "AGENTWRIT_ENDPOINT_ENABLED"), "true", "{case}");
    assert!(variable(sidecar, "AGENTWRIT_BROKER_URL").is_string(), "{case}");
    for probe in ["startupProbe", "readinessProbe"] {
        assert!(sidecar[probe].is_object(), "{case}: {probe}");
    }
    let same = |path: &Value, directory: &str| {
        let path = path.as_str().unwrap().replace("/./", "/").replace("//", "/");
        let path = path.trim_end_matches('/').replacen("/var/run/", "/run/", 1);
        path == directory.replacen("/var/run/", "/run/", 1)
    };
    for (volume, directory) in [(VOLUME_TOKEN, TOKEN_DIR), (VOLUME_IDENTITY, IDENTITY_DIR)] {
        let mount = named(&sidecar["volumeMounts"], volume);
        assert!(same(&mount["mountPath"], directory), "{case}: {mount}");
    }
    assert_eq!(
        named(&spec["volumes"], VOLUME_TOKEN)["emptyDir"]["medium"],
        "Memory",
        "{case}"
    );
    let identity = &named(&spec["volumes"], VOLUME_IDENTITY)["projected"]["sources"];
    let audience = format!("agentwrit://{}/agentwrit", world.release);
    assert_eq!(identity[0]["serviceAccountToken"]["audience"], audience, "{case}");
    for container in [
        &spec["containers"][0],
        &spec["containers"][1],
        named(&spec["initContainers"], "prepare"),
    ] {
        let mount = named(&container["volumeMounts"], VOLUME_TOKEN);
        assert!(
            same(&mount["mountPath"], TOKEN_DIR) && mount["readOnly"] == true,
            "{case}: {container}"
        );
        assert!(
            named(&container["volumeMounts"], VOLUME_IDENTITY).is_null(),
            "{case}: {container}"
        );
        assert_eq!(variable(container, "AGENTWRIT_TOKEN_FILE"), TOKEN_FILE, "{case}");
    }
    assert_eq!(pod["metadata"]["labels"][LABEL_INJECTED], "true", "{case}");
}

/// Whether all of `part` is in `whole`; items of lists are found by their names. The API server leaves out what is empty.
fn holds(whole: &Value, part: &Value) -> bool {
    match (whole, part) {
        (Value::Object(whole), Value::Object(part)) => part
            .iter()
            .all(|(key, part)| *part == "" || whole.get(key).is_some_and(|whole| holds(whole, part))),
        (Value::Array(whole), Value::Array(part)) => part.iter().all(|part| {
            let mut same = whole.iter().filter(|whole| whole["name"] == part["name"]);
            same.any(|whole| holds(whole, part))
        }),
        (whole, part) => whole == part,
    }
}

#[tokio::test]
async fn changes_of_another_webhook_are_kept_beside_ours() {
    for order in &ORDERS {
        let world = among(order).await;
        for habit in &HABITS {
            let case = format!("{}: {}", order.name, habit.name);
            let stored = try_out(&world, &pod("shop", HABIT, habit.name)).await;
            let stored = stored.unwrap_or_else(|sentence| panic!("{case}: {sentence}"));
            assert_asked(order, &stored, &case);
            assert_works(&world, &stored, &case);
            // A further call would change nothing: all that it does is done, on the sidecar too where it met it.
            let mut again = stored.clone();
            if !order.meets_sidecar {
                let inits = again["spec"]["initContainers"].as_array_mut().unwrap();
                inits.retain(|container| container["name"] != CONTAINER_NAME);
            }
            let before = again.clone();
            (habit.act)(&mut again);
            assert_eq!(again, before, "{case}");
        }
        world.done().await;
    }
}

fn table(text: &str, name: &str) -> Vec<(String, String)> {
    let cases: Vec<Value> = serde_json::from_str(text).unwrap();
    let pairs = cases
        .iter()
        .map(|case| (case[name].as_str().unwrap().to_owned(), case["patch"].to_string()));
    pairs.collect()
}

/// The pod as a webhook that is called after ours finds it, with this patch.
fn patched(injected: &Value, patch: &str) -> Value {
    let mut pod = injected.clone();
    let patch: json_patch::Patch = serde_json::from_str(patch).unwrap();
    json_patch::patch(&mut pod, &patch).unwrap();
    pod
}

#[tokio::test]
async fn what_another_webhook_adds_to_the_injected_pod_is_kept() {
    for order in ORDERS.iter().filter(|order| order.meets_sidecar) {
        let world = among(order).await;
        let injected = try_out(&world, &pod("shop", PATCH, "[]")).await.unwrap();
        for (what, patch) in table(KEPT, "what") {
            let case = format!("{}: {what}", order.name);
            let stored = try_out(&world, &pod("shop", PATCH, &patch)).await;
            let stored = stored.unwrap_or_else(|sentence| panic!("{case}: {sentence}"));
            assert_asked(order, &stored, &case);
            assert_works(&world, &stored, &case);
            let added = patched(&injected, &patch);
            assert!(holds(&stored["spec"], &added["spec"]), "{case}: {stored:#}");
        }
        world.done().await;
    }
}

#[tokio::test]
async fn what_another_webhook_takes_away_is_put_back() {
    for order in ORDERS.iter().filter(|order| order.meets_sidecar) {
        let world = among(order).await;
        for (what, patch) in table(PUT_BACK, "what") {
            // Without its label our webhook isn't asked again: that other says that the pod isn't to be injected.
            if what == "the label" {
                continue;
            }
            let case = format!("{}: {what}", order.name);
            let stored = try_out(&world, &pod("shop", PATCH, &patch)).await;
            let stored = stored.unwrap_or_else(|sentence| panic!("{case}: {sentence}"));
            assert_works(&world, &stored, &case);
        }
        world.done().await;
    }
}

/// What a sentence of the table says on this installation.
fn as_it_is_said_here(world: &World, says: &str) -> String {
    let broker = format!("http://{}", world.broker_address);
    let audience = format!("agentwrit://{}/agentwrit", world.release);
    says.replace("https://broker:8443", &broker)
        .replace("agentwrit://a/b", &audience)
}

#[tokio::test]
async fn changes_that_break_the_injected_pod_are_refused() {
    for order in ORDERS.iter().filter(|order| order.meets_sidecar) {
        let world = among(order).await;
        for (says, patch) in table(REFUSED, "says") {
            // The API server makes an emptyDir of such a volume before a webhook sees it.
            if says.contains(": its source is unset") {
                continue;
            }
            let case = format!("{}: {says}", order.name);
            let part = as_it_is_said_here(&world, &says);
            let refused = try_out(&world, &pod("shop", PATCH, &patch)).await.expect_err(&case);
            assert!(
                refused.contains("denied the request") && refused.contains(&part),
                "{case}: {refused}"
            );
        }
        world.done().await;
    }
}
