//! A pod that may not be launched waits, says why, and starts when that is repaired.

use std::time::Duration;

use agentwrit_protocol::inject;
use serde_json::json;

use crate::support::cluster::shared;
use crate::support::pod::{PodSpec, sidecar};
use crate::support::shop::Shop;
use crate::support::wait::{eventually, seconds};

/// The sidecar asks again at least once a minute.
const REPAIRED: Duration = seconds(100);

/// Nothing was issued, the application never ran, and the sidecar is in no crash loop.
async fn assert_waiting(shop: &Shop, name: &str, uid: &str) {
    shop.pod_waits(name, seconds(3)).await;
    let types = shop.broker().await.trail_types(uid).await;
    let issued = ["launch_token_issued", "agent_registered", "token_issued"];
    assert!(!types.iter().any(|found| issued.contains(&found.as_str())), "{types:?}");
}

/// Waits until the LaunchToken isn't Ready for this reason, with these words in the message.
async fn not_ready(shop: &Shop, launch_token: &str, reason: &str, words: &str) {
    eventually("the condition says why", seconds(45), async || {
        let (status, found, message) = shop.condition(launch_token).await?;
        if (status.as_str(), found.as_str()) == ("False", reason) && message.contains(words) {
            Ok(())
        } else {
            Err(format!("{status} {found} {message}"))
        }
    })
    .await;
}

#[tokio::test]
async fn a_pod_waits_for_a_launch_token_that_does_not_exist_yet() {
    let _installation = shared().await;
    let shop = Shop::open("unknown").await;
    let spec = PodSpec::reader("reader").annotation(inject::ANNOTATION_LAUNCH_TOKEN, "late");
    let uid = shop.create_pod(&spec).await.metadata.uid.unwrap();
    shop.event("reader", &["late"], seconds(45)).await;
    shop.log_line(
        "reader",
        inject::CONTAINER_NAME,
        &["launch_token_not_found"],
        seconds(30),
    )
    .await;
    assert_waiting(&shop, "reader", &uid).await;
    shop.launch_token("late", "orders", &["read:orders:*"]).await;
    shop.ready("late").await;
    shop.pod_ready("reader", REPAIRED).await;
    assert_eq!(sidecar(&shop.pod("reader").await).unwrap().restart_count, 0);
}

#[tokio::test]
async fn a_pod_waits_until_its_service_account_is_listed() {
    let _installation = shared().await;
    let shop = Shop::open("account").await;
    let spec = PodSpec::reader("reader").service_account("default");
    let uid = shop.create_pod(&spec).await.metadata.uid.unwrap();
    shop.event("reader", &["default", "order-reader"], seconds(45)).await;
    shop.log_line(
        "reader",
        inject::CONTAINER_NAME,
        &["service_account_not_allowed"],
        seconds(30),
    )
    .await;
    assert_waiting(&shop, "reader", &uid).await;
    shop.launch_token_for(
        "order-reader",
        "orders",
        &["read:orders:*"],
        &["order-reader", "default"],
    )
    .await;
    shop.pod_ready("reader", REPAIRED).await;
}

#[tokio::test]
async fn a_launch_token_of_another_namespace_is_not_found() {
    let _installation = shared().await;
    let theirs = Shop::open("theirs").await;
    theirs.launch_token("only-there", "orders", &["read:orders:*"]).await;
    theirs.ready("only-there").await;
    let ours = Shop::open("ours").await;
    let spec = PodSpec::reader("reader").annotation(inject::ANNOTATION_LAUNCH_TOKEN, "only-there");
    let uid = ours.create_pod(&spec).await.metadata.uid.unwrap();
    ours.log_line(
        "reader",
        inject::CONTAINER_NAME,
        &["launch_token_not_found"],
        seconds(45),
    )
    .await;
    assert_waiting(&ours, "reader", &uid).await;
}

#[tokio::test]
async fn a_policy_over_the_ceiling_is_not_ready_until_the_app_widens() {
    let _installation = shared().await;
    let shop = Shop::open("ceiling").await;
    shop.launch_token("refunds", "orders", &["read:orders:*", "write:refunds:*"])
        .await;
    not_ready(&shop, "refunds", "ScopeExceedsCeiling", "write:refunds:*").await;
    shop.app(&json!(["read:orders:*", "write:orders:*", "write:refunds:*"]))
        .await;
    shop.ready("refunds").await;
    shop.launch_token("orphan", "nobody", &["read:orders:*"]).await;
    not_ready(&shop, "orphan", "AppNotFound", "nobody").await;
}
