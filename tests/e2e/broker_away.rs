//! The broker goes and comes back, with and without its memory. Each of these has the cluster to itself.

use std::time::Duration;

use agentwrit_protocol::inject;
use tokio::time::Instant;

use crate::support::cluster::{SYSTEM, alone, kubectl, rolled_out, script};
use crate::support::pod::{POD_START, PodSpec, app, describe, sidecar};
use crate::support::shop::Shop;
use crate::support::wait::{eventually, seconds};

const BROKER: &str = "statefulset/agentwrit-broker";
const CONTROLLER: &str = "deployment/agentwrit-controller";
const POD: &str = "pod/agentwrit-broker-0";

fn scale(workload: &str, replicas: &str) -> Result<String, String> {
    let flag = format!("--replicas={replicas}");
    kubectl(&["--namespace", SYSTEM, "scale", workload, &flag])
}

fn broker_goes() {
    scale(BROKER, "0").unwrap();
    kubectl(&["--namespace", SYSTEM, "wait", "--for=delete", POD, "--timeout=60s"]).unwrap();
}

fn broker_comes_back() {
    scale(BROKER, "1").unwrap();
    rolled_out(BROKER).unwrap();
}

/// Whatever a test does, the broker is there for the next one.
struct Restored;

impl Drop for Restored {
    fn drop(&mut self) {
        let _ = scale(BROKER, "1");
        let _ = rolled_out(BROKER);
    }
}

#[tokio::test]
async fn a_pod_started_without_a_broker_waits_without_crashing() {
    let _installation = alone().await;
    let _restored = Restored;
    let shop = Shop::open("away").await;
    broker_goes();
    shop.create_pod(&PodSpec::reader("reader")).await;
    eventually("the sidecar runs", POD_START, async || {
        let pod = shop.pod("reader").await;
        let started = sidecar(&pod)
            .and_then(|status| status.state.clone())
            .and_then(|state| state.running);
        started.map(|_| ()).ok_or_else(|| describe(&pod))
    })
    .await;
    shop.pod_waits("reader", seconds(8)).await;
    broker_comes_back();
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
    rolled_out(BROKER).unwrap();
    let broker = shop.broker().await;
    assert_eq!(broker.client.jwks().await.unwrap(), keys, "the same key");
    assert_eq!(broker.claims(&token).await.expect("the token stands").sid, claims.sid);
    assert!(broker.trail(&uid).await.len() >= events, "the audit trail is there");
    // Without any help of the controller: what the broker had accepted is in force.
    scale(CONTROLLER, "0").unwrap();
    let identity = shop.identity("reader", &uid);
    let request = agentwrit_protocol::k8s::PodLaunchRequest {
        policy: Some("order-reader".into()),
        public_key: Some(base64_key()),
        ..Default::default()
    };
    let launched = broker.as_pod(&identity).pod_launch(&request).await;
    scale(CONTROLLER, "1").unwrap();
    rolled_out(CONTROLLER).unwrap();
    launched.expect("the policies are there");
}

fn base64_key() -> String {
    use base64::Engine;
    let key = ed25519_dalek::SigningKey::from_bytes(&[7; 32]);
    base64::engine::general_purpose::STANDARD.encode(key.verifying_key().as_bytes())
}

#[tokio::test]
async fn after_a_lost_volume_old_tokens_are_dead_and_pods_recover() {
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
    broker_goes();
    kubectl(&["--namespace", SYSTEM, "delete", "pvc", "data-agentwrit-broker-0"]).unwrap();
    script("cluster.sh", &["reclaim-volumes"]);
    broker_comes_back();
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
    assert_eq!(again.task_id.as_str(), uid);
    shop.pod_ready("reader", Duration::from_secs(20)).await;
    let pod = shop.pod("reader").await;
    assert_eq!(
        (sidecar(&pod).unwrap().restart_count, app(&pod).unwrap().restart_count),
        (0, 0)
    );
    shop.logs("reader", inject::CONTAINER_NAME);
}

async fn policies_applied(broker: &crate::support::broker::Broker, shop: &Shop) -> Result<(), String> {
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
