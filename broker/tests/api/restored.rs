//! Stores that are put back from a copy: nothing of before their start is believed any more.

mod mark;
mod random_steps;

use agentwrit_testkit::{ADMIN_SECRET, App, Harness, Process, claims, stores};
use std::fs;
use std::path::PathBuf;
use std::sync::Arc;

use agentwrit_protocol::{Clock, StoreMark};
use agentwrit_store::PutBack;
use proptest::prelude::*;
use serde_json::{Value, json};

/// The end of a second: a store that begins anew waits for the next one.
const END_OF_SECOND: i64 = 999;

async fn start() -> Harness {
    let harness = Harness::new().await;
    harness.clock.advance_millis(END_OF_SECOND);
    harness
}

/// A copy of a file in the harness' folder.
struct Copy(PathBuf, Vec<u8>);

impl Copy {
    fn of(harness: &Harness, name: &str) -> Self {
        let path = harness.folder.path().join(name);
        let content = fs::read(&path).unwrap();
        Self(path, content)
    }

    fn put_back(&self) {
        fs::write(&self.0, &self.1).unwrap();
    }
}

/// Restarts it, with the store closed for `meanwhile`; a second passes.
async fn reopened(harness: Harness, meanwhile: impl FnOnce()) -> Harness {
    let setup = harness.stop().await;
    meanwhile();
    setup.clock.advance(1);
    Harness::start(setup).await
}

/// Stops it, copies its store, and starts it again.
async fn copied(harness: Harness) -> (Harness, stores::Copy) {
    let folder = Arc::clone(&harness.folder);
    let mut copy = None;
    let harness = reopened(harness, || copy = Some(stores::Copy::of(folder.path()))).await;
    (harness, copy.unwrap())
}

async fn revoke(harness: &Harness, level: &str, target: &str) {
    let body = json!({"level": level, "target": target}).to_string();
    harness.post_as(&harness.admin().await, "/v1/revoke", body).await.ok();
}

async fn revoke_token(harness: &Harness, token: &str) {
    revoke(harness, "token", claims(token)["jti"].as_str().unwrap()).await;
}

async fn restorations(harness: &Harness) -> Vec<Value> {
    harness.events("event_type=store_restored").await
}

async fn mark(harness: &Harness) -> StoreMark {
    harness.state.store.compare(None).await.unwrap().mark
}

/// The mark in the file.
fn kept(harness: &Harness) -> StoreMark {
    let text = fs::read_to_string(harness.folder.path().join("signing.key.mark")).unwrap();
    StoreMark::parse(text.trim_end()).unwrap()
}

#[tokio::test]
async fn a_revoked_token_stays_refused_when_a_copy_is_put_back() {
    let harness = start().await;
    let (agent, token) = harness.agent(json!({})).await;
    let (_, bystander) = harness.agent(json!({})).await;
    let launch = harness.launch(json!({})).await;
    let (harness, copy) = copied(harness).await;
    assert!(harness.stands(&token).await && restorations(&harness).await.is_empty());
    let epoch = harness.state.store.epoch();
    revoke_token(&harness, &token).await;
    revoke(&harness, "agent", &agent).await;
    let harness = reopened(harness, || copy.put_back()).await;
    assert!(!harness.stands(&token).await, "it was revoked");
    assert!(!harness.stands(&bystander).await, "nobody knows whether it was revoked");
    assert_ne!(harness.renew(&bystander).await.status, 200);
    // It may have been used since the copy was made.
    assert_eq!(harness.register(&launch, json!({})).await.status, 401);
    let now = harness.state.store.epoch();
    assert_ne!(now, epoch);
    let events = restorations(&harness).await;
    assert_eq!(events.len(), 1, "{events:?}");
    let detail = events[0]["detail"].as_str().unwrap();
    for part in [
        "rule=lower_sequence by=AA_STORE_MARK; mark: epoch=",
        &format!("store: epoch={epoch}"),
        &format!("new epoch={now}"),
    ] {
        assert!(detail.contains(part), "{detail}");
    }
    let text = harness.get("/v1/metrics").await.text;
    assert!(
        text.contains("\nagentwrit_store_restored_total{rule=\"lower_sequence\"} 1\n"),
        "{text}"
    );
    // It goes on: new agents get tokens, which a further start leaves alone.
    let (_, fresh) = harness.agent(json!({})).await;
    let harness = reopened(harness, || ()).await;
    assert!(harness.stands(&fresh).await && !harness.stands(&token).await);
    assert_eq!(
        (harness.state.store.epoch(), restorations(&harness).await.len()),
        (now, 1)
    );
}

#[tokio::test]
async fn a_restore_noticed_by_a_wrong_clock_still_protects() {
    let harness = start().await;
    let (_, token) = harness.agent(json!({})).await;
    let (harness, copy) = copied(harness).await;
    revoke_token(&harness, &token).await;
    // It boots with a clock that is a little behind: what it issues must not be older than its new epoch.
    let setup = harness.stop().await;
    copy.put_back();
    setup.clock.jump(-100);
    let harness = Harness::start(setup).await;
    let login = json!({"secret": ADMIN_SECRET}).to_string();
    let answer = harness.post("/v1/admin/auth", login).await;
    answer.refused_like(503, "unavailable", "clock is wrong");
    harness.clock.jump(102);
    assert_eq!(restorations(&harness).await.len(), 1);
    assert!(!harness.stands(&token).await, "revoked before the restore");
    let (_, fresh) = harness.agent(json!({})).await;
    assert!(harness.stands(&fresh).await);
}

#[tokio::test]
async fn a_restore_noticed_by_a_clock_far_ahead_can_be_mended() {
    const YEAR: i64 = 365 * 86_400;
    let harness = start().await;
    let (harness, copy) = copied(harness).await;
    revoke(&harness, "agent", "somebody").await;
    let setup = harness.stop().await;
    copy.put_back();
    setup.clock.jump(YEAR);
    let harness = Harness::start(setup).await;
    assert_eq!(restorations(&harness).await.len(), 1);
    harness.clock.jump(-YEAR);
    let ready = harness.get("/readyz").await;
    assert!(
        ready.status == 503 && ready.text.contains("\"clock\""),
        "{}",
        ready.text
    );
    let harness = harness.restart_accepting_the_clock().await;
    assert_eq!(harness.get("/readyz").await.status, 200);
    harness.clock.advance(1);
    let (_, fresh) = harness.agent(json!({})).await;
    assert!(harness.stands(&fresh).await);
}

#[tokio::test]
async fn an_accepted_clock_hides_no_restore() {
    let harness = start().await;
    let (harness, copy) = copied(harness).await;
    revoke(&harness, "agent", "somebody").await;
    // The mark of the copy's epoch, which an accepted clock makes a former one.
    harness.clock.advance(1);
    let mut setup = harness.stop().await;
    copy.put_back();
    setup.clock.jump(-1000);
    setup.accept_clock = true;
    let harness = Harness::start(setup).await;
    assert_eq!(restorations(&harness).await.len(), 1);
}

#[tokio::test]
async fn the_same_copy_is_noticed_each_time_it_is_put_back() {
    let (mut harness, copy) = copied(start().await).await;
    let mut epochs = vec![harness.state.store.epoch()];
    for rule in ["lower_sequence", "unknown_epoch", "unknown_epoch"] {
        let (_, token) = harness.agent(json!({})).await;
        revoke_token(&harness, &token).await;
        harness = reopened(harness, || copy.put_back()).await;
        assert!(!harness.stands(&token).await, "{rule}");
        let event = harness.last("store_restored").await;
        assert!(
            event["detail"].as_str().unwrap().starts_with(&format!("rule={rule} ")),
            "{event}"
        );
        let epoch = harness.state.store.epoch();
        assert!(!epochs.contains(&epoch));
        epochs.push(epoch);
    }
}

#[tokio::test]
async fn another_history_of_the_same_length_is_noticed() {
    let harness = start().await;
    let (_, token) = harness.agent(json!({})).await;
    let (harness, copy) = copied(harness).await;
    let early = Copy::of(&harness, "signing.key.mark");
    revoke_token(&harness, &token).await;
    let late = Copy::of(&harness, "signing.key.mark");
    let events = harness.state.store.event_count();
    let harness = reopened(harness, || {
        copy.put_back();
        early.put_back();
    })
    .await;
    assert!(harness.stands(&token).await, "store and mark are of one moment");
    while harness.state.store.event_count() < events {
        harness.login().await;
    }
    let harness = reopened(harness, || late.put_back()).await;
    assert!(!harness.stands(&token).await);
    let event = harness.last("store_restored").await;
    assert!(
        event["detail"].as_str().unwrap().starts_with("rule=other_history "),
        "{event}"
    );
}

#[tokio::test]
async fn a_store_declared_restored_begins_a_new_epoch_once() {
    let harness = start().await;
    let (_, token) = harness.agent(json!({})).await;
    let (harness, copy) = copied(harness).await;
    let early = Copy::of(&harness, "signing.key.mark");
    revoke_token(&harness, &token).await;
    let mut setup = harness.stop().await;
    // Store and mark together: only a person can know.
    copy.put_back();
    early.put_back();
    setup.clock.advance(1);
    setup.restored = PutBack::BeforeThisStart;
    let harness = Harness::start(setup).await;
    assert!(!harness.stands(&token).await);
    let events = restorations(&harness).await;
    assert_eq!(events.len(), 1);
    let detail = events[0]["detail"].as_str().unwrap();
    assert!(detail.starts_with("rule=declared by=--restored; "), "{detail}");
    let mut setup = harness.stop().await;
    setup.restored = PutBack::No;
    let harness = Harness::start(setup).await;
    assert_eq!(restorations(&harness).await.len(), 1);
}

#[tokio::test]
async fn a_restore_with_its_time_begins_one_epoch() {
    let harness = start().await;
    let (_, token) = harness.agent(json!({})).await;
    let mut setup = harness.stop().await;
    setup.clock.advance(1);
    setup.restored = PutBack::At(setup.clock.unix_seconds());
    let harness = Harness::start(setup).await;
    assert!(!harness.stands(&token).await);
    let epoch = harness.state.store.epoch();
    harness.clock.advance(3600);
    let (_, token) = harness.agent(json!({})).await;
    // The process ends, and its arguments are as they were.
    let setup = harness.stop().await;
    let harness = Harness::start(setup).await;
    assert!(harness.stands(&token).await);
    assert_eq!(
        (harness.state.store.epoch(), restorations(&harness).await.len()),
        (epoch, 1)
    );
    let mut setup = harness.stop().await;
    setup.clock.advance(1);
    setup.restored = PutBack::At(setup.clock.unix_seconds());
    let harness = Harness::start(setup).await;
    assert_eq!(restorations(&harness).await.len(), 2, "another restore");
}

#[tokio::test]
async fn a_store_in_memory_is_never_a_restored_one() {
    let harness = Harness::with(&[("AA_DB_PATH", "")]).await;
    let (_, token) = harness.agent(json!({})).await;
    harness.clock.advance(1);
    let compared = harness.state.store.compare(Some("rubbish")).await.unwrap();
    assert!(!compared.restored && harness.stands(&token).await);
    assert!(!harness.folder.path().join("signing.key.mark").exists());
}

#[test]
fn the_program_takes_a_persons_word_for_a_restore() {
    let folder = tempfile::tempdir().unwrap();
    let restored = || {
        let mut command = crate::PROGRAM.command(folder.path());
        command
            .envs([("AA_ADMIN_SECRET", ADMIN_SECRET), ("AA_PORT", "0")])
            .arg("--restored");
        command
    };
    let process = Process::start(&mut restored());
    let told = process
        .start
        .iter()
        .filter(|line| line.contains("rule=declared"))
        .count();
    assert_eq!(told, 1, "{:?}", process.start);
    drop(process);
    let process = crate::PROGRAM.start(folder.path(), &[]);
    assert!(!process.start.iter().any(|line| line.contains("rule=declared")));
    drop(process);
    let output = restored()
        .env_remove("AA_DATABASE_URL")
        .env("AA_DB_PATH", "")
        .output()
        .unwrap();
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(
        text.starts_with("FATAL: --restored says") && text.contains("AA_DB_PATH is empty"),
        "{text}"
    );
    assert_eq!(output.status.code(), Some(1));
    let mut ahead = crate::PROGRAM.command(folder.path());
    let ahead = ahead
        .env("AA_ADMIN_SECRET", ADMIN_SECRET)
        .arg("--restored=2200-01-01T00:00:00Z");
    let output = ahead.output().unwrap();
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(
        text.starts_with("FATAL: --restored=2200-01-01T00:00:00Z is later than now, 20"),
        "{text}"
    );
    assert_eq!(output.status.code(), Some(1));
}
