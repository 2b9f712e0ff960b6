//! The whole sidecar against a broker of the test's own, on paused time: days pass in milliseconds.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::as_conversions
)]

#[allow(dead_code)] // Each program uses a part of it.
mod fake_broker;
mod pod;

use std::time::Duration;

use fake_broker::{POD, problem};
use pod::{Pod, ask, within};
use serde_json::json;
use tokio::time::{Instant, sleep};

#[tokio::test(start_paused = true)]
async fn a_pod_gets_serves_renews_and_gives_back_its_token() {
    let pod = Pod::new(60).await;
    let process = pod.running().await;
    assert_eq!(
        pod.broker.paths(),
        ["/v1/k8s/launch-tokens", "/v1/challenge", "/v1/register"]
    );
    let first = pod.token().unwrap();
    assert_eq!(process.probe("/startup").await, 200);
    assert_eq!(process.fetch("Agentwrit-Request: 1\r\n").await, (200, first.clone()));
    assert_eq!(process.fetch("").await.0, 403);

    let seconds = within(60, async || pod.token().unwrap() != first).await;
    assert!((23..=52).contains(&seconds), "{seconds}");
    let renewal = &pod.broker.calls("/v1/token/renew")[0];
    assert_eq!(
        (renewal.bearer(), renewal.json()),
        (first.as_str(), json!({"overlap_seconds": 10}))
    );
    assert_eq!(renewal.header("idempotency-key").len(), 32);

    let second = pod.token().unwrap();
    let validations = pod.broker.calls("/v1/token/validate").len();
    let seconds = within(60, async || pod.token().unwrap() != second).await;
    assert!((44..=52).contains(&seconds), "{seconds}");
    assert_eq!(pod.broker.calls("/v1/token/validate").len(), validations + 1);

    let last = pod.token().unwrap();
    process.stop.notify_one();
    process.task.await.unwrap().unwrap();
    assert_eq!(pod.broker.calls("/v1/token/release")[0].bearer(), last);
    assert_eq!(pod.token(), None);
    let log = pod.log();
    for part in [
        "started: LaunchToken \"order-reader\"",
        "registered: agent_id=spiffe://",
        "scopes=1 expires=2027-",
        "renewed: ",
        "released",
    ] {
        assert!(log.contains(part), "{part} not in {log}");
    }
    pod.log_is_clean();
}

#[tokio::test(start_paused = true)]
async fn proofs_have_the_brokers_time_whatever_the_nodes_is() {
    let pod = Pod::new(20).await;
    pod.broker.ahead(-86_400);
    let process = pod.running().await;
    let mut token = pod.token().unwrap();
    // What registration and renewals answered told the time; then the clock of another replica answers.
    for (ahead, tries) in [(-86_400, 1), (-86_350, 1), (3_600, 2), (3_600, 1), (0, 2)] {
        pod.broker.ahead(ahead);
        let before = pod.broker.calls("/v1/token/renew").len();
        within(20, async || pod.token().is_some_and(|found| found != token)).await;
        token = pod.token().unwrap();
        assert_eq!(pod.broker.calls("/v1/token/renew").len(), before + tries, "{ahead}");
        assert!(process.is_ready().await);
    }
    assert_eq!(pod.broker.calls("/v1/register").len(), 1);
    pod.log_is_clean();
}

#[tokio::test(start_paused = true)]
async fn a_restarted_container_replaces_the_token_in_the_volume() {
    let pod = Pod::new(300).await;
    pod.running().await.kill().await;
    let old = pod.token().unwrap();
    sleep(Duration::from_secs(20)).await;

    pod.broker.away(true);
    let process = pod.start();
    sleep(Duration::from_secs(3)).await;
    assert_eq!(pod.token().unwrap(), old, "it stays while nobody says otherwise");
    assert_eq!(process.probe("/startup").await, 503, "this process has written nothing");
    assert_eq!(process.fetch("Agentwrit-Request: 1\r\n").await, (200, old.clone()));

    pod.broker.away(false);
    within(60, async || process.is_ready().await).await;
    assert_ne!(pod.token().unwrap(), old);
    assert_eq!(pod.broker.calls("/v1/register").len(), 2, "with a key of its own");
    assert!(
        pod.broker.calls("/v1/token/renew").is_empty(),
        "the key of the old one is gone"
    );
    pod.log_is_clean();
}

#[tokio::test(start_paused = true)]
async fn a_refused_restarted_container_keeps_a_valid_token() {
    let pod = Pod::new(300).await;
    pod.running().await.kill().await;
    let old = pod.token().unwrap();
    let refused = problem(403, "policy_not_ready", "the LaunchToken is withdrawn");
    pod.broker.script("/v1/k8s/launch-tokens", &[refused.clone(), refused]);
    let process = pod.start();
    sleep(Duration::from_millis(600)).await;
    assert_eq!(pod.token().unwrap(), old);
    assert!(!process.is_ready().await);
    assert_eq!(pod.broker.calls("/v1/token/validate")[0].json()["token"], old);
    within(10, async || process.is_ready().await).await;
    assert_ne!(pod.token().unwrap(), old);
}

#[tokio::test(start_paused = true)]
async fn a_restarted_container_with_an_expired_token_starts_over() {
    let pod = Pod::new(300).await;
    pod.running().await.kill().await;
    let old = pod.token().unwrap();
    sleep(Duration::from_secs(301)).await;
    let process = pod.start();
    within(5, async || process.is_ready().await).await;
    assert_ne!(pod.token().unwrap(), old);
    assert!(pod.broker.calls("/v1/token/renew").is_empty());
    assert_eq!(pod.broker.calls("/v1/register").len(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_restarted_container_removes_an_invalid_token() {
    let pod = Pod::new(300).await;
    pod.running().await.kill().await;
    let gone = (200, json!({"valid": false, "error": "token is invalid or expired"}));
    pod.broker.script("/v1/token/validate", &[gone]);
    let limited = problem(429, "rate_limited", "one registration per 10 s");
    pod.broker.script("/v1/k8s/launch-tokens", &[limited]);
    let process = pod.start();
    within(1, async || pod.token().is_none()).await;
    within(5, async || process.is_ready().await).await;
}

#[tokio::test(start_paused = true)]
async fn a_broker_that_is_away_costs_the_token_only_when_it_expires() {
    let pod = Pod::new(120).await;
    let process = pod.running().await;
    let old = pod.token().unwrap();
    pod.broker.away(true);
    sleep(Duration::from_secs(115)).await;
    assert_eq!(pod.token().unwrap(), old);
    assert!(process.is_ready().await);
    sleep(Duration::from_secs(6)).await;
    assert_eq!(pod.token(), None);
    assert!(!process.is_ready().await);
    assert_eq!(process.fetch("Agentwrit-Request: 1\r\n").await.0, 503);
    pod.broker.away(false);
    within(80, async || process.is_ready().await).await;
    assert!(pod.log().contains("could not renew: "), "{}", pod.log());
    pod.log_is_clean();
}

#[tokio::test(start_paused = true)]
async fn a_broker_that_swallows_requests_does_not_stop_the_clock() {
    let pod = Pod::new(60).await;
    let process = pod.running().await;
    pod.broker.silent(true);
    sleep(Duration::from_secs(61)).await;
    assert_eq!(pod.token(), None);
    assert!(!process.is_ready().await);
    assert!(pod.log().contains("didn't answer within 10000 ms"), "{}", pod.log());
}

#[tokio::test(start_paused = true)]
async fn a_rate_limited_start_waits_and_succeeds() {
    let pod = Pod::new(300).await;
    let limited = problem(429, "rate_limited", "one registration per 10 s");
    pod.broker.script("/v1/k8s/launch-tokens", &[limited.clone(), limited]);
    let process = pod.start();
    let seconds = within(10, async || process.is_ready().await).await;
    assert!(seconds >= 2, "{seconds}");
    assert_eq!(pod.broker.calls("/v1/k8s/launch-tokens").len(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_nonce_of_another_length_is_not_signed() {
    let pod = Pod::new(300).await;
    let wrong = json!({"nonce": "00".repeat(33), "expires_in": 30});
    pod.broker.script("/v1/challenge", &[(200, wrong)]);
    let process = pod.start();
    within(10, async || process.is_ready().await).await;
    assert_eq!(pod.broker.calls("/v1/challenge").len(), 2);
    assert_eq!(
        pod.broker.calls("/v1/register").len(),
        1,
        "nothing was signed for the first"
    );
    assert!(pod.log().contains("nonce has 33 bytes"), "{}", pod.log());
}

#[tokio::test(start_paused = true)]
async fn a_refused_launch_says_what_to_do_and_starts_once_mended() {
    let pod = Pod::new(300).await;
    let missing = problem(
        404,
        "launch_token_not_found",
        "no LaunchToken order-reader in namespace shop",
    );
    pod.broker.script("/v1/k8s/launch-tokens", &vec![missing; 6]);
    let process = pod.start();
    sleep(Duration::from_secs(5)).await;
    let (status, why) = ask(process.health, "/startup", "").await;
    assert_eq!(status, 503);
    assert!(why.contains("refused to launch: launch_token_not_found"), "{why}");
    within(120, async || process.is_ready().await).await;
    let log = pod.log();
    for part in [
        "\"order-reader\"",
        "launch_token_not_found",
        "in namespace shop",
        "To do: create",
    ] {
        assert!(log.contains(part), "{part} not in {log}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_revocation_takes_30_s_at_most_and_its_lifting_60_s() {
    let pod = Pod::new(3_600).await;
    let process = pod.running().await;
    let revoked = problem(403, "revoked", "token has been revoked");
    pod.broker.script(
        "/v1/token/validate",
        &[(200, json!({"valid": false, "error": "token is invalid or expired"}))],
    );
    pod.broker.script("/v1/token/renew", std::slice::from_ref(&revoked));
    pod.broker.script("/v1/k8s/launch-tokens", &vec![revoked; 3]);
    let seconds = within(31, async || pod.token().is_none() && !process.is_ready().await).await;
    assert!(seconds <= 30, "{seconds}");
    let asked = pod.broker.calls("/v1/k8s/launch-tokens").len();
    sleep(Duration::from_mins(3)).await;
    assert!(pod.broker.calls("/v1/k8s/launch-tokens").len() - asked <= 4);
    within(120, async || process.is_ready().await).await;
    assert!(pod.log().contains(&format!("awrit pod release {POD}")), "{}", pod.log());
}

#[tokio::test(start_paused = true)]
async fn a_superseded_session_starts_over() {
    let pod = Pod::new(3_600).await;
    let process = pod.running().await;
    let old = pod.token().unwrap();
    pod.broker
        .script("/v1/token/validate", &[(200, json!({"valid": false}))]);
    pod.broker.script(
        "/v1/token/renew",
        &[problem(403, "superseded", "token has been revoked")],
    );
    within(31, async || pod.token().is_some_and(|token| token != old)).await;
    assert!(process.is_ready().await);
    assert_eq!(pod.broker.calls("/v1/register").len(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_stop_while_the_broker_is_away_removes_the_token_file() {
    let pod = Pod::new(300).await;
    let process = pod.running().await;
    pod.broker.away(true);
    let start = Instant::now();
    process.stop.notify_one();
    process.task.await.unwrap().unwrap();
    assert!(start.elapsed() <= Duration::from_secs(9));
    assert_eq!(pod.token(), None);
    assert!(pod.log().contains("could not release the token"), "{}", pod.log());
}

#[tokio::test(start_paused = true)]
async fn being_stopped_before_the_first_token_ends_at_once() {
    let pod = Pod::new(300).await;
    pod.broker.away(true);
    let process = pod.start();
    sleep(Duration::from_secs(3)).await;
    process.stop.notify_one();
    process.task.await.unwrap().unwrap();
    assert!(pod.broker.calls("/v1/token/release").is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_missing_identity_is_logged_and_waited_for() {
    let pod = Pod::new(300).await;
    std::fs::remove_file(pod.folder.path().join("identity")).unwrap();
    let process = pod.start();
    sleep(Duration::from_secs(3)).await;
    assert!(pod.log().contains("credential file"), "{}", pod.log());
    std::fs::write(pod.folder.path().join("identity"), "service-account-token").unwrap();
    within(60, async || process.is_ready().await).await;
}
