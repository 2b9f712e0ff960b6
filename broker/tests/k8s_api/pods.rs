//! The end of pods, what a person revokes, and what a restart remembers of both.

use agentwrit_testkit::{Keys, World, claims, stores};
use serde_json::{Value, json};

async fn world() -> World {
    World::new().await.with_policies().await
}

#[tokio::test]
async fn the_end_of_a_pod_ends_everything_that_it_had() {
    let world = world().await;
    let (pod, keys) = (world.pod("p1"), Keys::new(1));
    let former = world.agent(&pod, &keys).await;
    let token = world.agent(&pod, &keys).await;
    let waiting = World::launched(world.launch(&pod, &keys).await);
    assert_eq!(world.end_pod("p1").await.ok(), json!({"revoked": 2}));
    assert!(!world.stands(&token).await);
    assert!(!world.stands(&former).await, "the overlap is cut short");
    assert_eq!(world.renew(&token).await.refusal(), (403, "revoked"));
    assert_eq!(world.register(&waiting, &keys).await.refusal(), (403, "forbidden"));
    assert_eq!(world.last_kind("registration_denied").await, "pod_ended");
    world.clock.advance(60);
    assert_eq!(world.launch(&pod, &keys).await.refusal(), (403, "forbidden"));
    assert_eq!(world.last_kind("attestation_denied").await, "pod_ended");
    assert_eq!(world.end_pod("p1").await.ok(), json!({"revoked": 0}));
    let events = world.events("event_type=pod_ended").await;
    assert_eq!(events.len(), 2);
    assert!(
        events
            .iter()
            .all(|event| event["pod_uid"] == "p1" && event["correlation_id"] != "")
    );
    let listed = world.as_controller("GET", "/v1/k8s/policies", &Value::Null).await.ok();
    assert_eq!(listed["pods"], json!([]));
}

#[tokio::test]
async fn a_pod_that_released_its_token_ends_with_its_orch_id() {
    let world = world().await;
    let token = world.agent(&world.pod("p1"), &Keys::new(1)).await;
    world.call("POST", "/v1/token/release", &token, &Value::Null).await.ok();
    assert_eq!(world.end_pod("p1").await.ok(), json!({"revoked": 0}));
    let id = world.events("event_type=launch_token_issued").await[0]["correlation_id"].clone();
    let events = world.events("event_type=pod_ended").await;
    assert_eq!((events.len(), &events[0]["correlation_id"]), (1, &id));
}

#[tokio::test]
async fn a_path_that_is_no_text_is_refused_like_everything_else() {
    let world = world().await;
    let body = json!({"namespace": "shop", "name": "a", "reason": "deleted"});
    for uid in ["%ff%25", "%25ff", "%2541"] {
        let path = format!("/v1/k8s/pods/{uid}/ended");
        let answer = world.as_controller("POST", &path, &body).await;
        assert_eq!(answer.refusal(), (400, "invalid_request"), "{uid}");
    }
}

#[tokio::test]
async fn an_unknown_pod_may_end_too_and_what_is_wrong_is_named() {
    let world = world().await;
    assert_eq!(world.end_pod("p9").await.ok(), json!({"revoked": 0}));
    assert_eq!(
        world.launch(&world.pod("p9"), &Keys::new(1)).await.refusal(),
        (403, "forbidden")
    );
    for (uid, body, field) in [
        (
            "a%20b",
            json!({"namespace": "shop", "name": "a", "reason": "deleted"}),
            "uid",
        ),
        ("p1", json!({"namespace": "shop", "name": "a"}), "reason"),
        (
            "p1",
            json!({"namespace": "", "name": "a", "reason": "deleted"}),
            "namespace",
        ),
    ] {
        let answer = world
            .as_controller("POST", &format!("/v1/k8s/pods/{uid}/ended"), &body)
            .await;
        assert_eq!(answer.refusal(), (400, "invalid_request"));
        assert!(
            answer.body["detail"].as_str().unwrap().contains(field),
            "{}",
            answer.body
        );
    }
}

#[tokio::test]
async fn a_pods_tombstone_is_kept_for_25_hours() {
    let world = world().await;
    let keys = Keys::new(1);
    world.end_pod("p1").await.ok();
    world.clock.advance(25 * 3600 - 1);
    world.tidy().await;
    assert_eq!(
        world.launch(&world.pod("p1"), &keys).await.refusal(),
        (403, "forbidden")
    );
    world.clock.advance(2);
    world.tidy().await;
    world.launch(&world.pod("p1"), &keys).await.ok();
}

#[tokio::test]
async fn a_persons_revocation_lasts_until_the_pod_is_released() {
    for level in ["token", "agent", "task"] {
        let world = world().await;
        let (pod, keys) = (world.pod("p1"), Keys::new(1));
        let waiting = World::launched(world.launch(&pod, &keys).await);
        let token = world.agent(&pod, &keys).await;
        let claims = claims(&token);
        let target = match level {
            "token" => &claims["jti"],
            "agent" => &claims["sub"],
            _ => &claims["task_id"],
        };
        world.revoke(level, target).await;
        assert!(!world.stands(&token).await, "{level}");
        assert_eq!(world.renew(&token).await.refusal(), (403, "revoked"), "{level}");
        assert_eq!(
            world.register(&waiting, &keys).await.refusal(),
            (403, "revoked"),
            "{level}"
        );
        assert_eq!(world.last_kind("registration_denied").await, "pod_quarantined");
        world.clock.advance(30);
        assert_eq!(world.launch(&pod, &keys).await.refusal(), (403, "revoked"), "{level}");
        assert_eq!(world.last_kind("attestation_denied").await, "pod_quarantined");
        let events = world.events("event_type=pod_quarantined").await;
        assert_eq!(
            (events.len(), &events[0]["pod_uid"], &events[0]["actor"]),
            (1, &json!("p1"), &json!("admin"))
        );
        let detail = events[0]["detail"].as_str().unwrap();
        assert!(detail.starts_with("pod shop/pod-p1 is quarantined"), "{detail}");
        world.launch(&world.pod("p2"), &keys).await.ok();

        assert_eq!(world.release_pod("p1").await, json!({"released": true}));
        assert_eq!(world.release_pod("p1").await, json!({"released": false}));
        let events = world.events("event_type=pod_released").await;
        assert_eq!((events.len(), &events[0]["actor"]), (1, &json!("admin")));
        assert!(world.stands(&world.agent(&pod, &keys).await).await, "{level}");
        assert!(!world.stands(&token).await, "what was revoked stays revoked");
    }
}

#[tokio::test]
async fn revoking_the_older_of_two_sessions_stops_the_pod_too() {
    let world = world().await;
    let (pod, keys) = (world.pod("p1"), Keys::new(1));
    let former = world.agent(&pod, &keys).await;
    let token = world.agent(&pod, &keys).await;
    let other = world.agent(&world.pod("p2"), &keys).await;
    world.revoke("token", &claims(&former)["jti"]).await;
    assert!(!world.stands(&former).await && !world.stands(&token).await);
    assert!(world.stands(&other).await);
    assert_eq!(world.renew(&token).await.refusal(), (403, "revoked"));
    let events = world.events("event_type=token_revoked&pod_uid=p1").await;
    assert_eq!(events.len(), 2, "one for each session");
    assert!(events.iter().all(|event| event["actor"] == "admin"));
}

#[tokio::test]
async fn a_quarantined_pod_that_ends_is_forgotten_with_its_quarantine() {
    let world = world().await;
    let token = world.agent(&world.pod("p1"), &Keys::new(1)).await;
    world.revoke("agent", &claims(&token)["sub"]).await;
    let pods = |listed: Value| listed["pods"].as_array().unwrap().len();
    let listed = world.as_controller("GET", "/v1/k8s/policies", &Value::Null).await.ok();
    assert_eq!(
        pods(listed),
        1,
        "the controller must be able to find out that it is gone"
    );
    world.end_pod("p1").await.ok();
    let listed = world.as_controller("GET", "/v1/k8s/policies", &Value::Null).await.ok();
    assert_eq!(pods(listed), 0);
    assert_eq!(world.release_pod("p1").await, json!({"released": false}));
}

#[tokio::test]
async fn release_of_a_token_by_its_own_pod_is_no_quarantine() {
    let world = world().await;
    let (pod, keys) = (world.pod("p1"), Keys::new(1));
    let token = world.agent(&pod, &keys).await;
    world.call("POST", "/v1/token/release", &token, &Value::Null).await.ok();
    world.agent(&pod, &keys).await;
}

#[tokio::test]
async fn decisions_about_pods_survive_a_restart() {
    let world = world().await;
    let keys = Keys::new(1);
    let kept = world.agent(&world.pod("kept"), &keys).await;
    let revoked = world.agent(&world.pod("revoked"), &keys).await;
    let waiting = World::launched(world.launch(&world.pod("waiting"), &keys).await);
    world.revoke("agent", &claims(&revoked)["sub"]).await;
    world.end_pod("gone").await.ok();
    world.launch(&world.pod("busy"), &keys).await.ok();
    world.launch(&world.pod("busy"), &keys).await.ok();
    world.launch(&world.pod("busy"), &keys).await.ok();

    let world = world.restarted().await;
    assert!(world.stands(&kept).await);
    assert!(!world.stands(&revoked).await);
    assert_eq!(
        world.launch(&world.pod("revoked"), &keys).await.refusal(),
        (403, "revoked")
    );
    assert_eq!(
        world.launch(&world.pod("gone"), &keys).await.refusal(),
        (403, "forbidden")
    );
    assert_eq!(
        world.launch(&world.pod("busy"), &keys).await.refusal(),
        (429, "rate_limited")
    );
    world.register(&waiting, &keys).await.ok();
    world.renew(&kept).await.ok();
    let listed = world.as_controller("GET", "/v1/k8s/policies", &Value::Null).await.ok();
    assert_eq!(listed["policies"].as_array().unwrap().len(), 2);
}

#[tokio::test]
async fn a_lost_store_is_known_by_its_epoch_and_filled_again() {
    let world = world().await;
    let keys = Keys::new(1);
    let token = world.agent(&world.pod("p1"), &keys).await;
    let list = async |world: &World| world.as_controller("GET", "/v1/k8s/policies", &Value::Null).await.ok();
    let before = list(&world).await;
    world.clock.advance(5);
    let world = world.restarted_after(stores::lose).await;
    let after = list(&world).await;
    assert_ne!(before["epoch"], after["epoch"]);
    assert_eq!((&after["policies"], &after["lease_epoch"]), (&json!([]), &json!(0)));
    assert!(!world.stands(&token).await, "nobody knows whether it was revoked");
    let world = world.with_policies().await;
    let again = list(&world).await;
    for n in 0..2 {
        for member in ["digest", "app_id", "uid"] {
            assert_eq!(before["policies"][n][member], again["policies"][n][member]);
        }
    }
    assert!(world.stands(&world.agent(&world.pod("p1"), &keys).await).await);
}
