//! What the event of a pod's refusal says was asked for.

use agentwrit_protocol::excerpt::REQUEST_DESCRIPTION_BYTES;
use agentwrit_testkit::{Keys, World};
use serde_json::{Value, json};

async fn asked(world: &World, event_type: &str) -> String {
    let event = world.events(&format!("event_type={event_type}")).await.pop().unwrap();
    let detail = event["detail"].as_str().unwrap();
    let detail = detail.split(" ext_hash=").next().unwrap();
    let (_, asked) = detail
        .split_once("LaunchToken reader; requested ")
        .unwrap_or_else(|| panic!("{detail}"));
    asked.to_owned()
}

#[tokio::test]
async fn a_refused_launch_says_policy_and_scopes() {
    let world = World::new().await.with_policies().await;
    let pod = world.pod("p1");
    let launch = async |scopes: Value| {
        let body = json!({"policy": "reader", "public_key": Keys::new(1).public(), "scopes": scopes});
        let answer = world.call("POST", "/v1/k8s/launch-tokens", &pod.bearer(), &body).await;
        assert_eq!(answer.refusal(), (403, "forbidden"));
        (asked(&world, "attestation_denied").await, answer)
    };
    let whose = "agent_name \"reader\"; app \"orders\"";
    let (told, _) = launch(json!(["read:orders:7", "write:orders:7"])).await;
    assert_eq!(told, format!("2 scopes [read:orders:7, write:orders:7]; {whose}"));

    let many: Vec<String> = (0..64).map(|n| format!("write:orders:{n:0>240}")).collect();
    let (told, answer) = launch(json!(many)).await;
    assert!(
        told.starts_with("64 scopes [write:orders:000") && told.ends_with(whose),
        "{told}"
    );
    assert!(told.contains(", … (+"), "{told}");
    // The same bound holds for the caller and for the Event that the controller writes.
    let detail = answer.body["detail"].as_str().unwrap();
    assert!(detail.len() <= REQUEST_DESCRIPTION_BYTES, "{}", detail.len());
    let event = world.events("event_type=attestation_denied").await.pop().unwrap();
    assert!(
        event["detail"].as_str().unwrap().len() <= 2 * REQUEST_DESCRIPTION_BYTES,
        "{event}"
    );

    // Refused before the policy is looked at.
    world.cluster.change_pod("shop", "pod-p1", |pod| pod.terminating = true);
    let (told, _) = launch(json!(["read:orders:7"])).await;
    assert_eq!(told, "1 scope [read:orders:7]");
    let (told, _) = launch(json!(null)).await;
    assert_eq!(told, "all allowed scopes");
}

#[tokio::test]
async fn a_refused_registration_of_a_pod_says_its_scopes() {
    let world = World::new().await.with_policies().await;
    let launched = World::launched(world.launch(&world.pod("p1"), &Keys::new(1)).await);
    let thief = Keys::new(2);
    let answer = world.register_with(&launched, &thief, &json!({})).await;
    assert_eq!(answer.refusal(), (403, "forbidden"));
    let told = asked(&world, "registration_denied").await;
    assert!(
        told.starts_with("1 scope [read:orders:*]; agent_name \"reader\"; launched by "),
        "{told}"
    );
    let event = world
        .events("event_type=registration_denied")
        .await
        .pop()
        .unwrap()
        .to_string();
    assert!(
        !event.contains(&launched.launch_token) && !event.contains(&thief.public()),
        "{event}"
    );
}
