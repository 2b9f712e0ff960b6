//! The client of an AgentApp: what the controller says that it logs in with, and what it may then do.

use agentwrit_protocol::Clock;
use agentwrit_protocol::k8s::clients::{client_id, secret_hash};
use agentwrit_testkit::{Answer, World};
use serde_json::{Value, json};

const AUTH: &str = "/v1/app/auth";
const LAUNCH: &str = "/v1/app/launch-tokens";
const READ: &[&str] = &["read:orders:*"];

/// A secret as the controller makes them.
fn secret(digit: char) -> String {
    String::from(digit).repeat(64)
}

/// The client of the world's AgentApp.
fn client() -> String {
    client_id(&"app-uid".into())
}

/// The current secret, and those before with the moment until which they count.
fn client_of(secrets: &[(char, Option<i64>)]) -> Value {
    let secrets = secrets.iter().map(|(digit, until)| {
        let mut item = json!({"sha256": secret_hash(&secret(*digit))});
        if let Some(until) = until {
            item["until"] = json!(until);
        }
        item
    });
    json!({"token_ttl_seconds": 900, "secrets": secrets.collect::<Vec<_>>()})
}

/// Writes the AgentApp with this client, or without one.
async fn put(world: &World, state: &str, client: Value) -> Value {
    let mut put = world.app(1, state, READ);
    put["spec"]["client"] = client;
    world.put_app(&put).await.ok()
}

/// Logs in; a client's ten logins a minute are not what these tests are about.
async fn login(world: &World, digit: char) -> Answer {
    world.clock.advance(6);
    let body = json!({"client_id": client(), "client_secret": secret(digit)});
    world.post(AUTH, body.to_string()).await
}

async fn token(world: &World, digit: char) -> String {
    let answer = login(world, digit).await.ok();
    answer["access_token"].as_str().unwrap().to_owned()
}

fn refused(answer: &Answer) {
    answer.refused(401, "unauthorized", "Authentication failed");
}

async fn launch(world: &World, token: &str, changes: Value) -> Answer {
    let mut body = json!({"agent_name": "outside", "allowed_scope": ["read:orders:42"]});
    agentwrit_testkit::merge(&mut body, &changes);
    world.post_as(token, LAUNCH, body.to_string()).await
}

#[tokio::test]
async fn a_client_logs_in_and_launches_below_its_app() {
    let world = World::new().await;
    put(&world, "ready", client_of(&[('a', None)])).await;
    let answer = login(&world, 'a').await.ok();
    assert_eq!(
        (&answer["expires_in"], &answer["token_type"], &answer["scopes"]),
        (
            &json!(900),
            &json!("Bearer"),
            &json!(["app:launch-tokens:*", "app:agents:*", "app:audit:read"])
        )
    );
    let event = world.last("app_authenticated").await;
    let detail = event["detail"].as_str().unwrap();
    assert!(
        detail.contains(&client()) && detail.contains("by the current secret"),
        "{detail}"
    );
    let actor = event["actor"].as_str().unwrap();
    assert!(actor.starts_with("app:app-shop.orders-"), "{actor}");

    let token = answer["access_token"].as_str().unwrap();
    // The AgentApp caps the life of its agents: 3600 s.
    let launched = launch(&world, token, json!({"max_ttl": 86_400})).await;
    assert_eq!(launched.status, 201, "{}", launched.body);
    assert_eq!(
        launched.body["policy"],
        json!({"allowed_scope": ["read:orders:42"], "max_ttl": 3600})
    );
    let event = world.last("launch_token_issued").await;
    assert!(event["detail"].as_str().unwrap().contains("max_ttl 3600"), "{event}");
    let over = launch(&world, token, json!({"allowed_scope": ["write:orders:42"]})).await;
    over.refused_like(403, "forbidden", "ceiling");
    let malformed = launch(&world, token, json!({"agent_name": ""})).await;
    malformed.refused_like(400, "invalid_request", "agent_name");
}

#[tokio::test]
async fn both_secrets_count_until_the_overlap_ends() {
    let world = World::new().await;
    put(&world, "ready", client_of(&[('a', None)])).await;
    let old = token(&world, 'a').await;
    let end = world.clock.unix_seconds().get() + 600;
    put(&world, "ready", client_of(&[('b', None), ('a', Some(end))])).await;
    let event = world.last("policy_applied").await;
    let detail = event["detail"].as_str().unwrap();
    assert!(
        detail.contains("the secret before until "),
        "the trail tells of the change: {detail}"
    );
    assert!(!detail.contains(&secret_hash(&secret('b'))), "{detail}");
    assert_eq!(login(&world, 'b').await.status, 200);
    assert_eq!(login(&world, 'a').await.status, 200);
    let event = world.last("app_authenticated").await;
    assert!(
        event["detail"].as_str().unwrap().contains("by the secret before"),
        "{event}"
    );
    assert!(world.stands(&old).await, "a rotation ends no token");

    let left = end - world.clock.unix_seconds().get() - 6;
    world.clock.advance(left - 1);
    assert_eq!(login(&world, 'a').await.status, 200, "a second before its end");
    world.clock.advance(1);
    refused(&login(&world, 'a').await);
    assert_eq!(world.last_kind("app_auth_failed").await, "wrong_credentials");
    assert_eq!(login(&world, 'b').await.status, 200);
    // And it is the broker that lets it end: nobody has told it anything since.
    let world = world.restarted().await;
    refused(&login(&world, 'a').await);
    assert_eq!(login(&world, 'b').await.status, 200);
}

#[tokio::test]
async fn a_secret_that_is_no_longer_written_dies_at_once() {
    let world = World::new().await;
    put(&world, "ready", client_of(&[('a', None)])).await;
    assert_eq!(login(&world, 'a').await.status, 200);
    put(&world, "ready", client_of(&[('b', None)])).await;
    refused(&login(&world, 'a').await);
    assert_eq!(login(&world, 'b').await.status, 200);
}

#[tokio::test]
async fn without_a_client_its_tokens_die_and_stay_dead() {
    let world = World::new().await;
    put(&world, "ready", client_of(&[('a', None)])).await;
    let first = token(&world, 'a').await;
    put(&world, "ready", Value::Null).await;
    refused(&login(&world, 'a').await);
    assert_eq!(world.last_kind("app_auth_failed").await, "unknown_client");
    assert!(!world.stands(&first).await);
    launch(&world, &first, json!({}))
        .await
        .refused(403, "forbidden", "app not found");
    let event = world.events("event_type=policy_applied").await;
    let told = event.iter().filter_map(|event| event["detail"].as_str());
    assert_eq!(
        told.filter(|detail| detail.contains("its tokens are revoked")).count(),
        1
    );

    // The same client once more, well within the life of the first token.
    put(&world, "ready", client_of(&[('a', None)])).await;
    let second = token(&world, 'a').await;
    assert_eq!(launch(&world, &second, json!({})).await.status, 201);
    assert!(!world.stands(&first).await);
    launch(&world, &first, json!({}))
        .await
        .refused(403, "forbidden", "app not found");
}

#[tokio::test]
async fn the_end_of_the_app_is_that_of_its_client() {
    for replaced in [false, true] {
        let world = World::new().await;
        put(&world, "ready", client_of(&[('a', None)])).await;
        let token = token(&world, 'a').await;
        if replaced {
            let mut other = world.app(1, "ready", READ);
            other["uid"] = json!("another-uid");
            other["spec"]["client"] = client_of(&[('b', None)]);
            world.put_app(&other).await.ok();
        } else {
            let path = "/v1/k8s/policies/apps/shop/orders?uid=app-uid&revoke=true&lease_epoch=1&sequence=99";
            world.as_controller("DELETE", path, &Value::Null).await.ok();
        }
        refused(&login(&world, 'a').await);
        assert!(!world.stands(&token).await, "replaced: {replaced}");
        launch(&world, &token, json!({}))
            .await
            .refused(403, "forbidden", "app not found");
    }
}

#[tokio::test]
async fn a_suspended_app_lets_nobody_in_until_it_goes_on() {
    let world = World::new().await;
    put(&world, "ready", client_of(&[('a', None)])).await;
    let token = token(&world, 'a').await;
    put(&world, "suspended", client_of(&[('a', None)])).await;
    for digit in ['a', 'b'] {
        refused(&login(&world, digit).await);
        assert_eq!(world.last_kind("app_auth_failed").await, "suspended_app");
    }
    launch(&world, &token, json!({}))
        .await
        .refused(403, "forbidden", "the app is suspended");
    put(&world, "ready", client_of(&[('a', None)])).await;
    assert_eq!(login(&world, 'a').await.status, 200);
    assert_eq!(launch(&world, &token, json!({})).await.status, 201);
}

#[tokio::test]
async fn whoever_is_refused_hears_nothing_more() {
    let world = World::new().await;
    put(&world, "ready", client_of(&[('a', None)])).await;
    let long = format!("{}a", secret('a'));
    let hash = secret_hash(&secret('a'));
    let table = [
        (client(), secret('b'), "wrong_credentials"),
        (client(), secret('a').to_uppercase(), "wrong_credentials"),
        (client(), long, "wrong_credentials"),
        (client(), hash, "wrong_credentials"),
        (client(), "0".repeat(64), "wrong_credentials"),
        ("k8s-0123456789abcdef".to_owned(), secret('a'), "unknown_client"),
        (client().to_uppercase(), secret('a'), "unknown_client"),
        ("app-uid".to_owned(), secret('a'), "unknown_client"),
    ];
    for (client_id, client_secret, kind) in table {
        world.clock.advance(6);
        let body = json!({"client_id": client_id, "client_secret": client_secret});
        refused(&world.post(AUTH, body.to_string()).await);
        assert_eq!(world.last_kind("app_auth_failed").await, kind, "{client_id}");
    }
    let trail = json!(world.events("").await).to_string();
    assert!(!trail.contains(&secret('a')) && !trail.contains(&secret('b')));
}

#[tokio::test]
async fn a_client_has_the_logins_of_an_app_and_no_more() {
    let world = World::new().await;
    put(&world, "ready", client_of(&[('a', None)])).await;
    for client_id in [client(), "k8s-0123456789abcdef".to_owned()] {
        let body = json!({"client_id": client_id, "client_secret": secret('a')}).to_string();
        let mut limited = Vec::new();
        for _ in 0..4 {
            limited.push(world.post(AUTH, &body).await.status == 429);
        }
        assert_eq!(limited, [false, false, false, true], "{client_id}");
    }
}

#[tokio::test]
async fn a_write_with_a_wrong_client_changes_nothing() {
    type Change = fn(&mut Value);
    let world = World::new().await;
    let table: [(Change, &str, &str); 8] = [
        (
            |client| client["token_ttl_seconds"] = json!(59),
            "invalid_ttl",
            "spec.client.token_ttl_seconds",
        ),
        (
            |client| client["token_ttl_seconds"] = json!(86_401),
            "invalid_ttl",
            "spec.client.token_ttl_seconds",
        ),
        (
            |client| client["secrets"] = json!([]),
            "invalid_request",
            "spec.client.secrets must have 1 to 2",
        ),
        (
            |client| client["secrets"] = client_of(&[('a', None), ('b', Some(1)), ('c', Some(2))])["secrets"].take(),
            "invalid_request",
            "spec.client.secrets must have 1 to 2",
        ),
        (
            |client| client["secrets"] = client_of(&[('a', None), ('b', None)])["secrets"].take(),
            "invalid_request",
            "spec.client.secrets must have one item without until",
        ),
        (
            |client| client["secrets"][0]["sha256"] = json!("A".repeat(64)),
            "invalid_request",
            "spec.client.secrets[0].sha256 must be 64 lower-case",
        ),
        (
            |client| client["secrets"][0]["until"] = json!(-1),
            "invalid_request",
            "spec.client.secrets[0].until must be 0 or more",
        ),
        (
            |client| client["secrets"] = json!("x"),
            "invalid_request",
            "malformed body: spec.client.secrets must be",
        ),
    ];
    for (change, code, detail) in table {
        let mut put = world.app(1, "ready", READ);
        let mut client = client_of(&[('a', None)]);
        change(&mut client);
        put["spec"]["client"] = client;
        let answer = world.put_app(&put).await;
        answer.refused_like(400, code, detail);
    }
    let listed = world.as_controller("GET", "/v1/k8s/policies", &Value::Null).await.ok();
    assert_eq!(listed["policies"], json!([]));
}

#[tokio::test]
async fn the_controller_sees_what_a_client_logs_in_with() {
    let world = World::new().await;
    let client = client_of(&[('b', None), ('a', Some(4_000_000_000))]);
    let digest = put(&world, "ready", client.clone()).await["digest"].clone();
    let policy = || async {
        let listed = world.as_controller("GET", "/v1/k8s/policies", &Value::Null).await.ok();
        listed["policies"][0].clone()
    };
    assert_eq!(
        (&policy().await["client"], &policy().await["digest"]),
        (&client, &digest)
    );
    put(&world, "ready", Value::Null).await;
    assert_eq!(policy().await.get("client"), None);
}

#[tokio::test]
async fn a_changed_secret_changes_nothing_for_pods() {
    let world = World::new().await.with_policies().await;
    let keys = agentwrit_testkit::Keys::new(1);
    let pod = world.pod("p1");
    let token = world.agent(&pod, &keys).await;
    let mut app = world.app(1, "ready", &["read:orders:*", "write:orders:*"]);
    for client in [client_of(&[('a', None)]), client_of(&[('b', None)]), Value::Null] {
        app["order"] = world.order();
        app["generation"] = json!(app["generation"].as_i64().unwrap() + 1);
        app["spec"]["client"] = client;
        assert_eq!(world.put_app(&app).await.ok()["revoked"], 0);
        assert!(world.stands(&token).await);
    }
    let renewed = world.renew(&token).await;
    assert_eq!(renewed.status, 200, "not policy_changed: {}", renewed.body);
}

#[tokio::test]
async fn a_client_has_no_more_than_its_namespace() {
    let ceiling = |scope: &str| json!({"tenancy": "open", "scopeCeilings": {"shop": [scope]}});
    let world = World::with_ceilings(&ceiling("read:orders:*")).await;
    put(&world, "ready", client_of(&[('a', None)])).await;
    let held = token(&world, 'a').await;
    let wide = json!({"allowed_scope": ["read:orders:42"]});
    assert_eq!(launch(&world, &held, wide.clone()).await.status, 201);
    // Narrower now, and the controller hasn't written anything yet.
    let world = world.under_ceilings(&ceiling("read:orders:7")).await;
    let answer = launch(&world, &held, wide).await;
    assert_eq!(answer.refusal(), (403, "forbidden"), "{}", answer.body);
    let detail = answer.body["detail"].as_str().unwrap();
    assert!(
        detail.starts_with("allowed_scope: read:orders:42: beyond the ceiling of namespace shop"),
        "{detail}"
    );
    assert_eq!(world.last("scope_ceiling_exceeded").await["outcome"], "denied");
    let narrow = json!({"allowed_scope": ["read:orders:7"]});
    assert_eq!(launch(&world, &held, narrow).await.status, 201);
}
