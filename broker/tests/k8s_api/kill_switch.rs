//! The kill switch by what people know: who is hit by it, and what a pod could do against it.

use agentwrit_testkit::{Answer, Keys, Pod, World, claims};
use serde_json::{Value, json};

const READ: &[&str] = &["read:orders:*"];
const INSTALLATION: &str = "agentwrit-system/agentwrit";

async fn world() -> World {
    World::with(&[("AA_INSTALLATION", INSTALLATION)])
        .await
        .with_policies()
        .await
}

async fn revoke(world: &World, body: &Value) -> Answer {
    world
        .call("POST", "/v1/admin/revoke-matching", &world.admin().await, body)
        .await
}

/// Policy `policy` of app `app` in a namespace.
async fn put_policies(world: &World, namespace: &str, app: &str, policy: &str) {
    let mut put = world.app(1, "ready", READ);
    put["uid"] = json!(format!("{namespace}-{app}"));
    let path = format!("/v1/k8s/policies/apps/{namespace}/{app}");
    world.as_controller("PUT", &path, &put).await.ok();
    let mut put = world.launch_token(1, "ready", READ);
    put["uid"] = json!(format!("{namespace}-{policy}"));
    put["spec"]["app"] = json!(app);
    put["spec"]["service_account_names"] = json!(["reader", "writer"]);
    let path = format!("/v1/k8s/policies/launch-tokens/{namespace}/{policy}");
    world.as_controller("PUT", &path, &put).await.ok();
}

/// A running pod that differs from others in one thing.
fn pod(world: &World, uid: &str, namespace: &str, policy: &str, account: &str, node: &str) -> Pod {
    let pod = Pod {
        service_account: account.to_owned(),
        policy: policy.to_owned(),
        ..Pod::new(namespace, uid)
    };
    world.cluster.run_pod(&pod);
    world
        .cluster
        .change_pod(namespace, &pod.name, |facts| facts.node = Some(node.to_owned()));
    pod
}

async fn delegate(world: &World, token: &str, to: &str) -> Answer {
    let body = json!({"delegate_to": claims(to)["sub"], "scope": READ, "ttl": 200});
    world.call("POST", "/v1/delegate", token, &body).await
}

fn token(answer: Answer) -> String {
    answer.ok()["access_token"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn each_selector_hits_the_pods_that_it_means() {
    for (selector, hit) in [
        (json!({"namespace": "bank"}), "p1"),
        (json!({"app": "shop/stock"}), "p2"),
        (json!({"policy": "shop/writer"}), "p3"),
        (json!({"service_account": "shop/writer"}), "p4"),
        (json!({"node": "worker-7"}), "p5"),
    ] {
        let world = world().await;
        put_policies(&world, "bank", "orders", "reader").await;
        put_policies(&world, "shop", "orders", "writer").await;
        put_policies(&world, "shop", "stock", "stock").await;
        put_policies(&world, "shop", "orders", "both").await;
        let pods = [
            pod(&world, "p1", "bank", "reader", "reader", "node-1"),
            pod(&world, "p2", "shop", "stock", "reader", "node-1"),
            pod(&world, "p3", "shop", "writer", "reader", "node-1"),
            pod(&world, "p4", "shop", "both", "writer", "node-1"),
            pod(&world, "p5", "shop", "both", "reader", "worker-7"),
        ];
        let mut tokens = Vec::new();
        for (seed, pod) in (1..).zip(&pods) {
            tokens.push(world.agent(pod, &Keys::new(seed)).await);
        }
        let before = world.events("").await.len();
        let mut dry = selector.clone();
        dry["dry_run"] = json!(true);
        let counted = revoke(&world, &dry).await.ok();
        let (kind, target) = selector.as_object().unwrap().iter().next().unwrap();
        let wanted = json!({
            "selector": kind, "target": target, "dry_run": true, "pods": 1, "agents": 1, "delegations": 0,
            "launch_tokens": 0, "sessions_ended": 0, "pods_quarantined": 0,
        });
        assert_eq!(counted, wanted);
        assert_eq!(world.events("").await.len(), before, "{selector}");
        let struck = revoke(&world, &selector).await.ok();
        assert_eq!(
            (&struck["sessions_ended"], &struck["pods_quarantined"]),
            (&json!(1), &json!(1)),
            "{selector}"
        );
        for (pod, token) in pods.iter().zip(&tokens) {
            assert_eq!(world.stands(token).await, pod.uid != hit, "{selector}: {}", pod.uid);
            world.clock.advance(30);
            let launch = world.launch(pod, &Keys::new(9)).await;
            assert_eq!(launch.is_success(), pod.uid != hit, "{selector}: {}", pod.uid);
        }
        let told = world.last("bulk_revocation").await;
        let detail = told["detail"].as_str().unwrap();
        assert!(
            detail.contains(target.as_str().unwrap())
                && detail.contains(": pods=1 agents=1 delegations=0 launch_tokens=0 "),
            "{told}"
        );
        assert_eq!(told["actor"], "admin");
        let ended = world.events("event_type=token_revoked").await;
        assert_eq!((ended.len(), &ended[0]["pod_uid"]), (1, &json!(hit)));
        assert_eq!(world.events("event_type=pod_quarantined").await.len(), 1);
        // It may be said again, and hits nothing more; a person may take it back.
        let again = revoke(&world, &selector).await.ok();
        assert_eq!(
            (&again["agents"], &again["sessions_ended"], &again["pods_quarantined"]),
            (&json!(0), &json!(0), &json!(1))
        );
        assert_eq!(world.release_pod(hit).await, json!({"released": true}));
        world.clock.advance(30);
        let pod = pods.iter().find(|pod| pod.uid == hit).unwrap();
        world.agent(pod, &Keys::new(9)).await;
    }
}

#[tokio::test]
async fn a_pod_between_its_sessions_is_quarantined_too() {
    let world = world().await;
    let (idle, waiting) = (world.pod("p1"), world.pod("p2"));
    world.agent(&idle, &Keys::new(1)).await;
    // Longer than its token lives.
    world.clock.advance(400);
    let launched = World::launched(world.launch(&waiting, &Keys::new(2)).await);
    let struck = revoke(&world, &json!({"app": "shop/orders"})).await.ok();
    assert_eq!(
        struck,
        json!({
            "selector": "app", "target": "shop/orders", "dry_run": false, "pods": 2, "agents": 0, "delegations": 0,
            "launch_tokens": 1, "sessions_ended": 0, "pods_quarantined": 2,
        })
    );
    let late = world.register(&launched, &Keys::new(2)).await;
    assert_eq!(late.refusal(), (403, "revoked"));
    assert_eq!(world.launch(&idle, &Keys::new(1)).await.refusal(), (403, "revoked"));
    // It is no policy: a pod that starts later is another.
    world.agent(&world.pod("p3"), &Keys::new(3)).await;
}

#[tokio::test]
async fn what_was_delegated_ends_with_either_side() {
    let world = world().await;
    let first = pod(&world, "p1", "shop", "reader", "reader", "node-1");
    let holder = pod(&world, "p2", "shop", "reader", "reader", "node-2");
    let (from, to) = (
        world.agent(&first, &Keys::new(1)).await,
        world.agent(&holder, &Keys::new(2)).await,
    );
    let back = token(delegate(&world, &to, &from).await);
    let given = token(delegate(&world, &from, &to).await);
    let struck = revoke(&world, &json!({"node": "node-2"})).await.ok();
    assert_eq!(
        (&struck["agents"], &struck["delegations"], &struck["sessions_ended"]),
        (&json!(1), &json!(2), &json!(2)),
        "its session, and what it held"
    );
    assert!(world.stands(&from).await);
    for dead in [&to, &given, &back] {
        assert!(!world.stands(dead).await);
    }
    assert_eq!(delegate(&world, &from, &to).await.refusal(), (404, "not_found"));
}

/// The switch comes at one replica, for a node, while pods of that node do at another what they can.
async fn race(switch: &World, at: &World, admin: &str, round: u8) {
    let node = format!("node-of-{round}");
    let pod = |name: &str, node: &str| pod(at, &format!("{name}-{round}"), "shop", "reader", "reader", node);
    let keys = |number: u8| Keys::numbered(u64::from(round) * 8 + u64::from(number));
    let turn = round % 12;
    let (old, new, late) = (pod("old", &node), pod("new", &node), pod("late", &node));
    let outsider = at.agent(&pod("outside", "elsewhere"), &keys(3)).await;
    let held = at.agent(&old, &keys(1)).await;
    let launched = World::launched(at.launch(&new, &keys(2)).await);
    let unused = World::launched(at.launch(&late, &keys(4)).await);
    let order = json!({"node": node});
    let (renewed, registered, given, received, struck) = tokio::join!(
        at.renew(&held),
        async {
            // So that the switch comes at another point each time.
            for _ in 0..turn {
                tokio::task::yield_now().await;
            }
            at.register(&launched, &keys(2)).await
        },
        delegate(at, &held, &outsider),
        delegate(at, &outsider, &held),
        async {
            for _ in turn..12 {
                tokio::task::yield_now().await;
            }
            switch.call("POST", "/v1/admin/revoke-matching", admin, &order).await
        },
    );
    struck.ok();
    // The store decides: what comes after the answer is refused at once, wherever it comes.
    let refused = at.register(&unused, &keys(4)).await;
    assert_eq!(refused.refusal(), (403, "revoked"), "round {round}");
    let mut dead = vec![held];
    for answer in [renewed, registered, given, received] {
        if answer.is_success() {
            dead.push(answer.body["access_token"].as_str().unwrap().to_owned());
        }
    }
    for token in &dead {
        assert!(!switch.stands(token).await, "round {round}");
        // It hears of it, or looks by itself.
        while at.stands(token).await {
            tokio::task::yield_now().await;
        }
        assert!(!at.renew(token).await.is_success(), "round {round}");
    }
    assert!(switch.stands(&outsider).await && at.stands(&outsider).await);
    // Within the burst that each pod has: their clock is the database's, which no test moves.
    for pod in [&old, &new, &late] {
        assert_eq!(at.launch(pod, &keys(5)).await.refusal(), (403, "revoked"));
    }
}

#[tokio::test]
async fn a_pod_that_races_with_the_switch_keeps_nothing() {
    let world = world().await;
    let admin = world.login().await;
    for round in 0..12 {
        race(&world, &world, &admin, round).await;
    }
}

#[tokio::test]
async fn a_pod_that_races_at_another_replica_keeps_nothing() {
    let (one, two) = World::replicas().await;
    let one = one.with_policies().await;
    let admin = one.login().await;
    for round in 0..12 {
        race(&one, &two, &admin, round).await;
        race(&two, &one, &admin, round + 12).await;
    }
}

#[tokio::test]
async fn all_asks_for_the_installation_and_begins_an_epoch() {
    let world = world().await;
    let pod = world.pod("p1");
    let held = world.agent(&pod, &Keys::new(1)).await;
    let launched = World::launched(world.launch(&world.pod("p2"), &Keys::new(2)).await);
    let unnamed = revoke(&world, &json!({"all": true})).await;
    unnamed.refused_like(400, "invalid_request", INSTALLATION);
    for body in [
        json!({"all": true, "installation": "test/agentwrit"}),
        json!({"all": true, "installation": "test/agentwrit", "dry_run": true}),
        json!({"namespace": "shop", "installation": "test/agentwrit"}),
    ] {
        let other = revoke(&world, &body).await;
        other.refused_like(
            409,
            "conflict",
            "this is installation \"agentwrit-system/agentwrit\", not \"test/agentwrit\"",
        );
    }
    let counted = revoke(&world, &json!({"all": true, "dry_run": true})).await.ok();
    assert_eq!(
        counted,
        json!({
            "selector": "all", "target": INSTALLATION, "dry_run": true, "pods": 2, "agents": 1, "delegations": 0,
            "launch_tokens": 1, "sessions_ended": 0, "pods_quarantined": 0,
        })
    );
    assert!(world.stands(&held).await);
    let before = world.state.store.epoch();
    let struck = revoke(&world, &json!({"all": true, "installation": INSTALLATION}))
        .await
        .ok();
    let epoch = world.state.store.epoch();
    assert_ne!(epoch, before);
    assert_eq!(
        (&struck["epoch"], &struck["sessions_ended"], &struck["pods_quarantined"]),
        (&json!(epoch), &json!(1), &json!(0))
    );
    assert!(!world.stands(&held).await);
    assert!(!world.register(&launched, &Keys::new(2)).await.is_success());
    world.forget_admin();
    let told = world.last("epoch_begun").await;
    let detail = told["detail"].as_str().unwrap();
    assert!(
        detail.starts_with("all is revoked: pods=2 agents=1 delegations=0 launch_tokens=1; old epoch="),
        "{told}"
    );
    world.clock.advance(30);
    world.agent(&pod, &Keys::new(1)).await;
}

#[tokio::test]
async fn without_an_installation_the_trust_domain_is_asked_for() {
    let world = World::new().await.with_policies().await;
    let order = |name: &str| json!({"all": true, "installation": name});
    assert_eq!(revoke(&world, &order("agentwrit")).await.status, 409);
    let struck = revoke(&world, &order("agentwrit.local")).await.ok();
    assert_eq!(struck["target"], "agentwrit.local");
}

#[tokio::test]
async fn only_an_admin_that_may_revoke_has_the_switch() {
    let world = world().await;
    let agent = world.agent(&world.pod("p1"), &Keys::new(1)).await;
    let order = json!({"namespace": "shop"});
    let path = "/v1/admin/revoke-matching";
    assert_eq!(world.call("POST", path, &agent, &order).await.status, 403);
    assert_eq!(world.call("POST", path, "", &order).await.status, 401);
    let auditor = world.sign("admin", &["admin:audit:*"]);
    assert_eq!(world.call("POST", path, &auditor, &order).await.status, 403);
    let both = revoke(&world, &json!({"namespace": "shop", "node": "node-1"})).await;
    both.refused_like(400, "invalid_request", "exactly one of");
    assert!(world.stands(&agent).await);
}

/// A pod's row of before says where it ran by its last session.
#[tokio::test]
async fn pods_of_an_earlier_build_are_found_as_well() {
    let world = world().await;
    let held = world.agent(&world.pod("p1"), &Keys::new(1)).await;
    let world = world
        .restarted_after(|folder| {
            let store = rusqlite::Connection::open(folder.join("data.db")).unwrap();
            let before = "DROP INDEX pods_namespace; DROP INDEX pods_node; ALTER TABLE pods DROP COLUMN node; \
                          ALTER TABLE pods DROP COLUMN service_account; ALTER TABLE pods DROP COLUMN policy; \
                          ALTER TABLE pods DROP COLUMN orch_id; ALTER TABLE policies DROP COLUMN room_until; \
                          DROP INDEX policies_client; ALTER TABLE policies DROP COLUMN client_id; \
                          PRAGMA user_version = 14";
            store.execute_batch(before).unwrap();
        })
        .await;
    for selector in [
        json!({"namespace": "shop"}),
        json!({"app": "shop/orders"}),
        json!({"policy": "shop/reader"}),
        json!({"node": "node-1"}),
        json!({"service_account": "shop/reader"}),
    ] {
        let mut dry = selector.clone();
        dry["dry_run"] = json!(true);
        assert_eq!(revoke(&world, &dry).await.ok()["agents"], 1, "{selector}");
    }
    revoke(&world, &json!({"node": "node-1"})).await.ok();
    assert!(!world.stands(&held).await);
}
