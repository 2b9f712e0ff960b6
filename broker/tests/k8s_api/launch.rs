//! Launches of pods: who gets a launch token, and every way not to.

mod refused;
mod selected;

use agentwrit_attest::{MAX_POD_LABELS, PodFacts, PodLabels, SidecarPolicy};
use agentwrit_testkit::{AUDIENCE, Keys, Pod, START, World, controller, service_account_token};
use serde_json::{Value, json};

#[tokio::test]
async fn a_pod_gets_a_launch_token_bound_to_itself() {
    let world = World::new().await.with_policies().await;
    let answer = world.launch(&world.pod("p1"), &Keys::new(1)).await;
    assert_eq!(answer.status, 201);
    assert_eq!(answer.body["orch_id"], "k8s.shop.orders");
    assert_eq!(answer.body["task_id"], "p1");
    assert_eq!(
        answer.body["policy"],
        json!({"allowed_scope": ["read:orders:*"], "max_ttl": 300})
    );
    assert_eq!(answer.body["launch_token"].as_str().unwrap().len(), 64);
    assert!(answer.body["expires_at"].as_str().unwrap().ends_with('Z'));

    let events = world.events("event_type=launch_token_issued").await;
    let event = events.last().unwrap();
    assert_eq!(event["pod_uid"], "p1");
    assert_eq!(event["policy_uid"], "ltok-uid");
    assert_eq!(event["actor"], "system:serviceaccount:shop:reader");
    assert_eq!(event["source"], "10.0.0.7");
    assert_eq!(event["correlation_id"].as_str().unwrap().len(), 32);
    assert!(
        event["detail"].as_str().unwrap().contains("shop/pod-p1 on node node-1"),
        "{event}"
    );
    assert!(
        !event
            .to_string()
            .contains(answer.body["launch_token"].as_str().unwrap())
    );
}

#[tokio::test]
async fn the_whole_session_carries_the_correlation_id_of_its_launch() {
    let world = World::new().await.with_policies().await;
    let token = world.agent(&world.pod("p1"), &Keys::new(1)).await;
    let id = world.events("event_type=launch_token_issued").await[0]["correlation_id"]
        .as_str()
        .unwrap()
        .to_owned();
    let renewed = world.renew(&token).await.ok()["access_token"]
        .as_str()
        .unwrap()
        .to_owned();
    world
        .call("POST", "/v1/token/release", &renewed, &Value::Null)
        .await
        .ok();
    let types: Vec<String> = world
        .events(&format!("correlation_id={id}"))
        .await
        .iter()
        .map(|event| event["event_type"].as_str().unwrap().to_owned())
        .collect();
    let wanted = [
        "launch_token_issued",
        "agent_registered",
        "token_issued",
        "token_renewed",
        "token_released",
    ];
    assert_eq!(types, wanted);
    assert_eq!(world.events("pod_uid=p1").await.len(), wanted.len());
}

#[tokio::test]
async fn a_pod_may_ask_for_less_and_never_for_more() {
    let world = World::new().await.with_policies().await;
    let (pod, keys) = (world.pod("p1"), Keys::new(1));
    let ask = |more: Value| {
        let mut body = json!({"policy": "reader", "public_key": keys.public()});
        for (key, value) in more.as_object().unwrap() {
            body[key] = value.clone();
        }
        body
    };
    let less = ask(json!({"scopes": ["read:orders:7"], "ttl_seconds": 20}));
    let answer = world
        .call("POST", "/v1/k8s/launch-tokens", &pod.bearer(), &less)
        .await
        .ok();
    assert_eq!(
        answer["policy"],
        json!({"allowed_scope": ["read:orders:7"], "max_ttl": 20})
    );
    let longer = ask(json!({"ttl_seconds": 9999}));
    let answer = world
        .call("POST", "/v1/k8s/launch-tokens", &pod.bearer(), &longer)
        .await
        .ok();
    assert_eq!(answer["policy"]["max_ttl"], 300);
    let more = ask(json!({"scopes": ["read:orders:7", "write:orders:7"]}));
    let answer = world.call("POST", "/v1/k8s/launch-tokens", &pod.bearer(), &more).await;
    assert_eq!(answer.refusal(), (403, "forbidden"));
    assert!(
        answer.body["detail"].as_str().unwrap().contains("write:orders:7"),
        "{}",
        answer.body
    );
    assert_eq!(world.last_kind("attestation_denied").await, "scope_not_allowed");
}

#[tokio::test]
async fn a_pod_may_launch_thrice_and_then_every_ten_seconds() {
    let world = World::new().await.with_policies().await;
    let (pod, keys) = (world.pod("p1"), Keys::new(1));
    for _ in 0..3 {
        world.launch(&pod, &keys).await.ok();
    }
    let answer = world.launch(&pod, &keys).await;
    assert_eq!(answer.refusal(), (429, "rate_limited"));
    assert_eq!(answer.headers["retry-after"], "10");
    assert_eq!(world.last_kind("attestation_denied").await, "pod_rate_limited");
    world.launch(&world.pod("p2"), &keys).await.ok();
    world.clock.advance(10);
    world.launch(&pod, &keys).await.ok();
    assert_eq!(world.launch(&pod, &keys).await.refusal(), (429, "rate_limited"));
}

#[tokio::test]
async fn launches_are_rate_limited_by_source() {
    let world = World::new().await.with_policies().await;
    let bearer = world.pod("p1").bearer_with(&json!({"forged": true}));
    let mut limited = None;
    for _ in 0..300 {
        let answer = world.call("POST", "/v1/k8s/launch-tokens", &bearer, &json!({})).await;
        if answer.status == 429 {
            limited = Some(answer);
            break;
        }
    }
    assert_eq!(limited.unwrap().refusal(), (429, "rate_limited"));
    assert_eq!(world.last_kind("attestation_denied").await, "source_rate_limited");
}

#[tokio::test]
async fn only_the_controller_reads_and_writes() {
    let world = World::new().await.with_policies().await;
    let impostor = service_account_token(&json!({
        "aud": [AUDIENCE], "exp": 9_000_000_000_i64, "sub": "system:serviceaccount:shop:agentwrit-controller",
    }));
    let pod = world.pod("p1").bearer();
    let admin = world.admin().await;
    let calls = [
        ("GET", "/v1/k8s/policies"),
        ("PUT", "/v1/k8s/policies"),
        ("PUT", "/v1/k8s/policies/apps/shop/orders"),
        ("PUT", "/v1/k8s/policies/launch-tokens/shop/reader"),
        (
            "DELETE",
            "/v1/k8s/policies/apps/shop/orders?uid=app-uid&lease_epoch=9&sequence=9&revoke=true",
        ),
        (
            "DELETE",
            "/v1/k8s/policies/launch-tokens/shop/reader?uid=ltok-uid&lease_epoch=9&sequence=9&revoke=true",
        ),
        ("POST", "/v1/k8s/mark"),
        ("POST", "/v1/k8s/pods/p1/ended"),
        ("GET", "/v1/k8s/denials"),
    ];
    for (method, path) in calls {
        for bearer in ["", &impostor, &pod, &admin] {
            let answer = world.call(method, path, bearer, &Value::Null).await;
            assert_eq!(answer.refusal(), (403, "forbidden"), "{method} {path} {bearer}");
            assert!(answer.headers.contains_key("agentwrit-epoch"));
        }
    }
    assert_eq!(world.last_kind("attestation_denied").await, "bearer_wrong_audience");
    let denied = world.events("error_kind=not_controller").await;
    assert!(
        denied
            .iter()
            .any(|event| event["actor"] == "system:serviceaccount:shop:agentwrit-controller")
    );
}

#[tokio::test]
async fn launches_and_refusals_are_counted() {
    let world = World::new().await.with_policies().await;
    world.launch(&world.pod("p1"), &Keys::new(1)).await.ok();
    let pod = world.pod("p2");
    world.cluster.remove_pod("shop", "pod-p2");
    world.launch(&pod, &Keys::new(1)).await;
    let text = world.get("/v1/metrics").await.text;
    for line in [
        "agentwrit_attestations_total{outcome=\"launched\"} 1",
        "agentwrit_attestations_total{outcome=\"pod_not_found\"} 1",
        "agentwrit_attestation_api_seconds_count{call=\"pod\"} 2",
        "agentwrit_launch_tokens_created_total 1",
    ] {
        assert!(text.contains(line), "{line}\n{text}");
    }
}

#[tokio::test]
async fn without_its_settings_the_api_is_not_there() {
    let world = World::without_attestation().await;
    for (method, path) in [
        ("GET", "/v1/k8s/policies"),
        ("POST", "/v1/k8s/launch-tokens"),
        ("POST", "/v1/k8s/pods/p1/release"),
    ] {
        let answer = world.call(method, path, &controller(), &json!({})).await;
        assert_eq!(answer.refusal(), (404, "not_found"), "{path}");
        assert!(!answer.headers.contains_key("agentwrit-epoch"));
    }
}
