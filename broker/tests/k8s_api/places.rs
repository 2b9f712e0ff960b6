//! How many pods may hold agents of one LaunchToken at a time.

use agentwrit_testkit::{Keys, Pod, World};
use serde_json::{Value, json};

/// LaunchToken `reader` with this limit, at a generation.
async fn limit(world: &World, generation: i64, most: i64) {
    let mut launch = world.launch_token(generation, "ready", &["read:orders:*"]);
    launch["spec"]["max_active_agents"] = json!(most);
    world.put_launch_token(&launch).await.ok();
}

/// Where a pod is refused, and what it then is told.
async fn refused_at_launch(world: &World, pod: &Pod) {
    let answer = world.launch(pod, &Keys::new(9)).await;
    assert_eq!(answer.refusal(), (403, "max_active_agents"));
    let detail = answer.body["detail"].as_str().unwrap();
    assert!(
        detail.contains("maxActiveAgents") && detail.contains("The limit is"),
        "{detail}"
    );
    let event = world.last("attestation_denied").await;
    assert_eq!(
        (&event["error_kind"], &event["pod_uid"]),
        (&json!("max_active_agents"), &json!(pod.uid))
    );
}

async fn release(world: &World, token: &str) {
    world.call("POST", "/v1/token/release", token, &Value::Null).await.ok();
}

#[tokio::test]
async fn pods_beyond_the_limit_wait_until_one_ends() {
    let world = World::new().await.with_policies().await;
    limit(&world, 2, 2).await;
    let first = world.agent(&world.pod("p1"), &Keys::new(1)).await;
    world.agent(&world.pod("p2"), &Keys::new(2)).await;
    let third = world.pod("p3");
    refused_at_launch(&world, &third).await;
    let fed = world.as_controller("GET", "/v1/k8s/denials", &Value::Null).await.ok();
    assert_eq!(
        fed["denials"][0]["error_kind"], "max_active_agents",
        "there is an Event"
    );
    release(&world, &first).await;
    world.agent(&third, &Keys::new(3)).await;
    refused_at_launch(&world, &world.pod("p4")).await;
    world.end_pod("p2").await.ok();
    world.agent(&world.pod("p4"), &Keys::new(4)).await;
    refused_at_launch(&world, &world.pod("p5")).await;
    // Tokens that run out free their places too.
    world.clock.advance(301);
    world.agent(&world.pod("p5"), &Keys::new(5)).await;
}

#[tokio::test]
async fn a_pod_that_registers_again_keeps_its_place() {
    let world = World::new().await.with_policies().await;
    limit(&world, 2, 1).await;
    let pod = world.pod("p1");
    let mut token = String::new();
    for seed in 1..=3 {
        token = world.agent(&pod, &Keys::new(seed)).await;
    }
    refused_at_launch(&world, &world.pod("p2")).await;
    world.renew(&token).await.ok();
}

#[tokio::test]
async fn the_registration_decides_and_burns_nothing() {
    let world = World::new().await.with_policies().await;
    limit(&world, 2, 1).await;
    let (one, two) = (world.pod("p1"), world.pod("p2"));
    let keys = [Keys::new(1), Keys::new(2)];
    // Both launch while there is a place.
    let first = World::launched(world.launch(&one, &keys[0]).await);
    let second = World::launched(world.launch(&two, &keys[1]).await);
    let token = world.register(&first, &keys[0]).await.ok();
    let answer = world.register(&second, &keys[1]).await;
    assert_eq!(answer.refusal(), (403, "max_active_agents"));
    let event = world.last("registration_denied").await;
    assert_eq!(
        (&event["error_kind"], &event["pod_uid"], &event["policy_uid"]),
        (&json!("max_active_agents"), &json!("p2"), &json!("ltok-uid"))
    );
    release(&world, token["access_token"].as_str().unwrap()).await;
    world.register(&second, &keys[1]).await.ok();
}

#[tokio::test]
async fn registrations_at_one_time_never_pass_the_limit() {
    let world = World::new().await.with_policies().await;
    limit(&world, 2, 3).await;
    let mut launched = Vec::new();
    for seed in 1..=12 {
        let keys = Keys::new(seed);
        let answer = world.launch(&world.pod(&format!("p{seed}")), &keys).await;
        launched.push((World::launched(answer), keys));
    }
    assert_eq!(registered_at_once(&[&world], &launched).await, 3);
}

/// On whichever store the run has, these are on PostgreSQL.
#[tokio::test]
async fn replicas_together_never_pass_the_limit() {
    let (one, two) = World::replicas().await;
    let one = one.with_policies().await;
    limit(&one, 2, 3).await;
    let mut launched = Vec::new();
    for seed in 1..=10 {
        let keys = Keys::new(seed);
        let pod = one.pod(&format!("p{seed}"));
        let from = if seed % 2 == 0 { &one } else { &two };
        launched.push((World::launched(from.launch(&pod, &keys).await), keys));
    }
    assert_eq!(registered_at_once(&[&one, &two], &launched).await, 3);
}

/// Has all of them registered at one time, by turns at the brokers; how many got a token.
async fn registered_at_once(worlds: &[&World], launched: &[(agentwrit_testkit::Launched, Keys)]) -> usize {
    let registrations = launched.iter().zip(worlds.iter().cycle());
    let registrations = registrations.map(|((launched, keys), world)| world.register(launched, keys));
    let answers = futures_util::future::join_all(registrations).await;
    for answer in &answers {
        assert!(
            answer.status == 200 || answer.refusal() == (403, "max_active_agents"),
            "{answer:?}"
        );
    }
    answers.iter().filter(|answer| answer.status == 200).count()
}

#[tokio::test]
async fn a_lower_limit_ends_nobody_and_a_higher_one_counts_at_once() {
    let world = World::new().await.with_policies().await;
    limit(&world, 2, 3).await;
    let mut tokens = Vec::new();
    for seed in 1..=2 {
        tokens.push(world.agent(&world.pod(&format!("p{seed}")), &Keys::new(seed)).await);
    }
    limit(&world, 3, 1).await;
    let mut renewed = Vec::new();
    for token in &tokens {
        renewed.push(
            world.renew(token).await.ok()["access_token"]
                .as_str()
                .unwrap()
                .to_owned(),
        );
    }
    refused_at_launch(&world, &world.pod("p3")).await;
    release(&world, &renewed[0]).await;
    refused_at_launch(&world, &world.pod("p3")).await;
    limit(&world, 4, 2).await;
    world.agent(&world.pod("p3"), &Keys::new(3)).await;
    refused_at_launch(&world, &world.pod("p4")).await;
    let none = world.launch_token(5, "ready", &["read:orders:*"]);
    world.put_launch_token(&none).await.ok();
    world.agent(&world.pod("p4"), &Keys::new(4)).await;
}

#[tokio::test]
async fn a_limit_out_of_range_is_refused() {
    let world = World::new().await.with_policies().await;
    for most in [0, -1, 100_001] {
        let mut launch = world.launch_token(2, "ready", &["read:orders:*"]);
        launch["spec"]["max_active_agents"] = json!(most);
        let answer = world.put_launch_token(&launch).await;
        assert_eq!(answer.refusal(), (400, "invalid_request"));
        let detail = answer.body["detail"].as_str().unwrap();
        assert!(
            detail.starts_with("spec.max_active_agents must be 1 to 100000"),
            "{detail}"
        );
    }
}
