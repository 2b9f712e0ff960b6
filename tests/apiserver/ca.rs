//! The `ConfigMap` `agentwrit-ca`, and that whatever can't be written is told of where it concerns somebody.

use std::time::Duration;

use k8s_openapi::api::admissionregistration::v1::{ValidatingAdmissionPolicy, ValidatingAdmissionPolicyBinding};
use k8s_openapi::api::core::v1::{ConfigMap, ResourceQuota};
use k8s_openapi::api::events::v1::Event;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::Api;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams};
use serde_json::{Value, json};

use crate::objects::{app_becomes, create_app, create_token, token_becomes, token_json};
use crate::world::{World, wait, wait_for};

fn config_maps(world: &World, namespace: &str) -> Api<ConfigMap> {
    Api::namespaced(world.client.clone(), namespace)
}

/// A Warning of this reason on an object of this kind.
async fn warning_on(world: &World, kind: &str, reason: &str) -> Event {
    let events: Api<Event> = Api::namespaced(world.client.clone(), &world.namespace);
    wait(&format!("a Warning {reason} on a {kind}"), || async {
        let all = events.list(&ListParams::default()).await.unwrap();
        all.items.into_iter().find(|event| {
            let on = event.regarding.as_ref().and_then(|regarding| regarding.kind.as_deref());
            event.reason.as_deref() == Some(reason) && on == Some(kind) && event.type_.as_deref() == Some("Warning")
        })
    })
    .await
}

/// The token's condition of this type.
async fn token_has(world: &World, type_: &str) -> Option<Condition> {
    let token = world.launch_tokens().get("reader").await.unwrap();
    let mut conditions = token.status?.conditions.into_iter();
    conditions.find(|condition| condition.type_ == type_)
}

/// No `ConfigMap` can be made in the test's namespace.
async fn forbid_config_maps(world: &World) -> Api<ResourceQuota> {
    let quotas: Api<ResourceQuota> = Api::namespaced(world.client.clone(), &world.namespace);
    let hard = json!({"configmaps": "0"});
    let quota = json!({"metadata": {"name": "no-config-maps"}, "spec": {"hard": hard}});
    let quota = serde_json::from_value(quota).unwrap();
    quotas.create(&PostParams::default(), &quota).await.unwrap();
    // As the quota controller would, which this API server is without.
    let status = Patch::Merge(json!({"status": {"hard": hard, "used": {"configmaps": "0"}}}));
    quotas
        .patch_status("no-config-maps", &PatchParams::default(), &status)
        .await
        .unwrap();
    quotas
}

#[tokio::test]
async fn a_quota_that_leaves_no_room_for_the_ca_shows() {
    let world = World::new("ca").await;
    let quotas = forbid_config_maps(&world).await;
    create_app(&world, &["read:orders:*"]).await;
    create_token(&world, &["read:orders:1"]).await;

    let condition = wait("the condition CABundle", || token_has(&world, "CABundle")).await;
    assert_eq!((&*condition.status, &*condition.reason), ("False", "NotWritten"));
    for part in ["ConfigMap agentwrit-ca", "exceeded quota: no-config-maps"] {
        assert!(condition.message.contains(part), "{}", condition.message);
    }
    for kind in ["LaunchToken", "ConfigMap"] {
        let note = warning_on(&world, kind, "CABundleNotWritten").await.note.unwrap();
        assert!(note.contains("exceeded quota: no-config-maps"), "{note}");
        assert!(!note.contains("ErrorResponse") && !note.contains("Status {"), "{note}");
    }
    token_becomes(&world, "Synced").await;

    quotas.delete("no-config-maps", &DeleteParams::default()).await.unwrap();
    wait_for("the condition CABundle is True", Duration::from_secs(90), || async {
        token_has(&world, "CABundle")
            .await
            .filter(|condition| condition.status == "True" && condition.reason == "Written")
    })
    .await;
    config_maps(&world, &world.namespace).get("agentwrit-ca").await.unwrap();
    world.done().await;
}

#[tokio::test]
async fn a_deleted_ca_is_back_in_seconds_by_itself() {
    let world = World::new("ca").await;
    create_token(&world, &["read:orders:1"]).await;
    let api = config_maps(&world, &world.namespace);
    let made = wait("the ConfigMap", || async { api.get_opt("agentwrit-ca").await.unwrap() }).await;
    api.delete("agentwrit-ca", &DeleteParams::default()).await.unwrap();
    let again = wait_for("another ConfigMap", Duration::from_secs(5), || async {
        api.get_opt("agentwrit-ca").await.unwrap()
    })
    .await;
    assert_ne!(again.metadata.uid, made.metadata.uid);

    let spoil = Patch::Merge(json!({"data": {"ca.crt": "spoilt"}}));
    api.patch("agentwrit-ca", &PatchParams::default(), &spoil)
        .await
        .unwrap();
    wait_for("the right certificate", Duration::from_secs(5), || async {
        let present = api.get("agentwrit-ca").await.unwrap();
        (present.data == made.data).then_some(())
    })
    .await;
    world.done().await;
}

#[tokio::test]
async fn the_namespace_of_the_installation_has_the_ca_too() {
    let world = World::new("ca").await;
    let api = config_maps(&world, &world.release);
    let made = wait("the ConfigMap", || async { api.get_opt("agentwrit-ca").await.unwrap() }).await;
    let ca = world.secrets().get("agentwrit-ca").await.unwrap();
    assert_eq!(
        made.data.unwrap()["ca.crt"].as_bytes(),
        ca.data.unwrap()["tls.crt"].0,
        "as the documents read it"
    );
    world.done().await;
}

/// An admission policy for the test's namespace, and the same when it is taken away.
struct Policy {
    policies: Api<ValidatingAdmissionPolicy>,
    bindings: Api<ValidatingAdmissionPolicyBinding>,
    name: String,
}

impl Policy {
    async fn new(world: &World, resource: &str, expression: &str, message: &str) -> Self {
        let name = world.namespace.clone();
        let policies: Api<ValidatingAdmissionPolicy> = Api::all(world.client.clone());
        let bindings: Api<ValidatingAdmissionPolicyBinding> = Api::all(world.client.clone());
        let policy = json!({"metadata": {"name": name}, "spec": {
            "matchConstraints": {
                "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": world.namespace}},
                "resourceRules": [{
                    "apiGroups": ["agentwrit.io"], "apiVersions": ["v1alpha1"], "operations": ["CREATE", "UPDATE"],
                    "resources": [resource],
                }],
            },
            "validations": [{"expression": expression, "message": message}],
        }});
        let binding = json!({"metadata": {"name": name}, "spec": {"policyName": name, "validationActions": ["Deny"]}});
        let (policy, binding) = (from(policy), from(binding));
        policies.create(&PostParams::default(), &policy).await.unwrap();
        bindings.create(&PostParams::default(), &binding).await.unwrap();
        Self {
            policies,
            bindings,
            name,
        }
    }

    async fn end(self) {
        self.bindings
            .delete(&self.name, &DeleteParams::default())
            .await
            .unwrap();
        self.policies
            .delete(&self.name, &DeleteParams::default())
            .await
            .unwrap();
    }
}

fn from<T: serde::de::DeserializeOwned>(value: Value) -> T {
    serde_json::from_value(value).unwrap()
}

#[tokio::test]
async fn a_finalizer_that_is_refused_shows_in_the_status() {
    let world = World::new("ca").await;
    let sentence = "no finalizers here, says the platform";
    let policy = Policy::new(&world, "launchtokens", "!has(object.metadata.finalizers)", sentence).await;
    let dry = PostParams {
        dry_run: true,
        ..PostParams::default()
    };
    wait("the policy is in force", || async {
        let mut probe = token_json(&["read:orders:1"]);
        probe["metadata"]["finalizers"] = json!(["example.com/probe"]);
        let tried = world.launch_tokens().create(&dry, &from(probe)).await;
        tried.is_err().then_some(())
    })
    .await;
    create_app(&world, &["read:orders:*"]).await;
    create_token(&world, &["read:orders:1"]).await;
    let note = warning_on(&world, "LaunchToken", "FinalizerNotSet").await.note.unwrap();
    assert!(note.contains(sentence), "{note}");
    let condition = wait("the condition FinalizerSet", || token_has(&world, "FinalizerSet")).await;
    assert_eq!((&*condition.status, &*condition.reason), ("False", "NotSet"));
    assert!(condition.message.contains(sentence), "{}", condition.message);

    policy.end().await;
    token_becomes(&world, "Synced").await;
    assert_eq!(token_has(&world, "FinalizerSet").await, None, "it is over");
    world.done().await;
}

#[tokio::test]
async fn a_refused_status_is_reported_in_an_event() {
    let world = World::new("ca").await;
    create_app(&world, &["read:orders:*"]).await;
    app_becomes(&world, "Synced").await;
    let sentence = "statuses are frozen, says the platform";
    let policy = Policy::new(&world, "agentapps/status", "false", sentence).await;
    let dry = PatchParams {
        dry_run: true,
        ..PatchParams::default()
    };
    let probe = Patch::Merge(json!({"status": {"launchTokens": 7}}));
    wait("the policy is in force", || async {
        let tried = world.apps().patch_status("orders", &dry, &probe).await;
        tried.is_err().then_some(())
    })
    .await;
    let wider = Patch::Merge(json!({"spec": {"scopes": ["read:orders:*", "write:orders:*"]}}));
    let changed = world
        .apps()
        .patch("orders", &PatchParams::default(), &wider)
        .await
        .unwrap();
    let note = warning_on(&world, "AgentApp", "StatusNotWritten").await.note.unwrap();
    assert!(note.contains(sentence), "{note}");
    let held = world.broker.app(&world.namespace, "orders").unwrap();
    assert_eq!(
        held.generation,
        changed.metadata.generation.unwrap(),
        "the broker has the new spec"
    );

    policy.end().await;
    wait("the status follows", || async {
        let status = world.apps().get("orders").await.unwrap().status?;
        (status.observed_generation == changed.metadata.generation).then_some(())
    })
    .await;
    world.done().await;
}
