//! Objects on a real API server.

use std::time::Duration;

use agentwrit_crds::{AgentApp, LaunchToken};
use futures_util::{StreamExt, TryStreamExt, stream};
use k8s_openapi::api::authentication::v1::{BoundObjectReference, TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::{Namespace, ServiceAccount};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{Patch, PatchParams, PostParams};
use kube::{Api, Client, ResourceExt};
use serde_json::json;

use crate::{Options, Result};

/// The namespace of the installation.
pub(crate) const SYSTEM: &str = "scale-system";
/// Where the pairs of a plain client are written.
pub(crate) const PLAIN: &str = "scale-plain";
/// Audience of the tokens of pods and of the controller.
pub(crate) const AUDIENCE: &str = "agentwrit://scale-system/agentwrit";
/// The controller's ServiceAccount.
const CONTROLLER: &str = "agentwrit-controller";
/// Requests side by side while things are only prepared.
const MANY: usize = 32;
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// Namespace of an app.
pub(crate) fn namespace(app: usize, options: &Options) -> String {
    format!("scale-{:03}", app % options.namespaces)
}

/// The app of a LaunchToken.
pub(crate) fn app_of(token: usize, options: &Options) -> usize {
    token % options.apps
}

/// Name of an app.
pub(crate) fn app_name(app: usize) -> String {
    format!("orders-{app:04}")
}

/// Name of a LaunchToken.
pub(crate) fn token_name(token: usize) -> String {
    format!("order-reader-{token:05}")
}

pub(crate) fn apps(client: &Client, namespace: &str) -> Api<AgentApp> {
    Api::namespaced(client.clone(), namespace)
}

pub(crate) fn launch_tokens(client: &Client, namespace: &str) -> Api<LaunchToken> {
    Api::namespaced(client.clone(), namespace)
}

/// Does it for each number below `count`, a few side by side.
pub(crate) async fn for_each(count: usize, side_by_side: usize, act: impl AsyncFn(usize) -> Result<()>) -> Result<()> {
    let acts = stream::iter(0..count).map(|number| act(number));
    acts.buffer_unordered(side_by_side).try_collect::<()>().await
}

/// Asks until the answer is there; the API server has no other way to tell of it.
async fn until<T>(ask: impl AsyncFn() -> Result<Option<T>>) -> Result<T> {
    loop {
        if let Some(answer) = ask().await? {
            return Ok(answer);
        }
        tokio::time::sleep(LOOK_AGAIN).await;
    }
}

/// Creates a namespace and waits for its ServiceAccount.
pub(crate) async fn create_namespace(client: &Client, name: &str) -> Result<()> {
    let namespace = serde_json::from_value(json!({"metadata": {"name": name}}))?;
    Api::<Namespace>::all(client.clone())
        .create(&PostParams::default(), &namespace)
        .await?;
    let accounts: Api<ServiceAccount> = Api::namespaced(client.clone(), name);
    until(async || Ok(accounts.get_opt("default").await?)).await?;
    Ok(())
}

/// Installs the custom resources, and waits until they are served.
pub(crate) async fn install(client: &Client) -> Result<()> {
    let crds: Api<CustomResourceDefinition> = Api::all(client.clone());
    for crd in agentwrit_crds::yaml::crds() {
        let name = crd.name_any();
        let parameters = PatchParams::apply("bench-scale").force();
        crds.patch(&name, &parameters, &Patch::Apply(&crd)).await?;
        until(async || {
            let conditions = crds
                .get_status(&name)
                .await?
                .status
                .and_then(|status| status.conditions);
            let is_served = |kind: &str| {
                let mut all = conditions.iter().flatten();
                all.any(|condition| condition.type_ == kind && condition.status == "True")
            };
            Ok(is_served("Established").then_some(()))
        })
        .await?;
    }
    create_namespace(client, SYSTEM).await?;
    let account = serde_json::from_value(json!({"metadata": {"name": CONTROLLER}}))?;
    let accounts: Api<ServiceAccount> = Api::namespaced(client.clone(), SYSTEM);
    accounts.create(&PostParams::default(), &account).await?;
    Ok(())
}

/// `system:serviceaccount:...` of the controller.
pub(crate) fn controller_subject() -> String {
    format!("system:serviceaccount:{SYSTEM}:{CONTROLLER}")
}

/// A token of a ServiceAccount, of the controller's or of a pod's.
async fn token(client: &Client, namespace: &str, account: &str, pod: Option<BoundObjectReference>) -> Result<String> {
    let request = TokenRequest {
        spec: Some(TokenRequestSpec {
            audiences: Some(vec![AUDIENCE.to_owned()]),
            bound_object_ref: pod,
            expiration_seconds: Some(7200),
        }),
        ..TokenRequest::default()
    };
    let accounts: Api<ServiceAccount> = Api::namespaced(client.clone(), namespace);
    let answer = accounts
        .create_token_request(account, &PostParams::default(), &request)
        .await?;
    Ok(answer.status.and_then(|status| status.token).unwrap_or_default())
}

pub(crate) async fn controller_token(client: &Client) -> Result<String> {
    token(client, SYSTEM, CONTROLLER, None).await
}

pub(crate) async fn pod_token(client: &Client, namespace: &str, name: &str, uid: &str) -> Result<String> {
    let pod = BoundObjectReference {
        api_version: Some("v1".to_owned()),
        kind: Some("Pod".to_owned()),
        name: Some(name.to_owned()),
        uid: Some(uid.to_owned()),
    };
    token(client, namespace, "default", Some(pod)).await
}

fn new_token(name: &str, app: &str, number: usize) -> Result<LaunchToken> {
    Ok(serde_json::from_value(json!({
        "metadata": {"name": name},
        "spec": {
            "appRef": {"name": app}, "agentName": "order-reader", "allowedScopes": [format!("read:orders:{number}")],
            "maxTTLSeconds": 300, "serviceAccountNames": ["default"],
        },
    }))?)
}

/// Creates all apps and LaunchTokens.
pub(crate) async fn create_objects(client: &Client, options: &Options) -> Result<()> {
    for_each(options.namespaces, MANY, async |number| {
        create_namespace(client, &format!("scale-{number:03}")).await
    })
    .await?;
    for_each(options.apps, MANY, async |app| {
        let object = serde_json::from_value(json!({
            "metadata": {"name": app_name(app)}, "spec": {"scopes": ["read:orders:*", "write:orders:*"]},
        }))?;
        apps(client, &namespace(app, options))
            .create(&PostParams::default(), &object)
            .await?;
        Ok(())
    })
    .await?;
    for_each(options.tokens, MANY, async |number| {
        let app = app_of(number, options);
        let object = new_token(&token_name(number), &app_name(app), number)?;
        launch_tokens(client, &namespace(app, options))
            .create(&PostParams::default(), &object)
            .await?;
        Ok(())
    })
    .await
}

/// Creates what a plain client writes its pairs to; answers names and versions.
pub(crate) async fn create_plain(client: &Client, count: usize) -> Result<Vec<(String, String)>> {
    create_namespace(client, PLAIN).await?;
    let api = launch_tokens(client, PLAIN);
    let create = async |number| -> Result<(String, String)> {
        let object = new_token(&token_name(number), "plain", number)?;
        let made = api.create(&PostParams::default(), &object).await?;
        Ok((made.name_any(), made.resource_version().unwrap_or_default()))
    };
    let all = stream::iter(0..count).map(create);
    all.buffer_unordered(MANY).try_collect().await
}

/// Removes them again, so that the controller finds none of them.
pub(crate) async fn remove_plain(client: &Client, made: &[(String, String)]) -> Result<()> {
    let api = launch_tokens(client, PLAIN);
    for_each(made.len(), MANY, async |number| {
        let Some((name, _)) = made.get(number) else {
            return Ok(());
        };
        let free = Patch::Merge(json!({"metadata": {"finalizers": null}}));
        api.patch_metadata(name, &PatchParams::default(), &free).await?;
        api.delete(name, &kube::api::DeleteParams::default()).await?;
        Ok(())
    })
    .await
}
