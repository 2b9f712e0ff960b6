//! What the start of an application waits for, as the kubelet does it.

use agentwrit_protocol::inject::{self, ANNOTATION_LAUNCH_TOKEN, ANNOTATION_START_GATE, ANNOTATION_TOKEN_FILE_GID};
use serde_json::json;

use crate::support::cluster::shared;
use crate::support::pod::{POD_START, PodSpec, app_started, container, describe, is_ready};
use crate::support::shop::Shop;
use crate::support::wait::{eventually, seconds};

/// A pod whose ordinary init container, right behind the sidecar, says who it is if it finds a token at its first look.
fn looks_once(name: &str, gate: &str) -> PodSpec {
    let mut spec = PodSpec::reader(name).annotation(ANNOTATION_START_GATE, gate);
    spec.0["spec"]["restartPolicy"] = json!("Never");
    let check = container("check", &["client", "--once", "--service-url=http://127.0.0.1:9"]);
    spec.0["spec"]["initContainers"] = json!([check]);
    spec
}

#[tokio::test]
async fn a_hook_holds_the_application_until_the_token_is_there() {
    let _installation = shared().await;
    let shop = Shop::open("hook").await;
    shop.create_pod(&looks_once("reader", "hook")).await;
    shop.log_line("reader", "check", &["I am spiffe://"], POD_START).await;
    let log = shop.logs("reader", "check");
    assert!(!log.contains("no token"), "{log}");
}

#[tokio::test]
async fn a_hook_that_waits_in_vain_says_why_and_lets_go() {
    let _installation = shared().await;
    let shop = Shop::open("vain").await;
    let spec = looks_once("reader", "hook").annotation(ANNOTATION_LAUNCH_TOKEN, "late");
    shop.create_pod(&spec).await;
    // The kubelet says only that a hook failed; the broker's reason stands beside it.
    let reason = shop.event("reader", &["PostStartHook failed"], POD_START).await;
    assert_eq!(reason, "FailedPostStartHook");
    shop.event("reader", &["late", "no LaunchToken of that name"], seconds(10))
        .await;
    assert!(!app_started(&shop.pod("reader").await));
    shop.delete_pod("reader", false).await;
    shop.pod_gone("reader").await;
}

#[tokio::test]
async fn without_a_gate_the_application_starts_before_its_token() {
    let _installation = shared().await;
    let shop = Shop::open("gateless").await;
    let spec = PodSpec::reader("reader").annotation(ANNOTATION_START_GATE, "none");
    shop.create_pod(&spec.annotation(ANNOTATION_LAUNCH_TOKEN, "late")).await;
    eventually("the application runs without a token", POD_START, async || {
        let pod = shop.pod("reader").await;
        assert!(!is_ready(&pod), "Ready without a token");
        app_started(&pod).then_some(()).ok_or_else(|| describe(&pod))
    })
    .await;
    shop.launch_token("late", "orders", &["read:orders:*"]).await;
    // The sidecar asks again at least once a minute.
    shop.pod_ready("reader", seconds(100)).await;
}

#[tokio::test]
async fn a_token_file_for_one_group_is_read_by_its_members() {
    let _installation = shared().await;
    let shop = Shop::open("group").await;
    let spec = looks_once("reader", "probe").annotation(ANNOTATION_TOKEN_FILE_GID, "2000");
    let pod = shop.create_pod(&spec).await;
    let security = pod.spec.and_then(|spec| spec.security_context).unwrap();
    assert_eq!(security.supplemental_groups, Some(vec![2000]));
    shop.log_line("reader", "check", &["I am spiffe://"], POD_START).await;
    let log = shop.logs("reader", inject::CONTAINER_NAME);
    assert!(!log.contains("can't be written"), "{log}");
}
