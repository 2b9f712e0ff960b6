//! The mark outside the store: what it says, when it is missing, unreadable or late.

use super::*;

#[tokio::test]
async fn a_mark_that_is_behind_or_of_a_former_epoch_is_in_order() {
    let harness = start().await;
    let (_, token) = harness.agent(json!({})).await;
    let (harness, copy) = copied(harness).await;
    let early = Copy::of(&harness, "signing.key.mark");
    revoke_token(&harness, &token).await;
    let (_, later) = harness.agent(json!({})).await;
    // As after a crash between a commit and its mark.
    let harness = reopened(harness, || early.put_back()).await;
    assert!(harness.stands(&later).await && restorations(&harness).await.is_empty());
    let former = Copy::of(&harness, "signing.key.mark");
    let harness = reopened(harness, || copy.put_back()).await;
    let (_, fresh) = harness.agent(json!({})).await;
    for mark in [&early, &former] {
        mark.put_back();
    }
    let harness = reopened(harness, || former.put_back()).await;
    assert!(harness.stands(&fresh).await);
    assert_eq!(restorations(&harness).await.len(), 1);
}

#[tokio::test]
async fn a_mark_that_can_not_be_read_counts_once_as_a_restore() {
    for broken in ["", "rubbish", "{\"epoch\":\"\",\"sequence\":0,\"head\":\"\"}"] {
        let harness = start().await;
        let (_, token) = harness.agent(json!({})).await;
        let path = harness.folder.path().join("signing.key.mark");
        let harness = reopened(harness, || fs::write(&path, broken).unwrap()).await;
        assert!(!harness.stands(&token).await, "{broken:?}");
        let event = harness.last("store_restored").await;
        assert!(
            event["detail"].as_str().unwrap().starts_with("rule=unreadable_mark "),
            "{event}"
        );
        let (_, fresh) = harness.agent(json!({})).await;
        let harness = reopened(harness, || ()).await;
        assert!(harness.stands(&fresh).await, "{broken:?}");
    }
}

#[tokio::test]
async fn a_mark_that_the_system_cant_read_is_no_restore_but_not_ready() {
    let harness = start().await;
    let (_, token) = harness.agent(json!({})).await;
    let path = harness.folder.path().join("signing.key.mark");
    let text = fs::read(&path).unwrap();
    let mut setup = harness.stop().await;
    fs::remove_file(&path).unwrap();
    fs::create_dir(&path).unwrap();
    setup.set(&[("AA_STORE_REQUIRED", "true")]);
    let harness = Harness::start(setup).await;
    let readiness = harness.get("/readyz").await;
    assert_eq!(
        (readiness.status, &readiness.json()["failing"][0]["reason"]),
        (503, &json!("mark"))
    );
    // The disk is back.
    fs::remove_dir(&path).unwrap();
    let harness = reopened(harness, || fs::write(&path, &text).unwrap()).await;
    assert!(harness.stands(&token).await);
    assert!(restorations(&harness).await.is_empty());
}

#[tokio::test]
async fn without_a_mark_nothing_is_noticed_and_one_is_made() {
    let harness = start().await;
    let (_, token) = harness.agent(json!({})).await;
    let path = harness.folder.path().join("signing.key.mark");
    let harness = reopened(harness, || fs::remove_file(&path).unwrap()).await;
    assert!(harness.stands(&token).await);
    assert_eq!(kept(&harness), mark(&harness).await);
}

#[tokio::test]
async fn a_mark_that_cannot_be_written_stops_no_request() {
    let harness = Harness::with(&[("AA_STORE_MARK", "{folder}/not/there/mark")]).await;
    let (_, token) = harness.agent(json!({})).await;
    revoke_token(&harness, &token).await;
    let (_, other) = harness.agent(json!({})).await;
    let harness = reopened(harness, || ()).await;
    assert!(!harness.stands(&token).await && harness.stands(&other).await);
    assert!(restorations(&harness).await.is_empty());
}

#[tokio::test]
async fn revocations_are_in_the_mark_before_their_answer() {
    let harness = start().await;
    let app: App = harness.app("orders", json!({})).await;
    assert!(!app.id.is_empty());
    let (agent, token) = harness.agent(json!({})).await;
    let (_, released) = harness.agent(json!({})).await;
    for level in ["token", "agent"] {
        let target = match level {
            "token" => claims(&token)["jti"].as_str().unwrap().to_owned(),
            _ => agent.clone(),
        };
        revoke(&harness, level, &target).await;
        assert_eq!(kept(&harness), mark(&harness).await, "{level}");
    }
    assert_eq!(harness.post_as(&released, "/v1/token/release", "").await.status, 204);
    assert_eq!(kept(&harness), mark(&harness).await, "release");
}

#[tokio::test]
async fn a_mark_that_comes_while_it_runs_counts_from_then_on() {
    let harness = reopened(start().await, || ()).await;
    let (_, token) = harness.agent(json!({})).await;
    harness.clock.advance(1);
    let present = mark(&harness).await;
    let compare = async |mark: &str| harness.state.store.compare(Some(mark)).await.unwrap();
    let same = compare(&present.text()).await;
    assert!(!same.restored && same.mark == present && harness.stands(&token).await);
    let ahead = StoreMark {
        sequence: present.sequence + 1,
        ..present.clone()
    };
    let found = compare(&ahead.text()).await;
    assert!(found.restored && found.mark.epoch != present.epoch && !harness.stands(&token).await);
    assert_eq!(
        (harness.state.store.epoch(), kept(&harness)),
        (found.mark.epoch.clone(), found.mark.clone())
    );
    // The registrations that follow hold, whoever says the same once more.
    harness.forget_admin();
    let (_, fresh) = harness.agent(json!({})).await;
    assert!(!compare(&ahead.text()).await.restored);
    let foreign = StoreMark {
        epoch: "0f".repeat(16),
        ..present
    };
    assert!(harness.stands(&fresh).await);
    harness.clock.advance(1);
    assert!(compare(&foreign.text()).await.restored);
    assert!(!harness.stands(&fresh).await);
    assert!(!compare(&foreign.text()).await.restored, "taken note of");
}

#[tokio::test]
async fn tokens_of_a_new_store_stay_valid_when_an_old_mark_comes() {
    let harness = start().await;
    let (_, token) = harness.agent(json!({})).await;
    harness.clock.advance(1);
    let lost = StoreMark {
        epoch: "0f".repeat(16),
        sequence: 7,
        head: "a1".repeat(32),
    };
    let found = harness.state.store.compare(Some(&lost.text())).await.unwrap();
    assert!(found.restored, "it is told");
    assert!(harness.stands(&token).await, "it is no copy");
    let again = harness.state.store.compare(Some("rubbish")).await.unwrap();
    assert!(
        again.restored && !harness.stands(&token).await,
        "its epoch is no longer the one that it was made with"
    );
}
