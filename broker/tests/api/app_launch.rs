//! Launch tokens made by apps: `docs/wire-contract.md` §7.2.

use agentwrit_testkit::{Harness, stores};
use std::collections::HashSet;
use std::sync::Arc;

use serde_json::{Value, json};

use super::busy::while_the_writer_is_busy;

const LAUNCH: &str = "/v1/app/launch-tokens";

#[tokio::test]
async fn an_app_launches_agents_under_its_ceiling() {
    let harness = Harness::new().await;
    let app = harness
        .app("shop", json!({"scopes": ["read:data:*", "write:data:x"]}))
        .await;
    let token = harness.app_token(&app).await;
    // As the Python SDK sends it.
    let body =
        json!({"agent_name": "orch-1/task-1", "allowed_scope": ["read:data:x"], "max_ttl": 200, "single_use": true});
    let answer = harness.post_as(&token, LAUNCH, body.to_string()).await;
    assert_eq!(answer.status, 201);
    let answer = answer.json();
    assert_eq!(answer["expires_at"], "2027-01-15T08:00:30Z");
    assert_eq!(
        answer["policy"],
        json!({"allowed_scope": ["read:data:x"], "max_ttl": 200})
    );
    let launch_token = answer["launch_token"].as_str().unwrap();

    let registered = harness.register(launch_token, json!({})).await.ok();
    assert_eq!(registered["expires_in"], 200);
    let creator = format!("app:{}", app.id);
    for event_type in ["launch_token_issued", "agent_registered"] {
        let event = harness.last(event_type).await;
        assert!(event["detail"].as_str().unwrap().contains(&app.id), "{event}");
        assert_eq!(event["outcome"], "success");
    }
    let issued = harness.last("launch_token_issued").await;
    assert_eq!((&issued["actor"], issued.get("agent_id")), (&json!(creator), None));
    let detail = issued["detail"].as_str().unwrap();
    for part in ["orch-1/task-1", "read:data:x", "200"] {
        assert!(detail.contains(part), "{detail}");
    }
    let metrics = harness.get("/v1/metrics").await.text;
    assert!(metrics.contains("agentwrit_launch_tokens_created_total 1"), "{metrics}");
}

#[tokio::test]
async fn each_kind_of_bearer_has_its_own_path() {
    let harness = Harness::new().await;
    let app = harness.app("shop", json!({})).await;
    let (token, admin) = (harness.app_token(&app).await, harness.admin().await);
    let (_, agent) = harness.agent(json!({})).await;
    for (bearer, path, scope) in [
        (&admin, LAUNCH, "app:launch-tokens:*"),
        (&agent, LAUNCH, "app:launch-tokens:*"),
        (&token, "/v1/admin/launch-tokens", "admin:launch-tokens:*"),
    ] {
        let answer = harness.post_as(bearer, path, "{").await;
        answer.refused(
            403,
            "insufficient_scope",
            &format!("token lacks required scope: {scope}"),
        );
    }
    harness
        .post(LAUNCH, "{")
        .await
        .refused(401, "unauthorized", "missing authorization header");
}

#[tokio::test]
async fn an_agent_that_holds_the_apps_scope_is_still_no_app() {
    let harness = Harness::new().await;
    let admin = harness.admin().await;
    // No launch token can carry it any more.
    let body = json!({"agent_name": "a", "allowed_scope": ["app:launch-tokens:*"]}).to_string();
    let answer = harness.post_as(&admin, "/v1/admin/launch-tokens", body).await;
    answer.refused_like(403, "forbidden", "app:launch-tokens:*");
    let app = harness.app("shop", json!({})).await;
    let token = harness.app_token(&app).await;
    let body = json!({"agent_name": "a", "allowed_scope": ["app:launch-tokens:*"]}).to_string();
    harness
        .post_as(&token, LAUNCH, body)
        .await
        .refused_like(403, "forbidden", "ceiling");
}

#[tokio::test]
async fn apps_are_refused_in_the_contracts_order() {
    let harness = Harness::new().await;
    let app = harness
        .app("shop", json!({"scopes": ["read:data:*", "write:data:x"]}))
        .await;
    let token = harness.app_token(&app).await;
    let creator = format!("app:{}", app.id);
    harness
        .post_as(&token, LAUNCH, "{")
        .await
        .refused(400, "invalid_request", "malformed JSON body");
    let over = [
        json!({"allowed_scope": ["read:orders:x"]}),
        json!({"agent_name": "", "allowed_scope": ["read:data:x", "write:data:*"]}),
        json!({"agent_name": "a", "allowed_scope": ["*:*:*"], "ttl": 100_000}),
        json!({"agent_name": "a", "allowed_scope": ["read:data"]}),
        json!({"agent_name": "a", "allowed_scope": [""]}),
    ];
    for body in &over {
        let answer = harness.post_as(&token, LAUNCH, body.to_string()).await;
        for part in ["ceiling", "read:data:*", "write:data:x"] {
            answer.refused_like(403, "forbidden", part);
        }
        let event = harness.last("scope_ceiling_exceeded").await;
        assert_eq!(
            (&event["agent_id"], &event["outcome"]),
            (&json!(creator), &json!("denied"))
        );
    }
    assert_eq!(
        harness.events("event_type=scope_ceiling_exceeded").await.len(),
        over.len()
    );
    let table = [
        (
            json!({"allowed_scope": ["read:data:x"]}),
            "invalid_request",
            "agent_name is required",
        ),
        (
            json!({"agent_name": "", "allowed_scope": []}),
            "invalid_request",
            "agent_name is required",
        ),
        (
            json!({"agent_name": "a"}),
            "invalid_request",
            "allowed_scope must not be empty",
        ),
        (
            json!({"agent_name": "a", "allowed_scope": []}),
            "invalid_request",
            "allowed_scope must not be empty",
        ),
        (
            json!({"agent_name": "a", "allowed_scope": ["read:data:x"], "ttl": 86_401}),
            "invalid_ttl",
            "ttl must be at most",
        ),
        (
            json!({"agent_name": "a", "allowed_scope": vec!["read:data:x"; 3000]}),
            "invalid_request",
            "allowed_scope must be at most 32768",
        ),
    ];
    for (body, code, detail) in &table {
        let answer = harness.post_as(&token, LAUNCH, body.to_string()).await;
        answer.refused_like(400, code, detail);
        let event = harness.last("launch_token_denied").await;
        assert_eq!(
            (&event["agent_id"], &event["outcome"]),
            (&json!(creator), &json!("denied"))
        );
    }
    assert_eq!(
        harness.events("event_type=launch_token_denied").await.len(),
        table.len()
    );
}

#[tokio::test]
async fn a_changed_ceiling_counts_for_the_next_launch_token_only() {
    let harness = Harness::new().await;
    let app = harness.app("shop", json!({})).await;
    let (token, admin) = (harness.app_token(&app).await, harness.admin().await);
    let body = json!({"agent_name": "a", "allowed_scope": ["read:data:x"]}).to_string();
    let before = harness.post_as(&token, LAUNCH, &body).await.ok();
    let place = format!("/v1/admin/apps/{}", app.id);
    let change = json!({"scopes": ["write:data:*"]}).to_string();
    harness.send_as(&admin, "PUT", &place, change).await.ok();
    harness
        .post_as(&token, LAUNCH, &body)
        .await
        .refused_like(403, "forbidden", "write:data:*");
    let registered = harness
        .register(before["launch_token"].as_str().unwrap(), json!({}))
        .await;
    assert_eq!(registered.status, 200, "existing launch tokens keep what they have");
}

#[tokio::test]
async fn a_token_of_an_app_that_is_not_there_launches_nothing() {
    let harness = Harness::new().await;
    let app = harness.app("shop", json!({})).await;
    let token = harness.app_token(&app).await;
    // The row goes behind the broker's back, so that no revocation answers first.
    assert_eq!(stores::change(harness.folder.path(), "DELETE FROM apps"), 1);
    let body = json!({"agent_name": "", "allowed_scope": ["write:x:y"]}).to_string();
    let answer = harness.post_as(&token, LAUNCH, body).await;
    answer.refused(403, "forbidden", "app not found");
    assert!(harness.events("event_type=launch_token_denied").await.is_empty());
    harness.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn parallel_launch_tokens_of_one_app_all_succeed() {
    let harness = Arc::new(Harness::new().await);
    let app = harness.app("shop", json!({})).await;
    let token = harness.app_token(&app).await;
    let launches: Vec<_> = (0..64)
        .map(|n| {
            let (harness, token) = (Arc::clone(&harness), token.clone());
            tokio::spawn(async move {
                let body = json!({"agent_name": format!("agent-{n}"), "allowed_scope": ["read:data:x"]}).to_string();
                let answer: Value = harness.post_as(&token, LAUNCH, body).await.ok();
                answer["launch_token"].as_str().unwrap().to_owned()
            })
        })
        .collect();
    let mut tokens = HashSet::new();
    for launch in launches {
        tokens.insert(launch.await.unwrap());
    }
    assert_eq!(tokens.len(), 64);
    assert_eq!(harness.events("event_type=launch_token_issued").await.len(), 64);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_the_answer_to_a_deregistration_nothing_is_launched() {
    let harness = Arc::new(Harness::new().await);
    let app = harness.app("shop", json!({})).await;
    let (token, admin) = (harness.app_token(&app).await, harness.admin().await);
    let body = json!({"agent_name": "a", "allowed_scope": ["read:data:x"]}).to_string();
    let launches: Vec<_> = (0..32)
        .map(|_| {
            let (harness, token, body) = (Arc::clone(&harness), token.clone(), body.clone());
            tokio::spawn(async move { harness.post_as(&token, LAUNCH, body).await.status })
        })
        .collect();
    harness
        .send_as(&admin, "DELETE", &format!("/v1/admin/apps/{}", app.id), "")
        .await
        .ok();
    harness
        .post_as(&token, LAUNCH, &body)
        .await
        .refused(403, "forbidden", "app not found");
    for launch in launches {
        assert!(matches!(launch.await.unwrap(), 201 | 403));
    }
    let events = harness.events("").await;
    let place = |event_type: &str| events.iter().rposition(|event| event["event_type"] == event_type);
    let gone = place("app_deregistered").unwrap();
    assert!(
        place("launch_token_issued").is_none_or(|last| last < gone),
        "none in the trail behind it"
    );
}

#[tokio::test]
async fn a_bad_request_is_refused_without_the_writer() {
    let harness = Harness::with(&[("AA_DENIAL_AUDIT_RATE", "1")]).await;
    let app = harness.app("shop", json!({})).await;
    let token = harness.app_token(&app).await;
    let refused = async || {
        let body = json!({"agent_name": "", "allowed_scope": ["read:data:x"]}).to_string();
        let answer = harness.post_as(&token, LAUNCH, body).await;
        answer.refused(400, "invalid_request", "agent_name is required");
    };
    // The first is audited, by the writer; the next are only counted.
    refused().await;
    while_the_writer_is_busy(&harness, refused()).await;
    assert_eq!(harness.events("event_type=launch_token_denied").await.len(), 1);
}
