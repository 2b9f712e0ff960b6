//! `awrit app`.

use super::fake_broker::FakeBroker;

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
        "",
    );
}
