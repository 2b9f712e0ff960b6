//! What the life of a pod moves.

use agentwrit_attest::{PodFacts, SidecarPolicy};
use agentwrit_testkit::{AUDIENCE, CONTROLLER, FakeCluster, Keys, START, claims, service_account_token};
use serde_json::json;

use super::LAUNCHED;
use super::meter::Meter;

pub async fn pod(meter: &mut Meter, cluster: &FakeCluster) {
    let uid = "p1";
    let facts = PodFacts {
        uid: uid.into(),
        phase: "Running".to_owned(),
        service_account: "reader".to_owned(),
        sidecar: SidecarPolicy::Named("reader".to_owned()),
        ..PodFacts::default()
    };
    cluster.put_pod("shop", "pod-p1", facts);
    let bearer = |sub: &str| {
        let claims = json!({"aud": [AUDIENCE], "exp": START + 100_000, "sub": sub, "pod": "pod-p1", "uid": uid});
        service_account_token(&claims)
    };
    let (controller, pod) = (bearer(CONTROLLER), bearer("system:serviceaccount:shop:reader"));
    let policies = [
        (
            "apps/shop/orders",
            json!({"scopes": ["read:data:*"], "max_agent_ttl_seconds": 3600}),
        ),
        (
            "launch-tokens/shop/reader",
            json!({
                "app": "orders", "agent_name": "reader", "allowed_scopes": ["read:data:*"], "max_ttl_seconds": 300,
                "service_account_names": ["reader"],
            }),
        ),
    ];
    for (sequence, (place, spec)) in (1..).zip(&policies) {
        let put = json!({
            "uid": "u", "generation": 1, "order": {"lease_epoch": 1, "sequence": sequence}, "state": "ready", "spec": spec,
        });
        let path = format!("/v1/k8s/policies/{place}");
        let answer = meter.harness.send_as(&controller, "PUT", &path, put.to_string()).await;
        answer.ok();
        meter.moved(&["event policy_applied"]).await;
    }
    for path in ["policies", "denials?after=0", "signing-keys"] {
        meter.harness.get_as(&controller, &format!("/v1/k8s/{path}")).await.ok();
    }
    let mark = json!({"mark": ""}).to_string();
    meter.harness.post_as(&controller, "/v1/k8s/mark", &mark).await.ok();
    let unknown = meter.harness.get_as(&controller, "/v1/k8s/unknown").await;
    assert_eq!(unknown.status, 404);
    meter.moved(&[]).await;
    let public = Keys::default().public();
    let wish = json!({"policy": "reader", "public_key": public}).to_string();
    let path = "/v1/k8s/launch-tokens";
    let mut agents = Vec::new();
    for _ in 0..2 {
        let launched = meter.harness.post_as(&pod, path, &wish).await.ok();
        meter
            .moved(&[LAUNCHED, &["attestations_total{outcome=\"launched\"}"]].concat())
            .await;
        let changes = json!({"orch_id": launched["orch_id"], "task_id": launched["task_id"]});
        let launch = launched["launch_token"].as_str().unwrap();
        let registered = meter.harness.register(launch, changes).await.ok();
        agents.push(registered["access_token"].as_str().unwrap().to_owned());
        let mut wanted = vec![
            "registrations_total{status=\"success\"}",
            "tokens_issued_total{scope=\"read:data:x\"}",
            "event agent_registered",
            "event token_issued",
            "status_indexes_free",
        ];
        // The second takes the place of the first.
        wanted.push(["active_agents", "event agent_superseded"][agents.len() - 1]);
        meter.moved(&wanted).await;
    }
    let answer = meter.harness.post_as(&controller, path, &wish).await;
    assert_eq!(answer.status, 403);
    let denied = meter.deltas().await;
    assert_eq!(denied["event attestation_denied"], 1, "{denied:?}");
    cluster.go_away(true);
    assert_eq!(meter.harness.post_as(&pod, path, &wish).await.status, 503);
    meter.moved(&["attestations_total{outcome=\"unavailable\"}"]).await;
    cluster.go_away(false);

    let admin = meter.harness.admin().await;
    let body = json!({"level": "agent", "target": claims(&agents[1])["sub"]}).to_string();
    meter.harness.post_as(&admin, "/v1/revoke", body).await.ok();
    let deltas = meter.deltas().await;
    assert_eq!(deltas["event pod_quarantined"], 1, "{deltas:?}");
    assert!(deltas["active_agents"] < 0, "{deltas:?}");
    meter.harness.post_as(&admin, "/v1/k8s/pods/p1/release", "").await.ok();
    meter.moved(&["event pod_released"]).await;
    let end = json!({"namespace": "shop", "name": "pod-p1", "reason": "deleted"}).to_string();
    meter
        .harness
        .post_as(&controller, "/v1/k8s/pods/p1/ended", end)
        .await
        .ok();
    assert_eq!(meter.deltas().await["event pod_ended"], 1);
    let path = format!(
        "/v1/k8s/policies/{}?uid=u&lease_epoch=1&sequence=9&revoke=true",
        policies[1].0
    );
    meter.harness.send_as(&controller, "DELETE", &path, "").await.ok();
    meter.moved(&["event policy_removed"]).await;
}
