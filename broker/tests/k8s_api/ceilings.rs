//! Ceilings of namespaces: whatever the controller writes, no agent gets, renews or passes on more.

use agentwrit_testkit::{Answer, Keys, World, claims};
use serde_json::{Value, json};

fn open(ceilings: &Value) -> Value {
    json!({"tenancy": "open", "scopeCeilings": ceilings})
}

fn strict(ceilings: &Value) -> Value {
    json!({"tenancy": "strict", "scopeCeilings": ceilings})
}

/// The AgentApp `orders` and the LaunchToken `reader` of a namespace.
async fn policies(world: &World, namespace: &str, generation: i64, scopes: &[&str]) -> [Answer; 2] {
    let mut app = world.app(generation, "ready", scopes);
    app["uid"] = json!(format!("{namespace}-app"));
    app["spec"]["delegation_namespaces"] = json!(["shop", "bank"]);
    let path = format!("/v1/k8s/policies/apps/{namespace}/orders");
    let app = world.as_controller("PUT", &path, &app).await;
    let mut token = world.launch_token(generation, "ready", scopes);
    token["uid"] = json!(format!("{namespace}-token"));
    let path = format!("/v1/k8s/policies/launch-tokens/{namespace}/reader");
    [app, world.as_controller("PUT", &path, &token).await]
}

async fn allowed(world: &World, namespace: &str, generation: i64, scopes: &[&str]) {
    for answer in policies(world, namespace, generation, scopes).await {
        answer.ok();
    }
}

async fn refused(world: &World, namespace: &str, generation: i64, scopes: &[&str], parts: &[&str]) {
    for answer in policies(world, namespace, generation, scopes).await {
        assert_eq!(answer.refusal(), (403, "scope_violation"), "{}", answer.body);
        let detail = answer.body["detail"].as_str().unwrap();
        for part in parts {
            assert!(detail.contains(part), "{detail}");
        }
    }
}

async fn launched(world: &World, uid: &str) -> Answer {
    world.launch(&world.pod(uid), &Keys::new(9)).await
}

async fn digests(world: &World) -> Vec<Value> {
    let listed = world.as_controller("GET", "/v1/k8s/policies", &Value::Null).await.ok();
    let policies = listed["policies"].as_array().unwrap().iter();
    policies.map(|policy| policy["digest"].clone()).collect()
}

async fn delegate(world: &World, from: &str, to: &str, scope: &str) -> Answer {
    let body = json!({"delegate_to": claims(to)["sub"], "scope": [scope], "ttl": 200});
    world.call("POST", "/v1/delegate", from, &body).await
}

fn token(answer: Answer) -> String {
    answer.ok()["access_token"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn a_policy_beyond_the_ceiling_is_refused_by_name() {
    let world = World::with_ceilings(&open(&json!({"shop": ["read:orders:*"]}))).await;
    let parts = &["write:orders:7", "[read:orders:*]", "scopeCeilings.shop"];
    refused(&world, "shop", 1, &["read:orders:1", "write:orders:7"], parts).await;
    let answer = launched(&world, "pod-1").await;
    assert_eq!(answer.refusal(), (403, "policy_not_ready"));
    let detail = answer.body["detail"].as_str().unwrap();
    assert!(detail.contains("ScopeExceedsNamespaceCeiling"), "{detail}");
    allowed(&world, "shop", 2, &["read:orders:1"]).await;
    assert_eq!(
        World::launched(launched(&world, "pod-1").await).scopes,
        ["read:orders:1"]
    );
    allowed(&world, "bank", 1, &["write:orders:7"]).await;
}

#[tokio::test]
async fn in_a_bulk_only_what_is_beyond_is_refused() {
    let world = World::with_ceilings(&open(&json!({"shop": ["read:orders:*"]}))).await;
    let item = |name: &str, mut put: Value| {
        put["kind"] = json!("app");
        put["namespace"] = json!("shop");
        put["name"] = json!(name);
        put
    };
    let mut other = world.app(1, "ready", &["write:orders:*"]);
    other["uid"] = json!("other-uid");
    let items = json!({"items": [
        item("other", other), item("orders", world.app(1, "ready", &["read:orders:*"])),
    ]});
    let answer = world.as_controller("PUT", "/v1/k8s/policies", &items).await.ok();
    assert_eq!(
        answer["results"][0]["problem"]["error_code"], "scope_violation",
        "{answer}"
    );
    assert!(answer["results"][1]["accepted"].is_object(), "{answer}");
}

#[tokio::test]
async fn a_refused_change_takes_the_spec_before_it_back() {
    let world = World::with_ceilings(&open(&json!({"shop": ["read:orders:*"]}))).await;
    allowed(&world, "shop", 1, &["read:orders:*"]).await;
    let before = digests(&world).await;
    let agent = world.agent(&world.pod("pod-1"), &Keys::new(1)).await;
    refused(
        &world,
        "shop",
        2,
        &["read:orders:*", "write:orders:*"],
        &["write:orders:*"],
    )
    .await;
    assert_eq!(launched(&world, "pod-2").await.refusal(), (403, "policy_not_ready"));
    token(world.renew(&agent).await);
    let applied = world.events("event_type=policy_applied").await.len();
    refused(
        &world,
        "shop",
        2,
        &["read:orders:*", "write:orders:*"],
        &["write:orders:*"],
    )
    .await;
    assert_eq!(
        world.events("event_type=policy_applied").await.len(),
        applied,
        "no news"
    );
    assert!(digests(&world).await.iter().all(|digest| !before.contains(digest)));
    allowed(&world, "shop", 3, &["read:orders:*"]).await;
    World::launched(launched(&world, "pod-2").await);
}

#[tokio::test]
async fn what_takes_away_is_never_refused_for_a_ceiling() {
    let world = World::with_ceilings(&open(&json!({"shop": ["read:orders:*"]}))).await;
    allowed(&world, "shop", 1, &["read:orders:*"]).await;
    let agent = world.agent(&world.pod("pod-1"), &Keys::new(1)).await;
    let mut app = world.app(2, "suspended", &["write:orders:*"]);
    app["uid"] = json!("shop-app");
    world.put_app(&app).await.ok();
    assert!(!world.stands(&agent).await);
}

#[tokio::test]
async fn a_narrower_ceiling_ends_what_it_does_not_cover() {
    let world = World::with_ceilings(&open(&json!({}))).await;
    allowed(&world, "shop", 1, &["read:orders:*", "write:orders:*"]).await;
    allowed(&world, "bank", 1, &["read:orders:*", "write:orders:*"]).await;
    let launched_before = World::launched(launched(&world, "pod-3").await);
    let writer = world.agent(&world.pod("pod-1"), &Keys::new(1)).await;
    let keys = Keys::new(2);
    let launch = World::launched(world.launch(&world.pod("pod-2"), &keys).await);
    let changes = json!({"requested_scope": ["read:orders:1"]});
    let reader = world.register_with(&launch, &keys, &changes).await;
    let reader = token(reader);
    let bank = world.agent(&world.pod_in("bank", "pod-4"), &Keys::new(4)).await;
    let listed = digests(&world).await;

    let world = world.under_ceilings(&open(&json!({"shop": ["read:orders:*"]}))).await;
    assert!(!world.stands(&writer).await, "it ended at the start");
    assert_eq!(world.renew(&writer).await.refusal(), (403, "policy_changed"));
    let ended = world.events("event_type=policy_applied").await;
    let told = ended.iter().filter(|event| {
        let detail = event["detail"].as_str().unwrap();
        detail.contains("session ended by the scope ceiling of namespace shop")
    });
    assert_eq!(told.count(), 1);
    assert!(world.stands(&reader).await && world.stands(&bank).await);
    token(world.renew(&reader).await);
    token(world.renew(&bank).await);
    let late = world.register(&launched_before, &Keys::new(9)).await;
    assert_eq!(
        late.refusal(),
        (403, "policy_not_ready"),
        "launched before, registered after"
    );
    assert_eq!(launched(&world, "pod-5").await.refusal(), (403, "policy_not_ready"));
    let now = digests(&world).await;
    assert_eq!(
        now.iter().filter(|digest| listed.contains(digest)).count(),
        2,
        "the bank's"
    );

    let world = world.under_ceilings(&open(&json!({}))).await;
    assert_eq!(digests(&world).await, listed, "nothing was lost");
    World::launched(launched(&world, "pod-5").await);
    assert!(!world.stands(&writer).await, "what has ended stays so");
}

#[tokio::test]
async fn a_session_ends_although_its_policy_was_removed() {
    let world = World::with_ceilings(&open(&json!({}))).await;
    allowed(&world, "shop", 1, &["write:orders:*"]).await;
    let agent = world.agent(&world.pod("pod-1"), &Keys::new(1)).await;
    let sequence = &world.order()["sequence"];
    let path = format!(
        "/v1/k8s/policies/launch-tokens/shop/reader?uid=shop-token&lease_epoch=1&sequence={sequence}&revoke=false"
    );
    world.as_controller("DELETE", &path, &Value::Null).await.ok();
    assert!(world.stands(&agent).await, "it runs out by itself");
    let world = world.under_ceilings(&open(&json!({"shop": ["read:orders:*"]}))).await;
    assert!(!world.stands(&agent).await);
}

#[tokio::test]
async fn what_an_old_replica_opens_a_new_one_carries_no_further() {
    let narrow = open(&json!({"shop": ["read:orders:*"]}));
    let (old, new) = World::replicas_amid(&open(&json!({})), &narrow).await;
    allowed(&old, "shop", 1, &["read:orders:*", "write:orders:*"]).await;
    let writer = old.agent(&old.pod("pod-1"), &Keys::new(1)).await;
    let near = old.agent(&old.pod("pod-2"), &Keys::new(2)).await;
    let passed_on = token(delegate(&old, &writer, &near, "write:orders:1").await);
    let launch = World::launched(old.launch(&old.pod("pod-3"), &Keys::new(3)).await);
    for held in [&writer, &passed_on] {
        assert_eq!(new.renew(held).await.refusal(), (403, "policy_changed"));
    }
    let answer = delegate(&new, &writer, &near, "write:orders:2").await;
    assert_eq!(answer.refusal(), (403, "scope_violation"));
    let answer = new.register(&launch, &Keys::new(3)).await;
    assert_eq!(answer.refusal(), (403, "policy_not_ready"));
    assert_eq!(launched(&new, "pod-2").await.refusal(), (403, "policy_not_ready"));
}

#[tokio::test]
async fn what_it_passed_into_another_namespace_neither() {
    let both = &["read:orders:*", "write:orders:*"];
    let narrow = open(&json!({"bank": ["read:orders:*"]}));
    let (old, new) = World::replicas_amid(&open(&json!({})), &narrow).await;
    allowed(&old, "shop", 1, both).await;
    allowed(&old, "bank", 1, &["read:orders:*"]).await;
    let shop = old.agent(&old.pod("pod-1"), &Keys::new(1)).await;
    let near = old.agent(&old.pod("pod-2"), &Keys::new(2)).await;
    let bank = old.agent(&old.pod_in("bank", "pod-3"), &Keys::new(3)).await;
    let held = token(delegate(&old, &shop, &bank, "write:orders:1").await);
    assert_eq!(new.renew(&held).await.refusal(), (403, "policy_changed"));
    let onward = delegate(&new, &held, &near, "write:orders:1").await;
    assert_eq!(onward.refusal(), (403, "scope_violation"), "by who may not hold it");
    token(new.renew(&shop).await);
}

#[tokio::test]
async fn strict_gives_nothing_to_a_namespace_not_listed() {
    let world = World::with_ceilings(&open(&json!({}))).await;
    allowed(&world, "shop", 1, &["read:orders:*"]).await;
    allowed(&world, "bank", 1, &["read:orders:*"]).await;
    let shop = world.agent(&world.pod("pod-1"), &Keys::new(1)).await;
    let bank = world.agent(&world.pod_in("bank", "pod-2"), &Keys::new(2)).await;
    let world = world.under_ceilings(&strict(&json!({"bank": ["read:orders:*"]}))).await;
    assert!(!world.stands(&shop).await && world.stands(&bank).await);
    assert_eq!(launched(&world, "pod-3").await.refusal(), (403, "policy_not_ready"));
    let parts = &["read:orders:1", "tenancy is strict", "scopeCeilings.shop"];
    refused(&world, "shop", 2, &["read:orders:1"], parts).await;
    allowed(&world, "bank", 2, &["read:orders:1"]).await;
}

#[tokio::test]
async fn delegation_keeps_to_the_ceilings_of_both_namespaces() {
    let both = &["read:orders:*", "write:orders:*"];
    let ceilings = json!({"shop": both, "bank": ["read:orders:*"]});
    let world = World::with_ceilings(&open(&ceilings)).await;
    allowed(&world, "shop", 1, both).await;
    allowed(&world, "bank", 1, &["read:orders:*"]).await;
    let shop = world.agent(&world.pod("pod-1"), &Keys::new(1)).await;
    let near = world.agent(&world.pod("pod-2"), &Keys::new(2)).await;
    let bank = world.agent(&world.pod_in("bank", "pod-3"), &Keys::new(3)).await;
    let answer = delegate(&world, &shop, &bank, "write:orders:1").await;
    assert_eq!(answer.refusal(), (403, "scope_violation"));
    assert!(
        answer.body["detail"].as_str().unwrap().contains("ceiling"),
        "{}",
        answer.body
    );
    let told = world.last_kind("delegation_attenuation_violation").await;
    assert_eq!(told, "delegation_beyond_ceiling");
    token(delegate(&world, &shop, &near, "write:orders:1").await);
    let held = token(delegate(&world, &shop, &bank, "read:orders:1").await);
    token(world.renew(&held).await);
}

#[tokio::test]
async fn a_delegation_ends_with_the_ceiling_of_its_receiver() {
    let both = &["read:orders:*", "write:orders:*"];
    let world = World::with_ceilings(&open(&json!({}))).await;
    allowed(&world, "shop", 1, both).await;
    allowed(&world, "bank", 1, &["read:orders:*"]).await;
    let shop = world.agent(&world.pod("pod-1"), &Keys::new(1)).await;
    let near = world.agent(&world.pod("pod-2"), &Keys::new(2)).await;
    let bank = world.agent(&world.pod_in("bank", "pod-3"), &Keys::new(3)).await;
    let into = token(delegate(&world, &shop, &bank, "write:orders:1").await);
    let inside = token(delegate(&world, &shop, &near, "write:orders:1").await);
    let narrow = open(&json!({"bank": ["read:orders:*"]}));
    let world = world.under_ceilings(&narrow).await;
    for (token, stands) in [(&shop, true), (&inside, true), (&bank, true), (&into, false)] {
        assert_eq!(world.stands(token).await, stands);
    }
    let held = token(delegate(&world, &shop, &bank, "read:orders:1").await);
    let world = world.restarted().await;
    assert!(world.stands(&held).await, "the same ceilings end nothing twice");
    token(world.renew(&held).await);
}
