//! `awrit app`.

use super::brokers::{FakeBroker, RealBroker};
use super::support::Ended;

const APP: &str = r#"{"app_id":"app-order-desk-1a2b3c","name":"order-desk","client_id":"od-0123456789ab","scopes":["read:orders:*"," b:c:d"],"token_ttl":1800,"status":"active","created_at":"2026-11-21T07:00:00Z","updated_at":"2026-11-21T08:00:00Z"}"#;

#[test]
fn a_list_of_apps_has_a_total() {
    let broker = FakeBroker::plain(|call, _, _| {
        assert_eq!(call, "GET /v1/admin/apps");
        (200, format!(r#"{{"apps":[{APP}],"total":1}}"#))
    });
    broker.awrit(&["app", "list"]).printed(
        "NAME        APP_ID                 CLIENT_ID        STATUS  SCOPES                TOKEN_TTL  CREATED\n\
         order-desk  app-order-desk-1a2b3c  od-0123456789ab  active  read:orders:*, b:c:d  1800s      2026-11-21T07:00:00Z\n",
        "Total: 1\n",
    );
    let ended = broker.awrit(&["app", "list", "--json"]);
    assert_eq!(ended.json()["apps"][0]["app_id"], "app-order-desk-1a2b3c");
}

#[test]
fn ids_are_escaped_and_lists_are_sent_as_they_are() {
    let broker = FakeBroker::plain(|call, _, body| {
        assert_eq!(call, "PUT /v1/admin/apps/a%2F..%3Fx%20y");
        assert_eq!(body, r#"{"scopes":["a:b:c"," d:e:f",""],"token_ttl":-1}"#);
        (200, APP.to_owned())
    });
    let mut arguments = vec!["app", "update", "--id", "a/..?x y"];
    arguments.extend(["--scopes", "a:b:c, d:e:f,", "--token-ttl", "-1"]);
    broker.awrit(&arguments).printed(
        "APP_ID                 SCOPES                TOKEN_TTL  UPDATED_AT\n\
         app-order-desk-1a2b3c  read:orders:*, b:c:d  1800s      2026-11-21T08:00:00Z\n",
        "WARNING: \" d:e:f\" begins or ends with a space, which is a part of the scope: no spaces between scopes.\n",
    );
}

/// The values of a FIELD VALUE table, its fields checked.
fn values(ended: &Ended, fields: &[&str]) -> Vec<String> {
    assert_eq!(ended.code, 0, "{ended:?}");
    let split = |line: &str| {
        let (field, value) = line.split_once("  ").unwrap();
        (field.to_owned(), value.trim_start().to_owned())
    };
    let rows: Vec<(String, String)> = ended.out.lines().map(split).collect();
    let (names, values): (Vec<String>, Vec<String>) = rows.into_iter().unzip();
    assert_eq!(names, [&["FIELD"], fields].concat(), "{ended:?}");
    assert_eq!(values[0], "VALUE");
    values[1..].to_vec()
}

#[test]
fn an_app_is_registered_looked_at_changed_and_removed() {
    let broker = RealBroker::new();
    let mut arguments = vec!["app", "register", "--name", "order-desk"];
    arguments.extend(["--scopes", "read:orders:*,write:notes:x", "--token-ttl", "900"]);
    let ended = broker.awrit(&arguments);
    assert!(
        ended.err.starts_with("WARNING: save the client secret now"),
        "{ended:?}"
    );
    let fields = ["APP_ID", "CLIENT_ID", "CLIENT_SECRET", "SCOPES", "TOKEN_TTL"];
    let registered = values(&ended, &fields);
    let [id, client_id, client_secret] = [0, 1, 2].map(|index| registered[index].clone());
    assert!(
        id.starts_with("app-order-desk-") && client_id.starts_with("od-"),
        "{ended:?}"
    );
    assert_eq!(client_secret.len(), 64);
    assert_eq!(registered[3..], ["read:orders:*,write:notes:x", "900s"]);
    let token = broker.ask(async |client| client.app_auth(&client_id, &client_secret.as_str().into()).await);
    assert_eq!(token.unwrap().expires_in.get(), 900, "the credentials are good");

    let fields = [
        "APP_ID",
        "NAME",
        "CLIENT_ID",
        "STATUS",
        "SCOPES",
        "TOKEN_TTL",
        "CREATED",
        "UPDATED",
    ];
    let ended = broker.awrit(&["app", "get", &id]);
    let got = values(&ended, &fields);
    let wanted = [
        &id,
        "order-desk",
        &client_id,
        "active",
        "read:orders:*,write:notes:x",
        "900s",
    ];
    assert_eq!(got[..6], wanted);
    assert!(got[6].ends_with('Z') && got[6] == got[7], "{got:?}");
    assert!(!ended.out.contains(&client_secret), "{ended:?}");

    let ended = broker.awrit(&["app", "update", "--id", &id, "--token-ttl", "60"]);
    assert!(ended.out.starts_with("APP_ID") && ended.err.is_empty(), "{ended:?}");
    let lines: Vec<Vec<&str>> = ended
        .out
        .lines()
        .map(|line| line.split_whitespace().collect())
        .collect();
    assert_eq!(lines[0], ["APP_ID", "SCOPES", "TOKEN_TTL", "UPDATED_AT"]);
    assert_eq!(lines[1][..3], [&id, "read:orders:*,write:notes:x", "60s"]);

    let ended = broker.awrit(&["app", "remove", "--id", &id]);
    assert!(ended.err.contains("deregistered"), "{ended:?}");
    let lines: Vec<Vec<&str>> = ended
        .out
        .lines()
        .map(|line| line.split_whitespace().collect())
        .collect();
    assert_eq!(lines[0], ["APP_ID", "STATUS", "DEREGISTERED_AT"]);
    assert_eq!(lines[1][..2], [&id, "inactive"]);
    let ended = broker.awrit(&["app", "list"]);
    assert_eq!((ended.code, ended.err.as_str()), (0, "Total: 1\n"));
    let header = "NAME        APP_ID                 CLIENT_ID        STATUS    SCOPES";
    assert!(
        ended.out.starts_with(header) && ended.out.contains("  inactive  "),
        "{ended:?}"
    );
}

#[test]
fn refusals_of_the_broker_are_shown_in_its_words() {
    let broker = RealBroker::new();
    let register = |name: &str, scopes: &str, more: &[&str]| {
        let arguments = [&["app", "register", "--name", name, "--scopes", scopes], more].concat();
        broker.awrit(&arguments)
    };
    assert_eq!(register("order-desk", "a:b:c", &["--json"]).json()["token_ttl"], 1800);
    for (ended, status, code) in [
        (register("order-desk", "a:b:c", &[]), 409, "conflict"),
        (register("Order", "a:b:c", &[]), 400, "invalid_request"),
        (register("other", "a:b:c,d:e", &[]), 400, "invalid_scope_format"),
        (register("other", "admin:revoke:*", &[]), 403, "forbidden"),
        (register("other", "a:b:c", &["--token-ttl", "59"]), 400, "invalid_ttl"),
        (broker.awrit(&["app", "get", "app-none-000000"]), 404, "not_found"),
        (broker.awrit(&["app", "remove", "--id", "a/b"]), 404, "not_found"),
    ] {
        assert_eq!((ended.code, ended.out.as_str()), (1, ""), "{ended:?}");
        let wanted = format!("Error: HTTP {status}: {{\"type\":\"urn:agentwrit:error:{code}\"");
        assert!(
            ended.error().starts_with(&wanted) && ended.error().lines().count() == 1,
            "{ended:?}"
        );
    }
}

#[test]
fn a_space_beside_a_comma_is_sent_and_warned_of() {
    let broker = RealBroker::new();
    let warning = "WARNING: \" read:b:*\" begins or ends with a space";
    let register = [
        "app",
        "register",
        "--name",
        "order-desk",
        "--scopes",
        "read:a:*, read:b:*",
        "--json",
    ];
    let ended = broker.awrit(&register);
    assert_eq!(ended.json()["scopes"], serde_json::json!(["read:a:*", " read:b:*"]));
    assert_eq!(ended.err.matches(warning).count(), 1, "{ended:?}");
    let id = ended.json()["app_id"].as_str().unwrap().to_owned();
    let ended = broker.awrit(&["app", "update", "--id", &id, "--scopes", "read:a:*, read:b:*"]);
    assert_eq!((ended.code, ended.err.matches(warning).count()), (0, 1), "{ended:?}");
    let ended = broker.awrit(&["app", "update", "--id", &id, "--scopes", "read:a:*,read:b:*"]);
    assert_eq!((ended.code, ended.err.as_str()), (0, ""), "{ended:?}");
}
