//! Apps as an admin sees them: `docs/wire-contract.md` §12.2.

use agentwrit_testkit::{App, Harness};
use std::collections::HashSet;
use std::sync::Arc;

use serde_json::{Value, json};

const APPS: &str = "/v1/admin/apps";

fn path(app: &App) -> String {
    format!("{APPS}/{}", app.id)
}

fn lower_hex(text: &str, digits: usize) -> bool {
    text.len() == digits && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

#[tokio::test]
async fn a_registration_tells_ids_and_the_secret_once() {
    let harness = Harness::with(&[("AA_APP_TOKEN_TTL", "900")]).await;
    let admin = harness.admin().await;
    let body = json!({"name": "order-reader", "scopes": ["read:orders:*", "write:x:y:z"], "token_ttl": null});
    let answer = harness.post_as(&admin, APPS, body.to_string()).await;
    assert_eq!(answer.status, 201);
    assert_eq!(answer.header("content-type"), "application/json");
    let keys = ["app_id", "client_id", "client_secret", "scopes", "token_ttl"];
    let places: Vec<usize> = keys
        .iter()
        .map(|key| answer.text.find(&format!("\"{key}\"")).unwrap())
        .collect();
    assert!(places.is_sorted(), "{}", answer.text);
    let told = answer.json();
    assert_eq!(told.as_object().unwrap().len(), keys.len(), "{told}");
    assert!(lower_hex(
        told["app_id"]
            .as_str()
            .unwrap()
            .strip_prefix("app-order-reader-")
            .unwrap(),
        6
    ));
    assert!(lower_hex(
        told["client_id"].as_str().unwrap().strip_prefix("or-").unwrap(),
        12
    ));
    assert!(lower_hex(told["client_secret"].as_str().unwrap(), 64));
    assert_eq!(told["scopes"], json!(["read:orders:*", "write:x:y:z"]));
    assert_eq!(told["token_ttl"], 900, "AA_APP_TOKEN_TTL");

    let app = harness
        .get_as(&admin, &format!("{APPS}/{}", told["app_id"].as_str().unwrap()))
        .await;
    assert_eq!(
        app.text,
        format!(
            "{{\"app_id\":{},\"name\":\"order-reader\",\"client_id\":{},\"scopes\":[\"read:orders:*\",\"write:x:y:z\"],\
             \"token_ttl\":900,\"status\":\"active\",\"created_at\":\"2027-01-15T08:00:00Z\",\
             \"updated_at\":\"2027-01-15T08:00:00Z\"}}\n",
            told["app_id"], told["client_id"]
        )
    );
    let event = harness.last("app_registered").await;
    assert_eq!(
        (event["outcome"].as_str(), event["actor"].as_str()),
        (Some("success"), Some("admin"))
    );
    for id in ["agent_id", "task_id", "orch_id", "resource"] {
        assert!(event.get(id).is_none(), "{id}");
    }
    let detail = event["detail"].as_str().unwrap();
    assert!(
        detail.contains(told["app_id"].as_str().unwrap()) && detail.contains("read:orders:*"),
        "{detail}"
    );
}

#[tokio::test]
async fn registrations_are_refused_in_the_contracts_order() {
    let harness = Harness::new().await;
    let admin = harness.admin().await;
    harness.app("taken", json!({})).await;
    let table = [
        ("{".to_owned(), 400, "invalid_request", "malformed JSON body"),
        (
            json!({"name": 5}).to_string(),
            400,
            "invalid_request",
            "malformed JSON body",
        ),
        (
            json!({"scopes": "read:data:*"}).to_string(),
            400,
            "invalid_request",
            "malformed JSON body",
        ),
        (
            json!({"token_ttl": "60"}).to_string(),
            400,
            "invalid_request",
            "malformed JSON body",
        ),
        (
            "{\"name\":\"ab\",\"scopes\":[\"a:b:c\"],\"token_ttl\":60.0}".to_owned(),
            400,
            "invalid_request",
            "malformed",
        ),
        ("null".to_owned(), 400, "invalid_request", "name is required"),
        (
            json!({"name": "", "scopes": ["x"]}).to_string(),
            400,
            "invalid_request",
            "name is required",
        ),
        (
            json!({"name": "X", "token_ttl": 0}).to_string(),
            400,
            "invalid_request",
            "scopes must not be empty",
        ),
        (
            json!({"name": "X", "scopes": []}).to_string(),
            400,
            "invalid_request",
            "scopes must not be empty",
        ),
        (
            json!({"name": "X", "scopes": ["x"], "token_ttl": 0}).to_string(),
            400,
            "invalid_ttl",
            "60 to 86400",
        ),
        (
            json!({"name": "X", "scopes": ["x"], "token_ttl": -5}).to_string(),
            400,
            "invalid_ttl",
            "60 to 86400",
        ),
        (
            json!({"name": "X", "scopes": ["x"], "token_ttl": 59}).to_string(),
            400,
            "invalid_request",
            "\"X\" must be",
        ),
        (
            json!({"name": "ab", "scopes": ["read:data"], "token_ttl": 59}).to_string(),
            400,
            "invalid_scope_format",
            "read:data",
        ),
        (
            json!({"name": "ab", "scopes": ["admin:revoke:*"], "token_ttl": 59}).to_string(),
            403,
            "forbidden",
            "admin:revoke:*",
        ),
        (
            json!({"name": "ab", "scopes": ["a:b:c", "app:x:y"]}).to_string(),
            403,
            "forbidden",
            "app:x:y",
        ),
        (
            json!({"name": "taken", "scopes": ["a:b:c"], "token_ttl": 59}).to_string(),
            400,
            "invalid_ttl",
            "60 to 86400",
        ),
        (
            json!({"name": "taken", "scopes": ["a:b:c"], "token_ttl": 86_401}).to_string(),
            400,
            "invalid_ttl",
            "60 to 86400",
        ),
        (
            json!({"name": "taken", "scopes": ["a:b:c"]}).to_string(),
            409,
            "conflict",
            "taken",
        ),
    ];
    for (body, status, code, part) in table {
        let answer = harness.post_as(&admin, APPS, &body).await;
        assert_eq!(answer.status, status, "{body}: {answer:?}");
        answer.refused_like(status, code, part);
    }
    for name in [
        "a",
        "a-b",
        "-x",
        "x-",
        "x--y",
        "Upper",
        "a_b",
        "a b",
        "1ab",
        "é",
        &"a".repeat(65),
    ] {
        let body = json!({"name": name, "scopes": ["a:b:c"]}).to_string();
        harness
            .post_as(&admin, APPS, body)
            .await
            .refused_like(400, "invalid_request", "name");
    }
    assert_eq!(harness.get_as(&admin, APPS).await.ok()["total"], 1);
    assert_eq!(harness.events("event_type=app_registered").await.len(), 1);
}

#[tokio::test]
async fn the_limits_of_token_ttl_themselves_are_good() {
    let harness = Harness::new().await;
    for (name, ttl) in [("low", 60), ("high", 86_400)] {
        let app = harness.app(name, json!({"token_ttl": ttl})).await;
        let admin = harness.admin().await;
        assert_eq!(harness.get_as(&admin, &path(&app)).await.ok()["token_ttl"], ttl);
    }
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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_parallel_registrations_of_one_name_exactly_one_succeeds() {
    let harness = Arc::new(Harness::new().await);
    let admin = harness.admin().await;
    let body = json!({"name": "shop", "scopes": ["read:data:*"]}).to_string();
    let attempts: Vec<_> = (0..64)
        .map(|_| {
            let (harness, admin, body) = (Arc::clone(&harness), admin.clone(), body.clone());
            tokio::spawn(async move { harness.post_as(&admin, APPS, body).await.status })
        })
        .collect();
    let mut statuses = Vec::new();
    for attempt in attempts {
        statuses.push(attempt.await.unwrap());
    }
    let count = |status| statuses.iter().filter(|given| **given == status).count();
    assert_eq!((count(201), count(409)), (1, 63), "{statuses:?}");
    assert_eq!(harness.get_as(&admin, APPS).await.ok()["total"], 1);
    assert_eq!(harness.events("event_type=app_registered").await.len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn parallel_readers_and_writers_are_all_served() {
    let harness = Arc::new(Harness::new().await);
    let admin = harness.admin().await;
    let app = harness.app("shop", json!({})).await;
    let work: Vec<_> = (0..64)
        .map(|n| {
            let (harness, admin, place) = (Arc::clone(&harness), admin.clone(), path(&app));
            tokio::spawn(async move {
                match n % 4 {
                    0 => harness.get_as(&admin, APPS).await.status,
                    1 => harness.get_as(&admin, &place).await.status,
                    _ => {
                        let body = json!({"scopes": ["read:data:*"], "token_ttl": 60 + n}).to_string();
                        harness.send_as(&admin, "PUT", &place, body).await.status
                    }
                }
            })
        })
        .collect();
    for one in work {
        assert_eq!(one.await.unwrap(), 200);
    }
    assert_eq!(
        harness.events("event_type=app_updated").await.len(),
        64,
        "32 changes of two properties"
    );
}

#[tokio::test]
async fn apps_survive_a_restart() {
    let harness = Harness::new().await;
    let admin = harness.admin().await;
    let (kept, gone) = (
        harness.app("kept", json!({})).await,
        harness.app("gone", json!({})).await,
    );
    let tokens = [harness.app_token(&kept).await, harness.app_token(&gone).await];
    harness.send_as(&admin, "DELETE", &path(&gone), "").await.ok();
    let listed = harness.get_as(&admin, APPS).await.text;

    let harness = harness.restart(&[]).await;
    let admin = harness.admin().await;
    assert_eq!(harness.get_as(&admin, APPS).await.text, listed);
    assert!(harness.stands(&tokens[0]).await && !harness.stands(&tokens[1]).await);
    let body = json!({"agent_name": "a", "allowed_scope": ["read:data:x"]}).to_string();
    assert_eq!(
        harness.post_as(&tokens[0], "/v1/app/launch-tokens", &body).await.status,
        201
    );
    let refused = harness.post_as(&tokens[1], "/v1/app/launch-tokens", &body).await;
    refused.refused(403, "forbidden", "app not found");
    assert_eq!(harness.app_auth(&kept).await.status, 200);
    assert_eq!(harness.app_auth(&gone).await.status, 401);
}

#[tokio::test]
async fn a_secret_is_never_seen_again() {
    let harness = Harness::new().await;
    let admin = harness.admin().await;
    let app = harness.app("shop", json!({})).await;
    let token = harness.app_token(&app).await;
    let mut wrong = app.clone();
    wrong.client_id.clone_from(&app.secret);
    harness
        .app_auth(&wrong)
        .await
        .refused(401, "unauthorized", "Authentication failed");
    let changed = harness
        .send_as(&admin, "PUT", &path(&app), json!({"token_ttl": 60}).to_string())
        .await;
    let app_id = app.id.clone();
    let record = harness
        .state
        .store
        .query(move |tx| Box::pin(async move { tx.app(&app_id).await }));
    let mut seen = vec![
        changed.text,
        harness.get_as(&admin, APPS).await.text,
        harness.get_as(&admin, &path(&app)).await.text,
        harness.get("/v1/metrics").await.text,
        Value::from(harness.events("").await).to_string(),
        format!("{:?}", record.await.unwrap().unwrap()),
    ];
    seen.push(harness.send_as(&admin, "DELETE", &path(&app), "").await.text);
    for text in &seen {
        for secret in [app.secret.as_str(), "$2b$", &token] {
            assert!(!text.contains(secret), "{text}");
        }
    }
    let folder = harness.stop().await.folder;
    let mut files = HashSet::new();
    for entry in std::fs::read_dir(folder.path()).unwrap() {
        let bytes = std::fs::read(entry.unwrap().path()).unwrap();
        let holds = |needle: &str| bytes.windows(needle.len()).any(|window| window == needle.as_bytes());
        assert!(!holds(&app.secret) && !holds(&token));
        files.insert(holds("$2b$04$"));
    }
    assert!(
        files.contains(&true),
        "the hash is in one of them, so they were the right ones"
    );
}

#[tokio::test]
async fn while_the_store_fails_everything_is_503_and_nothing_changes() {
    let harness = Harness::new().await;
    let admin = harness.admin().await;
    let app = harness.app("shop", json!({})).await;
    let token = harness.app_token(&app).await;
    let (listed, events) = (harness.get_as(&admin, APPS).await.text, harness.events("").await.len());
    let other = rusqlite::Connection::open(harness.folder.path().join("data.db")).unwrap();
    other.execute_batch("ALTER TABLE apps RENAME TO gone").unwrap();
    let credentials = json!({"client_id": app.client_id, "client_secret": app.secret}).to_string();
    let launch = json!({"agent_name": "a", "allowed_scope": ["read:data:x"]}).to_string();
    let table = [
        (
            &admin,
            "POST",
            APPS.to_owned(),
            json!({"name": "new", "scopes": ["a:b:c"]}).to_string(),
        ),
        (&admin, "GET", APPS.to_owned(), String::new()),
        (&admin, "GET", path(&app), String::new()),
        (&admin, "PUT", path(&app), json!({"token_ttl": 60}).to_string()),
        (&admin, "DELETE", path(&app), String::new()),
        (&token, "POST", "/v1/app/auth".to_owned(), credentials),
        (&token, "POST", "/v1/app/launch-tokens".to_owned(), launch),
    ];
    for (bearer, method, path, body) in table {
        let answer = harness.send_as(bearer, method, &path, body).await;
        answer.refused_like(503, "unavailable", "nothing was changed");
        assert_eq!(answer.header("retry-after"), "1", "{method} {path}");
    }
    other.execute_batch("ALTER TABLE gone RENAME TO apps").unwrap();
    assert_eq!(harness.get_as(&admin, APPS).await.text, listed);
    assert_eq!(harness.events("").await.len(), events);
    assert!(harness.stands(&token).await);
    let metrics = harness.get("/v1/metrics").await.text;
    assert!(
        metrics.contains("agentwrit_db_errors_total{operation=\"read_app\"}"),
        "{metrics}"
    );
}
