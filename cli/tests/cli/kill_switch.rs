//! `awrit revoke` by what people know.

use super::brokers::{FakeBroker, RealBroker};

const HEADER: &str = "SELECTOR   TARGET  PODS  AGENTS  DELEGATIONS  LAUNCH_TOKENS  SESSIONS_ENDED  PODS_QUARANTINED\n";

/// An answer for namespace `shop` with so many pods.
fn answer(pods: i64, dry_run: bool) -> String {
    let ended = if dry_run { 0 } else { pods };
    format!(
        r#"{{"selector":"namespace","target":"shop","dry_run":{dry_run},"pods":{pods},"agents":{pods},"delegations":3,"launch_tokens":1,"sessions_ended":{ended},"pods_quarantined":{ended}}}"#
    )
}

#[test]
fn each_selector_is_one_member_of_the_request() {
    let broker = FakeBroker::plain(|call, _, body| {
        assert_eq!(call, "POST /v1/admin/revoke-matching");
        let text = serde_json::json!({"detail": body, "status": 409, "error_code": "conflict"});
        (409, text.to_string())
    });
    for (flags, body) in [
        (&["--namespace", "shop"][..], r#"{"namespace":"shop"}"#),
        (&["--app", "shop/orders"], r#"{"app":"shop/orders"}"#),
        (&["--policy", "shop/reader"], r#"{"policy":"shop/reader"}"#),
        (
            &["--node", "worker-7", "--dry-run"],
            r#"{"node":"worker-7","dry_run":true}"#,
        ),
        (
            &["--service-account", "shop/reader"],
            r#"{"service_account":"shop/reader"}"#,
        ),
        (
            &["--all", "--installation", "a/b"],
            r#"{"all":true,"installation":"a/b"}"#,
        ),
        (&["--all", "--dry-run"], r#"{"all":true,"dry_run":true}"#),
    ] {
        let ended = broker.awrit(&[&["revoke"], flags].concat());
        assert_eq!(ended.code, 1);
        assert!(ended.err.replace('\\', "").contains(body), "{body} in {}", ended.err);
    }
}

#[test]
fn what_was_hit_is_a_table_or_json() {
    let broker = FakeBroker::plain(|_, _, body| match body {
        r#"{"namespace":"shop"}"# => (200, answer(12, false)),
        r#"{"namespace":"shop","dry_run":true}"# => (200, answer(12, true)),
        _ => (200, answer(0, false)),
    });
    broker.awrit(&["revoke", "--namespace", "shop"]).printed(
        &format!("{HEADER}namespace  shop    12    12      3            1              12              12\n"),
        "",
    );
    broker.awrit(&["revoke", "--namespace", "shop", "--dry-run"]).printed(
        &format!("{HEADER}namespace  shop    12    12      3            1              0               0\n"),
        "Nothing was revoked: that is what it would hit now.\n",
    );
    broker.awrit(&["revoke", "--node", "nothing"]).printed(
        &format!("{HEADER}namespace  shop    0     0       3            1              0               0\n"),
        "Warning: no pod matches: check the name. A pod is known from its first launch until its end.\n",
    );
    for json in [&["--json"][..], &["-o", "json"]] {
        let arguments = [&["revoke", "--namespace", "shop"], json].concat();
        let shown = broker.awrit(&arguments).json();
        assert_eq!(
            shown,
            serde_json::from_str::<serde_json::Value>(&answer(12, false)).unwrap()
        );
    }
}

#[test]
fn a_broker_ends_all_when_it_is_named() {
    let broker = RealBroker::with(&[("AA_INSTALLATION", "agentwrit-system/agentwrit")]);
    let other = broker.awrit(&["revoke", "--all", "--installation", "test/agentwrit"]);
    assert_eq!(other.code, 1);
    assert!(
        other.err.contains("conflict") && other.err.contains("nothing was revoked"),
        "{}",
        other.err
    );
    let counted = broker.awrit(&["revoke", "--all", "--dry-run", "--json"]).json();
    assert_eq!((&counted["dry_run"], counted.get("epoch")), (&true.into(), None));
    let all = ["revoke", "--all", "--installation", "agentwrit-system/agentwrit"];
    let ended = broker.awrit(&all);
    assert_eq!(ended.code, 0);
    assert!(
        ended.err.starts_with("Every token of before is refused (epoch "),
        "{}",
        ended.err
    );
    let told = broker
        .awrit(&["audit", "events", "--event-type", "epoch_begun", "--json"])
        .json();
    assert_eq!(told["total"], 1);
}

#[test]
fn what_is_not_one_order_is_refused_before_a_call() {
    for (flags, says) in [
        (&[][..], "--level and --target are required"),
        (&["--namespace", ""], "--level and --target are required"),
        (&["--level", "task"], "--level and --target are required"),
        (&["--namespace", "a", "--node", "b"], "can be given"),
        (&["--level", "task", "--target", "x", "--all"], "can be given"),
        (&["--level", "task", "--target", "x", "--dry-run"], "--dry-run"),
        (&["--all"], "--all asks for --installation"),
        (&["--dry-run"], "--level and --target are required"),
    ] {
        let ended = super::support::awrit(
            &[("AACTL_BROKER_URL", "http://127.0.0.1:1")],
            &[&["revoke"], flags].concat(),
        );
        assert_eq!(ended.code, 1);
        assert!(ended.err.contains(says), "{flags:?}: {}", ended.err);
    }
}
