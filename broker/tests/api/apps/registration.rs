//! How apps are registered: `docs/wire-contract.md` §12.2.

use super::*;

fn lower_hex(text: &str, digits: usize) -> bool {
    text.len() == digits && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

#[tokio::test]
async fn a_registration_returns_ids_and_the_secret_once() {
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
