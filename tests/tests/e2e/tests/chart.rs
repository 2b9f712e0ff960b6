//! The release: upgraded, removed, installed again.

use crate::cluster::{RELEASE, SYSTEM, alone, kubectl, run, script};
use crate::shop::{PodSpec, Shop};

fn ca_bundles() -> Vec<String> {
    let path = "jsonpath={range .webhooks[*]}{.clientConfig.caBundle}{\"\\n\"}{end}";
    let text = kubectl(&[
        "get",
        "mutatingwebhookconfiguration",
        "agentwrit-injector",
        "--output",
        path,
    ])
    .unwrap();
    text.lines().map(str::to_owned).collect()
}

#[tokio::test]
async fn an_upgrade_leaves_the_ca_bundle_and_an_uninstall_leaves_crds_and_custom_resources() {
    let _installation = alone().await;
    let shop = Shop::open("chart").await;
    let before = ca_bundles();
    assert_eq!(before.len(), 2);
    assert!(
        before.iter().all(|bundle| !bundle.is_empty()),
        "the controller has set both"
    );
    let chart = format!("{}/helm/agentwrit", crate::cluster::REPO);
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
    assert_eq!(
        ca_bundles(),
        before,
        "helm upgrade leaves alone what the chart doesn't name"
    );

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
    shop.running_pod(&PodSpec::reader("reader")).await;
}
