//! Secrets, `ConfigMap`s and caBundle: made once, race-safe, and nobody else's is touched.

use std::collections::BTreeSet;

use agentwrit_controller::{Authority, Secrets};
use agentwrit_protocol::Clock;
use agentwrit_protocol::signing_keys::wire::{SigningKeyView, SigningKeysResponse};
use agentwrit_protocol::signing_keys::{KeyState, thumbprint};
use agentwrit_protocol::system::{SystemClock, SystemEntropy};
use agentwrit_protocol::timestamp::rfc3339_seconds;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ed25519_dalek::SigningKey;
use ed25519_dalek::pkcs8::DecodePrivateKey;
use k8s_openapi::ByteString;
use k8s_openapi::api::admissionregistration::v1::MutatingWebhookConfiguration;
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::api::{DeleteParams, PostParams};
use kube::{Api, ResourceExt};
use serde_json::json;

use crate::objects::{create_token, event};
use crate::world::{World, wait};

fn text(secret: &Secret, key: &str) -> String {
    String::from_utf8(secret.data.as_ref().unwrap()[key].0.clone()).unwrap()
}

fn config_maps(world: &World) -> Api<ConfigMap> {
    Api::namespaced(world.client.clone(), &world.namespace)
}

#[tokio::test]
async fn the_controller_makes_ca_leaf_and_signing_key() {
    let world = World::new("keys").await;
    let api = world.secrets();
    let leaf = wait("the broker's leaf", || async {
        api.get_opt("agentwrit-broker-tls").await.unwrap()
    })
    .await;
    let ca = api.get("agentwrit-ca").await.unwrap();
    let key = wait("the signing key", || async {
        api.get_opt("agentwrit-signing-key").await.unwrap()
    })
    .await;
    for secret in [&ca, &leaf, &key] {
        assert_eq!(
            secret.metadata.labels.as_ref().unwrap()["app.kubernetes.io/managed-by"],
            "agentwrit-controller"
        );
    }
    assert_eq!(leaf.type_.as_deref(), Some("kubernetes.io/tls"));
    assert!(text(&leaf, "tls.key").contains("PRIVATE KEY"));
    assert!(
        text(&key, "signing.key").starts_with("-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2Vw"),
        "PKCS#8 version 1"
    );

    let configurations: Api<MutatingWebhookConfiguration> = Api::all(world.client.clone());
    let injector = configurations.get("agentwrit-injector").await.unwrap();
    for webhook in injector.webhooks.unwrap() {
        assert_eq!(
            webhook.client_config.ca_bundle.unwrap().0,
            text(&ca, "tls.crt").into_bytes()
        );
    }
    world.done().await;
}

/// The names of the signing keys in their Secret.
async fn signing_keys(world: &World) -> Option<BTreeSet<String>> {
    let secret = world.secrets().get_opt("agentwrit-signing-key").await.unwrap()?;
    Some(secret.data.unwrap_or_default().into_keys().collect())
}

#[tokio::test]
async fn a_signing_key_is_added_when_asked_for_and_goes_when_retired() {
    let world = World::new("keys").await;
    let first = wait("the signing key", || signing_keys(&world)).await;
    assert_eq!(first, BTreeSet::from(["signing.key".to_owned()]));
    let key = |kid: &str, state| SigningKeyView {
        kid: kid.to_owned(),
        x: String::new(),
        state,
        held: true,
        published_at: rfc3339_seconds(SystemClock.unix_seconds()),
        signs_from: String::new(),
        retires_at: None,
        retired_at: None,
        leaked: false,
    };
    let secret = world.secrets().get("agentwrit-signing-key").await.unwrap();
    let kid = kid_of(&text(&secret, "signing.key"));
    world.broker.memory().keys = SigningKeysResponse {
        keys: vec![key(&kid, KeyState::Active)],
        rotation_requested_at: Some(rfc3339_seconds(SystemClock.unix_seconds())),
    };
    let both = wait("another key", || async {
        signing_keys(&world).await.filter(|keys| keys.len() == 2)
    })
    .await;
    let added = both.difference(&first).next().unwrap().clone();
    let secret = world.secrets().get("agentwrit-signing-key").await.unwrap();
    let other = kid_of(&text(&secret, &added));
    assert_eq!(added, format!("signing-{other}.key"), "named by its id");
    // The one that the others of this run use stays.
    world.broker.memory().keys = SigningKeysResponse {
        keys: vec![key(&kid, KeyState::Active), key(&other, KeyState::Retired)],
        rotation_requested_at: None,
    };
    wait("the retired key's end", || async {
        signing_keys(&world).await.filter(|keys| *keys == first)
    })
    .await;
    world.done().await;
}

/// The thumbprint of a private key.
fn kid_of(pem: &str) -> String {
    let key = SigningKey::from_pkcs8_pem(pem.trim()).unwrap();
    thumbprint(&URL_SAFE_NO_PAD.encode(key.verifying_key().to_bytes()))
}

#[tokio::test]
async fn a_lost_leaf_is_made_again() {
    let world = World::new("keys").await;
    let api = world.secrets();
    let before = wait("the broker's leaf", || async {
        api.get_opt("agentwrit-broker-tls").await.unwrap()
    })
    .await;
    api.delete("agentwrit-broker-tls", &DeleteParams::default())
        .await
        .unwrap();
    let after = wait("another leaf", || async {
        api.get_opt("agentwrit-broker-tls").await.unwrap()
    })
    .await;
    assert_ne!(text(&before, "tls.crt"), text(&after, "tls.crt"));
    world.done().await;
}

#[tokio::test]
async fn replicas_that_start_at_once_agree_on_one_key() {
    let world = World::new("keys").await;
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..8 {
        let secrets = Secrets::new(world.client.clone(), &world.namespace);
        let api: Api<Secret> = Api::namespaced(world.client.clone(), &world.namespace);
        tasks.spawn(async move {
            secrets.signing_key(&SystemEntropy).await.unwrap();
            text(&api.get("agentwrit-signing-key").await.unwrap(), "signing.key")
        });
    }
    let keys: BTreeSet<String> = tasks.join_all().await.into_iter().collect();
    assert_eq!(keys.len(), 1);
    world.done().await;
}

#[tokio::test]
async fn a_stored_signing_key_is_never_overwritten() {
    let world = World::new("keys").await;
    let api: Api<Secret> = Api::namespaced(world.client.clone(), &world.namespace);
    let garbage = Secret {
        data: Some([("signing.key".to_owned(), ByteString(b"garbage".to_vec()))].into()),
        ..serde_json::from_value(json!({"metadata": {"name": "agentwrit-signing-key"}})).unwrap()
    };
    api.create(&PostParams::default(), &garbage).await.unwrap();
    let secrets = Secrets::new(world.client.clone(), &world.namespace);
    let error = secrets.signing_key(&SystemEntropy).await.unwrap_err().to_string();
    assert!(
        error.contains("agentwrit-signing-key") && error.contains("signing.key"),
        "{error}"
    );
    assert_eq!(
        text(&api.get("agentwrit-signing-key").await.unwrap(), "signing.key"),
        "garbage"
    );
    world.done().await;
}

#[tokio::test]
async fn a_leaf_secret_is_replaced_only_when_it_is_ours() {
    let world = World::new("keys").await;
    let api: Api<Secret> = Api::namespaced(world.client.clone(), &world.namespace);
    let secrets = Secrets::new(world.client.clone(), &world.namespace);
    let now = SystemClock.now();
    let ca = |name| Authority::from_pem(&Authority::generate(name, now).unwrap()).unwrap();
    let (authority, other) = (ca("a"), ca("other"));
    secrets.broker_leaf(&authority, &SystemClock).await.unwrap();
    let first = text(&api.get("agentwrit-broker-tls").await.unwrap(), "tls.crt");
    secrets.broker_leaf(&authority, &SystemClock).await.unwrap();
    assert_eq!(
        text(&api.get("agentwrit-broker-tls").await.unwrap(), "tls.crt"),
        first,
        "still good"
    );

    secrets.broker_leaf(&other, &SystemClock).await.unwrap();
    let second = text(&api.get("agentwrit-broker-tls").await.unwrap(), "tls.crt");
    assert_ne!(first, second, "another CA");

    let unlabel = json!({"metadata": {"labels": null}});
    api.patch(
        "agentwrit-broker-tls",
        &kube::api::PatchParams::default(),
        &kube::api::Patch::Merge(unlabel),
    )
    .await
    .unwrap();
    let error = secrets
        .broker_leaf(&authority, &SystemClock)
        .await
        .unwrap_err()
        .to_string();
    assert!(error.contains("not ours"), "{error}");
    assert_eq!(text(&api.get("agentwrit-broker-tls").await.unwrap(), "tls.crt"), second);
    world.done().await;
}

#[tokio::test]
async fn a_namespace_with_a_launch_token_has_the_ca() {
    let world = World::new("keys").await;
    create_token(&world, &["read:orders:1"]).await;
    let made = wait("ConfigMap agentwrit-ca", || async {
        config_maps(&world).get_opt("agentwrit-ca").await.unwrap()
    })
    .await;
    let ca = world.secrets().get("agentwrit-ca").await.unwrap();
    assert_eq!(made.data.unwrap()["ca.crt"], text(&ca, "tls.crt"));
    world.done().await;
}

#[tokio::test]
async fn a_lost_ca_is_made_again_although_it_was_right_a_moment_ago() {
    let world = World::new("keys").await;
    let token = create_token(&world, &["read:orders:1"]).await;
    let api = config_maps(&world);
    wait("ConfigMap agentwrit-ca", || async {
        api.get_opt("agentwrit-ca").await.unwrap()
    })
    .await;
    // As when a namespace is deleted and made anew: what needs the ConfigMap shows up within the same seconds.
    api.delete("agentwrit-ca", &DeleteParams::default()).await.unwrap();
    let touch = json!({"metadata": {"annotations": {"touched": "true"}}});
    world
        .launch_tokens()
        .patch(
            &token.name_any(),
            &kube::api::PatchParams::default(),
            &kube::api::Patch::Merge(touch),
        )
        .await
        .unwrap();
    wait("another ConfigMap agentwrit-ca", || async {
        api.get_opt("agentwrit-ca").await.unwrap()
    })
    .await;
    world.done().await;
}

#[tokio::test]
async fn a_config_map_of_others_is_left_alone_with_a_warning() {
    let world = World::new("keys").await;
    let theirs =
        serde_json::from_value(json!({"metadata": {"name": "agentwrit-ca"}, "data": {"ca.crt": "theirs"}})).unwrap();
    config_maps(&world)
        .create(&PostParams::default(), &theirs)
        .await
        .unwrap();
    create_token(&world, &["read:orders:1"]).await;
    let warning = event(&world, "ConfigMapNotOurs").await;
    assert!(warning.note.unwrap().contains("agentwrit-ca"));
    let present = config_maps(&world).get("agentwrit-ca").await.unwrap();
    assert_eq!(present.data.unwrap()["ca.crt"], "theirs");
    world.done().await;
}
