//! Bounds of lists of scopes, at every place where a caller of the contract gives one.

use agentwrit_testkit::Harness;
use serde_json::{Value, json};

/// `count` scopes of `bytes` bytes each, all covered by `read:data:*`.
fn scopes(count: usize, bytes: usize) -> Value {
    let scope = |number: usize| {
        let start = format!("read:data:{number:04}");
        format!("{start}{}", "x".repeat(bytes - start.len()))
    };
    json!((0..count).map(scope).collect::<Vec<_>>())
}

const BEYOND: [(usize, usize, &str); 2] = [(4, 14, "has 4 items: at most 3 are"), (1, 41, "[0] is 41 bytes long")];

#[tokio::test]
async fn every_list_of_scopes_has_the_bounds_that_are_set() {
    let harness = Harness::with(&[("AA_MAX_SCOPES", "3"), ("AA_MAX_SCOPE_BYTES", "40")]).await;
    let admin = harness.admin().await;
    let app = harness.app("orders", json!({})).await;
    let app_token = harness.app_token(&app).await;
    let change = format!("/v1/admin/apps/{}", app.id);
    let (agent, token) = harness.agent(json!({"requested_scope": ["read:data:*"]})).await;
    let places: [(&str, &str, &str, &str, Value); 5] = [
        (
            "POST",
            "/v1/admin/launch-tokens",
            &admin,
            "allowed_scope",
            json!({"agent_name": "a"}),
        ),
        (
            "POST",
            "/v1/app/launch-tokens",
            &app_token,
            "allowed_scope",
            json!({"agent_name": "a"}),
        ),
        ("POST", "/v1/admin/apps", &admin, "scopes", json!({"name": "other"})),
        ("PUT", &change, &admin, "scopes", json!({})),
        ("POST", "/v1/delegate", &token, "scope", json!({"delegate_to": agent})),
    ];
    for (method, path, bearer, member, body) in places {
        let send = async |scopes: Value| {
            let mut body = body.clone();
            body[member] = scopes;
            harness.send_as(bearer, method, path, body.to_string()).await
        };
        for (count, bytes, wrong) in BEYOND {
            let answer = send(scopes(count, bytes)).await;
            answer.refused_like(
                400,
                "invalid_scope_format",
                &format!("{member}{}{wrong}", if wrong.starts_with('[') { "" } else { " " }),
            );
        }
        send(scopes(3, 40)).await.ok();
    }
    let denied = harness
        .events("event_type=launch_token_denied&error_kind=scope_limits")
        .await;
    assert_eq!(denied.len(), 4, "refused by the admin's and by the app's endpoint");
}

#[tokio::test]
async fn an_apps_list_is_bounded_before_its_scopes_are_read() {
    let harness = Harness::with(&[("AA_MAX_SCOPES", "3"), ("AA_MAX_SCOPE_BYTES", "40")]).await;
    let app = harness.app("orders", json!({})).await;
    let token = harness.app_token(&app).await;
    let malformed = |count: usize| json!({"agent_name": "a", "allowed_scope": vec!["read"; count]}).to_string();
    let path = "/v1/app/launch-tokens";
    let answer = harness.post_as(&token, path, malformed(4)).await;
    answer.refused_like(400, "invalid_scope_format", "allowed_scope has 4 items: at most 3 are");
    let answer = harness.post_as(&token, path, malformed(3)).await;
    answer.refused_like(403, "forbidden", "ceiling");
}

#[tokio::test]
async fn a_registration_beyond_the_bounds_uses_up_nothing() {
    let harness = Harness::with(&[("AA_MAX_SCOPES", "3"), ("AA_MAX_SCOPE_BYTES", "40")]).await;
    let launch = harness.launch(json!({})).await;
    let mut body = harness.registration(&launch, json!({})).await;
    for (count, bytes, wrong) in BEYOND {
        body["requested_scope"] = scopes(count, bytes);
        let answer = harness.post("/v1/register", body.to_string()).await;
        answer.refused_like(400, "invalid_scope_format", wrong);
    }
    body["requested_scope"] = scopes(3, 40);
    harness.post("/v1/register", body.to_string()).await.ok();
}

#[tokio::test]
async fn by_default_a_thousand_scopes_and_8_kib_are_allowed() {
    let harness = Harness::new().await;
    for (count, bytes) in [(1000, 14), (1, 8192)] {
        let (_, token) = harness.agent(json!({"requested_scope": scopes(count, bytes)})).await;
        assert!(harness.stands(&token).await);
    }
    let launch = harness.launch(json!({})).await;
    for (count, bytes) in [(1001, 14), (1, 8193)] {
        let answer = harness
            .register(&launch, json!({"requested_scope": scopes(count, bytes)}))
            .await;
        answer.refused_like(400, "invalid_scope_format", "requested_scope");
    }
}

#[tokio::test]
async fn a_list_is_measured_as_the_token_writes_it() {
    let harness = Harness::new().await;
    // Six bytes each in a token, with which it would be longer than any that is looked at.
    let scopes = json!([format!("read:data:{}", "<".repeat(6000))]);
    let launch = harness.launch(json!({})).await;
    let answer = harness.register(&launch, json!({"requested_scope": scopes})).await;
    answer.refused_like(
        400,
        "invalid_request",
        "requested_scope must be at most 32768 bytes of JSON",
    );
}
