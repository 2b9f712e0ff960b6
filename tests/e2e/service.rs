//! The purpose: an application calls a protected service with a token that it never asked for.

use k8s_openapi::api::batch::v1::Job;
use kube::Api;
use kube::api::PostParams;
use serde_json::json;

use crate::support::cluster::shared;
use crate::support::pod::{POD_START, PodSpec, pod_template_spec};
use crate::support::shop::{Shop, from};
use crate::support::wait::{eventually, seconds};

#[tokio::test]
async fn the_service_allows_what_the_scope_covers_and_nothing_else() {
    let _installation = shared().await;
    let shop = Shop::open("service").await;
    shop.orders_service();
    shop.running_pod(&PodSpec::reader("reader")).await;
    shop.log_line("reader", "app", &["GET /orders -> 200"], seconds(20))
        .await;
    let refused = shop.log_line("reader", "app", &["POST /orders -> "], seconds(20)).await;
    assert_eq!(refused, "POST /orders -> 403 the token lacks the scope write:orders:*");
}

#[tokio::test]
async fn a_job_with_an_injected_pod_completes() {
    let _installation = shared().await;
    let shop = Shop::open("job").await;
    shop.orders_service();
    let mut template = pod_template_spec(&["client", "--once"]);
    template["restartPolicy"] = json!("Never");
    let manifest = json!({
        "apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "report"},
        "spec": {"backoffLimit": 0, "template": {
            "metadata": {
                "labels": {"agentwrit.io/inject": "true"},
                "annotations": {"agentwrit.io/launch-token": "order-reader"},
            },
            "spec": template,
        }},
    });
    let jobs: Api<Job> = shop.api();
    jobs.create(&PostParams::default(), &from(manifest)).await.unwrap();
    eventually("the Job is complete", POD_START, async || {
        let status = jobs
            .get("report")
            .await
            .map_err(|error| error.to_string())?
            .status
            .unwrap_or_default();
        assert_eq!(status.failed.unwrap_or(0), 0, "the Job's pod failed");
        if status.succeeded == Some(1) {
            Ok(())
        } else {
            Err(format!("{status:?}"))
        }
    })
    .await;
}
