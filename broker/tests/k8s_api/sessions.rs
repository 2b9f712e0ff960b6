//! Sessions of attested pods: bound to their launch, and ended by policy or successor.

use agentwrit_testkit::{Keys, Launched, World, claims, controller};
use serde_json::{Value, json};

const READ: &[&str] = &["read:orders:*"];

async fn world() -> World {
    World::new().await.with_policies().await
}

#[tokio::test]
async fn a_launch_token_works_once_for_its_own_key_and_ids() {
    let world = world().await;
    let (keys, thief) = (Keys::new(1), Keys::new(2));
    let launched = World::launched(world.launch(&world.pod("p1"), &keys).await);
    let table = [
        (&keys, json!({"orch_id": "k8s.shop.other"}), "orch_id_mismatch"),
        (&keys, json!({"orch_id": "plain"}), "orch_id_mismatch"),
        (&keys, json!({"task_id": "p2"}), "task_id_mismatch"),
        (&thief, json!({}), "key_mismatch"),
    ];
    for (keys, changes, kind) in table {
        let answer = world.register_with(&launched, keys, &changes).await;
        assert_eq!(answer.refusal(), (403, "forbidden"), "{kind}");
        assert_eq!(world.last_kind("registration_denied").await, kind);
    }
    let denied = world.events("event_type=registration_denied").await;
    assert_eq!(denied.len(), 4, "each is told once");
    let issued = world.events("event_type=launch_token_issued").await.remove(0);
    assert!(
        denied
            .iter()
            .all(|event| event["correlation_id"] == issued["correlation_id"] && event["pod_uid"] == "p1")
    );

    let token = world.register(&launched, &keys).await.ok()["access_token"]
        .as_str()
        .unwrap()
        .to_owned();
    let claims = claims(&token);
    assert!(
        claims["sub"]
            .as_str()
            .unwrap()
            .starts_with("spiffe://agentwrit.local/agent/k8s.shop.orders/p1/"),
        "{claims}"
    );
    assert_eq!(
        (&claims["scope"], &claims["task_id"]),
        (&json!(["read:orders:*"]), &json!("p1"))
    );
    assert_eq!(claims["exp"].as_i64().unwrap() - claims["iat"].as_i64().unwrap(), 300);
    assert_eq!(world.register(&launched, &keys).await.refusal(), (401, "unauthorized"));
}

#[tokio::test]
async fn a_refused_registration_uses_up_nothing() {
    let world = world().await;
    let (keys, thief) = (Keys::new(1), Keys::new(2));
    let launched = World::launched(world.launch(&world.pod("p1"), &keys).await);
    let nonce = world.call("GET", "/v1/challenge", "", &Value::Null).await.ok()["nonce"]
        .as_str()
        .unwrap()
        .to_owned();
    let stolen = json!({"nonce": nonce, "signature": thief.sign(&nonce)});
    assert_eq!(
        world.register_with(&launched, &thief, &stolen).await.refusal(),
        (403, "forbidden")
    );
    let own = json!({"nonce": nonce, "signature": keys.sign(&nonce)});
    world.register_with(&launched, &keys, &own).await.ok();
}

#[tokio::test]
async fn a_launch_token_lives_thirty_seconds() {
    let world = world().await;
    let keys = Keys::new(1);
    let launched = World::launched(world.launch(&world.pod("p1"), &keys).await);
    world.clock.advance(31);
    assert_eq!(world.register(&launched, &keys).await.refusal(), (401, "unauthorized"));
}

#[tokio::test]
async fn ids_of_pods_are_reserved_for_pods() {
    let world = world().await;
    let keys = Keys::new(1);
    let body = json!({"agent_name": "a", "allowed_scope": ["read:orders:*"]});
    let answer = world
        .call("POST", "/v1/admin/launch-tokens", &world.admin().await, &body)
        .await
        .ok();
    let launched = Launched {
        launch_token: answer["launch_token"].as_str().unwrap().into(),
        orch_id: "k8s.shop.orders".into(),
        task_id: "p1".into(),
        scopes: vec!["read:orders:*".into()],
    };
    assert_eq!(world.register(&launched, &keys).await.refusal(), (403, "forbidden"));
    assert_eq!(world.last_kind("registration_denied").await, "reserved_orch_id");
    world
        .register_with(&launched, &keys, &json!({"orch_id": "plain"}))
        .await
        .ok();
}

#[tokio::test]
async fn policy_is_looked_at_again_at_registration() {
    let world = world().await;
    let keys = Keys::new(1);
    let launched = World::launched(world.launch(&world.pod("p1"), &keys).await);
    world
        .put_launch_token(&world.launch_token(2, "not_ready", READ))
        .await
        .ok();
    assert_eq!(
        world.register(&launched, &keys).await.refusal(),
        (403, "policy_not_ready")
    );
    world
        .put_launch_token(&world.launch_token(2, "suspended", READ))
        .await
        .ok();
    assert_eq!(world.register(&launched, &keys).await.refusal(), (403, "suspended"));
    world
        .put_launch_token(&world.launch_token(3, "ready", &["read:orders:7"]))
        .await
        .ok();
    assert_eq!(
        world.register(&launched, &keys).await.refusal(),
        (403, "policy_changed")
    );
    assert_eq!(world.last_kind("registration_denied").await, "policy_changed");
    let fresh = World::launched(world.launch(&world.pod("p1"), &keys).await);
    world.register(&fresh, &keys).await.ok();
}

#[tokio::test]
async fn narrowing_a_policy_ends_only_what_it_no_longer_covers() {
    let world = world().await;
    let keys = Keys::new(1);
    let wide = world.agent(&world.pod("p1"), &keys).await;
    let narrow = World::launched(world.launch(&world.pod("p2"), &keys).await);
    let narrow = world
        .register_with(&narrow, &keys, &json!({"requested_scope": ["read:orders:7"]}))
        .await
        .ok();
    let narrow = narrow["access_token"].as_str().unwrap();
    let put = world
        .put_app(&world.app(2, "ready", &["read:orders:7", "write:orders:*"]))
        .await
        .ok();
    assert_eq!(put["revoked"], 1);
    assert!(!world.stands(&wide).await);
    assert!(world.stands(narrow).await);
    let answer = world.renew(&wide).await;
    assert_eq!(answer.refusal(), (403, "policy_changed"));
    assert_eq!(answer.body["detail"], "token has been revoked");
    assert_eq!(answer.body["type"], "urn:agentwrit:error:policy_changed");
    let release = world.call("POST", "/v1/token/release", &wide, &Value::Null).await;
    assert_eq!(release.refusal(), (403, "insufficient_scope"));
    let events = world.events("event_type=policy_applied&pod_uid=p1").await;
    assert_eq!(events.len(), 1);
    assert_eq!(events[0]["correlation_id"].as_str().unwrap().len(), 32);
}

#[tokio::test]
async fn a_service_account_that_is_struck_off_ends_its_sessions() {
    let world = world().await;
    let token = world.agent(&world.pod("p1"), &Keys::new(1)).await;
    let mut put = world.launch_token(2, "ready", READ);
    put["spec"]["service_account_names"] = json!(["another"]);
    assert_eq!(world.put_launch_token(&put).await.ok()["revoked"], 1);
    assert!(!world.stands(&token).await);
}

#[tokio::test]
async fn widening_and_another_life_are_answered_at_the_next_renewal() {
    let world = world().await;
    let keys = Keys::new(1);
    let token = world.agent(&world.pod("p1"), &keys).await;
    world
        .put_launch_token(&world.launch_token(2, "ready", &["read:orders:*", "write:orders:*"]))
        .await
        .ok();
    assert!(world.stands(&token).await);
    let answer = world.renew(&token).await;
    assert_eq!(answer.refusal(), (403, "policy_changed"));
    assert_eq!(world.last_kind("token_renewal_failed").await, "policy_changed");
    let token = world.agent(&world.pod("p1"), &keys).await;
    let token = world.renew(&token).await.ok()["access_token"]
        .as_str()
        .unwrap()
        .to_owned();
    let mut longer = world.launch_token(3, "ready", &["read:orders:*", "write:orders:*"]);
    longer["spec"]["max_ttl_seconds"] = json!(600);
    assert_eq!(world.put_launch_token(&longer).await.ok()["revoked"], 0);
    assert!(world.stands(&token).await);
    assert_eq!(world.renew(&token).await.refusal(), (403, "policy_changed"));
}

#[tokio::test]
async fn withdrawal_stops_launches_and_lets_renewals_go_on() {
    let world = world().await;
    let keys = Keys::new(1);
    let mut token = world.agent(&world.pod("p1"), &keys).await;
    let mut withdrawn = world.launch_token(2, "not_ready", &["read:else:*"]);
    withdrawn["reason"] = json!("ScopeExceedsCeiling");
    assert_eq!(world.put_launch_token(&withdrawn).await.ok()["revoked"], 0);
    world.put_app(&world.app(2, "not_ready", &["read:else:*"])).await.ok();
    for _ in 0..2 {
        assert_eq!(
            world.launch(&world.pod("p2"), &keys).await.refusal(),
            (403, "policy_not_ready")
        );
        token = world.renew(&token).await.ok()["access_token"]
            .as_str()
            .unwrap()
            .to_owned();
        assert!(world.stands(&token).await);
    }
    world.put_launch_token(&world.launch_token(3, "ready", READ)).await.ok();
    world
        .put_app(&world.app(3, "ready", &["read:orders:*", "write:orders:*"]))
        .await
        .ok();
    world.renew(&token).await.ok();
    world.launch(&world.pod("p2"), &keys).await.ok();
}

#[tokio::test]
async fn suspension_ends_sessions_and_its_end_lets_pods_start_over() {
    let world = world().await;
    let keys = Keys::new(1);
    for which in ["app", "launch token"] {
        let token = world.agent(&world.pod("p1"), &keys).await;
        let revoked = match which {
            "app" => {
                world
                    .put_app(&world.app(2, "suspended", &["read:orders:*", "write:orders:*"]))
                    .await
            }
            _ => world.put_launch_token(&world.launch_token(2, "suspended", READ)).await,
        };
        assert_eq!(revoked.ok()["revoked"], 1, "{which}");
        assert!(!world.stands(&token).await);
        assert_eq!(world.renew(&token).await.refusal(), (403, "suspended"));
        assert_eq!(
            world.launch(&world.pod("p1"), &keys).await.refusal(),
            (403, "suspended")
        );
        world
            .put_app(&world.app(3, "ready", &["read:orders:*", "write:orders:*"]))
            .await
            .ok();
        world.put_launch_token(&world.launch_token(3, "ready", READ)).await.ok();
        world.clock.advance(30);
    }
    world.agent(&world.pod("p1"), &keys).await;
}

#[tokio::test]
async fn two_registrations_leave_one_live_token_after_ten_seconds() {
    let world = world().await;
    let pod = world.pod("p1");
    let first = world.agent(&pod, &Keys::new(1)).await;
    let second = world.agent(&pod, &Keys::new(2)).await;
    assert!(world.stands(&first).await && world.stands(&second).await);
    world.clock.advance_millis(9_999);
    assert!(world.stands(&first).await);
    world.clock.advance_millis(1);
    assert!(!world.stands(&first).await);
    assert!(world.stands(&second).await);
    let answer = world.renew(&first).await;
    assert_eq!(answer.refusal(), (403, "superseded"));
    assert_eq!(answer.body["detail"], "token has been revoked");
    let events = world.events("event_type=agent_superseded").await;
    assert_eq!(events.len(), 1);
    assert_eq!(events[0]["agent_id"], claims(&first)["sub"]);
    assert!(world.stands(&world.agent(&world.pod("p2"), &Keys::new(3)).await).await);
    assert!(world.stands(&second).await, "another pod's session is its own");
}

#[tokio::test]
async fn a_third_registration_does_not_prolong_the_first() {
    let world = world().await;
    let pod = world.pod("p1");
    let first = world.agent(&pod, &Keys::new(1)).await;
    let second = world.agent(&pod, &Keys::new(1)).await;
    world.clock.advance(5);
    let third = world.agent(&pod, &Keys::new(1)).await;
    world.clock.advance(5);
    assert!(!world.stands(&first).await);
    assert!(world.stands(&second).await && world.stands(&third).await);
    world.clock.advance(5);
    assert!(!world.stands(&second).await);
    assert!(world.stands(&third).await);
}

#[tokio::test]
async fn the_third_supersession_in_ten_minutes_is_reported_once() {
    let world = world().await;
    let pod = world.pod("p1");
    let feed = async || world.as_controller("GET", "/v1/k8s/denials", &Value::Null).await.ok()["denials"].clone();
    for _ in 0..3 {
        world.agent(&pod, &Keys::new(1)).await;
        world.clock.advance(20);
    }
    assert_eq!(feed().await, json!([]));
    for _ in 0..2 {
        world.agent(&pod, &Keys::new(1)).await;
        world.clock.advance(20);
    }
    let told = feed().await;
    assert_eq!(told.as_array().unwrap().len(), 1);
    assert_eq!(
        (&told[0]["error_kind"], &told[0]["pod_uid"]),
        (&json!("superseded_often"), &json!("p1"))
    );
}

#[tokio::test]
async fn only_an_admin_with_the_scope_releases() {
    let world = world().await;
    let agent = world.agent(&world.pod("p1"), &Keys::new(1)).await;
    let path = "/v1/k8s/pods/p1/release";
    assert_eq!(
        world.call("POST", path, "", &Value::Null).await.refusal(),
        (401, "unauthorized")
    );
    assert_eq!(
        world.call("POST", path, &controller(), &Value::Null).await.refusal(),
        (401, "unauthorized")
    );
    let answer = world.call("POST", path, &agent, &Value::Null).await;
    assert_eq!(answer.refusal(), (403, "insufficient_scope"));
    assert!(answer.headers.contains_key("agentwrit-epoch"));
}

#[tokio::test]
async fn of_parallel_registrations_with_one_launch_token_one_wins() {
    let world = world().await;
    let keys = Keys::new(1);
    let launched = World::launched(world.launch(&world.pod("p1"), &keys).await);
    let answers = futures_util::future::join_all((0..16).map(|_| world.register(&launched, &keys))).await;
    assert_eq!(answers.iter().filter(|answer| answer.status == 200).count(), 1);
    assert!(answers.iter().all(|answer| matches!(answer.status, 200 | 401)));
}

#[tokio::test]
async fn parallel_registrations_leave_one_session_after_10_s() {
    let world = world().await;
    let (pod, keys) = (world.pod("p1"), Keys::new(1));
    let tokens = futures_util::future::join_all((0..3).map(|_| world.agent(&pod, &keys))).await;
    world.clock.advance(10);
    let mut standing = 0;
    for token in &tokens {
        standing += i32::from(world.stands(token).await);
    }
    assert_eq!(standing, 1);
}
