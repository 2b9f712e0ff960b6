//! Secrets of `spec.clientCredentials`: made, rotated, healed, removed, and what the broker hears of them.

use agentwrit_crds::AgentApp;
use agentwrit_protocol::k8s::clients::{client_id, secret_hash};
use agentwrit_protocol::k8s::{AppClient, PolicyState};
use k8s_openapi::api::core::v1::Secret;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use kube::{Api, ResourceExt};
use serde_json::{Value, json};

use crate::broker::Fault;
use crate::objects::{app_becomes, app_condition, app_json, event};
use crate::world::{World, wait};

const NAME: &str = "orders-client";

fn secrets(world: &World) -> Api<Secret> {
    Api::namespaced(world.client.clone(), &world.namespace)
}

async fn create(world: &World, credentials: Value) -> AgentApp {
    let mut app = app_json(&["read:orders:*"]);
    app["spec"]["clientCredentials"] = credentials;
    let app = serde_json::from_value(app).unwrap();
    world.apps().create(&PostParams::default(), &app).await.unwrap()
}

async fn patch(world: &World, patch: Value) {
    let patch = Patch::Merge(patch);
    world
        .apps()
        .patch("orders", &PatchParams::default(), &patch)
        .await
        .unwrap();
}

async fn patch_secret(world: &World, patch: Value) {
    let patch = Patch::Merge(patch);
    secrets(world)
        .patch(NAME, &PatchParams::default(), &patch)
        .await
        .unwrap();
}

async fn rotate(world: &World, value: &str) {
    patch(
        world,
        json!({"metadata": {"annotations": {"agentwrit.io/rotate-client-secret": value}}}),
    )
    .await;
}

fn text(secret: &Secret, key: &str) -> String {
    let value = secret.data.as_ref().and_then(|data| data.get(key));
    value
        .map(|value| String::from_utf8(value.0.clone()).unwrap())
        .unwrap_or_default()
}

fn hash(secret: &Secret) -> String {
    secret_hash(&text(secret, "client_secret"))
}

/// What the broker lets the client log in with.
fn client(world: &World) -> Option<AppClient> {
    world.broker.app(&world.namespace, "orders")?.spec.client
}

/// The hashes that count, the current one first.
fn counting(world: &World) -> Vec<String> {
    let secrets = client(world).map(|client| client.secrets).unwrap_or_default();
    secrets.into_iter().map(|secret| secret.sha256).collect()
}

/// Waits until the Secret and the broker have another secret than `before`, and the broker that one too, while it counts.
async fn rotated(world: &World, name: &str, before: &Secret) -> Secret {
    wait("another secret, which the broker knows", || async {
        let secret = secrets(world).get_opt(name).await.unwrap()?;
        let wanted = [hash(&secret), hash(before)];
        (wanted[0] != wanted[1] && counting(world) == wanted).then_some(secret)
    })
    .await
}

/// An AgentApp whose client's Secret is written and known.
async fn with_client(world: &World, credentials: Value) -> Secret {
    create(world, credentials).await;
    app_becomes(world, "Synced").await;
    let secret = secrets(world).get(NAME).await.unwrap();
    assert_eq!(counting(world), [hash(&secret)]);
    secret
}

fn credentials() -> Value {
    json!({"secretName": NAME, "overlapSeconds": 600})
}

/// Waits until the controller has asked the broker twice more, and so looked at everything.
async fn two_more_looks(world: &World) {
    let looks = world.broker.memory().looks;
    wait("two more looks at the broker", || async {
        (world.broker.memory().looks >= looks + 2).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_secret_is_written_and_the_broker_hears_its_hash() {
    let world = World::with_clients(0).await;
    let app = create(&world, json!({"secretName": NAME})).await;
    let condition = app_becomes(&world, "Synced").await;
    assert_eq!(condition.status, "True");
    let uid = app.uid().unwrap();
    let secret = secrets(&world).get(NAME).await.unwrap();
    assert_eq!(secret.type_.as_deref(), Some("Opaque"));
    let keys: Vec<&String> = secret.data.as_ref().unwrap().keys().collect();
    assert_eq!(keys, ["broker_url", "ca.crt", "client_id", "client_secret"]);
    assert_eq!(text(&secret, "client_id"), client_id(&uid.as_str().into()));
    assert!(text(&secret, "broker_url").starts_with("http://127.0.0.1:"));
    assert!(text(&secret, "ca.crt").starts_with("-----BEGIN CERTIFICATE-----"));
    let value = text(&secret, "client_secret");
    assert!(
        value.len() == 64 && value.bytes().all(|b| b.is_ascii_hexdigit()),
        "{} bytes",
        value.len()
    );
    let owner = &secret.owner_references()[0];
    assert_eq!(
        (owner.kind.as_str(), owner.uid.as_str(), owner.controller),
        ("AgentApp", uid.as_str(), Some(true))
    );
    assert_eq!(secret.labels()["agentwrit.io/client-credentials"], "orders");
    let managers: Vec<_> = secret
        .managed_fields()
        .iter()
        .filter_map(|entry| entry.manager.as_deref())
        .collect();
    assert_eq!(managers, ["agentwrit-client-credentials"]);

    let known = client(&world).unwrap();
    assert_eq!(
        (known.token_ttl_seconds, known.current()),
        (1800, Some(hash(&secret).as_str()))
    );
    let app = world.apps().get("orders").await.unwrap();
    assert_eq!(app.status.as_ref().unwrap().client_id, Some(text(&secret, "client_id")));
    event(&world, "ClientSecretIssued").await;
    let events: Api<k8s_openapi::api::events::v1::Event> = Api::namespaced(world.client.clone(), &world.namespace);
    let events = events.list(&kube::api::ListParams::default()).await.unwrap();
    let shown = format!("{}{}{:?}", json!(app), json!(events.items), secret.annotations());
    assert!(!shown.contains(&value), "the secret stands in the Secret alone");

    // At rest nothing is written.
    let versions = || async {
        (
            secrets(&world).get(NAME).await.unwrap().resource_version(),
            counting(&world),
        )
    };
    let before = versions().await;
    let puts = world.broker.memory().puts[&world.namespace];
    two_more_looks(&world).await;
    assert_eq!(
        (versions().await, world.broker.memory().puts[&world.namespace]),
        (before, puts)
    );
    world.done().await;
}

#[tokio::test]
async fn an_annotation_rotates_once_with_an_overlap() {
    let world = World::with_clients(1).await;
    let first = with_client(&world, credentials()).await;
    rotate(&world, "1").await;
    let second = rotated(&world, NAME, &first).await;
    let until = client(&world).unwrap().secrets[1].until.unwrap();
    let told = event(&world, "ClientSecretRotated").await.note.unwrap();
    assert!(
        told.contains("that was asked for") && told.contains("counts until"),
        "{told}"
    );
    two_more_looks(&world).await;
    assert_eq!(
        secrets(&world).get(NAME).await.unwrap().data,
        second.data,
        "the same value asks for nothing more"
    );
    assert_eq!(
        client(&world).unwrap().secrets[1].until,
        Some(until),
        "the overlap has its end"
    );

    // Longer doesn't prolong it, none ends it.
    patch(
        &world,
        json!({"spec": {"clientCredentials": {"overlapSeconds": 6000, "tokenTTLSeconds": 60}}}),
    )
    .await;
    wait("another life of tokens", || async {
        (client(&world)?.token_ttl_seconds == 60).then_some(())
    })
    .await;
    assert_eq!(client(&world).unwrap().secrets[1].until, Some(until));
    patch(&world, json!({"spec": {"clientCredentials": {"overlapSeconds": 0}}})).await;
    wait("one secret", || async {
        (counting(&world) == [hash(&second)]).then_some(())
    })
    .await;
    world.done().await;
}

#[tokio::test]
async fn a_foreign_secret_is_never_touched() {
    let world = World::with_clients(2).await;
    let foreign = json!({"metadata": {"name": NAME}, "stringData": {"client_secret": "theirs"}});
    let foreign = secrets(&world)
        .create(&PostParams::default(), &serde_json::from_value(foreign).unwrap())
        .await
        .unwrap();
    create(&world, credentials()).await;
    let condition = app_becomes(&world, "SecretNotOwned").await;
    assert_eq!(condition.status, "False");
    assert!(condition.message.contains(NAME), "{}", condition.message);
    let warning = event(&world, "SecretNotOwned").await;
    assert_eq!(warning.type_.as_deref(), Some("Warning"));
    // All else of the AgentApp is in force.
    let put = world.broker.app(&world.namespace, "orders").unwrap();
    assert_eq!((put.state, put.spec.client), (PolicyState::Ready, None));
    assert_eq!(
        world.apps().get("orders").await.unwrap().status.unwrap().client_id,
        None
    );
    two_more_looks(&world).await;
    assert_eq!(secrets(&world).get(NAME).await.unwrap(), foreign);
    secrets(&world).delete(NAME, &DeleteParams::default()).await.unwrap();
    app_becomes(&world, "Synced").await;
    assert_eq!(counting(&world), [hash(&secrets(&world).get(NAME).await.unwrap())]);
    world.done().await;
}

#[tokio::test]
async fn a_secret_that_somebody_changed_or_deleted_heals() {
    let world = World::with_clients(3).await;
    let first = with_client(&world, credentials()).await;
    secrets(&world).delete(NAME, &DeleteParams::default()).await.unwrap();
    let second = rotated(&world, NAME, &first).await;
    patch_secret(&world, json!({"stringData": {"client_secret": "c".repeat(64)}})).await;
    let third = rotated(&world, NAME, &second).await;
    assert_ne!(text(&third, "client_secret"), "c".repeat(64));

    // What is no secret is put back, and nothing is rotated for it.
    patch_secret(
        &world,
        json!({"metadata": {"labels": {"agentwrit.io/client-credentials": null}}, "stringData": {"client_id": "mine"}}),
    )
    .await;
    let whole = wait("label and client id are back", || async {
        let secret = secrets(&world).get(NAME).await.unwrap();
        let labelled = secret.labels().contains_key("agentwrit.io/client-credentials");
        (labelled && secret.data == third.data).then_some(secret)
    })
    .await;
    assert_eq!(hash(&whole), hash(&third));
    assert_eq!(counting(&world), [hash(&third), hash(&second)]);
    world.done().await;
}

#[tokio::test]
async fn a_renamed_secret_takes_the_place_of_the_old_one() {
    let world = World::with_clients(4).await;
    let old = with_client(&world, credentials()).await;
    patch(&world, json!({"spec": {"clientCredentials": {"secretName": "other"}}})).await;
    let new = rotated(&world, "other", &old).await;
    assert_eq!(text(&new, "client_id"), text(&old, "client_id"));
    wait("the old one is gone", || async {
        secrets(&world).get_opt(NAME).await.unwrap().is_none().then_some(())
    })
    .await;

    patch(&world, json!({"spec": {"clientCredentials": null}})).await;
    wait("no client, no Secret", || async {
        let app = world.apps().get("orders").await.unwrap();
        let gone = client(&world).is_none()
            && app.status.unwrap().client_id.is_none()
            && secrets(&world).get_opt("other").await.unwrap().is_none();
        gone.then_some(())
    })
    .await;
    assert_eq!(app_condition(&world).await.unwrap().reason, "Synced");
    world.done().await;
}

#[tokio::test]
async fn a_deleted_app_takes_its_secret_with_it() {
    let world = World::with_clients(5).await;
    with_client(&world, credentials()).await;
    world.apps().delete("orders", &DeleteParams::default()).await.unwrap();
    wait("the Secret is collected", || async {
        secrets(&world).get_opt(NAME).await.unwrap().is_none().then_some(())
    })
    .await;
    assert!(world.broker.removals_of(&world.namespace)[0].revoke);
    world.done().await;
}

#[tokio::test]
async fn what_the_broker_missed_reaches_it_later() {
    let world = World::with_clients(6).await;
    let first = with_client(&world, credentials()).await;
    // As when the controller stops between its two writes: the Secret is there, the broker hasn't heard.
    world.broker.fail(&world.namespace, Some(Fault::Away));
    rotate(&world, "1").await;
    let second = wait("another secret", || async {
        let secret = secrets(&world).get(NAME).await.unwrap();
        (hash(&secret) != hash(&first)).then_some(secret)
    })
    .await;
    app_becomes(&world, "BrokerUnavailable").await;
    // Another request waits: clients would hold a secret that the broker never hears of.
    rotate(&world, "2").await;
    two_more_looks(&world).await;
    assert_eq!(hash(&secrets(&world).get(NAME).await.unwrap()), hash(&second));
    assert_eq!(counting(&world), [hash(&first)], "who holds the first goes on");
    world.broker.fail(&world.namespace, None);
    let third = rotated(&world, NAME, &second).await;
    app_becomes(&world, "Synced").await;

    // A broker that has lost its store hears the same once more, the secret before too.
    {
        let mut memory = world.broker.memory();
        memory
            .policies
            .retain(|(namespace, _), _| *namespace != world.namespace);
        memory.epoch.push('+');
    }
    wait("both count again", || async {
        (counting(&world) == [hash(&third), hash(&second)]).then_some(())
    })
    .await;
    world.done().await;
}

#[tokio::test]
async fn a_secret_that_cant_be_written_holds_up_nothing_else() {
    let world = World::with_clients(7).await;
    let first = with_client(&world, credentials()).await;
    patch_secret(&world, json!({"immutable": true})).await;
    rotate(&world, "1").await;
    let condition = app_becomes(&world, "SecretNotWritten").await;
    assert!(condition.message.contains("immutable"), "{}", condition.message);
    patch(&world, json!({"spec": {"scopes": ["read:orders:7"], "suspend": true}})).await;
    wait("the broker has the rest", || async {
        let put = world.broker.app(&world.namespace, "orders")?;
        (put.state == PolicyState::Suspended && put.spec.scopes == ["read:orders:7"]).then_some(())
    })
    .await;
    assert_eq!(counting(&world), [hash(&first)]);
    secrets(&world).delete(NAME, &DeleteParams::default()).await.unwrap();
    patch(&world, json!({"spec": {"suspend": false}})).await;
    rotated(&world, NAME, &first).await;
    app_becomes(&world, "Synced").await;
    world.done().await;
}

#[tokio::test]
async fn where_it_isnt_allowed_nothing_is_written() {
    let world = World::new("policy").await;
    create(&world, credentials()).await;
    let condition = app_becomes(&world, "ClientCredentialsDisabled").await;
    assert!(
        condition.message.contains("clientCredentials.namespaces"),
        "{}",
        condition.message
    );
    event(&world, "ClientCredentialsDisabled").await;
    let put = world.broker.app(&world.namespace, "orders").unwrap();
    assert_eq!((put.state, put.spec.client), (PolicyState::Ready, None));
    assert_eq!(secrets(&world).get_opt(NAME).await.unwrap(), None);
    patch(&world, json!({"spec": {"clientCredentials": null}})).await;
    app_becomes(&world, "Synced").await;
    world.done().await;
}
