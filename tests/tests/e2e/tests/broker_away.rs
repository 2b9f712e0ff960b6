//! The broker goes and comes back, with and without its memory. Each of these has the cluster to itself.

use std::time::Duration;

use agentwrit_protocol::inject;
use tokio::time::Instant;

use crate::cluster::{SYSTEM, alone, kubectl, script};
use crate::shop::{POD_START, PodSpec, Shop, app, app_started, describe, sidecar};
use crate::wait::{always, eventually, seconds};

const STATEFUL_SET: &str = "statefulset/agentwrit-broker";
const POD: &str = "pod/agentwrit-broker-0";

fn scale(replicas: &str) {
    let flag = format!("--replicas={replicas}");
    kubectl(&["--namespace", SYSTEM, "scale", STATEFUL_SET, &flag]).unwrap();
    if replicas == "0" {
        kubectl(&["--namespace", SYSTEM, "wait", "--for=delete", POD, "--timeout=60s"]).unwrap();
    }
}

fn broker_is_back() {
    kubectl(&[
        "--namespace",
        SYSTEM,
        "rollout",
        "status",
        STATEFUL_SET,
        "--timeout=90s",
    ])
    .unwrap();
}

/// Whatever a test does, the broker is there for the next one.
struct Restored;

impl Drop for Restored {
    fn drop(&mut self) {
        let _ = kubectl(&["--namespace", SYSTEM, "scale", STATEFUL_SET, "--replicas=1"]);
        let _ = kubectl(&[
            "--namespace",
            SYSTEM,
            "rollout",
            "status",
            STATEFUL_SET,
            "--timeout=90s",
        ]);
    }
}

#[tokio::test]
async fn a_pod_started_while_the_broker_is_away_waits_without_crashing() {
    let _installation = alone().await;
    let _restored = Restored;
    let shop = Shop::open("away").await;
    scale("0");
    shop.create_pod(&PodSpec::reader("reader")).await;
    eventually("the sidecar runs", POD_START, async || {
        let pod = shop.pod("reader").await;
        let started = sidecar(&pod)
            .and_then(|status| status.state.clone())
            .and_then(|state| state.running);
        started.map(|_| ()).ok_or_else(|| describe(&pod))
    })
    .await;
    always(
        "the application doesn't start without a token",
        seconds(8),
        async || {
            let pod = shop.pod("reader").await;
            let restarts = sidecar(&pod).map_or(0, |status| status.restart_count);
            if app_started(&pod) || restarts > 0 {
                Err(describe(&pod))
            } else {
                Ok(())
            }
        },
    )
    .await;
    scale("1");
    broker_is_back();
    shop.pod_ready("reader", seconds(75)).await;
    let pod = shop.pod("reader").await;
    assert_eq!(
        (sidecar(&pod).unwrap().restart_count, app(&pod).unwrap().restart_count),
        (0, 0),
        "no crash loop"
    );
}

#[tokio::test]
async fn a_restarted_broker_knows_keys_tokens_and_policies() {
    let _installation = alone().await;
    let _restored = Restored;
    let shop = Shop::open("restarted").await;
    let uid = shop.running_pod(&PodSpec::reader("reader")).await;
    let (token, keys, claims, events) = {
        let broker = shop.broker().await;
        let token = shop.token("reader").unwrap();
        let claims = broker.claims(&token).await.unwrap();
        (
            token,
            broker.client.jwks().await.unwrap(),
            claims,
            broker.trail(&uid).await.len(),
        )
    };
    kubectl(&["--namespace", SYSTEM, "delete", POD]).unwrap();
    broker_is_back();
    let broker = shop.broker().await;
    assert_eq!(broker.client.jwks().await.unwrap(), keys, "the same key");
    assert_eq!(broker.claims(&token).await.expect("the token stands").sid, claims.sid);
    assert!(broker.trail(&uid).await.len() >= events, "the audit trail is there");
    // Without any help of the controller: what the broker had accepted is in force.
    kubectl(&[
        "--namespace",
        SYSTEM,
        "scale",
        "deployment/agentwrit-controller",
        "--replicas=0",
    ])
    .unwrap();
    let identity = shop.identity("reader", &uid);
    let request = agentwrit_protocol::k8s::PodLaunchRequest {
        policy: Some("order-reader".into()),
        public_key: Some(base64_key()),
        ..Default::default()
    };
    let launched = broker.as_pod(&identity).pod_launch(&request).await;
    kubectl(&[
        "--namespace",
        SYSTEM,
        "scale",
        "deployment/agentwrit-controller",
        "--replicas=1",
    ])
    .unwrap();
    kubectl(&[
        "--namespace",
        SYSTEM,
        "rollout",
        "status",
        "deployment/agentwrit-controller",
        "--timeout=90s",
    ])
    .unwrap();
    launched.expect("the policies are there");
}

fn base64_key() -> String {
    use base64::Engine;
    let key = ed25519_dalek::SigningKey::from_bytes(&[7; 32]);
    base64::engine::general_purpose::STANDARD.encode(key.verifying_key().as_bytes())
}

#[tokio::test]
async fn a_lost_volume_revives_no_old_token_and_pods_come_back_by_themselves() {
    let _installation = alone().await;
    let _restored = Restored;
    let shop = Shop::open("lost").await;
    let uid = shop.running_pod(&PodSpec::reader("reader")).await;
    let (token, claims) = {
        let broker = shop.broker().await;
        let token = shop.token("reader").unwrap();
        let claims = broker.claims(&token).await.unwrap();
        (token, claims)
    };
    scale("0");
    kubectl(&["--namespace", SYSTEM, "delete", "pvc", "data-agentwrit-broker-0"]).unwrap();
    script("cluster.sh", &["reclaim-volumes"]);
    scale("1");
    broker_is_back();
    let back = Instant::now();
    let broker = shop.broker().await;
    broker
        .refuses(&token)
        .await
        .expect("a token from before is refused: its revocation may be forgotten");

    // The controller pushes the policies within 30 s, and the pod registers again by itself.
    let limit = seconds(30).saturating_sub(back.elapsed());
    eventually("the policies are pushed again", limit, async || {
        policies_applied(&broker, &shop).await
    })
    .await;
    let (again, _) = eventually("the pod has a token again", seconds(75), async || {
        let token = shop.token("reader")?;
        broker.claims(&token).await
    })
    .await;
    assert_ne!(again.sid, claims.sid, "a new session");
    assert_eq!(again.task_id, uid);
    shop.pod_ready("reader", Duration::from_secs(20)).await;
    let pod = shop.pod("reader").await;
    assert_eq!(
        (sidecar(&pod).unwrap().restart_count, app(&pod).unwrap().restart_count),
        (0, 0)
    );
    shop.logs("reader", inject::CONTAINER_NAME);
}

async fn policies_applied(broker: &crate::broker::Broker, shop: &Shop) -> Result<(), String> {
    let query = agentwrit_client::AuditQuery {
        event_type: Some("policy_applied".into()),
        limit: Some(1000),
        ..agentwrit_client::AuditQuery::default()
    };
    let answer = broker.client.audit_events(&broker.admin, &query).await;
    let events = answer.map_err(|error| error.to_string())?.events;
    let ours = events
        .iter()
        .filter(|event| event.detail.contains(&shop.namespace))
        .count();
    if ours >= 2 {
        Ok(())
    } else {
        Err(format!("{ours} of 2 policies, {} in all", events.len()))
    }
}
