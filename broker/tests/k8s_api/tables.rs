//! No table grows with what has passed: of many cycles of all kinds of work the store keeps what it keeps of one.

use std::collections::BTreeMap;

use agentwrit_store::content::TABLES;
use agentwrit_testkit::{Keys, World, claims};
use serde_json::{Value, json};

/// Longer than anything is kept.
const LONG: i64 = 400 * 86_400;
/// Has a bound of its own, whatever the time (`denials.rs`).
const BY_NUMBER: &str = "denials";
const READ: [&str; 1] = ["read:orders:*"];

fn member(token: &str, name: &str) -> String {
    claims(token)[name].as_str().unwrap().to_owned()
}

fn rows(world: &World) -> BTreeMap<&'static str, i64> {
    let tables = TABLES.iter().map(|table| table.name).filter(|name| *name != BY_NUMBER);
    tables.map(|name| (name, world.rows(name))).collect()
}

/// Objects and pods that come, do all that can be done, and go; the rows before they go.
async fn cycle(world: &World, number: u8) -> BTreeMap<&'static str, i64> {
    world.put_app(&world.app(i64::from(number), "ready", &READ)).await.ok();
    let mut policy = world.launch_token(i64::from(number), "ready", &READ);
    let uid = format!("ltok-{number}");
    policy["uid"] = json!(uid);
    world.put_launch_token(&policy).await.ok();
    let pods: Vec<_> = (1..=4)
        .map(|pod| world.pod(&format!("cycle-{number}-pod-{pod}")))
        .collect();
    let mut tokens = Vec::new();
    for (seed, pod) in (1..).zip(&pods) {
        let keys = Keys::new(seed);
        // A launch that is never used, and a second agent in place of the first.
        world.launch(pod, &keys).await.ok();
        world.agent(pod, &keys).await;
        let token = world.agent(pod, &keys).await;
        let renewed = world
            .renew_with(&token, &format!("{number}-{seed}"), &Value::Null)
            .await;
        tokens.push(renewed.ok()["access_token"].as_str().unwrap().to_owned());
    }
    let body = json!({"delegate_to": member(&tokens[1], "sub"), "scope": READ, "ttl": 60});
    world.call("POST", "/v1/delegate", &tokens[0], &body).await.ok();
    for (level, name, token) in [("token", "jti", 0), ("agent", "sub", 1), ("task", "task_id", 2)] {
        world.revoke(level, &json!(member(&tokens[token], name))).await;
    }
    world.revoke("chain", &json!(member(&tokens[3], "sub"))).await;
    let full = rows(world);
    for pod in &pods {
        world.end_pod(&pod.uid).await.ok();
    }
    let order = world.order();
    let (epoch, sequence) = (&order["lease_epoch"], &order["sequence"]);
    let query = format!("uid={uid}&lease_epoch={epoch}&sequence={sequence}&revoke=true");
    let path = format!("/v1/k8s/policies/launch-tokens/shop/reader?{query}");
    world.as_controller("DELETE", &path, &Value::Null).await.ok();
    full
}

#[tokio::test]
async fn no_table_grows_with_what_has_passed() {
    let world = World::new().await;
    let mut seen: BTreeMap<&str, i64> = BTreeMap::new();
    let mut kept: Vec<BTreeMap<&str, i64>> = Vec::new();
    for number in 1..=4 {
        let full = cycle(&world, number).await;
        for (name, count) in full.into_iter().chain(rows(&world)) {
            let most = seen.entry(name).or_default();
            *most = count.max(*most);
        }
        world.clock.advance(LONG);
        // A session goes after its status index is free again.
        world.tidy().await;
        world.tidy().await;
        kept.push(rows(&world));
    }
    let unused: Vec<_> = seen
        .iter()
        .filter(|(_, most)| **most == 0)
        .map(|(name, _)| *name)
        .collect();
    assert_eq!(unused, ["apps"], "tables of which this test proves nothing");
    let (first, last) = (kept.first().unwrap(), kept.last().unwrap());
    let grown: Vec<_> = last.iter().filter(|(name, count)| **count > first[*name]).collect();
    assert_eq!(grown, [], "after one cycle there were {first:?}");
}
