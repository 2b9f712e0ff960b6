//! What the webhook refuses or warns of, in words for the person who applies it.

use super::*;

/// What a platform team has every pod changed by, in one namespace: one more variable in all containers, our own
/// included, when `again` by a second look after ours.
async fn adds_a_variable(world: &World, name: &str, again: bool) {
    let expression = r#"Object{spec: Object.spec{
        containers: object.spec.containers.map(c, Object.spec.containers{name: c.name,
            env: [Object.spec.containers.env{name: "HTTPS_PROXY", value: "http://proxy:3128"}]}),
        initContainers: object.spec.?initContainers.orValue([]).map(c, Object.spec.initContainers{name: c.name,
            env: [Object.spec.initContainers.env{name: "HTTPS_PROXY", value: "http://proxy:3128"}]})
    }}"#;
    let policy = json!({
        "metadata": {"name": name},
        "spec": {
            "matchConstraints": {"resourceRules": [{
                "apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["pods"],
            }]},
            "failurePolicy": "Fail",
            "reinvocationPolicy": if again { "IfNeeded" } else { "Never" },
            "mutations": [{"patchType": "ApplyConfiguration", "applyConfiguration": {"expression": expression}}],
        },
    });
    let binding = json!({
        "metadata": {"name": name},
        "spec": {"policyName": name, "matchResources": {
            "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": world.namespace}},
        }},
    });
    let policies: Api<MutatingAdmissionPolicy> = Api::all(world.client.clone());
    let bindings: Api<MutatingAdmissionPolicyBinding> = Api::all(world.client.clone());
    let parameters = PostParams::default();
    policies
        .create(&parameters, &serde_json::from_value(policy).unwrap())
        .await
        .unwrap();
    bindings
        .create(&parameters, &serde_json::from_value(binding).unwrap())
        .await
        .unwrap();
    // The API server takes a moment to apply it.
    let dry_run = PostParams {
        dry_run: true,
        ..PostParams::default()
    };
    let mut plain = pod_json();
    plain["metadata"] = json!({"name": "plain"});
    let plain = serde_json::from_value(plain).unwrap();
    wait("the policy applies", || async {
        let shown = pods(world).create(&dry_run, &plain).await.unwrap();
        shown.spec.unwrap().containers[0].env.as_ref().map(|_| ())
    })
    .await;
}

#[tokio::test]
async fn what_a_mutating_policy_adds_to_all_containers_is_kept() {
    for again in [false, true] {
        let world = World::new("webhook").await;
        let name = format!("{}-proxy", world.namespace);
        adds_a_variable(&world, &name, again).await;
        let pod = create_pod(&world, pod_json()).await;
        let spec = pod.spec.as_ref().unwrap();
        let sidecar = &spec.init_containers.as_ref().unwrap()[0];
        let has = |container: &Container, name: &str| {
            let variables = container.env.iter().flatten();
            variables.filter(|variable| variable.name == name).count()
        };
        assert_eq!(sidecar.name, CONTAINER_NAME);
        assert_eq!(
            has(sidecar, "HTTPS_PROXY"),
            usize::from(again),
            "looked at again: {again}"
        );
        assert_eq!(has(sidecar, "AGENTWRIT_LAUNCH_TOKEN"), 1);
        for variable in ["HTTPS_PROXY", "AGENTWRIT_TOKEN_FILE", "AGENTWRIT_ENDPOINT"] {
            assert_eq!(has(&spec.containers[0], variable), 1, "{variable}");
        }
        let parameters = DeleteParams::default();
        Api::<MutatingAdmissionPolicyBinding>::all(world.client.clone())
            .delete(&name, &parameters)
            .await
            .unwrap();
        Api::<MutatingAdmissionPolicy>::all(world.client.clone())
            .delete(&name, &parameters)
            .await
            .unwrap();
        world.done().await;
    }
}

fn many_variables(count: usize) -> Value {
    (0..count).map(|n| json!({"name": format!("V{n}")})).collect()
}

#[tokio::test]
async fn refusals_reach_the_person_as_sentences() {
    let world = World::new("webhook").await;
    let annotations = "/metadata/annotations";
    let table = [
        (with(annotations, json!({})), "names no LaunchToken"),
        (
            with(annotations, json!({"agentwrit.io/launch-token": "No_Name"})),
            "annotation agentwrit.io/launch-token",
        ),
        (
            with(
                annotations,
                json!({"agentwrit.io/launch-token": "reader", "agentwrit.io/ttl-seconds": "5"}),
            ),
            "agentwrit.io/ttl-seconds: \"5\" is not usable; it must be a whole number of seconds between 10 and 86400",
        ),
        (
            with("/spec/hostNetwork", json!(true)),
            "spec.hostNetwork: true is not supported",
        ),
        (
            with("/spec/shareProcessNamespace", json!(true)),
            "spec.shareProcessNamespace",
        ),
        (with("/spec/hostPID", json!(true)), "spec.hostPID"),
        (
            with("/spec/volumes", json!([{"name": "agentwrit-data", "emptyDir": {}}])),
            "volume agentwrit-data: names beginning with agentwrit- are reserved",
        ),
        (
            with("/spec/volumes", json!([{"name": "agentwrit-token", "emptyDir": {}}])),
            "volume agentwrit-token: emptyDir.medium is \"\"; for AgentWrit to work it must be \"Memory\"",
        ),
        (
            with(
                "/spec/containers/0/volumeMounts",
                json!([{"name": "own", "mountPath": "/var//run/secrets/agentwrit.io/identity/../token/x"}]),
            ),
            "container app mounts volume own at \"/var//run/secrets/agentwrit.io/identity/../token/x\"",
        ),
        (
            with("/spec/containers/0/env", many_variables(5000)),
            "spec.containers[0].env (container app) has 5000 items; AgentWrit reads at most 4096",
        ),
        (
            with("/metadata/labels", json!({"agentwrit.io/inject": "True"})),
            "the label agentwrit.io/inject of the pod is \"True\"; it must be one of \"true\", \"enabled\"",
        ),
    ];
    for (pod, part) in table {
        let sentence = sentence(try_create_pod(&world, pod).await);
        assert!(
            sentence.contains("denied the request") && sentence.contains(part),
            "{sentence}"
        );
    }
    world.done().await;
}

#[tokio::test]
async fn unknown_policies_and_unlisted_accounts_are_warnings_only() {
    let world = World::new("webhook").await;
    let shown = warnings_of(&world, &pod_json()).await.join("\n");
    assert!(shown.contains("LaunchToken reader does not exist"), "{shown}");

    create_app(&world, &["read:orders:*"]).await;
    create_token(&world, &["read:orders:1"]).await;
    token_becomes(&world, "Synced").await;
    let mut pod = pod_json();
    pod["metadata"]["name"] = json!("known");
    assert_eq!(warnings_of(&world, &pod).await, Vec::<String>::new());

    let patch = json!({"spec": {"serviceAccountNames": ["web"]}});
    let launch_tokens = world.launch_tokens();
    launch_tokens
        .patch(
            "reader",
            &kube::api::PatchParams::default(),
            &kube::api::Patch::Merge(patch),
        )
        .await
        .unwrap();
    wait("the broker has the change", || async {
        let put = world.broker.launch_token(&world.namespace, "reader")?;
        (put.spec.service_account_names == ["web"]).then_some(())
    })
    .await;
    pod["metadata"]["name"] = json!("other");
    let shown = warnings_of(&world, &pod).await.join("\n");
    assert!(
        shown.contains("ServiceAccount default is not in serviceAccountNames"),
        "{shown}"
    );
    world.done().await;
}

#[tokio::test]
async fn shared_pids_are_allowed_by_an_annotation_under_both_names() {
    let world = World::new("webhook").await;
    create_app(&world, &["read:orders:*"]).await;
    create_token(&world, &["read:orders:1"]).await;
    token_becomes(&world, "Synced").await;
    for (name, renamed) in [("allow-shared-pids", false), ("allow-shared-pid", true)] {
        let mut pod = with("/spec/shareProcessNamespace", json!(true));
        pod["metadata"]["name"] = json!(name);
        pod["metadata"]["annotations"][format!("agentwrit.io/{name}")] = json!("true");
        let shown = warnings_of(&world, &pod).await.join("\n");
        assert_eq!(
            shown.contains("is now called agentwrit.io/allow-shared-pids"),
            renamed,
            "{shown}"
        );
    }
    world.done().await;
}
