//! Launches of pods: who gets a launch token, and every way not to.

use agentwrit_attest::{PodFacts, SidecarPolicy};
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
async fn what_is_asked_wrongly_is_named() {
    let world = World::new().await.with_policies().await;
    let (pod, key) = (world.pod("p1"), Keys::new(1).public());
    let table = [
        (json!({"public_key": key}), "invalid_request", "policy"),
        (
            json!({"policy": "Reader", "public_key": key}),
            "invalid_request",
            "policy",
        ),
        (json!({"policy": "reader"}), "invalid_request", "public_key"),
        (
            json!({"policy": "reader", "public_key": "AAAA"}),
            "invalid_request",
            "public_key",
        ),
        (
            json!({"policy": "reader", "public_key": "AQAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="}),
            "invalid_request",
            "public_key",
        ),
        (
            json!({"policy": "reader", "public_key": key, "scopes": ["read"]}),
            "invalid_scope_format",
            "scopes",
        ),
        (
            json!({"policy": "reader", "public_key": key, "ttl_seconds": 0}),
            "invalid_ttl",
            "ttl_seconds",
        ),
        (json!({"policy": 5}), "invalid_request", "malformed"),
    ];
    for (body, code, field) in table {
        let answer = world.call("POST", "/v1/k8s/launch-tokens", &pod.bearer(), &body).await;
        assert_eq!(answer.refusal(), (400, code), "{body}");
        assert!(
            answer.body["detail"].as_str().unwrap().starts_with(field),
            "{}",
            answer.body
        );
    }
    let answer = world.post_as(&pod.bearer(), "/v1/k8s/launch-tokens", "{").await;
    assert_eq!(answer.refusal(), (400, "invalid_request"));
    assert_eq!(answer.body["detail"], "malformed JSON body");
}

#[tokio::test]
async fn strangers_are_refused_alike_and_audited_precisely() {
    let world = World::new().await.with_policies().await;
    let pod = world.pod("p1");
    let table = [
        (String::new(), "bearer_missing"),
        ("a.b".into(), "bearer_malformed"),
        (format!("{}x", "a.".repeat(3)), "bearer_malformed"),
        (
            pod.bearer_with(&json!({"aud": ["https://kubernetes.default.svc"]})),
            "bearer_wrong_audience",
        ),
        (pod.bearer_with(&json!({"exp": START - 3600})), "bearer_expired"),
        (pod.bearer_with(&json!({"forged": true})), "token_rejected"),
        (
            pod.bearer_with(&json!({"confirmed": "https://kubernetes.default.svc"})),
            "audience_not_confirmed",
        ),
        (
            pod.bearer_with(&json!({"sub": "kubernetes-admin"})),
            "not_a_service_account",
        ),
        (pod.bearer_with(&json!({"uid": null})), "not_bound_to_pod"),
    ];
    for (bearer, kind) in table {
        let body = json!({"policy": "reader", "public_key": Keys::new(1).public()});
        let answer = world.call("POST", "/v1/k8s/launch-tokens", &bearer, &body).await;
        assert_eq!(answer.refusal(), (403, "forbidden"), "{kind}");
        assert_eq!(answer.body["detail"], "the caller is not allowed to do this", "{kind}");
        assert!(answer.headers.contains_key("agentwrit-epoch"), "{kind}");
        assert_eq!(world.last_kind("attestation_denied").await, kind);
    }
    assert!(world.events("event_type=launch_token_issued").await.is_empty());
}

#[tokio::test]
async fn only_the_living_pod_itself_is_launched() {
    type Change = fn(&mut PodFacts);
    let table: [(Change, &str); 8] = [
        (|p| p.uid = "p2".into(), "pod_replaced"),
        (|p| p.terminating = true, "pod_terminating"),
        (|p| p.phase = "Succeeded".into(), "pod_finished"),
        (|p| p.service_account = "default".into(), "pod_service_account_differs"),
        (|p| p.sidecar = SidecarPolicy::NoSidecar, "sidecar_missing"),
        (|p| p.sidecar = SidecarPolicy::Missing, "sidecar_policy_missing"),
        (|p| p.sidecar = SidecarPolicy::Unclear, "sidecar_policy_unclear"),
        (
            |p| p.sidecar = SidecarPolicy::Named("other".into()),
            "sidecar_policy_mismatch",
        ),
    ];
    let world = World::new().await.with_policies().await;
    for (change, kind) in table {
        let pod = world.pod("p1");
        world.cluster.change_pod("shop", "pod-p1", change);
        assert_eq!(
            world.launch(&pod, &Keys::new(1)).await.refusal(),
            (403, "forbidden"),
            "{kind}"
        );
        assert_eq!(world.last_kind("attestation_denied").await, kind);
    }
    let pod = world.pod("p1");
    world.cluster.remove_pod("shop", "pod-p1");
    assert_eq!(world.launch(&pod, &Keys::new(1)).await.refusal(), (403, "forbidden"));
    assert_eq!(world.last_kind("attestation_denied").await, "pod_not_found");
}

/// It keeps the init container, and loses labels and annotations; it is a pod of its own.
#[tokio::test]
async fn a_copy_of_a_pod_is_known_by_its_container_alone() {
    let facts = json!({
        "metadata": {"name": "pod-p1", "uid": "p1"},
        "spec": {"serviceAccountName": "reader", "initContainers": [{
            "name": "agentwrit-sidecar", "restartPolicy": "Always",
            "env": [{"name": "AGENTWRIT_LAUNCH_TOKEN", "value": "reader"}],
        }]},
        "status": {"phase": "Pending"},
    });
    let world = World::new().await.with_policies().await;
    let pod = world.pod("p1");
    let facts = PodFacts::from_json(&facts.to_string()).unwrap();
    world.cluster.put_pod("shop", "pod-p1", facts.clone());
    assert_eq!(world.launch(&pod, &Keys::new(1)).await.status, 201);
    // One that left the container out is told what is missing and where to read on.
    let bare = PodFacts {
        sidecar: SidecarPolicy::NoSidecar,
        ..facts
    };
    world.cluster.put_pod("shop", "pod-p1", bare);
    let answer = world.launch(&pod, &Keys::new(1)).await;
    let detail = answer.body["detail"].as_str().unwrap();
    for part in ["no init container", "agentwrit-sidecar", "docs/debugging.md"] {
        assert!(detail.contains(part), "{detail}");
    }
}

#[tokio::test]
async fn the_policy_must_exist_in_the_pods_own_namespace_and_list_its_service_account() {
    let world = World::new().await.with_policies().await;
    let elsewhere = Pod {
        namespace: "other".into(),
        ..world.pod("p9")
    };
    let facts = |policy: &str, account: &str, uid: &str| PodFacts {
        uid: uid.into(),
        terminating: false,
        phase: "Pending".into(),
        service_account: account.into(),
        node: None,
        sidecar: SidecarPolicy::Named(policy.into()),
    };
    world
        .cluster
        .put_pod("other", &elsewhere.name, facts("reader", "reader", "p9"));
    let answer = world.launch(&elsewhere, &Keys::new(1)).await;
    assert_eq!(answer.refusal(), (404, "launch_token_not_found"));
    assert_eq!(world.last_kind("attestation_denied").await, "launch_token_not_found");

    let stranger = Pod {
        service_account: "default".into(),
        ..world.pod("p2")
    };
    world
        .cluster
        .put_pod("shop", &stranger.name, facts("reader", "default", "p2"));
    let answer = world.launch(&stranger, &Keys::new(1)).await;
    assert_eq!(answer.refusal(), (403, "service_account_not_allowed"));
    assert!(
        answer.body["detail"].as_str().unwrap().contains("\"default\""),
        "{}",
        answer.body
    );
    assert_eq!(
        world.last_kind("attestation_denied").await,
        "service_account_not_allowed"
    );
}

#[tokio::test]
async fn each_state_of_the_policies_has_its_answer() {
    let world = World::new().await.with_policies().await;
    let (pod, keys) = (world.pod("p1"), Keys::new(1));
    let scopes: &[&str] = &["read:orders:*"];
    let mut withdrawn = world.launch_token(2, "not_ready", scopes);
    withdrawn["reason"] = json!("ScopeExceedsCeiling");
    world.put_launch_token(&withdrawn).await.ok();
    let answer = world.launch(&pod, &keys).await;
    assert_eq!(answer.refusal(), (403, "policy_not_ready"));
    assert!(
        answer.body["detail"].as_str().unwrap().contains("ScopeExceedsCeiling"),
        "{}",
        answer.body
    );
    assert_eq!(world.last_kind("attestation_denied").await, "launch_token_not_ready");

    world
        .put_launch_token(&world.launch_token(2, "suspended", scopes))
        .await
        .ok();
    assert_eq!(world.launch(&pod, &keys).await.refusal(), (403, "suspended"));
    assert_eq!(world.last_kind("attestation_denied").await, "launch_token_suspended");

    world
        .put_launch_token(&world.launch_token(3, "ready", scopes))
        .await
        .ok();
    world.put_app(&world.app(2, "not_ready", scopes)).await.ok();
    assert_eq!(world.launch(&pod, &keys).await.refusal(), (403, "policy_not_ready"));
    assert_eq!(world.last_kind("attestation_denied").await, "app_not_ready");

    world.put_app(&world.app(2, "suspended", scopes)).await.ok();
    assert_eq!(world.launch(&pod, &keys).await.refusal(), (403, "suspended"));
    assert_eq!(world.last_kind("attestation_denied").await, "app_suspended");

    world.put_app(&world.app(3, "ready", scopes)).await.ok();
    world.launch(&pod, &keys).await.ok();
}

#[tokio::test]
async fn what_app_and_launch_token_do_not_both_allow_is_not_granted() {
    let world = World::new().await.with_policies().await;
    world
        .put_app(&world.app(2, "ready", &["read:orders:7", "write:orders:*"]))
        .await
        .ok();
    let launched = World::launched(world.launch(&world.pod("p1"), &Keys::new(1)).await);
    assert_eq!(launched.scopes, ["read:orders:7"]);
    world.put_app(&world.app(3, "ready", &["write:orders:*"])).await.ok();
    assert_eq!(
        world.launch(&world.pod("p2"), &Keys::new(1)).await.refusal(),
        (403, "forbidden")
    );
    assert_eq!(world.last_kind("attestation_denied").await, "scope_not_allowed");
}

#[tokio::test]
async fn a_pod_launches_three_times_at_once_and_then_every_ten_seconds() {
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
async fn one_source_asks_so_often_and_no_more() {
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
async fn an_api_server_that_is_away_is_503_and_never_403() {
    let world = World::new().await.with_policies().await;
    let (pod, keys) = (world.pod("p1"), Keys::new(1));
    world.cluster.go_away(true);
    let answer = world.launch(&pod, &keys).await;
    assert_eq!(answer.refusal(), (503, "unavailable"));
    assert!(answer.headers.contains_key("retry-after"));
    world.clock.advance(10);
    let answer = world.as_controller("GET", "/v1/k8s/policies", &Value::Null).await;
    assert_eq!(answer.refusal(), (503, "unavailable"));
    assert!(world.events("event_type=attestation_denied").await.is_empty());
    world.cluster.go_away(false);
    world.launch(&pod, &keys).await.ok();
}

#[tokio::test]
async fn refusals_of_pods_are_fed_to_the_controller_and_those_of_strangers_are_not() {
    let world = World::new().await.with_policies().await;
    let pod = Pod {
        policy: "absent".into(),
        ..world.pod("p1")
    };
    world
        .cluster
        .change_pod("shop", "pod-p1", |p| p.sidecar = SidecarPolicy::Named("absent".into()));
    world.launch(&pod, &Keys::new(1)).await;
    world.call("POST", "/v1/k8s/launch-tokens", "a.b.c", &json!({})).await;
    world.launch(&pod, &Keys::new(1)).await;
    let first = world.as_controller("GET", "/v1/k8s/denials", &Value::Null).await.ok();
    let denials = first["denials"].as_array().unwrap();
    assert_eq!(denials.len(), 2);
    let denial = &denials[0];
    assert_eq!(
        (denial["namespace"].as_str(), denial["pod"].as_str()),
        (Some("shop"), Some("pod-p1"))
    );
    assert_eq!(
        (denial["pod_uid"].as_str(), denial["policy"].as_str()),
        (Some("p1"), Some("absent"))
    );
    assert_eq!(denial["error_kind"], "launch_token_not_found");
    assert!(
        denial["message"].as_str().unwrap().starts_with("LaunchToken absent: "),
        "{denial}"
    );

    let after = denials[0]["cursor"].as_i64().unwrap();
    let rest = world
        .as_controller("GET", &format!("/v1/k8s/denials?after={after}"), &Value::Null)
        .await
        .ok();
    assert_eq!(rest["denials"].as_array().unwrap().len(), 1);
    assert_eq!(rest["next"], first["next"]);
    let none = world
        .as_controller("GET", &format!("/v1/k8s/denials?after={}", rest["next"]), &Value::Null)
        .await
        .ok();
    assert_eq!(
        (none["denials"].as_array().unwrap().len(), &none["next"]),
        (0, &rest["next"])
    );
    let wrong = world
        .as_controller("GET", "/v1/k8s/denials?after=x", &Value::Null)
        .await;
    assert_eq!(wrong.refusal(), (400, "invalid_request"));
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
