//! The mark that the controller keeps in its Lease.

use std::fs;
use std::path::Path;

use agentwrit_testkit::{Answer, Keys, World, stores};
use serde_json::{Value, json};

async fn show(world: &World, mark: &Value) -> Answer {
    world
        .as_controller("POST", "/v1/k8s/mark", &json!({"mark": mark}))
        .await
}

/// The same after a restart, and a copy of its store.
async fn copied(world: World) -> (World, stores::Copy) {
    let mut copy = None;
    let world = world
        .restarted_after(|folder| copy = Some(stores::Copy::of(folder)))
        .await;
    (world, copy.unwrap())
}

/// The same after a restart on a volume that was put back from a copy, with the mark that was on it.
async fn put_back(world: World, copy: &stores::Copy) -> World {
    let write = |folder: &Path| {
        copy.put_back();
        fs::remove_file(folder.join("signing.key.mark")).unwrap();
    };
    world.restarted_after(write).await
}

#[tokio::test]
async fn a_restored_volume_is_noticed_by_the_controllers_mark() {
    let world = World::new().await.with_policies().await;
    world.clock.advance_millis(999);
    let (pod, keys) = (world.pod("p1"), Keys::new(1));
    let token = world.agent(&pod, &keys).await;
    let bystander = world.agent(&world.pod("p2"), &keys).await;
    let first = show(&world, &json!("")).await.ok();
    assert_eq!(first["restored"], json!(false));
    let (world, copy) = copied(world).await;
    world.revoke("task", &json!("p1")).await;
    let kept = show(&world, &json!(first["mark"].to_string())).await.ok();
    assert_eq!(
        (&kept["restored"], &kept["mark"]["epoch"]),
        (&json!(false), &first["mark"]["epoch"])
    );
    world.clock.advance(60);
    let world = put_back(world, &copy).await;
    assert!(world.stands(&token).await, "the copy knows of no revocation");

    let found = show(&world, &json!(kept["mark"].to_string())).await;
    let epoch = found.body["mark"]["epoch"].as_str().unwrap().to_owned();
    assert_eq!(found.headers["agentwrit-epoch"], epoch.as_str());
    assert_eq!(found.ok()["restored"], json!(true));
    assert_ne!(json!(epoch), kept["mark"]["epoch"]);
    for old in [&token, &bystander] {
        assert!(!world.stands(old).await);
        assert_ne!(world.renew(old).await.status, 200);
    }
    let again = show(&world, &json!(kept["mark"].to_string())).await.ok();
    assert_eq!(
        (&again["restored"], &again["mark"]["epoch"]),
        (&json!(false), &json!(epoch))
    );
    // Others register again; whom people had revoked they revoke once more.
    assert!(world.stands(&world.agent(&world.pod("p2"), &keys).await).await);
    world.revoke("task", &json!("p1")).await;
    assert_eq!(world.launch(&pod, &keys).await.refusal(), (403, "revoked"));
    let events = world.events("event_type=store_restored").await;
    assert_eq!(events.len(), 1);
    let detail = events[0]["detail"].as_str().unwrap();
    assert!(
        detail.starts_with("rule=lower_sequence by=the controller's Lease; "),
        "{detail}"
    );
}

#[tokio::test]
async fn one_request_compares_the_mark_and_lists_everything() {
    let world = World::new().await.with_policies().await;
    world.agent(&world.pod("p1"), &Keys::new(1)).await;
    let ask = async |mark: &str, list: bool| {
        let body = json!({"mark": mark, "list": list});
        world.as_controller("POST", "/v1/k8s/mark", &body).await.ok()
    };
    let whole = ask("", true).await;
    let alone = world.as_controller("GET", "/v1/k8s/policies", &json!(null)).await.ok();
    assert_eq!(whole["list"], alone);
    assert_eq!(whole["list"]["pods"].as_array().map(Vec::len), Some(1));
    assert_eq!(ask("", false).await.get("list"), None);

    let another = ask("a mark of another store", true).await;
    assert_eq!(another["restored"], json!(true));
    assert_eq!(
        another["list"]["epoch"], another["mark"]["epoch"],
        "read after the comparison"
    );
    assert_ne!(another["list"]["epoch"], alone["epoch"]);
}

#[tokio::test]
async fn a_text_that_is_no_mark_is_one_of_an_unknown_epoch() {
    let world = World::new().await.with_policies().await.restarted().await;
    world.clock.advance_millis(999);
    let token = world.agent(&world.pod("p1"), &Keys::new(1)).await;
    world.clock.advance(1);
    assert_eq!(show(&world, &json!(1)).await.refusal(), (400, "invalid_request"));
    assert!(world.stands(&token).await);
    assert_eq!(
        show(&world, &json!("?".repeat(60_000))).await.ok()["restored"],
        json!(true)
    );
    assert!(!world.stands(&token).await);
    let detail = world.events("event_type=store_restored").await[0]["detail"].clone();
    let detail = detail.as_str().unwrap();
    assert!(
        detail.starts_with("rule=unreadable_mark ") && detail.len() < 1024,
        "{detail}"
    );
}
