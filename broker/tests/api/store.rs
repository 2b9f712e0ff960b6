//! What survives, and what happens when the store is away.

use agentwrit_testkit::{ADMIN_SECRET, Harness, claims, stores};
use std::sync::Arc;

use agentwrit_broker::process::assemble::StartError;
use agentwrit_protocol::Clock;
use agentwrit_protocol::audit::EventType;
use agentwrit_store::{EventDraft, EventFilter, StoreError};
use serde_json::json;

#[tokio::test]
async fn a_restart_keeps_tokens_sessions_revocations_and_trail() {
    let harness = Harness::new().await;
    let unused = harness.launch(json!({})).await;
    let used = harness.launch(json!({})).await;
    harness.register(&used, json!({})).await.ok();
    let (_, first) = harness.agent(json!({})).await;
    let current = harness.renew(&first).await.ok()["access_token"]
        .as_str()
        .unwrap()
        .to_owned();
    let (_, released) = harness.agent(json!({})).await;
    harness.post_as(&released, "/v1/token/release", "").await;
    let (agent, revoked) = harness.agent(json!({})).await;
    let admin = harness.admin().await;
    let body = json!({"level": "agent", "target": agent}).to_string();
    harness.post_as(&admin, "/v1/revoke", body).await.ok();
    let nonce = harness.registration(&unused, json!({})).await;
    let events = harness.events("").await;

    let harness = harness.restart(&[]).await;
    assert_eq!(harness.get("/v1/health").await.ok()["audit_events_count"], events.len());
    assert!(harness.stands(&current).await && harness.stands(&admin).await);
    for dead in [&first, &released, &revoked] {
        assert!(!harness.stands(dead).await);
    }
    harness
        .register(&used, json!({}))
        .await
        .refused(401, "unauthorized", "launch token already consumed");
    assert_eq!(
        harness.post("/v1/register", nonce.to_string()).await.status,
        200,
        "a nonce outlives the restart"
    );
    let again = harness.post("/v1/register", nonce.to_string()).await;
    assert_eq!(again.status, 401);
    harness.renew(&current).await.ok();
    assert_eq!(harness.events("").await[..events.len()], events[..]);
    assert!(
        harness
            .get("/v1/metrics")
            .await
            .text
            .contains(&format!("agentwrit_audit_events_loaded {}", events.len()))
    );
}

#[tokio::test]
async fn a_new_store_beside_an_old_key_refuses_old_tokens() {
    let harness = Harness::new().await;
    let (_, token) = harness.agent(json!({})).await;
    let epoch = harness.state.store.epoch();
    harness.clock.advance(5);
    let setup = harness.stop().await;
    stores::lose(setup.folder.path());
    let harness = Harness::start(setup).await;
    assert_ne!(harness.state.store.epoch(), epoch);
    assert!(!harness.stands(&token).await);
    harness
        .renew(&token)
        .await
        .refused(401, "unauthorized", "token verification failed");
    let kind = &harness.last("token_auth_failed").await["error_kind"];
    assert_eq!(kind, "token_older_than_store");
    let (_, fresh) = harness.agent(json!({})).await;
    assert!(harness.stands(&fresh).await);
}

#[tokio::test]
async fn a_store_as_old_as_its_key_refuses_no_token_for_its_age() {
    let harness = Harness::new().await;
    let now = harness.clock.unix_seconds().get();
    let sign = |claims: String| harness.state.tokens.keys.sign(claims.as_bytes()).unwrap();
    let old = sign(format!(
        r#"{{"sub":"a","jti":"b","iat":{},"exp":{}}}"#,
        now - 100,
        now + 100
    ));
    let undated = sign(format!(r#"{{"sub":"a","jti":"c","exp":{}}}"#, now + 100));
    for token in [&old, &undated] {
        assert!(harness.stands(token).await);
    }
    let harness = harness.restart(&[]).await;
    for token in [&old, &undated] {
        assert!(harness.stands(token).await);
    }
}

#[tokio::test]
async fn memory_only_forgets_everything_and_says_so() {
    let harness = Harness::with(&[("AA_DB_PATH", "")]).await;
    let (_, token) = harness.agent(json!({})).await;
    assert_eq!(harness.events("event_type=agent_registered").await.len(), 1);
    assert_eq!(harness.get("/v1/health").await.ok()["db_connected"], false);
    assert_eq!(harness.get("/readyz").await.status, 200, "by choice");
    assert!(!harness.folder.path().join("data.db").exists());
    harness.clock.advance(1);
    let harness = harness.restart(&[]).await;
    assert!(!harness.stands(&token).await);
}

#[tokio::test]
async fn a_new_store_accepts_no_nonce_of_an_earlier_one() {
    let harness = Harness::with(&[("AA_DB_PATH", "")]).await;
    let launch_token = harness.launch(json!({})).await;
    let mut body = harness.registration(&launch_token, json!({})).await;
    harness.post("/v1/register", body.to_string()).await.ok();
    let harness = harness.restart(&[]).await;
    body["launch_token"] = harness.launch(json!({})).await.into();
    harness
        .post("/v1/register", body.to_string())
        .await
        .refused(401, "unauthorized", "nonce not found or expired");
}

#[tokio::test]
async fn denials_of_strangers_leave_room_for_commands() {
    let harness = Harness::new().await;
    let denial = || EventDraft::success(EventType::TokenAuthFailed, "x");
    let queued = (0..10_000).take_while(|_| harness.state.store.append(denial())).count();
    assert!(queued < 10_000, "the queue is bounded");
    harness.state.store.events(EventFilter::default()).await.unwrap();
}

#[tokio::test]
async fn a_store_that_can_t_open_is_stood_in_for_by_memory() {
    let harness = Harness::with(&[("AA_DB_PATH", "{folder}/missing/data.db")]).await;
    let health = harness.get("/v1/health").await.ok();
    assert_eq!(
        (health["status"].as_str(), health["db_connected"].as_bool()),
        (Some("ok"), Some(false))
    );
    let answer = harness.get("/readyz").await;
    assert_eq!(answer.status, 503);
    assert_eq!(
        answer.json()["failing"],
        json!([{"dependency": "store", "reason": "file"}])
    );
    harness.agent(json!({})).await;
    assert!(
        harness
            .get("/v1/metrics")
            .await
            .text
            .contains("agentwrit_db_errors_total")
    );
}

#[tokio::test]
async fn after_a_run_in_memory_all_earlier_tokens_are_refused() {
    let harness = Harness::new().await;
    let (_, before) = harness.agent(json!({})).await;
    let setup = harness.stop().await;
    let (file, aside) = (
        setup.folder.path().join("data.db"),
        setup.folder.path().join("aside.db"),
    );
    std::fs::rename(&file, &aside).unwrap();
    std::fs::create_dir(&file).unwrap();
    setup.clock.advance(1);
    let harness = Harness::start(setup).await;
    assert!(!harness.stands(&before).await, "a new store in memory");
    let (agent, revoked) = harness.agent(json!({})).await;
    let (_, kept) = harness.agent(json!({})).await;
    let admin = harness.admin().await;
    let body = json!({"level": "agent", "target": agent}).to_string();
    harness.post_as(&admin, "/v1/revoke", body).await.ok();
    assert!(!harness.stands(&revoked).await && harness.stands(&kept).await);

    let setup = harness.stop().await;
    std::fs::remove_dir(&file).unwrap();
    std::fs::rename(&aside, &file).unwrap();
    setup.clock.advance(1);
    let harness = Harness::start(setup).await;
    for token in [&before, &revoked, &kept] {
        assert!(!harness.stands(token).await);
    }
    harness
        .renew(&kept)
        .await
        .refused(401, "unauthorized", "token verification failed");
    let (_, after) = harness.agent(json!({})).await;
    harness.clock.advance(1);
    let harness = harness.restart(&[]).await;
    assert!(harness.stands(&after).await, "one start only is so careful");
    assert!(!harness.stands(&revoked).await && !harness.stands(&before).await);
}

#[tokio::test]
async fn a_required_store_that_can_t_open_means_503_until_it_does() {
    let harness = Harness::with(&[("AA_DB_PATH", "{folder}/late/data.db"), ("AA_STORE_REQUIRED", "true")]).await;
    assert_eq!(harness.get("/livez").await.status, 200);
    assert_eq!(harness.get("/readyz").await.status, 503);
    let challenge = harness.get("/v1/challenge").await;
    assert_eq!(
        (challenge.status, challenge.header("retry-after")),
        (503, "1"),
        "its nonce could not be used"
    );
    let login = json!({"secret": ADMIN_SECRET}).to_string();
    let answer = harness.post("/v1/admin/auth", &login).await;
    assert_eq!((answer.problem().0, answer.problem().1.as_str()), (503, "unavailable"));
    assert_eq!(answer.header("retry-after"), "1");
    let forged = harness
        .state
        .tokens
        .keys
        .sign(br#"{"sub":"admin","jti":"x","exp":9999999999,"iat":1800000000}"#)
        .unwrap();
    let answer = harness
        .post("/v1/token/validate", json!({"token": forged}).to_string())
        .await;
    assert_eq!(answer.status, 503, "nothing is said before the revocations are known");
    assert_eq!(harness.get_as(&forged, "/v1/audit/events").await.status, 503);

    std::fs::create_dir(harness.folder.path().join("late")).unwrap();
    let opened = async { while harness.get("/readyz").await.status != 200 {} };
    tokio::time::timeout(std::time::Duration::from_secs(20), opened)
        .await
        .expect("opened within seconds");
    assert_eq!(harness.post("/v1/admin/auth", &login).await.status, 200);
}

#[tokio::test]
async fn a_failed_commit_is_503_and_changes_nothing() {
    let harness = Harness::new().await;
    let launch_token = harness.launch(json!({})).await;
    let body = harness.registration(&launch_token, json!({})).await.to_string();
    let events = harness.events("").await.len();
    let folder = harness.folder.path();
    stores::change(folder, "ALTER TABLE sessions RENAME TO gone");
    let answer = harness.post("/v1/register", &body).await;
    assert_eq!((answer.problem().0, answer.problem().1.as_str()), (503, "unavailable"));
    assert_eq!(answer.header("retry-after"), "1");
    assert_eq!(harness.events("").await.len(), events, "neither event nor session");
    stores::change(folder, "ALTER TABLE gone RENAME TO sessions");
    assert_eq!(
        harness.post("/v1/register", &body).await.status,
        200,
        "nonce and launch token were not burned"
    );
    let metrics = harness.get("/v1/metrics").await.text;
    assert!(metrics.contains("agentwrit_db_errors_total{operation=\"insert_session\"} 1"));
}

#[tokio::test]
async fn a_store_that_fails_later_is_unready_until_writes_succeed() {
    let harness = Harness::new().await;
    let (_, token) = harness.agent(json!({})).await;
    let events = harness.events("").await.len();
    let folder = harness.folder.path();
    stores::change(folder, "ALTER TABLE meta RENAME TO gone");
    let admin = harness.admin().await;
    let body = json!({"level": "task", "target": "t"}).to_string();
    assert_eq!(harness.post_as(&admin, "/v1/revoke", &body).await.status, 503);
    let ready = harness.get("/readyz").await;
    assert_eq!(
        (ready.status, &ready.json()["failing"][0]["reason"]),
        (503, &json!("database"))
    );
    assert_eq!(harness.renew(&token).await.status, 503, "never memory");
    assert!(harness.stands(&token).await, "tokens are checked without the store");
    assert_eq!(harness.get("/livez").await.status, 200);
    stores::change(folder, "ALTER TABLE gone RENAME TO meta");
    let ready = async { while harness.get("/readyz").await.status != 200 {} };
    tokio::time::timeout(std::time::Duration::from_secs(20), ready)
        .await
        .expect("ready within seconds");
    assert_eq!(harness.post_as(&admin, "/v1/revoke", &body).await.status, 200);
    assert_eq!(
        harness.events("").await.len(),
        events + 1,
        "the chain goes on where it was"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn under_parallel_load_every_success_is_in_the_trail_once() {
    let harness = Harness::new().await;
    let mut tokens = Vec::new();
    let launch_token = harness.launch(json!({"single_use": false})).await;
    for _ in 0..20 {
        let answer = harness.register(&launch_token, json!({})).await.ok();
        tokens.push(answer["access_token"].as_str().unwrap().to_owned());
    }
    let releases = tokens
        .iter()
        .map(|token| harness.post_as(token, "/v1/token/release", ""));
    assert!(
        futures_util::future::join_all(releases)
            .await
            .iter()
            .all(|answer| answer.status == 204)
    );
    assert_eq!(harness.events("event_type=token_released").await.len(), 20);
    let harness = harness.restart(&[]).await;
    for token in &tokens {
        assert!(!harness.stands(token).await);
    }
    assert_eq!(harness.get("/readyz").await.status, 200, "the chain holds");
}

#[tokio::test]
async fn two_brokers_never_share_a_store() {
    let harness = Harness::new().await;
    let Err(error) = Harness::in_folder(Arc::clone(&harness.folder), &[]).await else {
        panic!("a second broker opened the store");
    };
    assert!(matches!(error, StartError::Store(StoreError::Locked { .. })), "{error}");
    assert!(error.to_string().contains("data.db.lock"));
}

#[tokio::test]
async fn a_trail_that_was_tampered_with_is_not_continued() {
    let harness = Harness::new().await;
    harness.agent(json!({})).await;
    let folder = harness.stop().await.folder;
    let update = "UPDATE audit_events SET json = replace(json, 'agent_registered', 'agent_registereX') WHERE seq = 3";
    assert_eq!(stores::change(folder.path(), update), 1);
    let harness = Harness::in_folder(folder, &[]).await.unwrap();
    let answer = harness.get("/readyz").await;
    assert_eq!(answer.json()["failing"][0]["reason"], "broken_chain");
}

#[tokio::test]
async fn tokens_of_a_session_keep_its_id() {
    let harness = Harness::new().await;
    let (_, token) = harness.agent(json!({})).await;
    let harness = harness.restart(&[]).await;
    let renewed = harness.renew(&token).await.ok()["access_token"]
        .as_str()
        .unwrap()
        .to_owned();
    assert_eq!(claims(&token)["sid"], claims(&renewed)["sid"]);
}

#[tokio::test]
async fn the_store_is_private_and_has_no_wal_after_a_stop() {
    use std::os::unix::fs::PermissionsExt;
    let harness = Harness::new().await;
    harness.agent(json!({})).await;
    let mode = |name: &str| {
        std::fs::metadata(harness.folder.path().join(name))
            .unwrap()
            .permissions()
            .mode()
            & 0o777
    };
    for name in ["data.db", "data.db-wal", "signing.key"] {
        assert_eq!(mode(name), 0o600, "{name}");
    }
    let folder = harness.stop().await.folder;
    assert!(!folder.path().join("data.db-wal").exists(), "written back");
}
