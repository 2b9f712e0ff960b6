//! Status indexes: lists that are full, and bits that follow from what people, pods and agents do.

use agentwrit_broker::process::housekeeping;
use agentwrit_protocol::status_list::Bounds;
use agentwrit_testkit::{Harness, Setup};
use serde_json::json;

async fn with_room_for(sessions: u32) -> Harness {
    let mut setup = Setup::new(&[]);
    setup.status_lists = Bounds {
        entries: sessions,
        at_least_free: 1,
        lists: 1,
    };
    Harness::start(setup).await
}

#[tokio::test]
async fn while_the_lists_are_full_nothing_is_opened() {
    let harness = with_room_for(3).await;
    let (id, first) = harness.agent(json!({})).await;
    let (_, second) = harness.agent(json!({})).await;
    let launch = harness.launch(json!({})).await;
    let registration = harness.registration(&launch, json!({})).await.to_string();
    let wish = json!({"delegate_to": id, "scope": ["read:data:x"]}).to_string();
    harness.post_as(&first, "/v1/delegate", &wish).await.ok();
    let metrics = harness.get("/v1/metrics").await.text;
    for gauge in ["agentwrit_status_lists 1", "agentwrit_status_indexes_free 0"] {
        assert!(metrics.contains(&format!("\n{gauge}\n")), "{gauge}");
    }

    let before = harness.events("").await;
    for refused in [
        harness.post("/v1/register", &registration).await,
        harness.post_as(&first, "/v1/delegate", &wish).await,
    ] {
        let detail = "all status lists are full until sessions expire; nothing was changed";
        refused.refused(503, "unavailable", detail);
        assert_eq!(refused.header("retry-after"), "1");
    }
    assert_eq!(harness.events("").await, before, "nobody was denied anything");
    assert_eq!(harness.rows("sessions"), 3);

    // The rest goes on, and ends make no room at once.
    let renewed = harness.renew(&first).await.member("access_token");
    assert_eq!(harness.post_as(&second, "/v1/token/release", "").await.status, 204);
    harness.revoke("task", &json!("t2")).await;
    assert!(harness.stands(&renewed).await && !harness.stands(&second).await);
    assert_eq!(harness.post("/v1/register", &registration).await.status, 503);

    harness.clock.advance(300 + 3 * 3600);
    housekeeping::prune(&harness.state).await;
    for _ in 0..3 {
        let (_, token) = harness.agent(json!({})).await;
        assert!(harness.stands(&token).await);
    }
}

#[tokio::test]
async fn a_refusal_for_full_lists_uses_up_nothing() {
    let harness = with_room_for(1).await;
    let launch = harness.launch(json!({})).await;
    let registration = harness.registration(&launch, json!({})).await.to_string();
    harness.agent(json!({})).await;
    assert_eq!(harness.post("/v1/register", &registration).await.status, 503);
    let mut setup = harness.stop().await;
    setup.status_lists = Bounds::default();
    let harness = Harness::start(setup).await;
    harness.post("/v1/register", &registration).await.ok();
}
