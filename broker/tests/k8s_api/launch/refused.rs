//! Every way not to get a launch token.

use super::*;

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
async fn the_policy_is_of_the_pods_namespace_and_service_account() {
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
        labels: PodLabels::default(),
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
async fn only_scopes_of_both_app_and_launch_token_are_granted() {
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
async fn only_refusals_of_real_pods_are_fed_to_the_controller() {
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
