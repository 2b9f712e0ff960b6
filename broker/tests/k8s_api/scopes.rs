//! Bounds of the scopes of attested agents and of all that descends from them, whatever the settings say.

use agentwrit_testkit::{Answer, Keys, World, claims};
use serde_json::{Value, json};

/// `count` scopes of `bytes` bytes each, all covered by `read:orders:*`.
fn scopes(count: usize, bytes: usize) -> Value {
    let scope = |number: usize| {
        let start = format!("read:orders:{number:02}");
        format!("{start}{}", "x".repeat(bytes - start.len()))
    };
    json!((0..count).map(scope).collect::<Vec<_>>())
}

fn beyond(member: &str) -> [(Value, String); 2] {
    [
        (scopes(65, 14), format!("{member} has 65 items: at most 64 are allowed")),
        (
            scopes(1, 257),
            format!("{member}[0] is 257 bytes long: at most 256 are allowed"),
        ),
    ]
}

#[track_caller]
fn refused(answer: &Answer, detail: &str) {
    assert_eq!(answer.refusal(), (400, "invalid_scope_format"));
    assert_eq!(answer.body["detail"], json!(detail));
}

#[tokio::test]
async fn a_pods_lists_of_scopes_have_64_items_of_256_bytes() {
    let world = World::new().await.with_policies().await;
    let (pod, keys) = (world.pod("pod-1"), Keys::new(1));
    for (scopes, detail) in beyond("scopes") {
        let body = json!({"policy": pod.policy, "public_key": keys.public(), "scopes": scopes});
        let answer = world.call("POST", "/v1/k8s/launch-tokens", &pod.bearer(), &body).await;
        refused(&answer, &detail);
    }
    let launched = World::launched(world.launch(&pod, &keys).await);
    for (scopes, detail) in beyond("requested_scope") {
        let changes = json!({"requested_scope": scopes});
        refused(&world.register_with(&launched, &keys, &changes).await, &detail);
    }
    // Nothing was burned.
    let registered = world
        .register_with(&launched, &keys, &json!({"requested_scope": ["read:orders:*"]}))
        .await;
    let token = registered.ok()["access_token"].as_str().unwrap().to_owned();
    let own = claims(&token)["sub"].clone();
    let delegate = async |token: &str, scopes: &Value| {
        let body = json!({"delegate_to": own, "scope": scopes});
        world.call("POST", "/v1/delegate", token, &body).await
    };
    let child = delegate(&token, &json!(["read:orders:*"])).await.ok()["access_token"]
        .as_str()
        .unwrap()
        .to_owned();
    for bearer in [&token, &child] {
        for (scopes, detail) in beyond("scope") {
            refused(&delegate(bearer, &scopes).await, &detail);
        }
        delegate(bearer, &scopes(64, 256)).await.ok();
    }
}

#[tokio::test]
async fn policies_have_lists_of_64_scopes_of_256_bytes() {
    let world = World::new().await;
    for (scopes, detail) in beyond("spec.scopes") {
        let mut app = world.app(1, "ready", &[]);
        app["spec"]["scopes"] = scopes;
        refused(&world.put_app(&app).await, &detail);
    }
    for (scopes, detail) in beyond("spec.allowed_scopes") {
        let mut token = world.launch_token(1, "ready", &[]);
        token["spec"]["allowed_scopes"] = scopes;
        refused(&world.put_launch_token(&token).await, &detail);
    }
    let mut app = world.app(1, "ready", &[]);
    app["spec"]["scopes"] = scopes(64, 256);
    world.put_app(&app).await.ok();
}
