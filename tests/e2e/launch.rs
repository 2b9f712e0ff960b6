//! A launch token: once, with its key, for its pod, while the pod lives.

use agentwrit_client::{BrokerClient, Error};
use agentwrit_protocol::ErrorCode;
use agentwrit_protocol::Sensitive;
use agentwrit_protocol::inject;
use agentwrit_protocol::k8s::{PodLaunchRequest, PodLaunchResponse};
use agentwrit_protocol::wire::{LaunchTokenRequest, RegisterRequest, RegisterResponse};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ed25519_dalek::{Signer, SigningKey};

use crate::support::broker::Broker;
use crate::support::cluster::shared;
use crate::support::pod::{POD_START, PodSpec, app_started, container};
use crate::support::shop::Shop;
use crate::support::wait::eventually;

/// A pod whose container of the sidecar's name is another program: the test plays the sidecar, with a token bound to that
/// pod.
async fn impostor(shop: &Shop) -> (String, String) {
    let mut spec = PodSpec::reader("bare");
    spec.0["metadata"]["labels"]["agentwrit.io/inject"] = serde_json::json!("false");
    spec.0["spec"]["containers"][0]["args"] = serde_json::json!(["client", "--token-file=/none"]);
    let mut sidecar = container(inject::CONTAINER_NAME, &["client", "--token-file=/none"]);
    sidecar["restartPolicy"] = serde_json::json!("Always");
    sidecar["env"] = serde_json::json!([{"name": inject::ENV_LAUNCH_TOKEN, "value": "order-reader"}]);
    spec.0["spec"]["initContainers"] = serde_json::json!([sidecar]);
    let uid = shop.create_pod(&spec).await.metadata.uid.unwrap();
    eventually("the pod runs", POD_START, async || {
        if app_started(&shop.pod("bare").await) {
            Ok(())
        } else {
            Err("not yet")
        }
    })
    .await;
    (shop.identity("bare", &uid), uid)
}

fn key(seed: u8) -> SigningKey {
    SigningKey::from_bytes(&[seed; 32])
}

fn launch_request(key: &SigningKey) -> PodLaunchRequest {
    PodLaunchRequest {
        policy: Some("order-reader".into()),
        public_key: Some(STANDARD.encode(key.verifying_key().as_bytes())),
        ..PodLaunchRequest::default()
    }
}

async fn launch(pod: &BrokerClient, key: &SigningKey) -> PodLaunchResponse {
    let answer = pod.pod_launch(&launch_request(key)).await;
    answer.expect("the pod may be launched")
}

async fn register(
    broker: &Broker,
    launch_token: &Sensitive,
    key: &SigningKey,
    orch_id: &str,
    task_id: &str,
) -> Result<RegisterResponse, Error> {
    let nonce = broker.client.challenge().await.unwrap().nonce;
    let bytes: Vec<u8> = (0..nonce.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&nonce[at..at + 2], 16).unwrap())
        .collect();
    let request = RegisterRequest {
        launch_token: Some(launch_token.clone()),
        signature: Some(STANDARD.encode(key.sign(&bytes).to_bytes())),
        nonce: Some(nonce),
        public_key: Some(STANDARD.encode(key.verifying_key().as_bytes())),
        orch_id: Some(orch_id.to_owned()),
        task_id: Some(task_id.to_owned()),
        requested_scope: Some(vec!["read:orders:*".into()]),
        requested_ttl: None,
    };
    broker.client.register(&request).await
}

fn code(outcome: Result<RegisterResponse, Error>) -> ErrorCode {
    let error = outcome.expect_err("the registration is refused");
    error.refusal().unwrap_or_else(|| panic!("{error}")).code()
}

#[tokio::test]
async fn a_launch_token_works_once_with_its_key_and_its_pod() {
    let _installation = shared().await;
    let shop = Shop::open("launch").await;
    let (identity, uid) = impostor(&shop).await;
    let broker = shop.broker().await;
    let pod = broker.as_pod(&identity);
    let launched = launch(&pod, &key(1)).await;
    let token = &launched.launch_token;
    let orch_id = &launched.orch_id;
    assert_eq!(
        (orch_id.as_str(), launched.task_id.as_str()),
        (format!("k8s.{}.orders", shop.namespace).as_str(), uid.as_str())
    );

    // None of these burns it.
    assert_eq!(
        code(register(&broker, token, &key(2), orch_id, &uid).await),
        ErrorCode::Forbidden,
        "another key"
    );
    assert_eq!(
        code(register(&broker, token, &key(1), "k8s.other.orders", &uid).await),
        ErrorCode::Forbidden,
        "another app"
    );
    assert_eq!(
        code(register(&broker, token, &key(1), orch_id, "another-pod").await),
        ErrorCode::Forbidden,
        "another pod"
    );
    let registered = register(&broker, token, &key(1), orch_id, &uid)
        .await
        .expect("the right one");
    let issued = registered.access_token.expose().to_owned();
    broker.claims(&issued).await.expect("its token stands");
    assert_eq!(
        code(register(&broker, token, &key(1), orch_id, &uid).await),
        ErrorCode::Unauthorized,
        "used"
    );

    // It was never injected, so nobody watches it; the broker looks it up itself.
    shop.delete_pod("bare", true).await;
    shop.pod_gone("bare").await;
    let again = pod.pod_launch(&launch_request(&key(4))).await;
    assert!(again.is_err(), "a pod that is gone is not launched");

    let types = broker.trail_types(&uid).await;
    let denied = types.iter().filter(|found| *found == "registration_denied").count();
    assert!(denied >= 3, "each refusal is on record: {types:?}");
}

#[tokio::test]
async fn a_persons_launch_token_is_single_use_and_no_pods() {
    let _installation = shared().await;
    let shop = Shop::bare("person").await;
    let broker = shop.broker().await;
    let request = LaunchTokenRequest {
        agent_name: Some("by-hand".into()),
        allowed_scope: Some(vec!["read:orders:*".into()]),
        ..LaunchTokenRequest::default()
    };
    let launched = broker.client.admin_launch_token(&broker.admin, &request).await.unwrap();
    let token = &launched.launch_token;
    assert_eq!(
        code(register(&broker, token, &key(5), "k8s.shop.orders", "t").await),
        ErrorCode::Forbidden
    );
    register(&broker, token, &key(5), "by-hand", "t")
        .await
        .expect("an ordinary one");
    assert_eq!(
        code(register(&broker, token, &key(5), "by-hand", "t").await),
        ErrorCode::Unauthorized,
        "used"
    );
}

#[tokio::test]
async fn an_unused_launch_token_dies_with_its_pod() {
    let _installation = shared().await;
    let shop = Shop::open("unused").await;
    // Injected, so that the controller watches it; its sidecar has the first launch, the test the second.
    let uid = shop.running_pod(&PodSpec::reader("reader")).await;
    let identity = shop.identity("reader", &uid);
    let broker = shop.broker().await;
    let launched = launch(&broker.as_pod(&identity), &key(6)).await;
    shop.delete_pod("reader", true).await;
    shop.pod_gone("reader").await;
    broker.records(&uid, "pod_ended").await;
    let refused = code(
        register(
            &broker,
            &launched.launch_token,
            &key(6),
            &launched.orch_id,
            &launched.task_id,
        )
        .await,
    );
    assert!(
        [ErrorCode::Forbidden, ErrorCode::Unauthorized].contains(&refused),
        "{refused}"
    );
}
