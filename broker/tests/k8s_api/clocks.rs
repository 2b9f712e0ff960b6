//! Sessions of attested pods under a wall clock that jumps.

use agentwrit_testkit::{Answer, Keys, World, claims};
use serde_json::json;

const READ: &[&str] = &["read:orders:*"];

fn token(answer: Answer) -> String {
    answer.ok()["access_token"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn ended_sessions_stay_ended_on_a_clock_set_back() {
    let mut world = World::new().await.with_policies().await;
    let ended = world.agent(&world.pod("p1"), &Keys::new(1)).await;
    let revoked = world.agent(&world.pod("p2"), &Keys::new(2)).await;
    world.clock.advance(60);
    world.end_pod("p1").await.ok();
    world.revoke("agent", &claims(&revoked)["sub"]).await;
    let third = world.agent(&world.pod("p3"), &Keys::new(3)).await;
    let suspended = world.launch_token(2, "suspended", READ);
    world.put_launch_token(&suspended).await.ok();
    for _ in 0..2 {
        world.clock.jump(-30);
        for token in [&ended, &revoked, &third] {
            assert!(!world.stands(token).await);
        }
        world = world.restarted().await;
    }
    // Nor do they end a second time.
    assert_eq!(world.end_pod("p1").await.ok()["revoked"], 0);
}

#[tokio::test]
async fn an_overlap_that_was_over_does_not_begin_again() {
    let world = World::new().await.with_policies().await;
    let (pod, keys) = (world.pod("p1"), Keys::new(1));
    let renewed = world.agent(&pod, &keys).await;
    let superseded = token(world.renew_with(&renewed, "", &json!({"overlap_seconds": 10})).await);
    let current = world.agent(&pod, &keys).await;
    // As long as it lasts it lasts on the monotonic clock.
    world.clock.advance(5);
    world.clock.jump(-5);
    for token in [&renewed, &superseded, &current] {
        assert!(world.stands(token).await);
    }
    // Over by a step that is taken back at once.
    world.clock.jump(100);
    for token in [&renewed, &superseded] {
        assert!(!world.stands(token).await);
    }
    world.clock.jump(-100);
    for token in [&renewed, &superseded] {
        assert!(!world.stands(token).await);
    }
    assert!(world.stands(&current).await);
    // The mark, which both clocks have passed, is known to the next process.
    world.clock.advance(10);
    let world = world.restarted().await;
    world.clock.jump(-9);
    for token in [&renewed, &superseded] {
        assert!(!world.stands(token).await);
    }
}

#[tokio::test]
async fn an_end_during_a_step_hits_tokens_that_the_step_has_expired() {
    let world = World::new().await.with_policies().await;
    let taken = world.agent(&world.pod("p1"), &Keys::new(1)).await;
    let other = world.agent(&world.pod("p2"), &Keys::new(2)).await;
    world.clock.jump(3600);
    assert_eq!(world.end_pod("p1").await.ok()["revoked"], 1);
    world.tidy().await;
    world.clock.jump(-3600);
    let world = world.restarted().await;
    assert!(!world.stands(&taken).await);
    assert!(world.stands(&other).await);
}

#[tokio::test]
async fn a_revocation_during_a_step_hits_the_pods_present_token() {
    let world = World::new().await.with_policies().await;
    let (pod, keys) = (world.pod("p1"), Keys::new(1));
    let former = world.agent(&pod, &keys).await;
    let agent = claims(&former)["sub"].clone();
    world.clock.advance(20);
    let present = world.agent(&pod, &keys).await;
    world.clock.jump(86_400);
    world.revoke("agent", &agent).await;
    world.clock.jump(-86_400);
    assert!(!world.stands(&present).await, "the pod behind its former agent");
    let world = world.restarted().await;
    assert!(!world.stands(&present).await);
}

#[tokio::test]
async fn a_pods_end_by_a_wrong_clock_outlives_its_mending() {
    let world = World::new().await.with_policies().await;
    let pod = world.pod("p1");
    world.agent(&pod, &Keys::new(1)).await;
    world.clock.advance(60 * 86_400);
    world.tidy().await;
    world.clock.jump(-60 * 86_400);
    world.end_pod("p1").await.ok();
    world.clock.jump(60 * 86_400);
    world.tidy().await;
    assert_eq!(world.launch(&pod, &Keys::new(1)).await.status, 403);
}
