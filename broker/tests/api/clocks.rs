//! Wall clocks that jump: nothing comes back to life, nothing is forgotten, and no life is stretched.

mod random_jumps;

use agentwrit_broker::process::housekeeping;
use agentwrit_protocol::Clock;
use agentwrit_protocol::session::TokenState;
use agentwrit_testkit::{ADMIN_SECRET, Harness, claims};
use agentwrit_tokens::verifier::TokenError;
use proptest::prelude::*;
use serde_json::json;

const DAY: i64 = 86_400;

async fn revoke(harness: &Harness, level: &str, target: &str) -> u16 {
    let admin = harness.admin().await;
    let body = json!({"level": level, "target": target}).to_string();
    harness.post_as(&admin, "/v1/revoke", body).await.status
}

/// Why `/readyz` says that the clock is wrong, if it does.
async fn clock_trouble(harness: &Harness) -> Option<String> {
    let answer = harness.get("/readyz").await;
    let failing = answer.json()["failing"].clone();
    let clock = failing.as_array()?.iter().find(|item| item["dependency"] == "clock")?;
    assert_eq!((answer.status, clock["reason"].as_str()), (503, Some("clock")));
    Some(clock["detail"].as_str().unwrap().to_owned())
}

#[tokio::test]
async fn back_by_seconds_revives_nothing_that_has_ended() {
    let harness = Harness::new().await;
    let (_, released) = harness.agent(json!({})).await;
    let (_, renewed) = harness.agent(json!({})).await;
    let (_, revoked) = harness.agent(json!({"task_id": "t1"})).await;
    let (_, standing) = harness.agent(json!({})).await;
    harness.clock.advance(60);
    assert_eq!(harness.post_as(&released, "/v1/token/release", "").await.status, 204);
    harness.renew(&renewed).await.ok();
    assert_eq!(revoke(&harness, "task", "t1").await, 200);
    for back in [1, 30, 28] {
        harness.clock.jump(-back);
        for token in [&released, &renewed, &revoked] {
            assert!(!harness.stands(token).await);
        }
        assert!(harness.stands(&standing).await);
    }
    let harness = harness.restart(&[]).await;
    for token in [&released, &renewed, &revoked] {
        assert!(!harness.stands(token).await);
    }
    // What ended a moment ago ends no second time.
    let answer = harness.post_as(&released, "/v1/token/release", "").await;
    answer.refused(403, "insufficient_scope", "token has been revoked");
    assert!(harness.stands(&standing).await);
}

#[tokio::test]
async fn forward_prune_and_back_forgets_no_revocation() {
    let harness = Harness::with(&[("AA_MAX_TTL", "600")]).await;
    let agents = [
        ("task", "t1"),
        ("agent", "t2"),
        ("token", "t3"),
        ("release", "t4"),
        ("renew", "t5"),
    ];
    let mut dead = Vec::new();
    for (level, task) in agents {
        let (agent, token) = harness.agent(json!({"task_id": task})).await;
        let jti = claims(&token)["jti"].as_str().unwrap().to_owned();
        let status = match level {
            "release" => harness.post_as(&token, "/v1/token/release", "").await.status,
            "renew" => harness.renew(&token).await.status,
            "task" => revoke(&harness, level, task).await,
            "agent" => revoke(&harness, level, &agent).await,
            _ => revoke(&harness, level, &jti).await,
        };
        assert!(status < 300, "{level}");
        dead.push(token);
    }
    for forward in [3600, 40 * DAY] {
        harness.clock.jump(forward);
        housekeeping::prune(&harness.state).await;
        harness.clock.jump(-forward);
        for token in &dead {
            assert!(!harness.stands(token).await);
        }
    }
    harness.clock.jump(40 * DAY);
    housekeeping::prune(&harness.state).await;
    let setup = harness.stop().await;
    setup.clock.jump(-40 * DAY);
    let harness = Harness::start(setup).await;
    for token in &dead {
        assert!(!harness.stands(token).await);
    }
    assert_eq!(
        clock_trouble(&harness).await,
        None,
        "a day of a wrong date that did not stand"
    );
}

#[tokio::test]
async fn clock_jumps_allow_no_second_use_of_nonce_or_launch_token() {
    let harness = Harness::new().await;
    let launch = harness.launch(json!({"ttl": 30})).await;
    let registration = harness.registration(&launch, json!({})).await.to_string();
    harness.post("/v1/register", &registration).await.ok();
    let kept = harness.launch(json!({"ttl": 30})).await;
    let late = harness.registration(&kept, json!({})).await.to_string();
    harness.clock.jump(30 * DAY);
    housekeeping::prune(&harness.state).await;
    harness.clock.jump(-30 * DAY);
    let answer = harness.post("/v1/register", &registration).await;
    answer.refused(401, "unauthorized", "launch token already consumed");
    harness.clock.advance(31);
    harness.clock.jump(-31);
    let answer = harness.post("/v1/register", &late).await;
    answer.refused(401, "unauthorized", "launch token expired");
}

#[tokio::test]
async fn a_wall_clock_far_behind_the_store_issues_nothing() {
    let harness = Harness::new().await;
    let launch = harness.launch(json!({"single_use": false})).await;
    let registered = harness.register(&launch, json!({})).await.ok();
    let token = registered["access_token"].as_str().unwrap().to_owned();
    let setup = harness.stop().await;
    setup.clock.jump(-300);
    let harness = Harness::start(setup).await;
    assert_eq!(clock_trouble(&harness).await, None, "five minutes are borne");
    harness.clock.jump(-1);
    let sentence = clock_trouble(&harness).await.unwrap();
    for part in ["2027-01-15T07:54:59Z", "2027-01-15T08:00:00Z", "--accept-clock"] {
        assert!(sentence.contains(part), "{sentence}");
    }
    let login = json!({"secret": ADMIN_SECRET}).to_string();
    let registration = harness.registration(&launch, json!({})).await.to_string();
    for (path, body) in [("/v1/admin/auth", login), ("/v1/register", registration)] {
        let answer = harness.post(path, body).await;
        answer.refused_like(503, "unavailable", "clock is wrong");
        assert_eq!(answer.header("retry-after"), "1");
    }
    // It is set right: all goes on, with the same store.
    harness.clock.jump(301);
    assert_eq!(clock_trouble(&harness).await, None);
    assert!(harness.stands(&token).await);
    harness.register(&launch, json!({})).await.ok();
}

#[tokio::test]
async fn an_accepted_clock_begins_a_new_epoch() {
    let harness = Harness::new().await;
    let (_, old) = harness.agent(json!({})).await;
    // A wrong date that stands is believed, and tokens are dated by it.
    harness.clock.jump(DAY);
    harness.state.judging.observe();
    harness.clock.advance(600);
    let (_, future) = harness.agent(json!({})).await;
    let epoch = harness.state.store.epoch();
    let setup = harness.stop().await;
    setup.clock.jump(-DAY);
    let harness = Harness::start(setup).await;
    assert!(clock_trouble(&harness).await.is_some());
    assert_eq!(harness.state.store.epoch(), epoch);
    let harness = harness.restart_accepting_the_clock().await;
    assert_eq!(clock_trouble(&harness).await, None);
    let fresh = harness.state.store.epoch();
    assert_ne!(fresh, epoch);
    let told = harness.last("clock_accepted").await;
    let detail = told["detail"].as_str().unwrap();
    for part in [&*epoch, &*fresh, "the store has seen 2027-01-16"] {
        assert!(detail.contains(part), "{detail}");
    }
    let counted = "\nagentwrit_audit_events_total{event_type=\"clock_accepted\"} 1\n";
    assert!(harness.get("/v1/metrics").await.text.contains(counted));
    harness.clock.advance(1);
    let (_, new) = harness.agent(json!({})).await;
    assert!(harness.stands(&new).await && !harness.stands(&old).await);
    // The second time there is nothing to accept.
    let harness = harness.restart_accepting_the_clock().await;
    assert_eq!(harness.state.store.epoch(), fresh);
    assert_eq!(harness.events("event_type=clock_accepted").await.len(), 1);
    assert!(harness.stands(&new).await && !harness.stands(&old).await);
    // Nor does time bring to life what the wrong clock has dated.
    harness.clock.set_wall(claims(&future)["iat"].as_i64().unwrap());
    assert!(!harness.stands(&future).await);
}
