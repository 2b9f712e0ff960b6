//! Apps in the store: parallel changes, restarts, secrets at rest, and a store that fails.

use super::*;
use agentwrit_testkit::stores;

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
                        let body = json!({"scopes": [format!("read:data:{n}")], "token_ttl": 60 + n}).to_string();
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
    let files = std::fs::read_dir(folder.path()).unwrap();
    let files = files.map(|entry| std::fs::read(entry.unwrap().path()).unwrap());
    let mut hashes = HashSet::new();
    for bytes in files.chain([stores::written(folder.path())]) {
        let holds = |needle: &str| bytes.windows(needle.len()).any(|window| window == needle.as_bytes());
        assert!(!holds(&app.secret) && !holds(&token));
        hashes.insert(holds("$2b$04$"));
    }
    assert!(
        hashes.contains(&true),
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
    stores::change(harness.folder.path(), "ALTER TABLE apps RENAME TO gone");
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
    stores::change(harness.folder.path(), "ALTER TABLE gone RENAME TO apps");
    assert_eq!(harness.get_as(&admin, APPS).await.text, listed);
    assert_eq!(harness.events("").await.len(), events);
    assert!(harness.stands(&token).await);
    let metrics = harness.get("/v1/metrics").await.text;
    assert!(
        metrics.contains("agentwrit_db_errors_total{operation=\"read_app\"}"),
        "{metrics}"
    );
}
