//! When the pod ends, its authority ends.

use std::time::Duration;

use agentwrit_protocol::inject;

use crate::support::broker::Broker;
use crate::support::cluster::{alone, kubectl, shared};
use crate::support::pod::{PodSpec, app, sidecar};
use crate::support::shop::Shop;
use crate::support::wait::{eventually, seconds};

const PROMISED: Duration = Duration::from_secs(2);

/// The pod has just gone: its token is refused within what was promised.
async fn refused_in_time(broker: &Broker, token: &str) {
    let ((), after) = eventually("the token is refused", seconds(20), async || {
        broker.refuses(token).await
    })
    .await;
    assert!(
        after <= PROMISED,
        "refused {:.1} s after the pod's end",
        after.as_secs_f32()
    );
}

#[tokio::test]
async fn a_deleted_pods_token_is_refused_within_two_seconds() {
    let _installation = shared().await;
    let shop = Shop::open("deleted").await;
    let uid = shop.running_pod(&PodSpec::reader("reader")).await;
    let broker = shop.broker().await;
    let token = shop.token("reader").unwrap();
    broker.claims(&token).await.expect("the token stands");
    shop.delete_pod("reader", false).await;
    shop.pod_gone("reader").await;
    refused_in_time(&broker, &token).await;
    // The sidecar gave it back on SIGTERM: the first line.
    let types = broker.trail_types(&uid).await;
    assert!(types.iter().any(|found| found == "token_released"), "{types:?}");
}

/// The second line: nobody says goodbye, and the controller sees the pod go.
#[tokio::test]
async fn a_pod_that_is_torn_away_loses_its_token_within_two_seconds() {
    let _installation = shared().await;
    let shop = Shop::open("torn").await;
    let uid = shop.running_pod(&PodSpec::reader("reader")).await;
    let broker = shop.broker().await;
    let token = shop.token("reader").unwrap();
    shop.kill("reader", sidecar).await;
    shop.delete_pod("reader", true).await;
    shop.pod_gone("reader").await;
    refused_in_time(&broker, &token).await;
    broker.records(&uid, "pod_ended").await;
}

/// What the policy of the chart does about changes of our labels on pods.
fn changed_labels_are(action: &str) {
    let policy = "validatingadmissionpolicybinding/agentwrit-injected-pods";
    let patch = format!(r#"{{"spec": {{"validationActions": [{action}"Audit"]}}}}"#);
    kubectl(&["patch", policy, "--type=merge", "--patch", &patch]).expect("the policy's binding is changed");
}

/// The label is a hint only: without it, the next look at the broker is soon enough at the latest. The chart's policy
/// refuses to take it off, but a platform team may have turned the policy off.
#[tokio::test]
async fn a_pod_torn_away_without_its_label_loses_its_token_too() {
    let installation = alone().await;
    let shop = Shop::open("unlabelled").await;
    let uid = shop.running_pod(&PodSpec::reader("reader")).await;
    let broker = shop.broker().await;
    let token = shop.token("reader").unwrap();
    let label = format!("{}-", inject::LABEL_INJECTED);
    let unlabel = || kubectl(&["--namespace", &shop.namespace, "label", "pod", "reader", &label]);
    let refusal = unlabel().expect_err("the policy refuses it");
    assert!(refusal.contains(inject::LABEL_INJECTED), "{refusal}");
    changed_labels_are("");
    let unlabelled = eventually("the label is taken off", seconds(10), async || unlabel()).await;
    changed_labels_are("\"Deny\", ");
    assert!(unlabelled.0.contains("reader"), "{}", unlabelled.0);
    let _installation = installation.downgrade();
    shop.kill("reader", sidecar).await;
    broker
        .claims(&token)
        .await
        .expect("the token stands while the pod runs");
    shop.delete_pod("reader", true).await;
    shop.pod_gone("reader").await;
    eventually("the token is refused", seconds(12), async || {
        broker.refuses(&token).await
    })
    .await;
    broker.records(&uid, "pod_ended").await;
}

#[tokio::test]
async fn a_pod_that_has_succeeded_holds_no_authority() {
    let _installation = shared().await;
    let shop = Shop::open("succeeded").await;
    let mut spec = PodSpec::reader("reader");
    spec.0["spec"]["restartPolicy"] = serde_json::json!("Never");
    let uid = shop.running_pod(&spec).await;
    let broker = shop.broker().await;
    let token = shop.token("reader").unwrap();
    shop.kill("reader", app).await;
    eventually("the pod has ended", seconds(40), async || {
        let status = shop.pod("reader").await.status;
        let phase = status.and_then(|status| status.phase).unwrap_or_default();
        if ["Failed", "Succeeded"].contains(&phase.as_str()) {
            Ok(())
        } else {
            Err(phase)
        }
    })
    .await;
    eventually("the token is refused", PROMISED, async || broker.refuses(&token).await).await;
    broker.records(&uid, "pod_ended").await;
    kubectl(&["--namespace", &shop.namespace, "get", "pod", "reader"]).expect("its object is still there");
}
