//! The LaunchToken's selector against the labels that the pod has at its launch.

use super::*;

/// LaunchToken `reader` with this selector, at the next generation.
async fn select(world: &World, generation: i64, selector: &Value) {
    let mut launch = world.launch_token(generation, "ready", &["read:orders:*"]);
    launch["spec"]["pod_selector"] = selector.clone();
    world.put_launch_token(&launch).await.ok();
}

/// A pod with these labels.
fn labelled(world: &World, uid: &str, labels: PodLabels) -> Pod {
    let pod = world.pod(uid);
    world
        .cluster
        .change_pod("shop", &pod.name, |facts| facts.labels = labels);
    pod
}

fn labels(of: &[(&str, &str)]) -> PodLabels {
    let labels = of.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
    PodLabels::Read(labels.collect())
}

#[tokio::test]
async fn only_pods_with_the_selectors_labels_are_launched() {
    let world = World::new().await.with_policies().await;
    let tier = json!([
        {"key": "app", "operator": "In", "values": ["orders"]},
        {"key": "tier", "operator": "In", "values": ["web", "api"]},
    ]);
    select(&world, 2, &tier).await;
    let right = labelled(
        &world,
        "p1",
        labels(&[("app", "orders"), ("tier", "api"), ("more", "")]),
    );
    world.launch(&right, &Keys::new(1)).await.ok();
    for (uid, of, unmet) in [
        (
            "p2",
            labels(&[("app", "orders"), ("tier", "batch")]),
            "tier in (web,api)",
        ),
        ("p3", labels(&[("tier", "web")]), "app=orders"),
        ("p4", PodLabels::default(), "app=orders"),
    ] {
        let answer = world.launch(&labelled(&world, uid, of), &Keys::new(2)).await;
        assert_eq!(answer.refusal(), (403, "pod_not_selected"), "{uid}");
        let detail = answer.body["detail"].as_str().unwrap();
        assert!(detail.ends_with(&format!("Not met: {unmet}.")), "{detail}");
        let event = world.last("attestation_denied").await;
        assert_eq!(
            (&event["error_kind"], &event["pod_uid"]),
            (&json!("pod_not_selected"), &json!(uid))
        );
        assert_eq!(event["policy_uid"], "ltok-uid");
    }
    let fed = world.as_controller("GET", "/v1/k8s/denials", &Value::Null).await.ok();
    let fed = fed["denials"].as_array().unwrap();
    assert_eq!((fed.len(), &fed[0]["error_kind"]), (3, &json!("pod_not_selected")));
    assert!(
        fed[0]["message"].as_str().unwrap().contains("tier in (web,api)"),
        "{}",
        fed[0]
    );
}

#[tokio::test]
async fn an_empty_selector_selects_every_pod() {
    let world = World::new().await.with_policies().await;
    select(&world, 2, &json!([])).await;
    world.launch(&world.pod("p1"), &Keys::new(1)).await.ok();
    let crowded = labelled(&world, "p2", PodLabels::TooMany);
    let answer = world.launch(&crowded, &Keys::new(2)).await;
    assert_eq!(
        answer.refusal(),
        (403, "pod_not_selected"),
        "nothing is known of its labels"
    );
    assert!(
        answer.body["detail"]
            .as_str()
            .unwrap()
            .contains(&MAX_POD_LABELS.to_string()),
        "{}",
        answer.body
    );
    assert_eq!(world.last_kind("attestation_denied").await, "pod_labels_too_many");
    // Without a selector nobody asks.
    let none = world.launch_token(3, "ready", &["read:orders:*"]);
    world.put_launch_token(&none).await.ok();
    world.launch(&crowded, &Keys::new(2)).await.ok();
}

#[tokio::test]
async fn labels_and_selector_count_at_the_launch_alone() {
    let world = World::new().await.with_policies().await;
    select(
        &world,
        2,
        &json!([{"key": "tier", "operator": "In", "values": ["web"]}]),
    )
    .await;
    let pod = labelled(&world, "p1", labels(&[("tier", "web")]));
    let token = world.agent(&pod, &Keys::new(1)).await;
    world
        .cluster
        .change_pod("shop", &pod.name, |facts| facts.labels = PodLabels::default());
    let renewed = world.renew(&token).await.ok()["access_token"]
        .as_str()
        .unwrap()
        .to_owned();
    select(
        &world,
        3,
        &json!([{"key": "tier", "operator": "In", "values": ["api"]}]),
    )
    .await;
    assert!(world.stands(&renewed).await, "a selector ends nobody");
    world.renew(&renewed).await.ok();
    assert_eq!(
        world.launch(&pod, &Keys::new(2)).await.refusal(),
        (403, "pod_not_selected")
    );
}

#[tokio::test]
async fn a_selector_that_means_nothing_is_refused_by_name() {
    let world = World::new().await.with_policies().await;
    let table = [
        (json!([{"key": "a b", "operator": "Exists"}]), "spec.pod_selector: key"),
        (json!([{"key": "a", "operator": "In"}]), "spec.pod_selector: values"),
        (
            json!([{"key": "a", "operator": "Gt", "values": ["1"]}]),
            "malformed body: spec.pod_selector",
        ),
        (json!({"key": "a"}), "malformed body: spec.pod_selector"),
    ];
    for (selector, begins) in table {
        let mut launch = world.launch_token(2, "ready", &["read:orders:*"]);
        launch["spec"]["pod_selector"] = selector;
        let answer = world.put_launch_token(&launch).await;
        assert_eq!(answer.refusal(), (400, "invalid_request"), "{launch}");
        assert!(
            answer.body["detail"].as_str().unwrap().starts_with(begins),
            "{}",
            answer.body
        );
    }
}

#[tokio::test]
async fn the_digest_is_that_of_before_without_the_new_fields() {
    let world = World::new().await.with_policies().await;
    let list = world.as_controller("GET", "/v1/k8s/policies", &Value::Null).await.ok();
    // As the version before computed them: a new broker finds nothing to write again.
    let digests: Vec<_> = list["policies"]
        .as_array()
        .unwrap()
        .iter()
        .map(|policy| &policy["digest"])
        .collect();
    assert_eq!(
        digests,
        [
            "420ee93987760e36a00401d7a63feacd0e4b86010c2abc3df5f86a924d7d0642",
            "5ad77ef456caefc82decf119c2fe6bdd0abe3a6e5ff3fffffc5a74ee2886dec7",
        ]
    );
    assert!(
        list["fields"].as_array().unwrap().contains(&json!("podSelector")),
        "{list}"
    );
}
