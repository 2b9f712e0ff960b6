//! Renewal of attested agents: the overlap, and retries by their key.

use agentwrit_protocol::audit::AuditEvent;
use agentwrit_testkit::{Answer, Keys, World, claims};
use serde_json::{Value, json};

struct Agent {
    world: World,
    token: String,
}

async fn agent() -> Agent {
    let world = World::new().await.with_policies().await;
    let token = world.agent(&world.pod("pod-1"), &Keys::new(1)).await;
    Agent { world, token }
}

fn token(answer: Answer) -> String {
    answer.ok()["access_token"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn without_wishes_the_predecessor_is_dead_at_once() {
    let Agent { world, token: first } = agent().await;
    let second = token(world.renew(&first).await);
    assert!(!world.stands(&first).await && world.stands(&second).await);
    assert_eq!(world.renew(&first).await.refusal(), (403, "superseded"));
}

#[tokio::test]
async fn the_old_token_is_valid_for_the_overlap_at_most() {
    for (overlap, wait, stands) in [
        (10, 9_999, true),
        (10, 10_000, false),
        (30, 29_999, true),
        (0, 0, false),
    ] {
        let Agent { world, token: first } = agent().await;
        let second = token(world.renew_with(&first, "", &json!({"overlap_seconds": overlap})).await);
        world.clock.advance_millis(wait);
        assert_eq!(world.stands(&first).await, stands, "{overlap} s, after {wait} ms");
        assert!(world.stands(&second).await);
    }
    let Agent { world, token: first } = agent().await;
    world.clock.advance(295);
    token(world.renew_with(&first, "", &json!({"overlap_seconds": 30})).await);
    world.clock.advance(6);
    assert!(!world.stands(&first).await, "its exp is over");
}

#[tokio::test]
async fn an_old_token_in_overlap_renews_only_with_the_same_key() {
    let Agent { world, token: first } = agent().await;
    let wishes = json!({"overlap_seconds": 10});
    let second = token(world.renew_with(&first, "key-1", &wishes).await);
    for key in ["", "key-2"] {
        assert_eq!(
            world.renew_with(&first, key, &wishes).await.refusal(),
            (403, "superseded"),
            "{key:?}"
        );
    }
    assert_eq!(
        token(world.renew_with(&first, "key-1", &wishes).await),
        second,
        "the same token again"
    );
}

#[tokio::test]
async fn a_retry_is_answered_for_60_s_though_its_bearer_expired() {
    let Agent { world, token: first } = agent().await;
    let second = token(world.renew_with(&first, "key-1", &Value::Null).await);
    assert!(!world.stands(&first).await);
    world.clock.advance(60);
    assert_eq!(token(world.renew_with(&first, "key-1", &Value::Null).await), second);
    assert_eq!(world.events("event_type=token_renewed").await.len(), 1, "one renewal");
    world.clock.advance(1);
    assert_eq!(
        world.renew_with(&first, "key-1", &Value::Null).await.refusal(),
        (403, "superseded")
    );
}

#[tokio::test]
async fn no_retry_after_the_end_of_the_session_or_of_a_later_renewal() {
    let Agent { world, token: first } = agent().await;
    let second = token(world.renew_with(&first, "key-1", &Value::Null).await);
    let third = token(world.renew_with(&second, "key-2", &Value::Null).await);
    assert_eq!(
        world.renew_with(&first, "key-1", &Value::Null).await.refusal(),
        (403, "superseded")
    );
    let sub = claims(&third)["sub"].clone();
    world.revoke("agent", &sub).await;
    assert_eq!(
        world.renew_with(&second, "key-2", &Value::Null).await.refusal(),
        (403, "revoked")
    );
}

#[tokio::test]
async fn a_retry_survives_a_restart() {
    let Agent { world, token: first } = agent().await;
    let second = token(world.renew_with(&first, "key-1", &Value::Null).await);
    let world = world.restarted().await;
    assert_eq!(token(world.renew_with(&first, "key-1", &Value::Null).await), second);
}

#[tokio::test]
async fn wishes_that_make_no_sense_are_named_and_renew_nothing() {
    let Agent { world, token } = agent().await;
    for (key, body) in [
        ("", json!({"overlap_seconds": 31})),
        ("", json!({"overlap_seconds": -1})),
        ("", json!({"overlap_seconds": "10"})),
        ("", json!([])),
        (&"k".repeat(129), Value::Null),
    ] {
        assert_eq!(
            world.renew_with(&token, key, &body).await.refusal(),
            (400, "invalid_request"),
            "{key} {body}"
        );
    }
    assert!(world.stands(&token).await);
}

#[tokio::test]
async fn a_renewal_keeps_less_than_400_bytes_of_all_that_it_writes() {
    const RENEWALS: usize = 1200;
    let world = World::new().await.with_policies().await;
    let mut current = world
        .agent(&world.pod("3f0e8a52-6a0b-4f7e-9d2b-0a1b2c3d4e5f"), &Keys::new(1))
        .await;
    let mut before = 0;
    for number in 0..2 * RENEWALS {
        if number == RENEWALS {
            // The first half fills the pages that any store has.
            world.shorten().await;
            before = world.store_bytes();
        }
        world.clock.advance(2);
        current = token(world.renew(&current).await);
    }
    world.tidy().await;
    world.shorten().await;
    let each = (world.store_bytes() - before) / i64::try_from(RENEWALS).unwrap();
    assert!((100..=400).contains(&each), "{each} bytes");
    // The chain is as whole as before, also for the broker that reads its end when it starts.
    let world = world.restarted().await;
    assert!(world.stands(&current).await);
    let mut hash = String::new();
    let admin = world.admin().await;
    for offset in [0, 1000, 2000] {
        let path = format!("/v1/audit/events?limit=1000&offset={offset}");
        let page = world.call("GET", &path, &admin, &Value::Null).await.ok();
        for event in page["events"].as_array().unwrap() {
            let event: AuditEvent = serde_json::from_value(event.clone()).unwrap();
            assert_eq!(event.hash, event.compute_hash());
            assert!(hash.is_empty() || event.prev_hash == hash, "{}", event.id);
            hash = event.hash;
        }
    }
    let found = world.events("event_type=token_renewed&limit=1000").await;
    assert_eq!(found.len(), 1000);
}
