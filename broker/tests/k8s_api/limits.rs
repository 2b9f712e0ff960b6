//! Rates and caps of what a pod's session does, and what it can make the trail grow by.

use agentwrit_protocol::go_json;
use agentwrit_testkit::{Answer, Keys, World, claims};
use serde_json::{Value, json};

fn token(answer: Answer) -> String {
    answer.ok()["access_token"].as_str().unwrap().to_owned()
}

fn id(token: &str) -> Value {
    claims(token)["sub"].clone()
}

async fn delegate(world: &World, token: &str, ttl: i64) -> Answer {
    let body = json!({"delegate_to": id(token), "scope": ["read:orders:*"], "ttl": ttl});
    world.call("POST", "/v1/delegate", token, &body).await
}

#[track_caller]
fn limited(answer: &Answer, seconds: &str) {
    assert_eq!(answer.refusal(), (429, "rate_limited"));
    assert_eq!(answer.headers["retry-after"], seconds);
}

async fn kinds(world: &World, event_type: &str) -> Vec<Value> {
    let events = world.events(&format!("event_type={event_type}&outcome=denied")).await;
    events.into_iter().map(|event| event["error_kind"].clone()).collect()
}

#[tokio::test]
async fn a_pod_renews_ten_times_at_once_and_then_each_two_seconds() {
    let world = World::new().await.with_policies().await;
    let mut current = world.agent(&world.pod("pod-1"), &Keys::new(1)).await;
    let other = world.agent(&world.pod("pod-2"), &Keys::new(2)).await;
    for _ in 0..10 {
        current = token(world.renew(&current).await);
    }
    limited(&world.renew(&current).await, "2");
    assert!(world.stands(&current).await, "nothing changed");
    assert_eq!(kinds(&world, "token_renewal_failed").await, ["renewal_rate"]);
    token(world.renew(&other).await);
    world.clock.advance(2);
    current = token(world.renew(&current).await);
    limited(&world.renew(&current).await, "2");
    // A lost answer is asked for again whatever the rate.
    world.clock.advance(2);
    let next = token(world.renew_with(&current, "key-1", &json!({})).await);
    assert_eq!(token(world.renew_with(&current, "key-1", &json!({})).await), next);
}

#[tokio::test]
async fn renewals_of_what_a_pod_delegated_take_no_turn_of_its_own() {
    let world = World::new().await.with_policies().await;
    let own = world.agent(&world.pod("pod-1"), &Keys::new(1)).await;
    let mut child = token(delegate(&world, &own, 200).await);
    let mut other = token(delegate(&world, &own, 200).await);
    for _ in 0..32 {
        child = token(world.renew(&child).await);
    }
    limited(&world.renew(&child).await, "1");
    for _ in 0..32 {
        other = token(world.renew(&other).await);
    }
    limited(&world.renew(&other).await, "1");
    token(world.renew(&own).await);
    world.clock.advance(1);
    token(world.renew(&child).await);
}

#[tokio::test]
async fn a_pod_delegates_sixty_times_at_once_and_then_each_second() {
    let world = World::new().await.with_policies().await;
    let own = world.agent(&world.pod("pod-1"), &Keys::new(1)).await;
    let child = token(delegate(&world, &own, 200).await);
    for number in 1..60 {
        // What its descendants delegate counts against its rate too.
        token(delegate(&world, if number % 2 == 0 { &own } else { &child }, 20).await);
    }
    limited(&delegate(&world, &own, 20).await, "1");
    // One delegate has half of them.
    limited(&delegate(&world, &child, 20).await, "2");
    assert_eq!(
        kinds(&world, "delegation_attenuation_violation").await,
        ["delegation_rate"; 2]
    );
    world.clock.advance(1);
    token(delegate(&world, &own, 20).await);
    limited(&delegate(&world, &own, 20).await, "1");
}

#[tokio::test]
async fn a_session_may_have_256_open_delegations() {
    let world = World::new().await.with_policies().await;
    let own = world.agent(&world.pod("pod-1"), &Keys::new(1)).await;
    let mut children = Vec::new();
    while children.len() < 256 {
        let answer = delegate(&world, &own, 800).await;
        if answer.refusal().0 == 429 {
            world.clock.advance(1);
        } else {
            children.push(token(answer));
        }
    }
    world.clock.advance(10);
    let full = delegate(&world, &own, 800).await;
    limited(&full, "1");
    let detail = full.body["detail"].as_str().unwrap();
    assert!(
        detail.starts_with("256 delegations stand under this session"),
        "{detail}"
    );
    limited(&delegate(&world, &children[0], 10).await, "1");
    assert_eq!(
        kinds(&world, "delegation_attenuation_violation").await.last(),
        Some(&json!("open_delegations"))
    );
    // Also after a restart.
    let world = world.restarted().await;
    limited(&delegate(&world, &own, 800).await, "1");
    let released = world
        .call("POST", "/v1/token/release", &children[7], &Value::Null)
        .await;
    assert_eq!(released.status, 204);
    world.clock.advance(1);
    token(delegate(&world, &own, 60).await);
    limited(&delegate(&world, &own, 60).await, "1");
    // Another pod has its own.
    let other = world.agent(&world.pod("pod-2"), &Keys::new(2)).await;
    token(delegate(&world, &other, 60).await);
    // All have expired.
    world.clock.advance(800);
    let own = world.agent(&world.pod("pod-1"), &Keys::new(1)).await;
    token(delegate(&world, &own, 60).await);
}

/// The bound that docs/broker.md promises, bytes a second.
const GROWTH: usize = 96 * 1024;

/// One pod tries all that it can, with the longest lists that it may send, each second far beyond its rates.
#[tokio::test]
async fn a_hostile_pod_makes_the_trail_grow_within_its_bound() {
    const SECONDS: usize = 10;
    // What may be done at once is spent first.
    const BEFORE: usize = 8;
    let scopes = |action: &str| {
        let scope = |number: usize| format!("{action}:orders:{number:02}{}", "x".repeat(230));
        json!((0..64).map(scope).collect::<Vec<_>>())
    };
    let world = World::with(&[("AA_DENIAL_AUDIT_RATE", "10")])
        .await
        .with_policies()
        .await;
    let (pod, keys) = (world.pod("3f0e8a52-6a0b-4f7e-9d2b-0a1b2c3d4e5f"), Keys::new(1));
    let mut own = world.agent(&pod, &keys).await;
    let mut given: Vec<String> = Vec::new();
    let admin = world.admin().await;
    let mut grown = 0;
    let mut cursor = String::from("evt-000000");
    for second in 0..BEFORE + SECONDS {
        world.clock.advance(1);
        let pod_asks = json!({"policy": pod.policy, "public_key": keys.public(), "scopes": scopes("other")});
        for round in 0..if second < BEFORE { 16 } else { 12 } {
            for (list, keep) in [(scopes("read"), true), (scopes("other"), false)] {
                let body = json!({"delegate_to": id(&own), "scope": list, "ttl": 30});
                let answer = world.call("POST", "/v1/delegate", &own, &body).await;
                if keep && answer.is_success() {
                    given.push(token(answer));
                }
            }
            let renewed = world.renew(&own).await;
            if renewed.is_success() {
                own = token(renewed);
            }
            if let Some(child) = given.get(round % given.len().max(1)).cloned() {
                let renewed = world.renew(&child).await;
                let body = json!({"delegate_to": id(&own), "scope": scopes("other"), "ttl": 30});
                world.call("POST", "/v1/delegate", &child, &body).await;
                if renewed.is_success() {
                    let renewed = token(renewed);
                    world.call("POST", "/v1/delegate", &renewed, &body).await;
                    given.push(renewed);
                }
            }
            world
                .call("POST", "/v1/k8s/launch-tokens", &pod.bearer(), &pod_asks)
                .await;
        }
        for child in given.split_off(given.len().saturating_sub(6)) {
            world.call("POST", "/v1/token/release", &child, &Value::Null).await;
        }
        let launched = world.launch(&pod, &keys).await;
        if launched.is_success() {
            let launched = World::launched(launched);
            for changes in [json!({"requested_scope": scopes("other")}), json!({"task_id": "other"})] {
                world.register_with(&launched, &keys, &changes).await;
            }
            own = token(
                world
                    .register_with(&launched, &keys, &json!({"requested_scope": scopes("read")}))
                    .await,
            );
        }
        loop {
            let path = format!("/v1/audit/events?limit=1000&cursor={cursor}");
            let page = world.call("GET", &path, &admin, &Value::Null).await.ok();
            let events = page["events"].as_array().unwrap();
            let Some(last) = events.last() else { break };
            last["id"].as_str().unwrap().clone_into(&mut cursor);
            if second >= BEFORE {
                grown += events
                    .iter()
                    .map(|event| go_json::to_vec(event).unwrap().len())
                    .sum::<usize>();
            }
        }
    }
    assert!(
        grown > SECONDS * GROWTH / 2,
        "it was busy: {} a second",
        grown / SECONDS
    );
    assert!(grown <= SECONDS * GROWTH, "{} bytes a second", grown / SECONDS);
}

#[tokio::test]
async fn repeated_registrations_of_a_pod_keep_few_bytes() {
    const TIMES: i64 = 60;
    let world = World::new().await.with_policies().await;
    let (pod, keys) = (world.pod("3f0e8a52-6a0b-4f7e-9d2b-0a1b2c3d4e5f"), Keys::new(1));
    let scope = |number: usize| format!("read:orders:{number:02}{}", "x".repeat(240));
    let scopes = json!({"requested_scope": (0..64).map(scope).collect::<Vec<_>>()});
    let mut before = 0;
    for time in 0..=TIMES {
        world.clock.advance(10);
        let launched = World::launched(world.launch(&pod, &keys).await);
        world.register_with(&launched, &keys, &scopes).await.ok();
        world.shorten().await;
        if time == 0 {
            before = world.store_bytes();
        }
    }
    let each = (world.store_bytes() - before) / TIMES;
    assert!(each < 8 * 1024, "{each} bytes, of which the scopes would be 16 KiB");
}
