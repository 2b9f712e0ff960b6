//! Policy writes: fenced, all or nothing, remembered, removed.

use agentwrit_testkit::{Answer, Keys, World};
use serde_json::{Value, json};

const READ: &[&str] = &["read:orders:*"];

fn ordered(mut put: Value, lease_epoch: i64, sequence: i64) -> Value {
    put["order"] = json!({"lease_epoch": lease_epoch, "sequence": sequence});
    put
}

fn stale(answer: &Answer, current_epoch: i64) {
    assert_eq!(answer.refusal(), (409, "stale_writer"), "{}", answer.body);
    assert_eq!(answer.body["current_epoch"], current_epoch);
    assert!(answer.headers.contains_key("agentwrit-epoch"));
}

#[tokio::test]
async fn a_write_is_answered_with_its_digest_and_the_apps_id() {
    let world = World::new().await;
    let put = world.app(1, "ready", READ);
    let answer = world.put_app(&put).await;
    let epoch = answer.headers["agentwrit-epoch"].to_str().unwrap().to_owned();
    let body = answer.ok();
    let parsed: agentwrit_protocol::k8s::PutApp = serde_json::from_value(put).unwrap();
    assert_eq!(body["digest"], parsed.digest());
    assert!(
        body["app_id"].as_str().unwrap().starts_with("app-shop.orders-"),
        "{body}"
    );
    let listed = world.as_controller("GET", "/v1/k8s/policies", &Value::Null).await.ok();
    assert_eq!(listed["epoch"], epoch);
    assert_eq!(listed["lease_epoch"], 1);
    assert_eq!(listed["policies"][0]["digest"], body["digest"]);
    assert_eq!(listed["policies"][0]["app_id"], body["app_id"]);
    let event = world.events("event_type=policy_applied").await.remove(0);
    assert_eq!(event["policy_uid"], "app-uid");
    assert_eq!(
        event["actor"],
        "system:serviceaccount:agentwrit-system:agentwrit-controller"
    );
    assert!(
        event["detail"]
            .as_str()
            .unwrap()
            .starts_with("AgentApp shop/orders generation 1 is ready"),
        "{event}"
    );
}

#[tokio::test]
async fn the_same_write_again_is_no_news_and_an_older_one_is_refused() {
    let world = World::new().await;
    let put = ordered(world.app(1, "ready", READ), 3, 5);
    let first = world.put_app(&put).await.ok();
    assert_eq!(world.put_app(&put).await.ok(), first);
    let other = world.app(2, "ready", &["write:orders:*"]);
    stale(&world.put_app(&ordered(other.clone(), 3, 5)).await, 3);
    stale(&world.put_app(&ordered(other.clone(), 3, 4)).await, 3);
    stale(&world.put_app(&ordered(other.clone(), 2, 99)).await, 3);
    assert_eq!(world.events("event_type=policy_applied").await.len(), 1);
    assert_eq!(world.put_app(&ordered(put.clone(), 3, 6)).await.ok(), first);
    assert_eq!(
        world.events("event_type=policy_applied").await.len(),
        1,
        "a full comparison writes no news"
    );
    world.put_app(&ordered(other, 3, 7)).await.ok();
    assert_eq!(world.events("event_type=policy_applied").await.len(), 2);
}

#[tokio::test]
async fn a_new_leader_shuts_the_old_one_out_of_every_object() {
    let world = World::new().await;
    world.put_app(&ordered(world.app(1, "ready", READ), 2, 9)).await.ok();
    stale(
        &world
            .put_launch_token(&ordered(world.launch_token(1, "ready", READ), 1, 10))
            .await,
        2,
    );
    world
        .put_launch_token(&ordered(world.launch_token(1, "ready", READ), 2, 0))
        .await
        .ok();
    let path = "/v1/k8s/policies/apps/shop/orders?uid=app-uid&revoke=true&lease_epoch=1&sequence=99";
    stale(&world.as_controller("DELETE", path, &Value::Null).await, 2);
}

#[tokio::test]
async fn a_write_with_a_wrong_value_changes_nothing_and_names_it() {
    type Change = fn(&mut Value);
    let world = World::new().await;
    let table: [(Change, &str, &str); 9] = [
        (
            |p| p["spec"]["scopes"] = json!(["read:orders"]),
            "invalid_scope_format",
            "spec.scopes",
        ),
        (
            |p| p["spec"]["scopes"] = json!(["admin:revoke:*"]),
            "forbidden",
            "spec.scopes",
        ),
        (|p| p["spec"]["scopes"] = json!([]), "invalid_request", "spec.scopes"),
        (
            |p| p["spec"]["max_agent_ttl_seconds"] = json!(59),
            "invalid_ttl",
            "spec.max_agent_ttl_seconds",
        ),
        (
            |p| p["spec"]["max_agent_ttl_seconds"] = json!("60"),
            "invalid_request",
            "malformed body: spec.max_agent_ttl_seconds must be a whole number, not a string",
        ),
        (|p| p["uid"] = json!(""), "invalid_request", "uid"),
        (
            |p| p["state"] = json!("maybe"),
            "invalid_request",
            "malformed body: state must be ready or not_ready or suspended, not \"maybe\"",
        ),
        (
            |p| p["order"] = json!({"lease_epoch": 1}),
            "invalid_request",
            "malformed body: order.sequence is required",
        ),
        (
            |p| p["order"]["sequence"] = json!(-1),
            "invalid_request",
            "order.sequence",
        ),
    ];
    for (change, code, field) in table {
        let mut put = world.app(1, "ready", READ);
        change(&mut put);
        let answer = world.put_app(&put).await;
        assert_eq!(answer.body["error_code"], code, "{}", answer.body);
        assert!(
            answer.body["detail"].as_str().unwrap().starts_with(field),
            "{}",
            answer.body
        );
    }
    let answer = world
        .as_controller("PUT", "/v1/k8s/policies/apps/Shop/orders", &world.app(1, "ready", READ))
        .await;
    assert_eq!(answer.refusal(), (400, "invalid_request"));
    let listed = world.as_controller("GET", "/v1/k8s/policies", &Value::Null).await.ok();
    assert_eq!((&listed["policies"], &listed["lease_epoch"]), (&json!([]), &json!(0)));
}

#[tokio::test]
async fn a_bulk_write_answers_each_item_for_itself() {
    let world = World::new().await;
    let item = |mut put: Value, kind: &str, name: &str| {
        put["kind"] = json!(kind);
        put["namespace"] = json!("shop");
        put["name"] = json!(name);
        put
    };
    let mut bad_scope = item(world.app(1, "ready", &["nonsense"]), "app", "bad");
    bad_scope["uid"] = json!("bad-uid");
    let mut bad_shape = item(world.app(1, "ready", READ), "app", "shapeless");
    bad_shape["spec"] = json!(5);
    let old = item(
        ordered(world.launch_token(1, "ready", READ), 0, 1),
        "launch_token",
        "old",
    );
    let items = [
        item(world.app(1, "ready", READ), "app", "orders"),
        bad_scope,
        bad_shape,
        old,
        item(world.launch_token(1, "ready", READ), "launch_token", "reader"),
    ];
    let answer = world
        .as_controller("PUT", "/v1/k8s/policies", &json!({"items": items}))
        .await
        .ok();
    let results = answer["results"].as_array().unwrap();
    let codes: Vec<&str> = results
        .iter()
        .map(|result| result["problem"]["error_code"].as_str().unwrap_or("accepted"))
        .collect();
    assert_eq!(
        codes,
        [
            "accepted",
            "invalid_scope_format",
            "invalid_request",
            "stale_writer",
            "accepted"
        ]
    );
    assert_eq!(results[3]["problem"]["current_epoch"], 1);
    assert_eq!(
        (&results[4]["kind"], &results[4]["name"]),
        (&json!("launch_token"), &json!("reader"))
    );
    world.launch(&world.pod("p1"), &Keys::new(1)).await.ok();
    assert_eq!(
        results[2]["problem"]["detail"],
        "malformed item: spec must be an object, not a number"
    );
    let long = "x".repeat(254);
    for (body, detail) in [
        (json!({"items": []}), "items must have 1 to 500 items, not 0"),
        (
            json!({"items": vec![json!({}); 501]}),
            "items must have 1 to 500 items, not 501",
        ),
        (
            json!({"items": {}}),
            "malformed body: items must be an array, not an object",
        ),
        (json!({}), "malformed body: items is required"),
        (json!([]), "malformed JSON body"),
        (
            json!({"items": [{"kind": "app", "namespace": "shop", "name": "a"}, {"kind": "app"}]}),
            "malformed body: items[1].namespace is required",
        ),
        (
            json!({"items": [{"kind": "policy", "namespace": "shop", "name": "a"}]}),
            "malformed body: items[0].kind must be app or launch_token, not \"policy\"",
        ),
        (
            json!({"items": [{"kind": "app", "namespace": "shop", "name": long}]}),
            "malformed body: items[0].name must be at most 253 bytes",
        ),
    ] {
        let answer = world.as_controller("PUT", "/v1/k8s/policies", &body).await;
        assert_eq!(answer.refusal(), (400, "invalid_request"));
        assert_eq!(answer.body["detail"], detail);
    }
}

async fn delete(world: &World, path: &str, uid: &str, revoke: bool) -> Answer {
    let order = world.order();
    let query = format!(
        "uid={uid}&lease_epoch={}&sequence={}&revoke={revoke}",
        order["lease_epoch"], order["sequence"]
    );
    world
        .as_controller("DELETE", &format!("/v1/k8s/policies/{path}?{query}"), &Value::Null)
        .await
}

#[tokio::test]
async fn removal_ends_the_sessions_and_buries_the_uid() {
    let world = World::new().await.with_policies().await;
    let keys = Keys::new(1);
    let token = world.agent(&world.pod("p1"), &keys).await;
    let waiting = World::launched(world.launch(&world.pod("p2"), &keys).await);
    assert_eq!(
        delete(&world, "launch-tokens/shop/reader", "ltok-uid", true).await.ok(),
        json!({"revoked": 1})
    );
    assert!(!world.stands(&token).await);
    assert_eq!(world.register(&waiting, &keys).await.refusal(), (403, "policy_changed"));
    assert_eq!(world.last_kind("registration_denied").await, "policy_removed");
    assert_eq!(
        world.launch(&world.pod("p3"), &keys).await.refusal(),
        (404, "launch_token_not_found")
    );
    assert_eq!(
        delete(&world, "launch-tokens/shop/reader", "ltok-uid", true).await.ok(),
        json!({"revoked": 0})
    );
    let again = world.put_launch_token(&world.launch_token(1, "ready", READ)).await;
    assert_eq!(again.refusal(), (409, "conflict"));
    let events = world.events("event_type=policy_removed").await;
    assert_eq!(events.len(), 2, "one for the policy, one for its session");
    assert_eq!(events[1]["task_id"], "p1");
    let renewed = world.renew(&token).await;
    assert_eq!(renewed.refusal(), (403, "policy_changed"));
    assert_eq!(renewed.body["detail"], "token has been revoked");
}

#[tokio::test]
async fn retained_sessions_last_until_they_would_renew() {
    let world = World::new().await.with_policies().await;
    let token = world.agent(&world.pod("p1"), &Keys::new(1)).await;
    assert_eq!(
        delete(&world, "launch-tokens/shop/reader", "ltok-uid", false)
            .await
            .ok(),
        json!({"revoked": 0})
    );
    assert!(world.stands(&token).await);
    assert_eq!(world.renew(&token).await.refusal(), (403, "policy_changed"));
    assert_eq!(world.last_kind("token_renewal_failed").await, "policy_removed");
}

#[tokio::test]
async fn removing_the_app_ends_the_sessions_of_all_its_launch_tokens() {
    let world = World::new().await.with_policies().await;
    let token = world.agent(&world.pod("p1"), &Keys::new(1)).await;
    assert_eq!(
        delete(&world, "apps/shop/orders", "app-uid", true).await.ok(),
        json!({"revoked": 1})
    );
    assert!(!world.stands(&token).await);
    assert_eq!(
        world.launch(&world.pod("p2"), &Keys::new(1)).await.refusal(),
        (403, "policy_not_ready")
    );
}

#[tokio::test]
async fn a_removal_says_everything_or_is_refused() {
    let world = World::new().await.with_policies().await;
    let table = [
        ("", "uid"),
        ("uid=u", "lease_epoch"),
        ("uid=u&lease_epoch=1", "sequence"),
        ("uid=u&lease_epoch=1&sequence=x", "sequence"),
        ("uid=u&lease_epoch=1&sequence=99", "revoke"),
        ("uid=u&lease_epoch=1&sequence=99&revoke=yes", "revoke"),
    ];
    for (query, field) in table {
        let path = format!("/v1/k8s/policies/apps/shop/orders?{query}");
        let answer = world.as_controller("DELETE", &path, &Value::Null).await;
        assert_eq!(answer.refusal(), (400, "invalid_request"), "{query}");
        assert!(
            answer.body["detail"].as_str().unwrap().contains(field),
            "{}",
            answer.body
        );
    }
}

#[tokio::test]
async fn a_recreated_object_replaces_the_older_one() {
    let world = World::new().await.with_policies().await;
    let token = world.agent(&world.pod("p1"), &Keys::new(1)).await;
    let mut recreated = world.launch_token(1, "ready", READ);
    recreated["uid"] = json!("ltok-uid-2");
    assert_eq!(world.put_launch_token(&recreated).await.ok()["revoked"], 1);
    assert!(!world.stands(&token).await);
    let late = world.put_launch_token(&world.launch_token(2, "ready", READ)).await;
    assert_eq!(late.refusal(), (409, "conflict"), "the older object doesn't come back");
    assert_eq!(
        delete(&world, "launch-tokens/shop/reader", "ltok-uid", true).await.ok(),
        json!({"revoked": 0})
    );
    world.launch(&world.pod("p2"), &Keys::new(1)).await.ok();
    let listed = world.as_controller("GET", "/v1/k8s/policies", &Value::Null).await.ok();
    let token = listed["policies"]
        .as_array()
        .unwrap()
        .iter()
        .find(|policy| policy["kind"] == "launch_token")
        .unwrap();
    assert_eq!((&token["uid"], &token["issued"]), (&json!("ltok-uid-2"), &json!(0)));
}

#[tokio::test]
async fn one_request_lists_everything_that_the_broker_holds() {
    let world = World::new().await.with_policies().await;
    let keys = Keys::new(1);
    world.agent(&world.pod("p1"), &keys).await;
    world.agent(&world.pod("p1"), &keys).await;
    world.agent(&world.pod("p2"), &keys).await;
    world.launch(&world.pod("p3"), &keys).await.ok();
    let listed = world.as_controller("GET", "/v1/k8s/policies", &Value::Null).await.ok();
    for policy in listed["policies"].as_array().unwrap() {
        assert_eq!(
            (&policy["active_agents"], &policy["issued"]),
            (&json!(2), &json!(3)),
            "{policy}"
        );
    }
    let pods: Vec<&str> = listed["pods"]
        .as_array()
        .unwrap()
        .iter()
        .map(|pod| pod["uid"].as_str().unwrap())
        .collect();
    assert_eq!(pods, ["p1", "p2", "p3"]);
    assert_eq!(
        listed["pods"][0],
        json!({"uid": "p1", "namespace": "shop", "name": "pod-p1"})
    );
}
