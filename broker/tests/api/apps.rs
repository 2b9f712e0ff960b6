//! Apps as an admin sees them: `docs/wire-contract.md` §12.2.

mod registration;
mod storage;

use agentwrit_testkit::{App, Harness};
use std::collections::HashSet;
use std::sync::Arc;

use serde_json::{Value, json};

const APPS: &str = "/v1/admin/apps";

fn path(app: &App) -> String {
    format!("{APPS}/{}", app.id)
}

#[tokio::test]
async fn only_admins_with_the_scope_may() {
    let harness = Harness::new().await;
    let app = harness.app("shop", json!({})).await;
    let (_, agent) = harness.agent(json!({})).await;
    let token = harness.app_token(&app).await;
    let one = path(&app);
    for (method, path) in [
        ("POST", APPS),
        ("GET", APPS),
        ("GET", &one),
        ("PUT", &one),
        ("DELETE", &one),
    ] {
        let answer = harness.send(method, path, &[], "{").await;
        answer.refused(401, "unauthorized", "missing authorization header");
        for bearer in [&agent, &token] {
            harness.send_as(bearer, method, path, "{").await.refused(
                403,
                "insufficient_scope",
                "token lacks required scope: admin:launch-tokens:*",
            );
        }
    }
    let events = harness.events("event_type=scope_violation").await;
    assert_eq!(events.last().unwrap()["agent_id"], format!("app:{}", app.id));
    assert_eq!(events.last().unwrap()["resource"], one);
}

#[tokio::test]
async fn the_list_is_newest_first_and_never_null() {
    let harness = Harness::new().await;
    let admin = harness.admin().await;
    let answer = harness.get_as(&admin, APPS).await;
    assert_eq!(answer.text, "{\"apps\":[],\"total\":0}\n");
    let mut ids = Vec::new();
    for name in ["first", "second", "third"] {
        // All in one second: order is not left to the clock.
        ids.push(harness.app(name, json!({})).await.id);
    }
    harness
        .send_as(&admin, "DELETE", &format!("{APPS}/{}", ids[1]), "")
        .await
        .ok();
    ids.reverse();
    let listed = harness.get_as(&admin, APPS).await.ok();
    let apps = listed["apps"].as_array().unwrap();
    let shown: Vec<&str> = apps.iter().map(|app| app["app_id"].as_str().unwrap()).collect();
    assert_eq!(
        (shown, &listed["total"]),
        (ids.iter().map(String::as_str).collect(), &json!(3))
    );
    assert_eq!([&apps[0]["status"], &apps[1]["status"]], ["active", "inactive"]);
}

#[tokio::test]
async fn paths_match_whole_decoded_ids() {
    let harness = Harness::new().await;
    let admin = harness.admin().await;
    let app = harness.app("shop", json!({})).await;
    for (path, status) in [
        (format!("{APPS}/"), 404),
        (format!("{APPS}/{}/", app.id), 404),
        (format!("{APPS}/{}", app.id.replace('-', "%2d")), 200),
        (format!("{APPS}/{}", app.id.to_uppercase()), 404),
        (format!("{APPS}/a%2Fb"), 404),
        (format!("{APPS}/nobody%20%E2%82%AC"), 404),
        (format!("{APPS}/%FF"), 404),
        (format!("{APPS}/%FF%25"), 400),
    ] {
        let answer = harness.get_as(&admin, &path).await;
        assert_eq!(answer.status, status, "{path}: {answer:?}");
        if status != 200 {
            answer.problem();
        }
    }
    for (method, path, allow) in [
        ("DELETE", APPS.to_owned(), "GET, HEAD, POST"),
        ("POST", path(&app), "DELETE, GET, HEAD, PUT"),
        ("GET", "/v1/app/auth".to_owned(), "POST"),
        ("PUT", "/v1/app/launch-tokens".to_owned(), "POST"),
    ] {
        let answer = harness.send_as(&admin, method, &path, "").await;
        assert_eq!((answer.status, answer.header("allow")), (405, allow), "{method} {path}");
    }
    let answer = harness.send_as(&admin, "HEAD", &path(&app), "").await;
    assert_eq!((answer.status, answer.text.as_str()), (200, ""));
}

#[tokio::test]
async fn a_change_is_all_or_nothing() {
    let harness = Harness::new().await;
    let admin = harness.admin().await;
    let app = harness.app("shop", json!({"token_ttl": 100})).await;
    let before = harness.get_as(&admin, &path(&app)).await.text;
    harness.clock.advance(10);
    let scopes = json!(["write:data:*"]);
    let table = [
        ("{".to_owned(), 400, "invalid_request", "malformed JSON body"),
        (
            json!({"token_ttl": "1"}).to_string(),
            400,
            "invalid_request",
            "malformed JSON body",
        ),
        ("{}".to_owned(), 400, "invalid_request", "scopes or token_ttl"),
        ("null".to_owned(), 400, "invalid_request", "scopes or token_ttl"),
        (
            json!({"scopes": []}).to_string(),
            400,
            "invalid_request",
            "scopes or token_ttl",
        ),
        (
            json!({"scopes": null, "token_ttl": null}).to_string(),
            400,
            "invalid_request",
            "scopes or token_ttl",
        ),
        (
            json!({"scopes": ["x"], "token_ttl": 0}).to_string(),
            400,
            "invalid_scope_format",
            "\"x\"",
        ),
        (
            json!({"scopes": ["app:a:b"], "token_ttl": 0}).to_string(),
            403,
            "forbidden",
            "app:a:b",
        ),
        (
            json!({"scopes": scopes, "token_ttl": 0}).to_string(),
            400,
            "invalid_ttl",
            "60 to 86400",
        ),
        (
            json!({"scopes": scopes, "token_ttl": -1}).to_string(),
            400,
            "invalid_ttl",
            "60 to 86400",
        ),
        (
            json!({"token_ttl": 86_401}).to_string(),
            400,
            "invalid_ttl",
            "60 to 86400",
        ),
    ];
    for (body, status, code, part) in table {
        for place in [path(&app), format!("{APPS}/nobody")] {
            let answer = harness.send_as(&admin, "PUT", &place, &body).await;
            assert_eq!(answer.status, status, "{body}: {answer:?}");
            answer.refused_like(status, code, part);
        }
    }
    assert_eq!(
        harness.get_as(&admin, &path(&app)).await.text,
        before,
        "nothing changed"
    );
    assert!(harness.events("event_type=app_updated").await.is_empty());

    for (body, events) in [
        (json!({"scopes": scopes}), 1),
        (json!({"scopes": [], "token_ttl": 60}), 2),
        (json!({"scopes": ["read:data:*", "read:x:y"], "token_ttl": 86_400}), 4),
    ] {
        harness.clock.advance(1);
        let nobody = harness
            .send_as(&admin, "PUT", &format!("{APPS}/nobody"), body.to_string())
            .await;
        nobody.refused(404, "not_found", "app not found");
        let changed = harness.send_as(&admin, "PUT", &path(&app), body.to_string()).await;
        assert_eq!(changed.text, harness.get_as(&admin, &path(&app)).await.text);
        assert_eq!(harness.events("event_type=app_updated").await.len(), events, "{body}");
    }
    let after = harness.get_as(&admin, &path(&app)).await.ok();
    assert_eq!(
        (&after["token_ttl"], &after["scopes"]),
        (&json!(86_400), &json!(["read:data:*", "read:x:y"]))
    );
    assert_eq!(
        (&after["created_at"], &after["updated_at"]),
        (&json!("2027-01-15T08:00:00Z"), &json!("2027-01-15T08:00:13Z"))
    );
    let events = harness.events("event_type=app_updated").await;
    assert!(
        events
            .iter()
            .all(|event| event["detail"].as_str().unwrap().contains(&app.id))
    );
    assert!(
        events
            .iter()
            .all(|event| event.get("agent_id").is_none() && event["outcome"] == "success")
    );
}

#[tokio::test]
async fn only_members_that_change_are_audited() {
    let harness = Harness::new().await;
    let admin = harness.admin().await;
    let app = harness
        .app("shop", json!({"scopes": ["a:b:c", "d:e:f"], "token_ttl": 100}))
        .await;
    let same = json!(["a:b:c", "d:e:f"]);
    for (body, audited) in [
        (json!({"scopes": same}), &[] as &[&str]),
        (json!({"token_ttl": 100}), &[]),
        (json!({"scopes": same, "token_ttl": 100}), &[]),
        (
            json!({"scopes": same, "token_ttl": 200}),
            &["token_ttl set to 200 (was 100)"],
        ),
        (
            json!({"scopes": ["d:e:f", "a:b:c"], "token_ttl": 200}),
            &["scopes set to d:e:f a:b:c (were a:b:c d:e:f)"],
        ),
    ] {
        let before = harness.events("event_type=app_updated").await.len();
        harness.clock.advance(1);
        let answer = harness.send_as(&admin, "PUT", &path(&app), body.to_string()).await.ok();
        assert_eq!(answer, harness.get_as(&admin, &path(&app)).await.ok(), "{body}");
        for (member, value) in body.as_object().unwrap() {
            assert_eq!(&answer[member], value, "{body}");
        }
        let events = harness.events("event_type=app_updated").await;
        let details: Vec<&str> = events[before..]
            .iter()
            .map(|event| event["detail"].as_str().unwrap())
            .collect();
        assert_eq!(details.len(), audited.len(), "{body}: {details:?}");
        for (detail, wanted) in details.iter().zip(audited) {
            assert!(detail.contains(wanted), "{body}: {detail}");
        }
    }
    let after = harness.get_as(&admin, &path(&app)).await.ok();
    assert_eq!(after["updated_at"], "2027-01-15T08:00:05Z", "every PUT is an update");
}

#[tokio::test]
async fn deregistration_is_final_and_can_be_repeated() {
    let harness = Harness::new().await;
    let admin = harness.admin().await;
    let app = harness.app("shop", json!({})).await;
    for method in ["GET", "DELETE"] {
        let answer = harness.send_as(&admin, method, &format!("{APPS}/nobody"), "").await;
        answer.refused(404, "not_found", "app not found");
    }
    harness.clock.advance(5);
    let answer = harness.send_as(&admin, "DELETE", &path(&app), "").await;
    let wanted = format!(
        "{{\"app_id\":\"{}\",\"status\":\"inactive\",\"deregistered_at\":\"2027-01-15T08:00:05Z\"}}\n",
        app.id
    );
    assert_eq!((answer.status, answer.text.as_str()), (200, wanted.as_str()));
    harness.clock.advance(5);
    let again = harness.send_as(&admin, "DELETE", &path(&app), "").await;
    assert_eq!((again.status, again.text), (200, wanted));
    assert_eq!(
        harness.events("event_type=app_deregistered").await.len(),
        1,
        "the second changed nothing"
    );
    let shown = harness.get_as(&admin, &path(&app)).await.ok();
    assert_eq!(
        (&shown["status"], &shown["updated_at"]),
        (&json!("inactive"), &json!("2027-01-15T08:00:05Z"))
    );

    let successor = harness.app("shop", json!({})).await;
    assert_ne!(
        (&successor.id, &successor.client_id),
        (&app.id, &app.client_id),
        "the name is free again"
    );
    let body = json!({"name": "shop", "scopes": ["a:b:c"]}).to_string();
    harness
        .post_as(&admin, APPS, body)
        .await
        .refused_like(409, "conflict", "shop");
}
