//! What one object shows alone is refused by the API server, with a sentence of ours.

use agentwrit_crds::{AgentApp, LaunchToken};
use kube::api::{DynamicObject, Patch, PatchParams, PostParams};
use kube::core::ApiResource;
use kube::{Api, ResourceExt};
use serde_json::{Value, json};

use crate::objects::{app_json, sentence, token_json};
use crate::world::World;

mod selectors;

/// Posted as text, so that nothing of ours stands between the test and the API server.
async fn create(world: &World, object: &Value) -> Result<DynamicObject, kube::Error> {
    let resource = if object["kind"] == "AgentApp" {
        ApiResource::erase::<AgentApp>(&())
    } else {
        ApiResource::erase::<LaunchToken>(&())
    };
    let api: Api<DynamicObject> = Api::namespaced_with(world.client.clone(), &world.namespace, &resource);
    api.create(&PostParams::default(), &serde_json::from_value(object.clone()).unwrap())
        .await
}

fn changed(mut object: Value, pointer: &str, value: Value) -> Value {
    let (parent, key) = pointer.rsplit_once('/').unwrap();
    let parent = object.pointer_mut(parent).unwrap();
    match parent {
        Value::Array(items) => items[key.parse::<usize>().unwrap()] = value,
        _ if value.is_null() => drop(parent.as_object_mut().unwrap().remove(key)),
        _ => parent[key] = value,
    }
    object
}

fn app() -> Value {
    app_json(&["read:orders:*"])
}

/// An AgentApp with client credentials, of which one field is this.
fn client(field: &str, value: Value) -> Value {
    let credentials = json!({"secretName": "orders-client"});
    changed(
        changed(app(), "/spec/clientCredentials", credentials),
        &format!("/spec/clientCredentials/{field}"),
        value,
    )
}

fn token() -> Value {
    token_json(&["read:orders:*"])
}

#[tokio::test]
async fn every_bad_value_is_refused_naming_its_field() {
    let world = World::new("crds").await;
    let many: Vec<String> = (0..65).map(|index| format!("read:orders:{index}")).collect();
    let accounts: Vec<String> = (0..17).map(|index| format!("sa-{index}")).collect();
    let long_scope = format!("read:orders:{}", "x".repeat(245));
    let wide_scope = format!("read:orders:{}", "ä".repeat(123));
    let table = [
        (
            changed(app(), "/spec/scopes", json!([])),
            vec!["spec.scopes", "at least one scope"],
        ),
        (changed(app(), "/spec/scopes", json!(many)), vec!["spec.scopes", "64"]),
        (
            changed(app(), "/spec/scopes", Value::Null),
            vec!["spec.scopes", "Required"],
        ),
        (
            changed(app(), "/spec/scopes/0", json!("read:orders")),
            vec!["spec.scopes[0]", "action:resource:identifier", "found 'read:orders'"],
        ),
        (
            changed(app(), "/spec/scopes/0", json!("read:or ders:*")),
            vec!["spec.scopes[0]", "without white space"],
        ),
        (
            changed(app(), "/spec/scopes/0", json!("read:orders:a,b")),
            vec!["spec.scopes[0]", "comma"],
        ),
        (
            changed(app(), "/spec/scopes/0", json!("read:orders:a\nb")),
            vec!["spec.scopes[0]", "action:resource:identifier"],
        ),
        (
            changed(app(), "/spec/scopes/0", json!("")),
            vec!["spec.scopes[0]", "action:resource:identifier"],
        ),
        (
            changed(app(), "/spec/scopes/0", json!("admin:launch-tokens:*")),
            vec!["spec.scopes[0]", "admin: or app: are reserved"],
        ),
        (
            changed(app(), "/spec/scopes/0", json!("app:x:y")),
            vec!["spec.scopes[0]", "reserved"],
        ),
        (
            changed(app(), "/spec/scopes/0", json!(long_scope)),
            vec!["spec.scopes[0]", "256"],
        ),
        (
            changed(app(), "/spec/scopes/0", json!(wide_scope)),
            vec!["spec.scopes[0]", "at most 256 bytes"],
        ),
        (
            changed(app(), "/spec/scopes", json!(["a:b:c", "a:b:c"])),
            vec!["spec.scopes[1]", "Duplicate"],
        ),
        (
            changed(app(), "/spec/maxAgentTTLSeconds", json!(59)),
            vec!["spec.maxAgentTTLSeconds", "between 60 and 86400 seconds"],
        ),
        (
            changed(app(), "/spec/maxAgentTTLSeconds", json!(86401)),
            vec!["maxAgentTTLSeconds", "between 60 and 86400"],
        ),
        (
            changed(app(), "/spec/maxAgentTTLSeconds", json!("1h")),
            vec!["spec.maxAgentTTLSeconds", "integer"],
        ),
        (
            changed(app(), "/spec/audiences", json!(vec!["a"; 17])),
            vec!["spec.audiences", "16"],
        ),
        (
            changed(app(), "/spec/audiences", json!(["a", "a"])),
            vec!["spec.audiences[1]", "Duplicate"],
        ),
        (
            changed(app(), "/spec/audiences", json!([""])),
            vec!["spec.audiences[0]", "at least one character"],
        ),
        (
            changed(app(), "/spec/audiences", json!(["a b"])),
            vec!["spec.audiences[0]", "no white space"],
        ),
        (
            changed(app(), "/spec/audiences", json!(["a\u{2003}b"])),
            vec!["spec.audiences[0]", "no white space"],
        ),
        (
            changed(app(), "/spec/audiences", json!(["a\u{85}b"])),
            vec!["spec.audiences[0]", "control characters"],
        ),
        (
            changed(app(), "/spec/audiences", json!(["ä".repeat(129)])),
            vec!["spec.audiences[0]", "at most 256 bytes"],
        ),
        (
            changed(app(), "/spec/delegation", json!({"allowedNamespaces": ["Bank"]})),
            vec![
                "spec.delegation.allowedNamespaces[0]",
                "name of a namespace",
                "found 'Bank'",
            ],
        ),
        (
            changed(app(), "/spec/delegation", json!({"allowedNamespaces": ["a", "a"]})),
            vec!["spec.delegation.allowedNamespaces[1]", "Duplicate"],
        ),
        (
            changed(app(), "/spec/delegation", json!({"allowedNamespaces": many})),
            vec!["spec.delegation.allowedNamespaces", "64"],
        ),
        (
            client("secretName", Value::Null),
            vec!["spec.clientCredentials.secretName", "Required"],
        ),
        (
            client("secretName", json!("Orders")),
            vec!["spec.clientCredentials.secretName", "must be the name of a Secret"],
        ),
        (
            client("secretName", json!("agentwrit-signing-key")),
            vec!["spec.clientCredentials.secretName", "can't begin with agentwrit-"],
        ),
        (
            client("secretName", json!("x".repeat(254))),
            vec!["spec.clientCredentials.secretName", "253"],
        ),
        (
            client("tokenTTLSeconds", json!(59)),
            vec!["clientCredentials.tokenTTLSeconds must be between 60 and 86400"],
        ),
        (
            client("tokenTTLSeconds", json!(86401)),
            vec!["clientCredentials.tokenTTLSeconds must be between 60 and 86400"],
        ),
        (
            client("overlapSeconds", json!(-1)),
            vec!["clientCredentials.overlapSeconds must be between 0 and 604800"],
        ),
        (
            client("overlapSeconds", json!(604_801)),
            vec!["clientCredentials.overlapSeconds must be between 0 and 604800"],
        ),
        (
            client("rotateEverySeconds", json!(3599)),
            vec!["clientCredentials.rotateEverySeconds must be between 3600 and 31536000"],
        ),
        (
            client("rotateEverySeconds", json!(31_536_001)),
            vec!["clientCredentials.rotateEverySeconds must be between 3600 and 31536000"],
        ),
        (
            client("rotateEverySeconds", json!(86_400)),
            vec!["spec.clientCredentials", "must be longer than overlapSeconds"],
        ),
        (
            changed(app(), "/metadata/name", json!("my.orders")),
            vec!["metadata.name must be a DNS label"],
        ),
        (
            changed(app(), "/metadata/name", json!("x".repeat(53))),
            vec!["metadata.name must have at most 52 characters"],
        ),
        (
            changed(token(), "/spec/allowedScopes", json!([])),
            vec!["spec.allowedScopes", "at least one scope"],
        ),
        (
            changed(token(), "/spec/allowedScopes/0", json!("read")),
            vec!["spec.allowedScopes[0]", "allowedScopes: each scope"],
        ),
        (
            changed(token(), "/spec/allowedScopes/0", json!("admin:a:b")),
            vec!["spec.allowedScopes[0]", "reserved"],
        ),
        (
            changed(token(), "/spec/maxTTLSeconds", json!(0)),
            vec!["spec.maxTTLSeconds", "between 60 and 86400 seconds"],
        ),
        (
            changed(token(), "/spec/agentName", json!("  ")),
            vec!["spec.agentName", "must not be empty"],
        ),
        (
            changed(token(), "/spec/agentName", Value::Null),
            vec!["spec.agentName", "Required"],
        ),
        (
            changed(token(), "/spec/agentName", json!("x".repeat(129))),
            vec!["spec.agentName", "128"],
        ),
        (
            changed(token(), "/spec/appRef/name", json!("Orders")),
            vec!["spec.appRef.name", "name of an AgentApp"],
        ),
        (
            changed(token(), "/spec/appRef", Value::Null),
            vec!["spec.appRef", "Required"],
        ),
        (
            changed(token(), "/spec/serviceAccountNames", Value::Null),
            vec!["spec.serviceAccountNames", "Required"],
        ),
        (
            changed(token(), "/spec/serviceAccountNames", json!([])),
            vec!["spec.serviceAccountNames", "at least one ServiceAccount"],
        ),
        (
            changed(token(), "/spec/serviceAccountNames", json!(accounts)),
            vec!["spec.serviceAccountNames", "16"],
        ),
        (
            changed(token(), "/spec/serviceAccountNames/0", json!("shop:web")),
            vec!["spec.serviceAccountNames[0]", "without the namespace"],
        ),
        (
            changed(token(), "/spec/serviceAccountNames", json!(["a", "a"])),
            vec!["spec.serviceAccountNames[1]", "Duplicate"],
        ),
        (
            changed(token(), "/spec/maxActiveAgents", json!(0)),
            vec!["spec.maxActiveAgents", "between 1 and 100000"],
        ),
        (
            changed(token(), "/spec/maxActiveAgents", json!(100_001)),
            vec!["spec.maxActiveAgents", "between 1 and 100000"],
        ),
        (
            changed(token(), "/spec/deletionPolicy", json!("Keep")),
            vec!["spec.deletionPolicy", "Revoke", "Retain"],
        ),
        (
            changed(token(), "/metadata/name", json!("x".repeat(53))),
            vec!["metadata.name must have at most 52"],
        ),
    ];
    for (object, parts) in table {
        let sentence = sentence(create(&world, &object).await);
        for part in parts {
            assert!(sentence.contains(part), "{part:?} isn't in: {sentence}");
        }
    }
    world.done().await;
}

#[tokio::test]
async fn the_widest_good_values_are_accepted() {
    let world = World::new("crds").await;
    let scopes: Vec<String> = (0..64).map(|index| format!("read:orders:{index:0>244}")).collect();
    let mut wide = changed(app(), "/spec/scopes", json!(scopes));
    wide["spec"]["maxAgentTTLSeconds"] = json!(86400);
    let audiences: Vec<String> = (0..16).map(|index| format!("{index:ä>128}")).collect();
    wide["spec"]["audiences"] = json!(audiences);
    let namespaces: Vec<String> = (0..64).map(|index| format!("{index:x>63}")).collect();
    wide["spec"]["delegation"] = json!({"allowedNamespaces": namespaces});
    wide["metadata"]["name"] = json!("x".repeat(52));
    wide["spec"]["clientCredentials"] = json!({
        "secretName": "x.".repeat(126) + "x", "tokenTTLSeconds": 86400, "overlapSeconds": 604_800,
        "rotateEverySeconds": 31_536_000,
    });
    create(&world, &wide).await.unwrap();
    let accounts: Vec<String> = (0..16).map(|index| format!("sa-{index}.team")).collect();
    let mut wide = changed(token(), "/spec/allowedScopes", json!(scopes));
    wide["spec"]["serviceAccountNames"] = json!(accounts);
    wide["spec"]["maxTTLSeconds"] = json!(60);
    wide["spec"]["maxActiveAgents"] = json!(100_000);
    create(&world, &wide).await.unwrap();
    world.done().await;
}

#[tokio::test]
async fn defaults_are_filled_in() {
    let world = World::new("crds").await;
    let made = create(&world, &app()).await.unwrap();
    assert_eq!(
        made.data["spec"],
        json!({"scopes": ["read:orders:*"], "maxAgentTTLSeconds": 3600, "suspend": false})
    );
    let mut with_client = client("secretName", json!("orders-client"));
    with_client["metadata"]["name"] = json!("with-client");
    let made = create(&world, &with_client).await.unwrap();
    assert_eq!(
        made.data["spec"]["clientCredentials"],
        json!({"secretName": "orders-client", "tokenTTLSeconds": 1800, "overlapSeconds": 86400})
    );
    let made = create(&world, &token()).await.unwrap();
    assert_eq!(
        made.data["spec"],
        json!({
            "appRef": {"name": "orders"}, "agentName": "order-reader", "allowedScopes": ["read:orders:*"],
            "maxTTLSeconds": 300, "serviceAccountNames": ["default"], "deletionPolicy": "Revoke", "suspend": false,
        })
    );
    world.done().await;
}

#[tokio::test]
async fn the_app_of_a_launch_token_is_for_life() {
    let world = World::new("crds").await;
    create(&world, &token()).await.unwrap();
    let api = world.launch_tokens();
    let patch = |value: Value| {
        let api = api.clone();
        async move { api.patch("reader", &PatchParams::default(), &Patch::Merge(value)).await }
    };
    let sentence = sentence(patch(json!({"spec": {"appRef": {"name": "other"}}})).await);
    assert!(
        sentence.contains("spec.appRef.name") && sentence.contains("can't be changed"),
        "{sentence}"
    );
    let changed = patch(json!({"spec": {"agentName": "other", "maxTTLSeconds": 600}}))
        .await
        .unwrap();
    assert_eq!(
        (changed.spec.agent_name.as_str(), changed.spec.max_ttl_seconds),
        ("other", 600)
    );
    world.done().await;
}

#[tokio::test]
async fn only_the_status_subresource_writes_status() {
    let world = World::new("crds").await;
    let mut object = token();
    object["status"] = json!({"issued": 99});
    let made = create(&world, &object).await.unwrap();
    assert_eq!(made.data.get("status"), None, "{}", made.name_any());
    world.done().await;
}
