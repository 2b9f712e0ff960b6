//! Signing keys: published, signing, retired, and what people do with them.

mod replicas;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use agentwrit_broker::process::housekeeping;
use agentwrit_testkit::{ADMIN_SECRET, Answer, Harness};
use agentwrit_tokens::key_source::KeySource;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

const FOLDER: [(&str, &str); 2] = [
    ("AA_SIGNING_KEY_PATH", "{folder}/keys/"),
    ("AA_KEY_PUBLISH_SECONDS", "100"),
];
const AHEAD: i64 = 100;

async fn with_folder() -> Harness {
    Harness::with(&FOLDER).await
}

async fn follow(harness: &Harness) {
    housekeeping::look_at_keys(&harness.state).await.unwrap();
}

async fn listed(harness: &Harness) -> Vec<Value> {
    let admin = harness.admin().await;
    let answer = harness.get_as(&admin, "/v1/admin/keys").await.ok();
    answer["keys"].as_array().unwrap().clone()
}

async fn states(harness: &Harness) -> Vec<String> {
    let keys = listed(harness).await;
    keys.iter()
        .map(|key| key["state"].as_str().unwrap().to_owned())
        .collect()
}

fn part(token: &str, index: usize) -> Value {
    let part = token.split('.').nth(index).unwrap();
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).unwrap()).unwrap()
}

fn kid_of(token: &str) -> String {
    part(token, 0)["kid"].as_str().unwrap().to_owned()
}

/// The claims of a token, issued two seconds from now.
fn later(token: &str) -> String {
    let mut claims = part(token, 1);
    for name in ["iat", "exp"] {
        claims[name] = (claims[name].as_i64().unwrap() + 2).into();
    }
    claims.to_string()
}

async fn rotate(harness: &Harness) -> Value {
    let admin = harness.admin().await;
    let answer = harness.post_as(&admin, "/v1/admin/keys/rotate", "").await;
    assert_eq!(answer.status, 202, "{answer:?}");
    answer.json()
}

async fn retire(harness: &Harness, kid: &str, body: &str) -> Answer {
    let admin = harness.admin().await;
    harness
        .post_as(&admin, &format!("/v1/admin/keys/{kid}/retire"), body)
        .await
}

fn files(keys: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(keys).unwrap();
    entries.map(|entry| entry.unwrap().path()).collect()
}

#[tokio::test]
async fn a_rotation_publishes_then_signs_then_retires() {
    let harness = with_folder().await;
    let first = harness.state.tokens.keys.kid();
    let (_, token) = harness.agent(json!({})).await;
    assert_eq!(states(&harness).await, ["active"]);
    let next = rotate(&harness).await["next"].clone();
    let second = next["kid"].as_str().unwrap().to_owned();
    assert_eq!(
        (next["state"].as_str(), next["held"].as_bool()),
        (Some("next"), Some(true))
    );
    // Published at once, first in the set what signs.
    let jwks = harness.get("/.well-known/jwks.json").await.ok();
    let kids: Vec<&str> = jwks["keys"]
        .as_array()
        .unwrap()
        .iter()
        .map(|key| key["kid"].as_str().unwrap())
        .collect();
    assert_eq!(kids, [&first, &second]);
    assert_eq!(
        rotate(&harness).await["next"]["kid"],
        second.as_str(),
        "again changes nothing"
    );
    let published = harness.events("event_type=key_published").await;
    assert_eq!(
        published.len(),
        2,
        "the first key is told of when there is another: {published:?}"
    );
    assert!(
        published[1]["detail"]
            .as_str()
            .unwrap()
            .starts_with(&format!("kid={second} x="))
    );

    harness.clock.advance(AHEAD - 1);
    follow(&harness).await;
    let token = harness.renew(&token).await.ok()["access_token"]
        .as_str()
        .unwrap()
        .to_owned();
    assert_eq!(kid_of(&token), first);
    harness.clock.advance(1);
    follow(&harness).await;
    assert_eq!(states(&harness).await, ["previous", "active"]);
    assert!(harness.stands(&token).await);
    let renewed = harness.renew(&token).await.ok()["access_token"]
        .as_str()
        .unwrap()
        .to_owned();
    assert_eq!(kid_of(&renewed), second);
    assert!(harness.stands(&renewed).await);

    harness.clock.advance(AHEAD);
    follow(&harness).await;
    let retires_at = listed(&harness).await[0]["retires_at"].clone();
    assert!(retires_at.is_string(), "known when no replica signs with it any longer");
    assert_eq!(files(&harness.folder.path().join("keys")).len(), 2);
    harness.clock.advance(3 * 86_400);
    follow(&harness).await;
    assert_eq!(states(&harness).await, ["retired", "active"]);
    follow(&harness).await;
    assert_eq!(
        files(&harness.folder.path().join("keys")).len(),
        1,
        "its private half is gone"
    );
    let jwks = harness.get("/.well-known/jwks.json").await.ok();
    assert_eq!(jwks["keys"].as_array().unwrap().len(), 1);
    assert!(
        harness.last("key_retired").await["detail"]
            .as_str()
            .unwrap()
            .contains(&first)
    );
}

#[tokio::test]
async fn a_restart_goes_on_with_the_keys_as_they_were() {
    let harness = with_folder().await;
    let (_, token) = harness.agent(json!({})).await;
    rotate(&harness).await;
    harness.clock.advance(AHEAD);
    follow(&harness).await;
    let (_, later) = harness.agent(json!({})).await;
    let before = listed(&harness).await;
    let harness = harness.restart(&[]).await;
    assert!(harness.stands(&token).await && harness.stands(&later).await);
    assert_eq!(listed(&harness).await, before);
    let (_, fresh) = harness.agent(json!({})).await;
    assert_eq!(kid_of(&fresh), kid_of(&later));
}

#[tokio::test]
async fn a_leaked_key_ends_every_token_at_once() {
    let harness = with_folder().await;
    let leaked = harness.state.tokens.keys.kid();
    let (_, token) = harness.agent(json!({})).await;
    let launch = harness.launch(json!({})).await;
    let epoch = harness.state.store.epoch();
    // The attacker's copy.
    let pair = KeySource::at(&harness.folder.path().join("keys"))
        .load(true)
        .unwrap()
        .remove(0);
    let answer = retire(&harness, &leaked, r#"{"now":true}"#).await.ok();
    assert_eq!(
        (answer["leaked"].as_bool(), answer["kid"].as_str()),
        (Some(true), Some(leaked.as_str()))
    );
    assert_eq!(answer["epoch"], harness.state.store.epoch());
    assert_ne!(harness.state.store.epoch(), epoch);
    assert!(!harness.stands(&token).await);
    assert_eq!(harness.renew(&token).await.status, 401);
    assert_eq!(
        harness.register(&launch, json!({})).await.status,
        401,
        "launch tokens too"
    );
    // What an attacker signs with it is nothing, whatever its times are.
    let forged = pair.sign(later(&token).as_bytes()).unwrap();
    assert_ne!(forged, token);
    assert!(!harness.stands(&forged).await);
    harness.forget_admin();
    // Another key signs already, and agents register again.
    let (_, fresh) = harness.agent(json!({})).await;
    assert_ne!(kid_of(&fresh), leaked);
    assert!(harness.stands(&fresh).await);
    assert_eq!(states(&harness).await, ["retired", "active"]);
    let again = retire(&harness, &leaked, r#"{"now":true}"#).await.ok();
    assert_eq!(
        (&again["retired_at"], &again["epoch"]),
        (&answer["retired_at"], &Value::Null)
    );
    assert!(harness.stands(&fresh).await, "again changes nothing");
    assert!(
        harness.last("epoch_begun").await["detail"]
            .as_str()
            .unwrap()
            .contains(&leaked)
    );
    assert_eq!(harness.last("key_retired").await["actor"], "admin");
}

#[tokio::test]
async fn a_key_that_is_in_use_goes_only_when_it_has_leaked() {
    let harness = with_folder().await;
    let first = harness.state.tokens.keys.kid();
    let refused = retire(&harness, &first, "").await;
    let why = format!(
        "signing key {first} is active: it is retired by itself when its last token has expired; say now if it has leaked: \
         all tokens of before are then refused"
    );
    refused.refused(409, "conflict", &why);
    retire(&harness, "nope", "").await.refused(
        404,
        "not_found",
        "there is no signing key \"nope\": GET /v1/admin/keys lists them",
    );
    assert_eq!(retire(&harness, &first, r#"{"now":"yes"}"#).await.status, 400);
    let next = rotate(&harness).await["next"]["kid"].as_str().unwrap().to_owned();
    let answer = retire(&harness, &next, "").await.ok();
    assert_eq!(
        (answer["leaked"].as_bool(), &answer["epoch"]),
        (Some(false), &Value::Null)
    );
    assert_eq!(states(&harness).await, ["active", "retired"]);
    let (_, token) = harness.agent(json!({})).await;
    assert_eq!(kid_of(&token), first);
    let other = rotate(&harness).await["next"]["kid"].as_str().unwrap().to_owned();
    assert_ne!(other, next, "and another one may be asked for");
}

#[tokio::test]
async fn one_file_is_one_key_and_says_how_to_get_more() {
    let harness = Harness::new().await;
    let admin = harness.admin().await;
    let answer = harness.post_as(&admin, "/v1/admin/keys/rotate", "").await;
    answer.refused(
        409,
        "conflict",
        "the signing key is one file: to rotate it, make a folder, move the file into it under a name that ends with .key, \
         and name the folder in AA_SIGNING_KEY_PATH",
    );
    // What it says to do, done.
    let (_, token) = harness.agent(json!({})).await;
    let setup = harness.stop().await;
    let folder = Arc::clone(&setup.folder);
    let keys = folder.path().join("keys");
    std::fs::create_dir(&keys).unwrap();
    std::fs::rename(folder.path().join("signing.key"), keys.join("first.key")).unwrap();
    let mark = folder.path().join("signing.key.mark");
    std::fs::rename(mark, folder.path().join("keys.mark")).unwrap();
    let mut setup = setup;
    setup.set(&FOLDER);
    let harness = Harness::start(setup).await;
    assert!(harness.stands(&token).await);
    assert!(rotate(&harness).await["next"].is_object());
}

#[tokio::test]
async fn a_new_file_in_the_folder_is_published_and_a_lost_one_named() {
    let harness = with_folder().await;
    let keys = harness.folder.path().join("keys");
    // Written by somebody else, as the controller does with its Secret.
    let other = tempfile::tempdir().unwrap();
    let source = KeySource::at(other.path());
    let kid = source.add(&agentwrit_protocol::system::SystemEntropy).unwrap().unwrap();
    let made = other.path().join(format!("signing-{kid}.key"));
    std::fs::copy(&made, keys.join("other.key")).unwrap();
    follow(&harness).await;
    assert_eq!(states(&harness).await, ["active", "next"]);
    std::fs::write(keys.join("broken.key"), "x").unwrap();
    let error = housekeeping::look_at_keys(&harness.state).await.unwrap_err();
    assert!(error.contains("broken.key must be a PEM block"), "{error}");
    let (_, token) = harness.agent(json!({})).await;
    assert!(harness.stands(&token).await, "what was read before goes on");
    std::fs::remove_file(keys.join("broken.key")).unwrap();
    // The file of the key that is about to sign is lost.
    std::fs::remove_file(keys.join("other.key")).unwrap();
    harness.clock.advance(AHEAD);
    follow(&harness).await;
    let (_, token) = harness.agent(json!({})).await;
    assert_ne!(kid_of(&token), kid, "for a while the one before goes on");
    harness.clock.advance(AHEAD);
    follow(&harness).await;
    let ready = harness.get("/readyz").await;
    assert_eq!(ready.status, 503);
    assert_eq!(ready.json()["failing"][0]["dependency"], "signing_key");
    let refused = harness
        .post("/v1/admin/auth", json!({"secret": ADMIN_SECRET}).to_string())
        .await;
    refused.refused(
        503,
        "unavailable",
        "the broker holds no key that may sign tokens, see /readyz; nothing was changed",
    );
    assert!(harness.stands(&token).await, "tokens are still judged");
    // Back again.
    std::fs::copy(&made, keys.join("other.key")).unwrap();
    follow(&harness).await;
    assert_eq!(harness.get("/readyz").await.status, 200);
    let (_, token) = harness.agent(json!({})).await;
    assert_eq!(kid_of(&token), kid);
}

#[tokio::test]
async fn only_an_admin_who_may_revoke_sees_and_changes_keys() {
    let harness = with_folder().await;
    let (_, agent) = harness.agent(json!({})).await;
    for (method, path) in [
        ("GET", "/v1/admin/keys"),
        ("POST", "/v1/admin/keys/rotate"),
        ("POST", "/v1/admin/keys/x/retire"),
    ] {
        let call = async |token: &str| match method {
            "GET" => harness.get_as(token, path).await,
            _ => harness.post_as(token, path, "").await,
        };
        assert_eq!(call(&agent).await.status, 403, "{path}");
        assert_eq!(call("x.y.z").await.status, 401, "{path}");
    }
}

#[tokio::test]
async fn the_key_set_may_be_kept_as_long_as_it_says() {
    let harness = Harness::with(&[("AA_KEY_PUBLISH_SECONDS", "120"), ("AA_ISSUER", "https://b.example")]).await;
    for path in ["/.well-known/jwks.json", "/.well-known/openid-configuration"] {
        let answer = harness.get(path).await;
        assert_eq!(answer.header("cache-control"), "public, max-age=60", "{path}");
        let tag = answer.header("etag").to_owned();
        assert!(tag.starts_with('"') && tag.len() > 20, "{tag}");
    }
    let harness = harness.restart(&[("AA_KEY_PUBLISH_SECONDS", "86400")]).await;
    let answer = harness.get("/.well-known/jwks.json").await;
    assert_eq!(answer.header("cache-control"), "public, max-age=300");
    assert_eq!(
        harness.post("/.well-known/jwks.json", "").await.header("cache-control"),
        "no-store"
    );
}
