//! `ConfigMap` `agentwrit-ca` in every namespace whose pods need it.

use std::collections::HashMap;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Duration;

use agentwrit_protocol::inject::{CA_CONFIG_MAP, CA_CONFIG_MAP_KEY};
use k8s_openapi::api::core::v1::{ConfigMap, ObjectReference};
use kube::api::{Patch, PatchParams, PostParams};
use kube::{Api, Client};
use serde_json::json;
use tokio::time::Instant;

use super::{PkiError, is_code, is_ours, our_metadata};
use crate::report::Reporter;

/// A `ConfigMap` that was right this long ago isn't looked at again yet: pods come in crowds.
const FRESH: Duration = Duration::from_secs(10);
/// The same for one that others own: each look tells of it once more.
const FOREIGN: Duration = Duration::from_mins(1);

/// What a look at a namespace's `ConfigMap` came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It is there and right.
    Right,
    /// Not looked at, or not right: look again later.
    Later,
    /// The namespace goes away or is gone; nothing is owed to it.
    Gone,
}

/// Keeps the `ConfigMap`s.
pub struct ConfigMaps {
    client: Client,
    reporter: Reporter,
    certificate: String,
    looked_at: Mutex<HashMap<String, (Instant, bool)>>,
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
            looked_at: Mutex::default(),
        }
    }

    /// Sees to it that the namespace has its `ConfigMap`, unless it was looked at a moment ago: it may have gone
    /// since then, perhaps with its namespace, so that is to be looked at later.
    pub async fn ensure(&self, namespace: &str) -> Outcome {
        if let Some((at, right)) = self.looked_at().get(namespace)
            && at.elapsed() < if *right { FRESH } else { FOREIGN }
        {
            return Outcome::Later;
        }
        let right = match self.write(namespace).await {
            Ok(()) => true,
            Err(error @ PkiError::NotOurs { .. }) => {
                let object = ObjectReference {
                    api_version: Some("v1".into()),
                    kind: Some("ConfigMap".into()),
                    namespace: Some(namespace.to_owned()),
                    name: Some(CA_CONFIG_MAP.into()),
                    ..ObjectReference::default()
                };
                self.reporter
                    .error_on("writing the CA ConfigMap", "ConfigMapNotOurs", &error, &object)
                    .await;
                false
            }
            // The namespace goes away; nothing is owed to it.
            Err(PkiError::Api { source, .. }) if is_code(&source, 404) || is_terminating(&source) => {
                self.looked_at().remove(namespace);
                return Outcome::Gone;
            }
            Err(error) => {
                self.reporter.error("writing the CA ConfigMap", &error);
                return Outcome::Later;
            }
        };
        self.looked_at().insert(namespace.to_owned(), (Instant::now(), right));
        if right { Outcome::Right } else { Outcome::Later }
    }

    fn looked_at(&self) -> std::sync::MutexGuard<'_, HashMap<String, (Instant, bool)>> {
        self.looked_at.lock().unwrap_or_else(PoisonError::into_inner)
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
            // If another one was faster, the next sweep looks at it.
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
