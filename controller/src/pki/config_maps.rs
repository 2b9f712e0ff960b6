//! `ConfigMap` `agentwrit-ca` in every namespace whose pods need it, and in that of the installation.

use agentwrit_protocol::inject::{CA_CONFIG_MAP, CA_CONFIG_MAP_KEY};
use k8s_openapi::api::core::v1::{ConfigMap, ObjectReference};
use kube::api::{Patch, PatchParams, PostParams};
use kube::{Api, Client};
use serde_json::json;

use super::{PkiError, is_code, is_ours, our_metadata};
use crate::report::{Reporter, chain, shorten};

/// A condition's message holds 32 KiB; no sentence of the API server is worth as much.
pub(crate) const MAX_MESSAGE: usize = 2048;
/// Reason of Event and condition: others own a `ConfigMap` of that name.
const NOT_OURS: &str = "ConfigMapNotOurs";
/// Reason of Event and condition: the API server refused it, or didn't answer.
pub(crate) const NOT_WRITTEN: &str = "NotWritten";
/// The same for an Event, which doesn't say by itself what it is about.
const EVENT_NOT_WRITTEN: &str = "CABundleNotWritten";

/// Why a namespace has no `ConfigMap` of ours.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Missing {
    /// In one word, for the condition.
    pub reason: &'static str,
    /// In a sentence; what the API server said.
    pub message: String,
}

/// What a look at a namespace's `ConfigMap` came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// It is there and right.
    Right,
    /// It isn't, and can't be made so now.
    Missing(Missing),
    /// The namespace goes away or is gone; nothing is owed to it.
    Gone,
}

/// Writes the `ConfigMap`s.
pub struct ConfigMaps {
    client: Client,
    reporter: Reporter,
    certificate: String,
}

impl std::fmt::Debug for ConfigMaps {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ConfigMaps").finish_non_exhaustive()
    }
}

impl ConfigMaps {
    /// `ConfigMap`s that hold this CA certificate.
    pub fn new(client: Client, reporter: Reporter, certificate: &str) -> Self {
        Self {
            client,
            reporter,
            certificate: certificate.to_owned(),
        }
    }

    /// Sees to it that the namespace has its `ConfigMap`; why it hasn't is told in a Warning Event there.
    pub async fn ensure(&self, namespace: &str) -> Outcome {
        let error = match self.write(namespace).await {
            Ok(()) => return Outcome::Right,
            Err(error) => error,
        };
        let (reason, event) = match &error {
            PkiError::Api { source, .. } if is_code(source, 404) || is_terminating(source) => return Outcome::Gone,
            PkiError::NotOurs { .. } => (NOT_OURS, NOT_OURS),
            _ => (NOT_WRITTEN, EVENT_NOT_WRITTEN),
        };
        let object = ObjectReference {
            api_version: Some("v1".into()),
            kind: Some("ConfigMap".into()),
            namespace: Some(namespace.to_owned()),
            name: Some(CA_CONFIG_MAP.into()),
            ..ObjectReference::default()
        };
        let reporter = &self.reporter;
        reporter
            .error_on("writing the CA ConfigMap", event, &error, &object)
            .await;
        let message = format!(
            "No pod of this namespace starts without the ConfigMap {CA_CONFIG_MAP}: {}",
            chain(&error)
        );
        Outcome::Missing(Missing {
            reason,
            message: shorten(&message, MAX_MESSAGE),
        })
    }

    async fn write(&self, namespace: &str) -> Result<(), PkiError> {
        let api: Api<ConfigMap> = Api::namespaced(self.client.clone(), namespace);
        let doing = || format!("writing the ConfigMap {namespace}/{CA_CONFIG_MAP}");
        let Some(present) = api.get_opt(CA_CONFIG_MAP).await.map_err(PkiError::api(doing()))? else {
            let new = ConfigMap {
                metadata: our_metadata(namespace, CA_CONFIG_MAP),
                data: Some([(CA_CONFIG_MAP_KEY.to_owned(), self.certificate.clone())].into()),
                ..ConfigMap::default()
            };
            // If another one was faster, the next look sees it.
            api.create(&PostParams::default(), &new)
                .await
                .map_err(PkiError::api(doing()))?;
            tracing::info!(namespace, "made the CA ConfigMap");
            return Ok(());
        };
        if !is_ours(&present.metadata) {
            return Err(PkiError::NotOurs {
                kind: "ConfigMap",
                namespace: namespace.to_owned(),
                name: CA_CONFIG_MAP.to_owned(),
            });
        }
        if present.data.as_ref().and_then(|data| data.get(CA_CONFIG_MAP_KEY)) == Some(&self.certificate) {
            return Ok(());
        }
        let patch = json!({
            "metadata": {"resourceVersion": present.metadata.resource_version},
            "data": {CA_CONFIG_MAP_KEY: self.certificate},
        });
        api.patch(CA_CONFIG_MAP, &PatchParams::default(), &Patch::Merge(patch))
            .await
            .map_err(PkiError::api(doing()))?;
        tracing::info!(namespace, "corrected the CA ConfigMap");
        Ok(())
    }
}

fn is_terminating(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if status.code == 403 && status.message.contains("being terminated"))
}
