//! What an AgentApp adds to the audiences of its agents' tokens.

use agentwrit_testkit::{Answer, Keys, World, claims};
use serde_json::{Value, json};

const OURS: &str = "https://broker.example.org";

/// AgentApp `orders` with these audiences, at a generation.
async fn audiences(world: &World, generation: i64, audiences: &[&str]) {
    let mut app = world.app(generation, "ready", &["read:orders:*", "write:orders:*"]);
    if !audiences.is_empty() {
        app["spec"]["audiences"] = json!(audiences);
    }
    world.put_app(&app).await.ok();
}

fn token(answer: Answer) -> String {
    answer.ok()["access_token"].as_str().unwrap().to_owned()
}

fn aud(token: &str) -> Value {
    claims(token)["aud"].clone()
}

#[tokio::test]
async fn tokens_have_them_after_the_brokers_own() {
    let world = World::with(&[("AA_AUDIENCE", OURS)]).await.with_policies().await;
    audiences(&world, 2, &["orders", OURS, "stock"]).await;
    let all = json!([OURS, "orders", "stock"]);
    let from = world.agent(&world.pod("p1"), &Keys::new(1)).await;
    assert_eq!(aud(&from), all);
    let renewed = token(world.renew(&from).await);
    assert_eq!(aud(&renewed), all);
    let to = world.agent(&world.pod("p2"), &Keys::new(2)).await;
    let body = json!({"delegate_to": claims(&to)["sub"], "scope": ["read:orders:*"]});
    let delegated = token(world.call("POST", "/v1/delegate", &renewed, &body).await);
    assert_eq!(aud(&delegated), all, "it is the delegator's authority");
    assert_eq!(aud(&token(world.renew(&delegated).await)), all);
    let admin = world.admin().await;
    assert_eq!(aud(&admin), json!([OURS]), "of agents alone");
}

#[tokio::test]
async fn the_broker_asks_for_its_own_audience_alone() {
    let world = World::new().await.with_policies().await;
    let plain = world.agent(&world.pod("p1"), &Keys::new(1)).await;
    assert!(claims(&plain).get("aud").is_none(), "as ever where there are none");
    audiences(&world, 2, &["orders"]).await;
    let token = world.agent(&world.pod("p2"), &Keys::new(2)).await;
    assert_eq!(aud(&token), json!(["orders"]));
    world.renew(&token).await.ok();
}

#[tokio::test]
async fn a_changed_list_is_in_the_token_after_the_next_renewal() {
    let world = World::new().await.with_policies().await;
    audiences(&world, 2, &["orders"]).await;
    let pod = world.pod("p1");
    let first = world.agent(&pod, &Keys::new(1)).await;
    // Written again as it was, nothing changes.
    audiences(&world, 3, &["orders"]).await;
    let second = token(world.renew(&first).await);
    for (generation, wanted) in [(4, vec!["orders", "stock"]), (5, vec!["stock"]), (6, vec![])] {
        let before = if generation == 4 {
            second.clone()
        } else {
            world.agent(&pod, &Keys::new(1)).await
        };
        audiences(&world, generation, &wanted).await;
        assert!(world.stands(&before).await, "no session ends by it");
        let answer = world.renew(&before).await;
        assert_eq!(answer.refusal(), (403, "policy_changed"), "{wanted:?}");
        assert_eq!(world.last_kind("token_renewal_failed").await, "policy_changed");
        world.clock.advance(60);
    }
    assert!(claims(&world.agent(&pod, &Keys::new(1)).await).get("aud").is_none());
}

#[tokio::test]
async fn a_launch_of_before_a_change_does_not_register() {
    let world = World::new().await.with_policies().await;
    let keys = Keys::new(1);
    let launched = World::launched(world.launch(&world.pod("p1"), &keys).await);
    audiences(&world, 2, &["orders"]).await;
    let answer = world.register(&launched, &keys).await;
    assert_eq!(answer.refusal(), (403, "policy_changed"));
}

#[tokio::test]
async fn audiences_of_another_form_are_refused() {
    let world = World::new().await.with_policies().await;
    let long = "x".repeat(257);
    for wrong in [
        vec!["a"; 17],
        vec![""],
        vec!["a b"],
        vec!["a\u{2003}b"],
        vec!["a\u{7f}"],
        vec![&long],
    ] {
        let mut app = world.app(2, "ready", &["read:orders:*"]);
        app["spec"]["audiences"] = json!(wrong);
        let answer = world.put_app(&app).await;
        assert_eq!(answer.refusal(), (400, "invalid_request"), "{wrong:?}");
        assert!(
            answer.body["detail"].as_str().unwrap().starts_with("spec.audiences"),
            "{}",
            answer.body
        );
    }
}
