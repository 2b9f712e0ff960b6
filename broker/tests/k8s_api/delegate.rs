//! Delegation by and to attested agents: inside one namespace, and only among pods that are there.

use agentwrit_testkit::{Answer, Keys, Launched, Pod, World, claims};
use serde_json::json;

/// `pod` in namespace `shop`, of LaunchToken `reader`; its token.
async fn agent(world: &World, uid: &str, seed: u8) -> (Pod, String) {
    let pod = world.pod(uid);
    let token = world.agent(&pod, &Keys::new(seed)).await;
    (pod, token)
}

fn id(token: &str) -> String {
    claims(token)["sub"].as_str().unwrap().to_owned()
}

async fn delegate(world: &World, token: &str, to: &str) -> Answer {
    let body = json!({"delegate_to": to, "scope": ["read:orders:*"], "ttl": 200});
    world.call("POST", "/v1/delegate", token, &body).await
}

fn token(answer: Answer) -> String {
    answer.ok()["access_token"].as_str().unwrap().to_owned()
}

/// An agent of namespace `bank`, with policies of its own.
async fn stranger(world: &World) -> String {
    let mut app = world.app(1, "ready", &["read:orders:*"]);
    app["uid"] = json!("bank-app");
    world
        .as_controller("PUT", "/v1/k8s/policies/apps/bank/orders", &app)
        .await
        .ok();
    let mut launch = world.launch_token(1, "ready", &["read:orders:*"]);
    launch["uid"] = json!("bank-token");
    world
        .as_controller("PUT", "/v1/k8s/policies/launch-tokens/bank/reader", &launch)
        .await
        .ok();
    world.agent(&world.pod_in("bank", "pod-9"), &Keys::new(9)).await
}

#[tokio::test]
async fn pods_delegate_inside_their_namespace_only() {
    let world = World::new().await.with_policies().await;
    let (_, from) = agent(&world, "pod-1", 1).await;
    let (_, to) = agent(&world, "pod-2", 2).await;
    let child = token(delegate(&world, &from, &id(&to)).await);
    assert!(world.stands(&child).await);
    let claims = claims(&child);
    assert_eq!((&claims["sub"], &claims["task_id"]), (&json!(id(&to)), &json!("pod-1")));
    let created = world.events("event_type=delegation_created").await;
    assert_eq!(
        (&created[0]["pod_uid"], &created[0]["policy_uid"]),
        (&json!("pod-1"), &json!("ltok-uid")),
        "the pod whose authority it is"
    );
    let stranger = stranger(&world).await;
    assert_eq!(
        delegate(&world, &from, &id(&stranger)).await.refusal(),
        (404, "not_found")
    );
    assert_eq!(
        delegate(&world, &stranger, &id(&from)).await.refusal(),
        (404, "not_found")
    );
    // An agent that a person launched is on the other side of the border too.
    let person = launched_by_a_person(&world).await;
    assert_eq!(
        delegate(&world, &from, &id(&person)).await.refusal(),
        (404, "not_found")
    );
    assert_eq!(
        delegate(&world, &person, &id(&from)).await.refusal(),
        (404, "not_found")
    );
}

async fn launched_by_a_person(world: &World) -> String {
    let body = json!({"agent_name": "a", "allowed_scope": ["read:orders:*"]});
    let launched = world
        .call("POST", "/v1/admin/launch-tokens", &world.admin().await, &body)
        .await
        .ok();
    let launched = Launched {
        launch_token: launched["launch_token"].as_str().unwrap().into(),
        orch_id: "orch".into(),
        task_id: "task".into(),
        scopes: vec!["read:orders:*".into()],
    };
    let keys = Keys::new(7);
    let answer = world.register_with(&launched, &keys, &json!({})).await;
    token(answer)
}

#[tokio::test]
async fn a_pods_end_ends_what_it_gave_and_what_it_was_given() {
    let world = World::new().await.with_policies().await;
    let (_, from) = agent(&world, "pod-1", 1).await;
    let (_, to) = agent(&world, "pod-2", 2).await;
    let child = token(delegate(&world, &from, &id(&to)).await);
    let back = token(delegate(&world, &to, &id(&from)).await);
    assert_eq!(
        world.end_pod("pod-1").await.ok(),
        json!({"revoked": 2}),
        "session and delegation"
    );
    assert!(!world.stands(&child).await, "it came from the pod that is gone");
    assert!(!world.stands(&back).await, "it was given to the pod that is gone");
    assert!(world.stands(&to).await, "the other pod's session goes on");
    assert_eq!(delegate(&world, &to, &id(&from)).await.refusal(), (404, "not_found"));
    let told = world.events("event_type=pod_ended").await;
    let whose: Vec<_> = told.iter().map(|event| &event["pod_uid"]).collect();
    assert_eq!(
        whose,
        ["pod-1", "pod-2"],
        "each under the session whose authority it was"
    );
}

/// Tokens delegated to the agent `to`, renewed, and delegated on by it; all stand.
async fn given(world: &World, from: &str, to: &str, third: &str) -> Vec<String> {
    let plain = token(delegate(world, from, &id(to)).await);
    let renewed = token(delegate(world, from, &id(to)).await);
    let renewed = token(world.renew(&renewed).await);
    let on = token(delegate(world, &plain, &id(third)).await);
    let tokens = vec![plain, renewed, on];
    for token in &tokens {
        assert!(world.stands(token).await);
    }
    tokens
}

/// None of them is of any use.
async fn assert_dead(world: &World, tokens: &[String], to: &str, what: &str) {
    for token in tokens {
        assert!(!world.stands(token).await, "{what}");
        assert_eq!(world.renew(token).await.status, 403, "{what}");
        assert_eq!(delegate(world, token, to).await.status, 403, "{what}");
    }
}

#[tokio::test]
async fn delegations_to_a_pod_end_with_the_pod() {
    for what in ["pod end", "token", "agent", "task", "chain"] {
        let world = World::new().await.with_policies().await;
        let (_, from) = agent(&world, "pod-1", 1).await;
        let (_, to) = agent(&world, "pod-2", 2).await;
        let (_, third) = agent(&world, "pod-3", 3).await;
        let tokens = given(&world, &from, &to, &third).await;
        let other = token(delegate(&world, &from, &id(&third)).await);
        match what {
            "pod end" => drop(world.end_pod("pod-2").await.ok()),
            "token" => drop(world.revoke("token", &claims(&to)["jti"]).await),
            "task" => drop(world.revoke("task", &json!("pod-2")).await),
            level => drop(world.revoke(level, &json!(id(&to))).await),
        }
        assert_dead(&world, &tokens, &id(&third), what).await;
        let world = world.restarted().await;
        assert_dead(&world, &tokens, &id(&third), what).await;
        assert!(world.stands(&from).await && world.stands(&other).await, "{what}");
        world.release_pod("pod-2").await;
        assert_dead(&world, &tokens, &id(&third), "what was revoked stays revoked").await;
    }
}

#[tokio::test]
async fn delegations_to_an_agent_end_when_it_is_superseded() {
    let world = World::new().await.with_policies().await;
    let (_, from) = agent(&world, "pod-1", 1).await;
    let (pod, to) = agent(&world, "pod-2", 2).await;
    let (_, third) = agent(&world, "pod-3", 3).await;
    let mut tokens = given(&world, &from, &to, &third).await;
    world.agent(&pod, &Keys::new(2)).await;
    // For the ten seconds that its session still stands, so does what it was given, also what it is given in them.
    tokens.push(token(delegate(&world, &from, &id(&to)).await));
    for token in &tokens {
        assert!(world.stands(token).await);
        assert_eq!(
            world.renew(token).await.refusal(),
            (403, "superseded"),
            "not carried on"
        );
    }
    world.clock.advance(10);
    assert_dead(&world, &tokens, &id(&third), "superseded").await;
    assert!(world.stands(&from).await);
}

#[tokio::test]
async fn an_expired_session_holds_nothing_after_its_successor_came() {
    let world = World::new().await.with_policies().await;
    let (pod, to) = agent(&world, "pod-2", 2).await;
    world.clock.advance(290);
    let (_, from) = agent(&world, "pod-1", 1).await;
    let child = token(delegate(&world, &from, &id(&to)).await);
    world.clock.advance(20);
    assert!(!world.stands(&to).await && world.stands(&child).await);
    world.agent(&pod, &Keys::new(2)).await;
    world.clock.advance(10);
    assert!(!world.stands(&child).await);
    assert_eq!(delegate(&world, &from, &id(&to)).await.refusal(), (404, "not_found"));
    assert!(world.events("event_type=agent_superseded").await.is_empty());
}

#[tokio::test]
async fn a_quarantined_pod_is_no_delegate() {
    let world = World::new().await.with_policies().await;
    let (_, from) = agent(&world, "pod-1", 1).await;
    let (_, to) = agent(&world, "pod-2", 2).await;
    let answer = world.revoke("token", &claims(&to)["jti"]).await;
    assert_eq!(answer["sessions_ended"], 1);
    assert_eq!(delegate(&world, &from, &id(&to)).await.refusal(), (404, "not_found"));
}

#[tokio::test]
async fn revoking_a_delegated_token_quarantines_no_pod() {
    let world = World::new().await.with_policies().await;
    let (_, from) = agent(&world, "pod-1", 1).await;
    let (_, to) = agent(&world, "pod-2", 2).await;
    let child = token(delegate(&world, &from, &id(&to)).await);
    let answer = world.revoke("token", &claims(&child)["jti"]).await;
    assert_eq!(
        (&answer["sessions_ended"], &answer["pods_quarantined"]),
        (&json!(1), &json!(0))
    );
    assert!(!world.stands(&child).await);
    assert!(world.stands(&from).await && world.stands(&to).await);
    assert!(world.events("event_type=pod_quarantined").await.is_empty());
}

#[tokio::test]
async fn a_delegated_token_is_renewed_with_overlap_too() {
    let world = World::new().await.with_policies().await;
    let (_, from) = agent(&world, "pod-1", 1).await;
    let (_, to) = agent(&world, "pod-2", 2).await;
    let child = token(delegate(&world, &from, &id(&to)).await);
    let wishes = json!({"overlap_seconds": 10});
    let second = token(world.renew_with(&child, "k", &wishes).await);
    assert_eq!(token(world.renew_with(&child, "k", &wishes).await), second);
    assert!(world.stands(&child).await);
    let third = token(world.renew_with(&second, "l", &wishes).await);
    assert!(!world.stands(&child).await, "only the direct predecessor is in overlap");
    assert!(world.stands(&second).await && world.stands(&third).await);
    world
        .put_launch_token(&world.launch_token(2, "suspended", &["read:orders:*"]))
        .await
        .ok();
    assert!(!world.stands(&third).await);
    assert_eq!(world.renew(&third).await.refusal(), (403, "suspended"));
}
