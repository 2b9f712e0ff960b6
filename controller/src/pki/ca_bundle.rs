//! caBundle of the `MutatingWebhookConfiguration`: with it the API server trusts the webhook.

use json_patch::jsonptr::PointerBuf;
use json_patch::{AddOperation, PatchOperation, TestOperation};
use k8s_openapi::api::admissionregistration::v1::MutatingWebhookConfiguration;
use kube::api::{Patch, PatchParams};
use kube::{Api, Client};
use serde_json::json;

use super::PkiError;

/// Name of the configuration; the chart makes it.
pub(crate) const CONFIGURATION: &str = "agentwrit-injector";

/// Sets caBundle of every webhook of the configuration that has another; whether the configuration exists.
pub(crate) async fn set(client: &Client, certificate: &str) -> Result<bool, PkiError> {
    let api: Api<MutatingWebhookConfiguration> = Api::all(client.clone());
    let doing = || format!("setting caBundle of {CONFIGURATION}");
    let Some(present) = api.get_opt(CONFIGURATION).await.map_err(PkiError::api(doing()))? else {
        return Ok(false);
    };
    let operations = operations(&present, certificate);
    if operations.is_empty() {
        return Ok(true);
    }
    let patch = json_patch::Patch(operations);
    api.patch(CONFIGURATION, &PatchParams::default(), &Patch::Json::<()>(patch))
        .await
        .map_err(PkiError::api(doing()))?;
    tracing::info!(configuration = CONFIGURATION, "set caBundle");
    Ok(true)
}

/// The caBundle of each webhook, as the API server uses it now; empty where there is none.
pub(crate) async fn live(client: &Client) -> Result<Vec<Vec<u8>>, PkiError> {
    let api: Api<MutatingWebhookConfiguration> = Api::all(client.clone());
    let present = api.get_opt(CONFIGURATION).await;
    let present = present.map_err(PkiError::api(format!("reading caBundle of {CONFIGURATION}")))?;
    let webhooks = present.and_then(|present| present.webhooks).unwrap_or_default();
    let bundles = webhooks.into_iter().map(|webhook| webhook.client_config.ca_bundle);
    Ok(bundles
        .map(|bundle| bundle.map(|bundle| bundle.0).unwrap_or_default())
        .collect())
}

fn operations(present: &MutatingWebhookConfiguration, certificate: &str) -> Vec<PatchOperation> {
    let webhooks = present.webhooks.iter().flatten().enumerate();
    let mut operations: Vec<PatchOperation> = webhooks
        .filter(|(_, webhook)| {
            webhook
                .client_config
                .ca_bundle
                .as_ref()
                .map(|bundle| bundle.0.as_slice())
                != Some(certificate.as_bytes())
        })
        .map(|(index, _)| {
            let bundle = k8s_openapi::ByteString(certificate.as_bytes().to_vec());
            PatchOperation::Add(AddOperation {
                path: PointerBuf::from_tokens(["webhooks", &index.to_string(), "clientConfig", "caBundle"]),
                value: json!(bundle),
            })
        })
        .collect();
    if !operations.is_empty() {
        // The indices are those of this version.
        let version = present.metadata.resource_version.as_deref().unwrap_or_default();
        operations.insert(
            0,
            PatchOperation::Test(TestOperation {
                path: PointerBuf::from_tokens(["metadata", "resourceVersion"]),
                value: json!(version),
            }),
        );
    }
    operations
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::ByteString;
    use k8s_openapi::api::admissionregistration::v1::MutatingWebhook;

    #[test]
    fn only_webhooks_with_another_bundle_are_patched() {
        let webhook = |bundle: Option<&str>| {
            let mut webhook = MutatingWebhook::default();
            webhook.client_config.ca_bundle = bundle.map(|text| ByteString(text.into()));
            webhook
        };
        let mut configuration = MutatingWebhookConfiguration::default();
        configuration.metadata.resource_version = Some("7".into());
        configuration.webhooks = Some(vec![webhook(Some("CA")), webhook(None), webhook(Some("old"))]);
        let patch = operations(&configuration, "CA");
        let paths: Vec<_> = patch.iter().map(|operation| operation.path().as_str()).collect();
        assert_eq!(
            paths,
            [
                "/metadata/resourceVersion",
                "/webhooks/1/clientConfig/caBundle",
                "/webhooks/2/clientConfig/caBundle"
            ]
        );
        let kinds = json!(patch);
        assert_eq!((&kinds[0]["op"], &kinds[1]["op"]), (&json!("test"), &json!("add")));
        configuration.webhooks = Some(vec![webhook(Some("CA"))]);
        assert_eq!(operations(&configuration, "CA"), Vec::new());
    }
}
