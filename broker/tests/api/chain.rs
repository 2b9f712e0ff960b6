//! Signed checkpoints, and what a start does about a trail that was changed.

use agentwrit_testkit::{ADMIN_SECRET, Harness, claims, stores};
use std::path::Path;
use std::sync::Arc;

use agentwrit_broker::process::housekeeping;
use agentwrit_protocol::audit::{
    AuditEvent, ChainWalker, Checkpoint, EventType, GENESIS_HASH, SignatureCheck, Step, Summary,
};
use agentwrit_store::EventDraft;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ed25519_dalek::{Signature, VerifyingKey};
use serde_json::{Value, json};
use tempfile::TempDir;

/// Puts this many events into the trail and waits for them.
pub async fn fill(harness: &Harness, events: usize, task: &str) {
    for number in 0..events {
        let draft = EventDraft::success(EventType::TokenAuthFailed, format!("event {number}")).task(&task.into());
        while !harness.state.store.append(draft.clone()) {
            tokio::task::yield_now().await;
        }
        if number % 1000 == 999 {
            harness.events("limit=1").await;
        }
    }
    harness.events("limit=1").await;
}

/// The whole trail, page by page.
pub async fn trail(harness: &Harness) -> Vec<AuditEvent> {
    let admin = harness.admin().await;
    let mut events = Vec::new();
    let mut cursor = "evt-000000".to_owned();
    loop {
        let path = format!("/v1/audit/events?limit=700&cursor={cursor}");
        let mut page = harness.get_as(&admin, &path).await.ok();
        let found: Vec<AuditEvent> = serde_json::from_value(page["events"].take()).unwrap();
        let last = found.len() < 700;
        events.extend(found);
        if last {
            return events;
        }
        page["next_cursor"].as_str().unwrap().clone_into(&mut cursor);
    }
}

/// What the published keys say.
pub async fn keys(harness: &Harness) -> impl Fn(&str, &str, &str) -> SignatureCheck + use<> {
    let jwks = harness.get("/.well-known/jwks.json").await.ok();
    move |kid: &str, message: &str, signature: &str| {
        let Some(jwk) = jwks["keys"].as_array().unwrap().iter().find(|jwk| jwk["kid"] == kid) else {
            return SignatureCheck::UnknownKey;
        };
        let decode = |text: &str| URL_SAFE_NO_PAD.decode(text).unwrap();
        let key = VerifyingKey::from_bytes(&decode(jwk["x"].as_str().unwrap()).try_into().unwrap()).unwrap();
        let signature = Signature::from_slice(&decode(signature)).unwrap();
        match key.verify_strict(message.as_bytes(), &signature) {
            Ok(()) => SignatureCheck::Valid,
            Err(_) => SignatureCheck::Invalid,
        }
    }
}

async fn walk(harness: &Harness) -> Summary {
    let keys = keys(harness).await;
    let mut walker = ChainWalker::from_start();
    for event in trail(harness).await {
        walker.feed(&event, &keys).unwrap();
    }
    walker.finish().unwrap()
}

fn checkpoints(events: &[AuditEvent]) -> Vec<i64> {
    let checkpoints = events.iter().filter(|event| event.event_type == "audit_checkpoint");
    checkpoints
        .map(|event| AuditEvent::sequence_of(&event.id).unwrap())
        .collect()
}

/// Stops the broker, changes its database, starts it again, and says why it is not ready.
async fn after(harness: Harness, change: impl FnOnce(&Path)) -> (Harness, Option<Value>) {
    let folder = harness.stop().await.folder;
    change(folder.path());
    restarted(folder).await
}

async fn restarted(folder: Arc<TempDir>) -> (Harness, Option<Value>) {
    let harness = Harness::in_folder(folder, &[("AA_STORE_REQUIRED", "true")])
        .await
        .unwrap();
    let ready = harness.get("/readyz").await;
    let reason = (ready.status != 200).then(|| ready.json()["failing"][0]["reason"].clone());
    (harness, reason)
}

fn run(sql: &'static str) -> impl FnOnce(&Path) {
    move |folder| assert_ne!(stores::change(folder, sql), 0, "{sql}")
}

#[tokio::test]
async fn every_thousandth_event_is_a_signed_checkpoint() {
    let harness = Harness::new().await;
    fill(&harness, 2500, "t").await;
    let events = trail(&harness).await;
    assert_eq!(checkpoints(&events), [1000, 2000]);
    let signed = Checkpoint::from_event(&events[1999]).unwrap();
    assert_eq!((signed.sequence, &signed.head), (1999, &events[1998].hash));
    let done = walk(&harness).await;
    assert_eq!((done.events, done.signed), (2503, Some(signed)));

    let keys = keys(&harness).await;
    let mut walker = ChainWalker::from_checkpoint();
    assert_eq!(walker.feed(&events[1999], &keys), Ok(Step::Signed));
    assert_eq!(walker.feed(&events[2000], &keys), Ok(Step::Event));

    let harness = harness.restart(&[]).await;
    fill(&harness, 600, "t").await;
    assert_eq!(checkpoints(&trail(&harness).await), [1000, 2000, 3000]);
    walk(&harness).await;
}

#[tokio::test]
async fn a_few_events_are_signed_when_an_hour_has_passed() {
    let harness = Harness::new().await;
    fill(&harness, 3, "t").await;
    harness.clock.advance(3599);
    housekeeping::prune(&harness.state).await;
    assert!(harness.events("event_type=audit_checkpoint").await.is_empty());
    harness.clock.advance(1);
    housekeeping::prune(&harness.state).await;
    let checkpoint = harness.last("audit_checkpoint").await;
    assert_eq!(checkpoint["outcome"], "success");
    fill(&harness, 1, "t").await;
    harness.clock.advance(3600);
    housekeeping::prune(&harness.state).await;
    assert_eq!(harness.events("event_type=audit_checkpoint").await.len(), 2);
    walk(&harness).await;
}

#[tokio::test]
async fn a_quiet_trail_is_not_signed_again_and_again() {
    let harness = Harness::new().await;
    fill(&harness, 3, "t").await;
    for _ in 0..3 {
        harness.clock.advance(3600);
        housekeeping::prune(&harness.state).await;
    }
    let harness = harness.restart(&[]).await.restart(&[]).await;
    assert_eq!(checkpoints(&trail(&harness).await).len(), 1);
}

#[tokio::test]
async fn a_trail_whose_end_was_cut_off_is_not_continued() {
    let harness = Harness::new().await;
    fill(&harness, 5, "t").await;
    let cut = "DELETE FROM audit_events WHERE seq = (SELECT MAX(seq) FROM audit_events)";
    let (harness, reason) = after(harness, run(cut)).await;
    assert_eq!(reason, Some(json!("broken_chain")));
    let login = json!({"secret": ADMIN_SECRET}).to_string();
    assert_eq!(harness.post("/v1/admin/auth", login).await.status, 503, "fail closed");
    let metrics = harness.get("/v1/metrics").await.text;
    assert!(metrics.contains("agentwrit_db_errors_total{operation=\"broken_chain\"}"));
}

#[tokio::test]
async fn a_cut_is_noticed_at_any_length() {
    for keep in [0, 1, 999, 1000, 1001] {
        let harness = Harness::new().await;
        fill(&harness, 1200, "t").await;
        let sql = format!("DELETE FROM audit_events WHERE seq > {keep}");
        let (_harness, reason) = after(harness, |folder| assert_ne!(stores::change(folder, &sql), 0)).await;
        assert_eq!(reason, Some(json!("broken_chain")), "{keep}");
    }
}

#[tokio::test]
async fn a_trail_that_lost_its_last_checkpoint_is_not_continued() {
    let forget = "DELETE FROM meta WHERE key = 'audit_checkpoint'";
    let harness = Harness::new().await;
    fill(&harness, 1200, "t").await;
    let (_harness, reason) = after(harness, run(forget)).await;
    assert_eq!(reason, Some(json!("broken_chain")));
}

#[tokio::test]
async fn a_rewritten_trail_is_not_continued() {
    let harness = Harness::new().await;
    fill(&harness, 5, "t").await;
    let (_harness, reason) = after(harness, |folder| {
        let last = "seq = (SELECT max(seq) FROM audit_events)";
        let json = stores::value(folder, &format!("SELECT json FROM audit_events WHERE {last}"));
        let mut event: AuditEvent = serde_json::from_str(&json).unwrap();
        event.detail = "nothing happened".to_owned();
        event.hash = event.compute_hash();
        let json = serde_json::to_string(&event).unwrap().replace('\'', "''");
        let rewrite = format!("UPDATE audit_events SET json = '{json}' WHERE {last}");
        assert_eq!(stores::change(folder, &rewrite), 1);
    })
    .await;
    assert_eq!(reason, Some(json!("broken_chain")));
}

#[tokio::test]
async fn rows_in_other_places_than_their_events_are_noticed() {
    let harness = Harness::new().await;
    fill(&harness, 5, "t").await;
    let move_last = "UPDATE audit_events SET seq = seq + 1 WHERE seq = (SELECT MAX(seq) FROM audit_events)";
    let (_harness, reason) = after(harness, run(move_last)).await;
    assert_eq!(reason, Some(json!("broken_chain")));
}

#[test]
fn a_changed_event_keeps_the_store_of_a_killed_broker_closed() {
    let folder = tempfile::tempdir().unwrap();
    let start = || crate::PROGRAM.start(folder.path(), &[("AA_STORE_REQUIRED", "true")]);
    let login = json!({"secret": ADMIN_SECRET}).to_string();
    let process = start();
    let admin = || process.ask("POST /v1/admin/auth", "", &login).member("access_token");
    let (token, revoked) = (admin(), admin());
    let revoke = json!({"level": "token", "target": claims(&revoked)["jti"]}).to_string();
    assert_eq!(process.ask("POST /v1/revoke", &token, &revoke).status, 200);
    // kill -9: nothing was signed at the end.
    drop(process);
    let change = |from: &str, to: &str| {
        let sql = format!("UPDATE audit_events SET json = replace(json, '{from}', '{to}') WHERE seq = 2");
        assert_eq!(stores::change(folder.path(), &sql), 1);
    };
    change("admin_auth", "admin_aunt");
    let process = start();
    let ready = process.ask("GET /readyz", "", "");
    let failing = json!([{"dependency": "store", "reason": "broken_chain"}]);
    assert_eq!((ready.status, &ready.body["failing"]), (503, &failing));
    // Nobody's token counts, which is what a revocation would do; and there is nobody who could revoke.
    for bearer in [&token, &revoked] {
        let answer = process.ask("POST /v1/token/validate", "", &json!({"token": bearer}).to_string());
        assert_eq!(answer.refusal(), (503, "unavailable"), "{answer:?}");
        let answer = process.ask("POST /v1/revoke", bearer, &revoke);
        assert_eq!(answer.refusal(), (503, "unavailable"), "{answer:?}");
    }
    assert_eq!(process.ask("POST /v1/admin/auth", "", &login).status, 503);
    process.signal(rustix::process::Signal::TERM);
    let (code, _, err) = process.end();
    assert_eq!(code, Some(0), "{err}");
    let told = err.lines().find(|line| line.contains("evt-000002"));
    assert!(told.is_some_and(|line| line.contains("| InitDB |")), "{err}");
    change("admin_aunt", "admin_auth");
    let process = start();
    let stands = |token: &str| {
        let answer = process.ask("POST /v1/token/validate", "", &json!({"token": token}).to_string());
        answer.body["valid"].as_bool().unwrap()
    };
    assert!(stands(&token) && !stands(&revoked), "the trail is as it was");
}

#[tokio::test]
async fn a_new_key_signs_the_old_trail_again() {
    let harness = Harness::new().await;
    fill(&harness, 1200, "t").await;
    let folder = harness.stop().await.folder;
    std::fs::remove_file(folder.path().join("signing.key")).unwrap();
    let (harness, reason) = restarted(folder).await;
    assert_eq!(reason, None);
    let login = harness.login().await;
    let events = trail(&harness).await;
    let signed = checkpoints(&events);
    assert_eq!((signed[0], signed.len()), (1000, 2), "with the first commit");
    let done = walk(&harness).await;
    assert_eq!(done.signed.unwrap().kid, harness.state.tokens.keys.kid());
    assert_ne!(done.unknown.unwrap().kid, harness.state.tokens.keys.kid());
    assert!(harness.stands(&login).await);
}

#[tokio::test]
async fn a_trail_in_memory_is_signed_too() {
    let harness = Harness::with(&[("AA_DB_PATH", "")]).await;
    fill(&harness, 1200, "t").await;
    assert_eq!(checkpoints(&trail(&harness).await), [1000]);
    assert_ne!(walk(&harness).await.head, GENESIS_HASH);
}
