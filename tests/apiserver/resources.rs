//! Resources of the sidecar where the namespace or the pod has rules of its own.

use http::Method;
use k8s_openapi::api::core::v1::{LimitRange, ResourceQuota};
use kube::Api;
use kube::api::PostParams;
use serde_json::{Value, json};

use crate::objects::{create_pod, pod_json, sentence, try_create_pod, warnings};
use crate::world::{World, wait};

fn annotated(name: &str, annotations: &[(&str, &str)]) -> Value {
    let mut pod = pod_json();
    pod["metadata"]["name"] = json!(name);
    pod["spec"]["containers"][0]["resources"] = json!({
        "requests": {"cpu": "200m", "memory": "128Mi"}, "limits": {"cpu": "200m", "memory": "128Mi"},
    });
    for (key, value) in annotations {
        pod["metadata"]["annotations"][format!("agentwrit.io/sidecar-{key}")] = json!(value);
    }
    pod
}

async fn limit_range(world: &World, limit: Value) {
    let object = json!({"metadata": {"name": "limits"}, "spec": {"limits": [limit]}});
    let ranges: Api<LimitRange> = Api::namespaced(world.client.clone(), &world.namespace);
    let range = serde_json::from_value(object).unwrap();
    ranges.create(&PostParams::default(), &range).await.unwrap();
}

#[tokio::test]
async fn a_limit_ranges_minimum_is_met_by_annotations() {
    let world = World::new("resources").await;
    limit_range(
        &world,
        json!({"type": "Container", "min": {"cpu": "150m", "memory": "64Mi"}, "max": {"cpu": "1", "memory": "1Gi"}}),
    )
    .await;
    // The API server takes a moment to hear of it.
    let refused = wait("the LimitRange counts", || async {
        try_create_pod(&world, annotated("plain", &[])).await.err()
    })
    .await;
    let refused = refused.to_string();
    assert!(refused.contains("minimum") && refused.contains("64Mi"), "{refused}");
    let half = annotated("half", &[("memory-request", "64Mi")]);
    let refused = sentence(try_create_pod(&world, half).await);
    assert!(refused.contains("minimum cpu usage"), "{refused}");
    let both = annotated("both", &[("memory-request", "64Mi"), ("cpu-request", "150m")]);
    let pod = serde_json::to_value(create_pod(&world, both).await).unwrap();
    let right = json!({"cpu": "150m", "memory": "64Mi"});
    assert_eq!(
        pod["spec"]["initContainers"][0]["resources"],
        json!({"requests": right, "limits": right})
    );
    world.done().await;
}

#[tokio::test]
async fn a_limit_ranges_defaults_dont_replace_ours() {
    let world = World::new("resources").await;
    limit_range(
        &world,
        json!({"type": "Container", "default": {"cpu": "1", "memory": "1Gi"}, "defaultRequest": {"cpu": "1", "memory": "1Gi"}}),
    )
    .await;
    let plain = pod_json();
    let pod = wait("the LimitRange counts", || async {
        let dry_run = PostParams {
            dry_run: true,
            ..PostParams::default()
        };
        let pods = crate::objects::pods(&world);
        let shown = pods
            .create(&dry_run, &serde_json::from_value(plain.clone()).unwrap())
            .await;
        let shown = serde_json::to_value(shown.unwrap()).unwrap();
        let defaulted = shown["spec"]["containers"][0]["resources"]["limits"]["memory"] == "1Gi";
        defaulted.then_some(shown)
    })
    .await;
    let right = json!({"cpu": "100m", "memory": "16Mi"});
    assert_eq!(
        pod["spec"]["initContainers"][0]["resources"],
        json!({"requests": right, "limits": right})
    );
    world.done().await;
}

#[tokio::test]
async fn the_sidecar_counts_in_a_quota_and_can_ask_for_less() {
    let world = World::new("resources").await;
    let quota = json!({"metadata": {"name": "quota"}, "spec": {"hard": {
        "requests.cpu": "220m", "limits.cpu": "300m", "requests.memory": "136Mi", "limits.memory": "256Mi",
    }}});
    let quotas: Api<ResourceQuota> = Api::namespaced(world.client.clone(), &world.namespace);
    let quota = serde_json::from_value(quota).unwrap();
    quotas.create(&PostParams::default(), &quota).await.unwrap();
    wait("the quota is counted", || async {
        quotas.get_status("quota").await.unwrap().status?.hard
    })
    .await;
    // Of class Guaranteed, and so it stays.
    let refused = sentence(try_create_pod(&world, annotated("plain", &[])).await);
    assert!(
        refused.contains("exceeded quota") && refused.contains("requests.cpu=300m"),
        "{refused}"
    );
    let less = [("cpu-request", "20m"), ("memory-request", "8Mi")];
    create_pod(&world, annotated("less", &less)).await;
    world.done().await;
}

#[tokio::test]
async fn a_quota_for_cpu_limits_gives_the_sidecar_one() {
    let world = World::new("resources").await;
    let mut pod = annotated("shop", &[]);
    pod["spec"]["containers"][0]["resources"] = json!({"limits": {"cpu": "200m"}});
    let quotas: Api<ResourceQuota> = Api::namespaced(world.client.clone(), &world.namespace);
    let dry_run = PostParams {
        dry_run: true,
        ..PostParams::default()
    };
    let sidecar = async || {
        let pod = serde_json::from_value(pod.clone()).unwrap();
        let created = crate::objects::pods(&world).create(&dry_run, &pod).await.ok()?;
        let created = serde_json::to_value(created).unwrap();
        Some(created["spec"]["initContainers"][0]["resources"].clone())
    };
    let usual = json!({"requests": {"cpu": "5m", "memory": "16Mi"}, "limits": {"memory": "16Mi"}});
    let even = json!({"cpu": "100m", "memory": "16Mi"});
    let limited = json!({"requests": even, "limits": even});
    assert_eq!(sidecar().await, Some(usual.clone()), "it asks for what it uses");
    for (hard, right) in [("pods", &usual), ("limits.cpu", &limited)] {
        let quota = json!({"metadata": {"name": hard}, "spec": {"hard": {hard: "10"}}});
        let quota = serde_json::from_value(quota).unwrap();
        quotas.create(&PostParams::default(), &quota).await.unwrap();
        wait("the quota is known to the API server and to the webhook", || async {
            quotas.get_status(hard).await.unwrap().status?.hard?;
            (sidecar().await.as_ref() == Some(right)).then_some(())
        })
        .await;
    }
    quotas
        .delete("limits.cpu", &kube::api::DeleteParams::default())
        .await
        .unwrap();
    wait("the sidecar needs no limit any more", || async {
        (sidecar().await.as_ref() == Some(&usual)).then_some(())
    })
    .await;
    world.done().await;
}

#[tokio::test]
async fn resources_of_the_pod_itself_leave_room_for_the_sidecar() {
    let world = World::new("resources").await;
    let path = format!("/api/v1/namespaces/{}/pods?dryRun=All", world.namespace);
    let create = |annotations: &[(&str, &str)], cpu: &str| {
        let mut pod = annotated("shop", annotations);
        pod["apiVersion"] = json!("v1");
        pod["kind"] = json!("Pod");
        pod["spec"]["containers"][0]
            .as_object_mut()
            .unwrap()
            .remove("resources");
        pod["spec"]["resources"] = json!({
            "requests": {"cpu": cpu, "memory": "64Mi"}, "limits": {"cpu": cpu, "memory": "64Mi"},
        });
        let (world, path) = (&world, &path);
        async move { warnings(world, Method::POST, path, &pod).await }
    };
    let created = create(&[], "50m").await;
    assert!(created.is_ok(), "{created:?}");
    let refused = create(&[], "4m").await.unwrap_err();
    assert!(
        refused.contains("spec.initContainers[0].resources") || refused.contains("spec.resources"),
        "{refused}"
    );
    let created = create(&[("cpu-request", "2m")], "4m").await;
    assert!(created.is_ok(), "{created:?}");
    world.done().await;
}

#[tokio::test]
async fn annotations_out_of_the_bounds_are_refused() {
    let world = World::new("resources").await;
    for (key, value, bounds) in [
        ("memory-limit", "8Mi", "between 16Mi and 1Gi"),
        ("memory-request", "2Gi", "between 4Mi and 1Gi"),
        ("cpu-request", "fast", "between 1m and 2"),
        ("cpu-limit", "1m", "between 10m and 2, or \"none\""),
    ] {
        let refused = sentence(try_create_pod(&world, annotated("shop", &[(key, value)])).await);
        let start = format!("annotation agentwrit.io/sidecar-{key}: {value:?} is not usable; it must be");
        assert!(refused.contains(&start) && refused.contains(bounds), "{refused}");
    }
    let pod = create_pod(&world, annotated("free", &[("cpu-limit", "none")])).await;
    let pod = serde_json::to_value(pod).unwrap();
    let limits = &pod["spec"]["initContainers"][0]["resources"]["limits"];
    assert_eq!(*limits, json!({"memory": "16Mi"}));
    world.done().await;
}
