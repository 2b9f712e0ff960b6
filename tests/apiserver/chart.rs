//! Objects of the chart as helm renders them, fitted to this run: they must concern nobody else on the API server.

use std::path::Path;
use std::process::Command;

use k8s_openapi::api::admissionregistration::v1::{
    MutatingWebhookConfiguration, ValidatingAdmissionPolicy, ValidatingAdmissionPolicyBinding,
};
use k8s_openapi::api::core::v1::Namespace;
use kube::api::{DeleteParams, ListParams, PostParams};
use kube::{Api, Client};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::world::wait;

/// Label of a namespace whose pods the policies are for: with the defaults of the chart, or with the other choices.
pub const POLICIES: &str = "agentwrit.test/policies";
/// Label of everything that a run made.
pub const RUN: &str = "agentwrit.test/run";

/// What `helm template` renders of these templates for a release in this namespace.
pub fn render(release: &str, templates: &[&str], values: &[&str]) -> Vec<Value> {
    let repository = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let mut helm = Command::new("helm");
    helm.args(["template", "agentwrit", "helm/agentwrit", "--kube-version", "1.33"])
        .args(["--namespace", release, "--values", "tests/chart/images.yaml"])
        .current_dir(repository);
    for template in templates {
        helm.args(["--show-only", &format!("templates/{template}")]);
    }
    for value in values {
        helm.args(["--set", value]);
    }
    let output = helm.output().expect(
        "helm is in PATH: run these tests by `scripts/test.sh apiserver`, or evaluate `scripts/cluster.sh env`",
    );
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success(),
        "{text}{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let documents = serde_yaml::Deserializer::from_str(&text).map(|document| Value::deserialize(document).unwrap());
    documents.filter(|document| !document.is_null()).collect()
}

/// The chart's webhooks, called by URL, and for this run's namespaces only; in a configuration of this name.
pub async fn register_webhooks(client: &Client, release: &str, run: &str, (name, url): (&str, &str)) {
    let mut rendered = render(release, &["controller/webhook.yaml"], &[]);
    assert_eq!(rendered.len(), 1);
    let mut configuration = rendered.remove(0);
    configuration["metadata"]["name"] = json!(name);
    for webhook in configuration["webhooks"].as_array_mut().unwrap() {
        webhook["clientConfig"] = json!({"url": url});
        webhook["namespaceSelector"]["matchLabels"] = json!({RUN: run});
    }
    let api: Api<MutatingWebhookConfiguration> = Api::all(client.clone());
    // That of an earlier run calls an address where nobody listens any more.
    if api.get_opt(name).await.unwrap().is_some() {
        api.delete(name, &DeleteParams::default()).await.unwrap();
    }
    let configuration = serde_json::from_value(configuration).unwrap();
    api.create(&PostParams::default(), &configuration).await.unwrap();
}

/// The chart's policies, for this run's namespaces with the label [`POLICIES`] only.
pub async fn install_policies(client: &Client, release: &str, run: &str) {
    let policies: Api<ValidatingAdmissionPolicy> = Api::all(client.clone());
    let bindings: Api<ValidatingAdmissionPolicyBinding> = Api::all(client.clone());
    let earlier = ListParams::default().labels(&format!("{RUN},{RUN}!={run}"));
    let parameters = DeleteParams::default();
    bindings.delete_collection(&parameters, &earlier).await.unwrap();
    policies.delete_collection(&parameters, &earlier).await.unwrap();
    let others = ["admission.silentNonInjection=Deny", "admission.injectedPods=Warn"];
    let mut rendered = Vec::new();
    for (choice, values) in [("defaults", [].as_slice()), ("others", others.as_slice())] {
        let templates = ["admission/injected-pods.yaml", "admission/opt-in.yaml"];
        for mut object in render(release, &templates, values) {
            let name = format!("{}-{choice}-{run}", object["metadata"]["name"].as_str().unwrap());
            object["metadata"] = json!({"name": name, "labels": {RUN: run}});
            if object["kind"] == "ValidatingAdmissionPolicyBinding" {
                object["spec"]["policyName"] = json!(name);
                let namespaces = json!({"matchLabels": {RUN: run, POLICIES: choice}});
                object["spec"]["matchResources"] = json!({"namespaceSelector": namespaces});
            }
            rendered.push(object);
        }
    }
    let parameters = PostParams::default();
    // All policies before the first binding, so that a binding that applies shows that those before it do.
    for policy in rendered
        .iter()
        .filter(|object| object["kind"] == "ValidatingAdmissionPolicy")
    {
        let policy: ValidatingAdmissionPolicy = serde_json::from_value(policy.clone()).unwrap();
        let name = policies
            .create(&parameters, &policy)
            .await
            .unwrap()
            .metadata
            .name
            .unwrap();
        let checked = wait("the policy's expressions are checked", || async {
            policies.get_status(&name).await.unwrap().status?.type_checking
        })
        .await;
        assert_eq!(checked.expression_warnings, None, "{name}");
    }
    for binding in rendered {
        if binding["kind"] == "ValidatingAdmissionPolicyBinding" {
            let binding = serde_json::from_value(binding).unwrap();
            bindings.create(&parameters, &binding).await.unwrap();
        }
    }
    // The last one.
    let namespaces: Api<Namespace> = Api::all(client.clone());
    let labels = json!({RUN: run, POLICIES: "others", "agentwrit.io/inject": "unknown"});
    let probe = json!({"metadata": {"name": format!("probe-{run}"), "labels": labels}});
    let probe = serde_json::from_value(probe).unwrap();
    let dry_run = PostParams {
        dry_run: true,
        ..PostParams::default()
    };
    wait("the policies apply", || async {
        namespaces.create(&dry_run, &probe).await.err().map(|_| ())
    })
    .await;
}
