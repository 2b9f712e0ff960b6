//! Whether a pod gets a token is said by a label with four values; whoever means it and says something else is told.

use agentwrit_protocol::inject::{CONTAINER_NAME, POD_ANNOTATIONS};
use http::Method;
use serde_json::{Value, json};

use crate::chart::{POLICIES, RUN};
use crate::objects::{create_pod, pod_json, sentence, times_slower, try_create_pod, very_many, warnings};
use crate::world::{World, wait};

const UNKNOWN: [&str; 6] = ["True", "yes", "no", "False", "on", ""];
const DRY_RUN: &str = "dryRun=All";
const LIST: &str = r#"it must be one of "true", "enabled" to inject, or of "false", "disabled" not to"#;

/// A namespace that the chart's policies are for.
async fn guarded(choice: &str) -> World {
    World::with_labels("opt-in", json!({POLICIES: choice})).await
}

fn pod(labels: &Value, annotations: &Value) -> Value {
    let mut pod = pod_json();
    pod["apiVersion"] = json!("v1");
    pod["kind"] = json!("Pod");
    pod["metadata"] = json!({"name": "shop", "labels": labels, "annotations": annotations});
    pod
}

fn annotated() -> Value {
    pod(&json!({}), &json!({"agentwrit.io/launch-token": "reader"}))
}

/// Creates a pod without storing it.
async fn try_out(world: &World, pod: &Value) -> Result<Vec<String>, String> {
    let path = format!("/api/v1/namespaces/{}/pods?{DRY_RUN}", world.namespace);
    warnings(world, Method::POST, &path, pod).await
}

/// What somebody is told, by a warning in the one choice and by a refusal in the other.
fn told(choice: &str, result: Result<Vec<String>, String>) -> String {
    match (choice, result) {
        ("defaults", Ok(warnings)) => warnings.join("\n"),
        ("others", Err(sentence)) => {
            assert!(sentence.contains("denied request"), "{sentence}");
            sentence
        }
        (choice, result) => panic!("{choice}: {result:?}"),
    }
}

#[tokio::test]
async fn a_pod_with_an_unknown_label_is_refused_with_the_list() {
    let world = World::new("opt-in").await;
    for value in UNKNOWN {
        let mut pod = pod_json();
        pod["metadata"]["labels"] = json!({"agentwrit.io/inject": value});
        let sentence = sentence(try_create_pod(&world, pod).await);
        let start = format!("the label agentwrit.io/inject of the pod is {value:?}; {LIST}");
        assert!(sentence.contains(&start), "{sentence}");
    }
    world.done().await;
}

#[tokio::test]
async fn pods_of_a_namespace_with_an_unknown_label_get_a_warning() {
    for value in UNKNOWN {
        let world = World::with_labels("opt-in", json!({"agentwrit.io/inject": value, POLICIES: "defaults"})).await;
        let plain = pod(&json!({}), &json!({}));
        let told = told("defaults", try_out(&world, &plain).await);
        let name = &world.namespace;
        let start =
            format!("the label agentwrit.io/inject of namespace {name} is {value:?}, so the pod gets no sidecar");
        assert!(told.contains(&start) && told.contains(LIST), "{told}");
        let created = create_pod(&world, plain).await;
        let inits = created.spec.unwrap().init_containers.unwrap_or_default();
        assert!(inits.iter().all(|container| container.name != CONTAINER_NAME));
        world.done().await;
    }
}

#[tokio::test]
async fn annotations_without_the_label_are_warned_about_or_denied() {
    for choice in ["defaults", "others"] {
        let world = guarded(choice).await;
        // The chart names them one by one.
        for key in POD_ANNOTATIONS {
            let told = told(
                choice,
                try_out(&world, &pod(&json!({"app": "shop"}), &json!({key: "x"}))).await,
            );
            let name = &world.namespace;
            let start = format!(
                "the pod has the annotation {key} but no label agentwrit.io/inject, and namespace {name} does not inject by itself"
            );
            let label = r#"set the label agentwrit.io/inject to "true" on the pod, or to "false""#;
            assert!(told.contains(&start) && told.contains(label), "{told}");
        }
        world.done().await;
    }
}

#[tokio::test]
async fn annotations_in_a_namespace_that_is_off_get_a_warning() {
    let labels = json!({"agentwrit.io/inject": "disabled", POLICIES: "others"});
    let world = World::with_labels("opt-in", labels).await;
    let told = told("others", try_out(&world, &annotated()).await);
    assert!(
        told.contains("the pod has the annotation agentwrit.io/launch-token"),
        "{told}"
    );
    assert_eq!(try_out(&world, &pod(&json!({}), &json!({}))).await, Ok(vec![]));
    world.done().await;
}

#[tokio::test]
async fn pods_with_clear_labels_get_no_warning() {
    let annotations = json!({"agentwrit.io/launch-token": "reader"});
    let mut restored = annotated();
    restored["spec"]["initContainers"] = json!([{
        "name": CONTAINER_NAME, "image": "agentwrit-sidecar", "restartPolicy": "Always",
    }]);
    let mut mirror = annotated();
    mirror["metadata"]["annotations"]["kubernetes.io/config.mirror"] = json!("3f2a");
    mirror["spec"]["nodeName"] = json!("node");
    for choice in ["defaults", "others"] {
        let world = guarded(choice).await;
        for good in [
            pod(&json!({}), &json!({})),
            pod(&json!({"agentwrit.io/inject": "false"}), &annotations),
            pod(&json!({"agentwrit.io/inject": "disabled"}), &annotations),
            pod(
                &json!({}),
                &json!({"example.org/launch-token": "x", "xagentwrit.io/y": "z"}),
            ),
            restored.clone(),
            mirror.clone(),
        ] {
            assert_eq!(try_out(&world, &good).await, Ok(vec![]), "{good}");
        }
        // The webhook's own warning: there is no such LaunchToken.
        let injected = try_out(&world, &pod(&json!({"agentwrit.io/inject": "true"}), &annotations)).await;
        let injected = injected.unwrap();
        assert!(
            injected.len() == 1 && injected[0].contains("LaunchToken reader"),
            "{injected:?}"
        );
        world.done().await;

        let labels = json!({"agentwrit.io/inject": "true", POLICIES: choice});
        let world = World::with_labels("opt-in", labels).await;
        let injected = try_out(&world, &annotated()).await.unwrap();
        assert!(
            injected.len() == 1 && injected[0].contains("LaunchToken reader"),
            "{injected:?}"
        );
        world.done().await;
    }
}

/// Each kind with a pod template, whose pods have these labels; by group and name in paths.
fn workloads(labels: &Value) -> Vec<(&'static str, &'static str, Value)> {
    let annotations = json!({"agentwrit.io/launch-token": "reader"});
    let template = json!({"metadata": {"labels": labels, "annotations": annotations}, "spec": annotated()["spec"]});
    let selector = json!({"matchLabels": {"app": "shop"}});
    let mut once = template.clone();
    once["spec"]["restartPolicy"] = json!("Never");
    let job = json!({"spec": {"template": once}});
    [
        (
            "apps",
            "deployments",
            "Deployment",
            json!({"selector": selector, "template": template}),
        ),
        (
            "apps",
            "daemonsets",
            "DaemonSet",
            json!({"selector": selector, "template": template}),
        ),
        (
            "apps",
            "statefulsets",
            "StatefulSet",
            json!({"selector": selector, "serviceName": "shop", "template": template}),
        ),
        ("batch", "jobs", "Job", job["spec"].clone()),
        (
            "batch",
            "cronjobs",
            "CronJob",
            json!({"schedule": "@daily", "jobTemplate": job}),
        ),
    ]
    .map(|(group, plural, kind, spec)| {
        let metadata = json!({"name": "shop"});
        let object = json!({"apiVersion": format!("{group}/v1"), "kind": kind, "metadata": metadata, "spec": spec});
        (group, plural, object)
    })
    .to_vec()
}

#[tokio::test]
async fn templates_are_warned_about_in_either_choice() {
    for choice in ["defaults", "others"] {
        let world = guarded(choice).await;
        let namespace = &world.namespace;
        for (group, plural, object) in workloads(&json!({"app": "shop"})) {
            let path = format!("/apis/{group}/v1/namespaces/{namespace}/{plural}?{DRY_RUN}");
            let told = warnings(&world, Method::POST, &path, &object).await.unwrap().join(
                "
",
            );
            assert!(
                told.contains("the pod has the annotation agentwrit.io/launch-token"),
                "{plural}: {told}"
            );
        }
        for (group, plural, object) in workloads(&json!({"app": "shop", "agentwrit.io/inject": "true"})) {
            let path = format!("/apis/{group}/v1/namespaces/{namespace}/{plural}?{DRY_RUN}");
            assert_eq!(
                warnings(&world, Method::POST, &path, &object).await,
                Ok(vec![]),
                "{plural}"
            );
        }
        world.done().await;
    }
}

#[tokio::test]
async fn a_namespaces_label_is_warned_about_or_denied() {
    for choice in ["defaults", "others"] {
        let world = guarded(choice).await;
        let namespace = |value: &str| {
            let labels = json!({"agentwrit.io/inject": value, POLICIES: choice, RUN: world.run});
            let name = format!("{}-new", world.namespace);
            json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}})
        };
        let path = format!("/api/v1/namespaces?{DRY_RUN}");
        let own = format!("/api/v1/namespaces/{}?{DRY_RUN}", world.namespace);
        let change = |value: &str| json!({"metadata": {"labels": {"agentwrit.io/inject": value}}});
        for value in UNKNOWN {
            for result in [
                warnings(&world, Method::POST, &path, &namespace(value)).await,
                warnings(&world, Method::PATCH, &own, &change(value)).await,
            ] {
                let told = told(choice, result);
                let right = format!("the label agentwrit.io/inject of this namespace is {value:?}; {LIST}");
                assert!(told.contains(&right), "{told}");
            }
        }
        for value in ["true", "enabled", "false", "disabled"] {
            let created = warnings(&world, Method::POST, &path, &namespace(value)).await;
            let changed = warnings(&world, Method::PATCH, &own, &change(value)).await;
            assert_eq!((created, changed), (Ok(vec![]), Ok(vec![])), "{value}");
        }
        world.done().await;
    }
}

/// It may have had the value before there were policies: others must be able to go on with their work on it.
#[tokio::test]
async fn denied_is_a_new_value_and_not_an_old_ones_namespace() {
    let world = World::with_labels("opt-in", json!({"agentwrit.io/inject": "yes"})).await;
    let path = format!("/api/v1/namespaces/{}", world.namespace);
    let labelled = |labels: Value| json!({"metadata": {"labels": labels}});
    let guard = warnings(&world, Method::PATCH, &path, &labelled(json!({POLICIES: "others"}))).await;
    assert_eq!(guard, Ok(vec![]));
    let other = warnings(&world, Method::PATCH, &path, &labelled(json!({"team": "shop"}))).await;
    assert_eq!(other, Ok(vec![]));
    let changed = warnings(
        &world,
        Method::PATCH,
        &path,
        &labelled(json!({"agentwrit.io/inject": "no"})),
    )
    .await;
    assert!(changed.unwrap_err().contains(r#"is "no"; it must be one of"#));
    let taken_off = warnings(
        &world,
        Method::PATCH,
        &path,
        &labelled(json!({"agentwrit.io/inject": null})),
    )
    .await;
    assert_eq!(taken_off, Ok(vec![]));
    world.done().await;
}

#[tokio::test]
async fn the_release_namespace_is_left_alone() {
    let world = World::new("opt-in").await;
    let guard = json!({"metadata": {"labels": {RUN: world.run, POLICIES: "others"}}});
    let namespace = |name: &str| format!("/api/v1/namespaces/{name}");
    // The API server hears of the release namespace's label before that of the other's.
    for name in [&world.release, &world.namespace] {
        let patched = warnings(&world, Method::PATCH, &namespace(name), &guard).await;
        assert_eq!(patched, Ok(vec![]), "{name}");
    }
    wait("a pod in the other namespace is refused", || async {
        try_out(&world, &annotated()).await.err()
    })
    .await;
    let pods = format!("{}/pods?{DRY_RUN}", namespace(&world.release));
    let created = warnings(&world, Method::POST, &pods, &annotated()).await;
    assert_eq!(created, Ok(vec![]));
    let label = json!({"metadata": {"labels": {"agentwrit.io/inject": "yes"}}});
    let own = format!("{}?{DRY_RUN}", namespace(&world.release));
    assert_eq!(warnings(&world, Method::PATCH, &own, &label).await, Ok(vec![]));
    world.done().await;
}

/// Whoever may make a pod or a Deployment could otherwise keep the API server busy.
#[tokio::test]
async fn very_many_annotations_cost_the_api_server_nothing() {
    let world = guarded("others").await;
    let mut objects = vec![("/api/v1", "pods", "/metadata", annotated())];
    let templates = [
        ("/apis/apps/v1", "deployments", "/spec/template/metadata"),
        ("/apis/batch/v1", "cronjobs", "/spec/jobTemplate/spec/template/metadata"),
    ];
    for (group, plural, at) in templates {
        let mut all = workloads(&json!({"app": "shop"})).into_iter();
        let (_, _, object) = all.find(|(_, name, _)| *name == plural).unwrap();
        objects.push((group, plural, at, object));
    }
    for (group, plural, at, mut object) in objects {
        let path = format!("{group}/namespaces/{}/{plural}?{DRY_RUN}", world.namespace);
        object.pointer_mut(at).unwrap()["annotations"] = very_many();
        let mut labelled = object.clone();
        labelled.pointer_mut(at).unwrap()["labels"]["agentwrit.io/inject"] = json!("false");
        let ratio = times_slower(&world, &Method::POST, (&path, &object), (&path, &labelled)).await;
        assert!(ratio < 4.0, "{plural}: {ratio} times");
        object.pointer_mut(at).unwrap()["annotations"]["agentwrit.io/launch-token"] = json!("reader");
        let (Ok(told) | Err(told)) = warnings(&world, Method::POST, &path, &object)
            .await
            .map(|all| all.concat());
        assert!(
            told.contains("the pod has the annotation agentwrit.io/launch-token"),
            "{plural}: {told}"
        );
    }
    world.done().await;
}
