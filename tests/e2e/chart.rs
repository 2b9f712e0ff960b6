//! The release: upgraded, removed, installed again.

use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::PostParams;

use crate::support::cluster::{RELEASE, SYSTEM, alone, kubectl, run, script};
use crate::support::pod::{POD_START, PodSpec};
use crate::support::shop::{Shop, from};
use crate::support::wait::{eventually, seconds};

/// A field of the webhook configuration, by its `JSONPath`.
fn webhooks(path: &str) -> String {
    let output = format!("--output=jsonpath={path}");
    kubectl(&["get", "mutatingwebhookconfiguration", "agentwrit-injector", &output]).unwrap()
}

/// metadata.generation, which rises when a webhook changes.
fn generation() -> String {
    webhooks("{.metadata.generation}")
}

fn ca_bundles() -> Vec<String> {
    let text = webhooks("{range .webhooks[*]}{.clientConfig.caBundle}{\"\\n\"}{end}");
    text.lines().map(str::to_owned).collect()
}

#[tokio::test]
async fn an_upgrade_keeps_the_ca_and_an_uninstall_keeps_the_crds() {
    let _installation = alone().await;
    let shop = Shop::open("chart").await;
    let before = ca_bundles();
    assert_eq!(before.len(), 2);
    assert!(
        before.iter().all(|bundle| !bundle.is_empty()),
        "the controller has set both"
    );
    let generation_before = generation();
    let chart = format!("{}/helm/agentwrit", crate::support::cluster::REPO);
    let upgrade = [
        "upgrade",
        RELEASE,
        &chart,
        "--namespace",
        SYSTEM,
        "--reuse-values",
        "--set",
        "controller.logLevel=debug",
    ];
    let output = run("helm", &upgrade).unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    // Not even for a moment: the controller would only mend it.
    assert_eq!(generation(), generation_before, "helm upgrade changed the webhooks");
    assert_eq!(ca_bundles(), before);

    let output = run("helm", &["uninstall", RELEASE, "--namespace", SYSTEM, "--wait"]).unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let kept = kubectl(&[
        "get",
        "crd",
        "agentapps.agentwrit.io",
        "launchtokens.agentwrit.io",
        "--output=name",
    ]);
    let resources = kubectl(&[
        "--namespace",
        &shop.namespace,
        "get",
        "agentapps,launchtokens",
        "--output=name",
    ]);
    // Installed again, whatever was found, so that the next test has its cluster.
    script("install.sh", &[]);
    assert_eq!(kept.unwrap().lines().count(), 2);
    let resources = resources.unwrap();
    assert!(resources.contains("agentapp.agentwrit.io/orders"), "{resources}");
    assert!(
        resources.contains("launchtoken.agentwrit.io/order-reader"),
        "{resources}"
    );
    shop.ready("order-reader").await;
    // A bare pod has nobody who would try again while the new configuration has no caBundle yet.
    let spec = PodSpec::reader("reader");
    let pods: Api<Pod> = shop.api();
    eventually("the webhook answers", seconds(20), async || {
        let created = pods.create(&PostParams::default(), &from(spec.0.clone())).await;
        created.map_err(|error| error.to_string())
    })
    .await;
    shop.pod_ready("reader", POD_START).await;
}
