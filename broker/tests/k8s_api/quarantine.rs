//! A person's revocation hits the pod, whatever state its session is in, until the pod is gone or released.

use agentwrit_testkit::{Keys, Pod, World, claims};
use serde_json::{Value, json};

const READ: &[&str] = &["read:orders:*"];
/// Longer than any token lives.
const DAY: i64 = 86_400 + 60;

async fn world() -> World {
    World::new().await.with_policies().await
}

fn member(token: &str, name: &str) -> Value {
    claims(token)[name].clone()
}

async fn renewed(world: &World, token: &str) -> String {
    let body = world.renew(token).await.ok();
    body["access_token"].as_str().unwrap().to_owned()
}

async fn set_state(world: &World, generation: i64, state: &str) {
    world
        .put_launch_token(&world.launch_token(generation, state, READ))
        .await
        .ok();
}

/// Everything that would give the pod a token is refused with `revoked`.
async fn assert_revoked(world: &World, pod: &Pod, tokens: &[String], what: &str) {
    world.clock.advance(30);
    let launch = world.launch(pod, &Keys::new(1)).await;
    assert_eq!(launch.refusal(), (403, "revoked"), "{what}");
    assert_eq!(world.last_kind("attestation_denied").await, "pod_quarantined");
    for token in tokens {
        assert!(!world.stands(token).await, "{what}");
    }
}

#[tokio::test]
async fn suspended_then_revoked_then_unsuspended_stays_revoked() {
    for what in ["agent", "current jti", "first jti", "task", "chain"] {
        let world = world().await;
        let pod = world.pod("p1");
        let first = world.agent(&pod, &Keys::new(1)).await;
        let current = renewed(&world, &first).await;
        set_state(&world, 2, "suspended").await;
        assert_eq!(world.renew(&current).await.refusal(), (403, "suspended"));
        let (level, target) = match what {
            "agent" => ("agent", member(&first, "sub")),
            "current jti" => ("token", member(&current, "jti")),
            "first jti" => ("token", member(&first, "jti")),
            "task" => ("task", member(&first, "task_id")),
            _ => ("chain", member(&first, "sub")),
        };
        let answer = world.revoke(level, &target).await;
        assert_eq!(
            (&answer["sessions_ended"], &answer["pods_quarantined"]),
            (&json!(0), &json!(1)),
            "{what}"
        );
        assert_eq!(world.renew(&current).await.refusal(), (403, "revoked"), "{what}");
        set_state(&world, 3, "ready").await;
        assert_revoked(&world, &pod, &[first.clone(), current.clone()], what).await;
        assert_eq!(world.release_pod("p1").await, json!({"released": true}), "{what}");
        assert!(world.stands(&world.agent(&pod, &Keys::new(1)).await).await, "{what}");
        assert!(!world.stands(&current).await, "what was revoked stays revoked: {what}");
    }
}

#[tokio::test]
async fn a_task_revoked_without_a_session_is_refused_not_stillborn() {
    let world = world().await;
    let (pod, keys) = (world.pod("p1"), Keys::new(1));
    let waiting = World::launched(world.launch(&pod, &keys).await);
    let body = json!({"level": "task", "target": "p1"});
    let answer = world.call("POST", "/v1/revoke", &world.admin().await, &body).await.text;
    let wanted = r#"{"revoked":true,"level":"task","target":"p1","count":1,"sessions_ended":0,"pods_quarantined":1}"#;
    assert_eq!(answer.trim_end(), wanted);
    assert_eq!(world.register(&waiting, &keys).await.refusal(), (403, "revoked"));
    assert_eq!(world.last_kind("registration_denied").await, "pod_quarantined");
    assert_revoked(&world, &pod, &[], "task").await;
    assert_eq!(world.release_pod("p1").await, json!({"released": true}));
    assert_eq!(world.release_pod("p1").await, json!({"released": false}));
    assert!(world.stands(&world.agent(&pod, &keys).await).await);
}

#[tokio::test]
async fn no_time_gives_a_revoked_pod_tokens_again() {
    let world = world().await;
    let pod = world.pod("p1");
    world.launch(&pod, &Keys::new(1)).await.ok();
    world.revoke("task", &json!("p1")).await;
    for _ in 0..40 {
        world.clock.advance(DAY);
        world.tidy().await;
        assert_revoked(&world, &pod, &[], "later").await;
    }
    let world = world.restarted().await;
    assert_revoked(&world, &pod, &[], "after a restart").await;
    let listed = world.as_controller("GET", "/v1/k8s/policies", &Value::Null).await.ok();
    assert_eq!(
        listed["pods"][0]["uid"], "p1",
        "the controller looks whether it is gone"
    );
    world.end_pod("p1").await.ok();
    assert_eq!(world.release_pod("p1").await, json!({"released": false}));
}

#[tokio::test]
async fn a_jti_of_long_ago_still_leads_to_its_pod() {
    let world = world().await;
    let pod = world.pod("p1");
    let old = world.agent(&pod, &Keys::new(1)).await;
    world.clock.advance(40 * DAY);
    world.tidy().await;
    let world = world.restarted().await;
    let token = world.agent(&pod, &Keys::new(1)).await;
    let other = world.agent(&world.pod("p2"), &Keys::new(2)).await;
    let answer = world.revoke("token", &member(&old, "jti")).await;
    assert_eq!(
        (&answer["sessions_ended"], &answer["pods_quarantined"]),
        (&json!(1), &json!(1))
    );
    assert!(world.stands(&other).await);
    assert_revoked(&world, &pod, &[token], "jti").await;
}

#[tokio::test]
async fn a_pod_never_seen_is_kept_out_for_thirty_days() {
    let uid = "3f0e8a52-6a0b-4f7e-9d2b-0a1b2c3d4e5f";
    let agent = format!("spiffe://agentwrit.local/agent/k8s.shop.orders/{uid}/0123456789abcdef");
    for (level, target) in [("task", uid), ("agent", &agent), ("chain", &agent)] {
        let world = world().await;
        let answer = world.revoke(level, &json!(target)).await;
        assert_eq!(answer["pods_quarantined"], 1, "{level}");
        let events = world.events("event_type=pod_quarantined").await;
        assert_eq!((events.len(), &events[0]["pod_uid"]), (1, &json!(uid)));
        let detail = events[0]["detail"].as_str().unwrap();
        assert!(detail.starts_with(&format!("pod {uid} is quarantined")), "{detail}");
        world.clock.advance(30 * 86_400 - 60);
        world.tidy().await;
        assert_revoked(&world, &world.pod(uid), &[], level).await;
        // It has been seen now: there is no end but the pod's.
        world.clock.advance(60 * 86_400);
        world.tidy().await;
        assert_revoked(&world, &world.pod(uid), &[], level).await;
    }
    let world = world().await;
    world.revoke("task", &json!(uid)).await;
    world.clock.advance(30 * 86_400 + 1);
    world.tidy().await;
    world.agent(&world.pod(uid), &Keys::new(1)).await;
}

#[tokio::test]
async fn a_target_without_a_pod_quarantines_none() {
    let world = world().await;
    let uid = "spiffe://agentwrit.local/agent/orch/p1/0123456789abcdef";
    let unknown = "0123456789abcdef0123456789abcdef";
    for (level, target) in [("agent", uid), ("chain", uid), ("token", unknown), ("task", "report-7")] {
        let answer = world.revoke(level, &json!(target)).await;
        assert_eq!(
            (&answer["count"], &answer["sessions_ended"], &answer["pods_quarantined"]),
            (&json!(1), &json!(0), &json!(0)),
            "{level}"
        );
    }
    world.agent(&world.pod("p1"), &Keys::new(1)).await;
    world.end_pod("p1").await.ok();
    assert_eq!(
        world.revoke("task", &json!("p1")).await["pods_quarantined"],
        0,
        "it has ended"
    );
    world.agent(&world.pod("p2"), &Keys::new(1)).await;
}

#[tokio::test]
async fn a_pod_that_was_only_refused_is_not_remembered() {
    let world = world().await;
    let mut pod = world.pod("p1");
    pod.policy = "other".into();
    assert_ne!(world.launch(&pod, &Keys::new(1)).await.status, 201);
    let listed = world.as_controller("GET", "/v1/k8s/policies", &Value::Null).await.ok();
    assert_eq!(listed["pods"], json!([]));
    world.launch(&world.pod("p1"), &Keys::new(1)).await.ok();
    let listed = world.as_controller("GET", "/v1/k8s/policies", &Value::Null).await.ok();
    assert_eq!(listed["pods"][0]["uid"], "p1");
}

#[tokio::test]
async fn a_repeated_revocation_is_audited_once() {
    let world = world().await;
    let token = world.agent(&world.pod("p1"), &Keys::new(1)).await;
    for (sessions, _) in [(1, "first"), (0, "again")] {
        let answer = world.revoke("agent", &member(&token, "sub")).await;
        assert_eq!(
            (&answer["sessions_ended"], &answer["pods_quarantined"]),
            (&json!(sessions), &json!(1))
        );
    }
    assert_eq!(world.events("event_type=pod_quarantined").await.len(), 1);
}

#[tokio::test]
async fn without_attestation_the_answer_is_the_contracts() {
    let world = World::without_attestation().await;
    let body = json!({"level": "task", "target": "p1"});
    let answer = world.call("POST", "/v1/revoke", &world.admin().await, &body).await.text;
    assert_eq!(
        answer.trim_end(),
        r#"{"revoked":true,"level":"task","target":"p1","count":1}"#
    );
}

/// Registers a pod each minute, and forgets all sessions that nobody asks about any more.
async fn registered_often(world: &World, pod: &Pod, times: usize) -> Vec<Value> {
    let mut tokens = Vec::new();
    for _ in 0..times {
        world.clock.advance(60);
        tokens.push(member(&world.agent(pod, &Keys::new(1)).await, "jti"));
    }
    world.clock.advance(2 * DAY);
    world.tidy().await;
    world.clock.advance(DAY);
    world.tidy().await;
    assert_eq!(world.rows("sessions"), 0);
    tokens
}

#[tokio::test]
async fn a_jti_of_long_ago_leads_to_its_pod_without_a_row_for_it() {
    let world = world().await;
    let pod = world.pod("3f0e8a52-6a0b-4f7e-9d2b-0a1b2c3d4e5f");
    let neighbour = world.pod("3f0e8a53-6a0b-4f7e-9d2b-0a1b2c3d4e5f");
    world.agent(&neighbour, &Keys::new(2)).await;
    let tokens = registered_often(&world, &pod, 20).await;
    assert_eq!(
        world.rows("pod_sessions"),
        0,
        "nothing is kept of a session that is over"
    );
    let answer = world.revoke("token", &tokens[3]).await;
    assert_eq!(answer["pods_quarantined"], 1);
    assert_eq!(world.launch(&pod, &Keys::new(1)).await.refusal(), (403, "revoked"));
    world.launch(&neighbour, &Keys::new(2)).await.ok();
    // The pod is gone, and a token of it leads nowhere.
    world.end_pod(&pod.uid).await.ok();
    assert_eq!(world.revoke("token", &tokens[4]).await["pods_quarantined"], 0);
}

#[tokio::test]
async fn pods_with_colliding_ids_are_told_apart_by_their_sessions() {
    let world = world().await;
    let pods = [
        "3f0e8a52-6a0b-4f7e-9d2b-0a1b2c3d4e5f",
        "3f0e8a52-ffff-4f7e-9d2b-0a1b2c3d4e5f",
    ]
    .map(|uid| world.pod(uid));
    let first = world.agent(&pods[0], &Keys::new(1)).await;
    let second = world.agent(&pods[1], &Keys::new(2)).await;
    assert_eq!(
        world.revoke("token", &member(&first, "jti")).await["pods_quarantined"],
        1
    );
    world.clock.advance(10);
    assert_eq!(world.launch(&pods[0], &Keys::new(1)).await.refusal(), (403, "revoked"));
    world.launch(&pods[1], &Keys::new(2)).await.ok();
    // A delegation is no session of a pod, whatever its id.
    let body = json!({"delegate_to": member(&second, "sub"), "scope": READ});
    let child = world.call("POST", "/v1/delegate", &second, &body).await.ok();
    let child = member(child["access_token"].as_str().unwrap(), "jti");
    assert_eq!(world.revoke("token", &child).await["pods_quarantined"], 0);
    // Once nothing is kept, a person's revocation hits rather both than none.
    world.release_pod(&pods[0].uid).await;
    let tokens = registered_often(&world, &pods[0], 1).await;
    assert_eq!(world.revoke("token", &tokens[0]).await["pods_quarantined"], 2);
}

#[tokio::test]
async fn a_pod_whose_uid_has_no_mark_keeps_a_bounded_number_of_rows() {
    let world = world().await;
    let pod = world.pod("pod-without-a-mark");
    for _ in 0..110 {
        world.clock.advance(10);
        world.agent(&pod, &Keys::new(1)).await;
    }
    assert_eq!(world.rows("pod_sessions"), 100);
    // The last of them is found by its session, which is kept.
    world.clock.advance(10);
    let last = world.agent(&pod, &Keys::new(1)).await;
    assert_eq!(
        world.revoke("token", &member(&last, "jti")).await["pods_quarantined"],
        1
    );
}
