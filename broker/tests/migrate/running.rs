//! A broker before and after.

use agentwrit_testkit::claims;
use serde_json::json;

use super::{PROGRAM, moved, server, started, stopped};

/// Makes an app; its login.
fn app(process: &agentwrit_testkit::Process) -> String {
    let body = json!({"name": "shop", "scopes": ["read:data:*"]}).to_string();
    let made = process.ask("POST /v1/admin/apps", &process.admin(), &body);
    json!({"client_id": made.member("client_id"), "client_secret": made.member("client_secret")}).to_string()
}

#[test]
fn tokens_stay_and_what_was_revoked_stays_revoked() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let process = started(folder, &[], None);
    let (token, revoked, renewed) = (process.agent(), process.agent(), process.agent());
    let login = app(&process);
    let next = process
        .ask("POST /v1/token/renew", &renewed, "{}")
        .member("access_token");
    let revoke = json!({"level": "token", "target": claims(&revoked)["jti"]}).to_string();
    assert_eq!(process.ask("POST /v1/revoke", &process.admin(), &revoke).status, 200);
    let person = process.admin();
    let before = process.events("limit=1000");
    stopped(process);

    let url = server().url("owner", &server().database());
    let report = moved(folder, &url);
    assert_eq!(report["from"], "data.db");
    assert!(url.starts_with(report["to"].as_str().unwrap()), "{report}");
    assert_eq!(
        (&report["moved_before"], &report["rows"]["sessions"]),
        (&json!(false), &json!(3))
    );
    let epoch = report["epoch"].as_str().unwrap();
    let mark = std::fs::read_to_string(folder.join("signing.key.mark")).unwrap();
    assert!(mark.contains(epoch), "{mark}");

    let process = started(folder, &[], Some(&url));
    assert!(
        !process.start.iter().any(|line| line.contains("rule=")),
        "{:?}",
        process.start
    );
    for good in [&token, &next, &person] {
        assert!(process.stands(good));
    }
    for dead in [&revoked, &renewed] {
        assert!(!process.stands(dead));
    }
    assert_eq!(process.ask("POST /v1/app/auth", "", &login).status, 200);
    assert_eq!(process.ask("POST /v1/token/renew", &token, "{}").status, 200);
    let now = process.events("limit=1000");
    assert_eq!(now[..before.len()], before[..]);
    let last = usize::try_from(report["sequence"].as_u64().unwrap()).unwrap() - 1;
    assert_eq!(now[last]["hash"], report["head"]);
    assert_eq!(now[last + 1]["prev_hash"], report["head"], "the chain goes on");
    for told in ["store_restored", "clock_accepted"] {
        assert!(process.events(&format!("event_type={told}")).is_empty());
    }
    stopped(process);
    let mark = std::fs::read_to_string(folder.join("signing.key.mark")).unwrap();
    assert!(mark.contains(epoch), "the same one: {mark}");
    let again = started(folder, &[], Some(&url));
    assert!(again.stands(&next) && !again.stands(&revoked));
}

#[test]
fn the_file_that_is_left_is_refused_until_a_restore() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let process = started(folder, &[], None);
    let token = process.agent();
    stopped(process);
    let url = server().url("owner", &server().database());
    let place = moved(folder, &url)["to"].as_str().unwrap().to_owned();
    for required in ["false", "true"] {
        let output = PROGRAM
            .command(folder)
            .envs([
                ("AA_ADMIN_SECRET", agentwrit_testkit::ADMIN_SECRET),
                ("AA_PORT", "0"),
                ("AA_STORE_REQUIRED", required),
            ])
            .output()
            .unwrap();
        let text = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{text}");
        assert!(
            text.starts_with("FATAL: init database: ./data.db was moved to postgres://owner@"),
            "{text}"
        );
        for says in [place.as_str(), "AA_DATABASE_URL", "--restored"] {
            assert!(text.contains(says), "{text}");
        }
    }
    let process = started(folder, &["--restored"], None);
    assert!(
        !process.stands(&token),
        "what was revoked since isn't known to the file"
    );
    assert_eq!(process.events("event_type=store_restored").len(), 1);
    let fresh = process.agent();
    stopped(process);
    let process = started(folder, &[], None);
    assert!(process.stands(&fresh));
}
