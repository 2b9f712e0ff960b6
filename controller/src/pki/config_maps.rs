//! `ConfigMap` `agentwrit-ca` in every namespace whose pods need it, and in that of the installation.

use std::time::Duration;

use agentwrit_protocol::excerpt::truncate;
use agentwrit_protocol::inject::{CA_CONFIG_MAP, CA_CONFIG_MAP_KEY};
use k8s_openapi::api::core::v1::{ConfigMap, ObjectReference};
use kube::api::{Patch, PatchParams, PostParams};
use kube::{Api, Client};
use serde_json::json;
use tokio::time::timeout;

use super::trust::Trust;
use super::{PkiError, is_code, is_ours, our_metadata};
use crate::ending_namespaces::is_refusal;
use crate::report::{Reporter, chain};

/// A condition's message holds 32 KiB; no sentence of the API server is worth as much.
pub(crate) const MAX_MESSAGE: usize = 2048;
/// How long one namespace may take: the others wait for it.
const API_TIMEOUT: Duration = Duration::from_secs(10);
/// Reason of Event and condition: others own a `ConfigMap` of that name.
const NOT_OURS: &str = "ConfigMapNotOurs";
/// Reason of Event and condition: the API server refused it, or didn't answer.
pub(crate) const NOT_WRITTEN: &str = "NotWritten";
/// The same for an Event, which doesn't say by itself what it is about.
const EVENT_NOT_WRITTEN: &str = "CABundleNotWritten";

/// Why a namespace has no `ConfigMap` of ours.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Missing {
    /// In one word, for the condition.
    pub(crate) reason: &'static str,
    /// In a sentence; what the API server said.
    pub(crate) message: String,
}

/// The outcome of checking a namespace's `ConfigMap`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// It is there and right.
    Right,
    /// It isn't, and can't be made so now.
    Missing(Missing),
    /// The namespace goes away or is gone; nothing is owed to it.
    Gone,
    /// This replica doesn't lead any more: the next leader looks for itself.
    NotLeading,
}

pub(crate) struct ConfigMaps {
    client: Client,
    reporter: Reporter,
    trust: Trust,
}

impl std::fmt::Debug for ConfigMaps {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ConfigMaps").finish_non_exhaustive()
    }
}

impl ConfigMaps {
    /// `ConfigMap`s that hold what is trusted.
    pub(crate) const fn new(client: Client, reporter: Reporter, trust: Trust) -> Self {
        Self {
            client,
            reporter,
            trust,
        }
    }

    /// Makes the namespace's `ConfigMap` what it should be; a Warning Event there says why it isn't.
    pub(crate) async fn ensure(&self, namespace: &str) -> Outcome {
        let written = timeout(API_TIMEOUT, self.write(namespace)).await;
        let error = match written.unwrap_or_else(|_| Err(slow(namespace))) {
            Ok(()) => return Outcome::Right,
            Err(error) => error,
        };
        let (reason, event) = match &error {
            error if error.is_not_leading() => return Outcome::NotLeading,
            PkiError::Api { source, .. } if is_code(source, 404) || is_refusal(source) => return Outcome::Gone,
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
        // Never reported as over: a user who changes the ConfigMap back and forth would get an Event for each change.
        let reporter = &self.reporter;
        reporter
            .recurring("writing the CA ConfigMap", event, &error, &object)
            .await;
        let message = format!(
            "No pod of this namespace starts without the ConfigMap {CA_CONFIG_MAP}: {}",
            chain(&error)
        );
        Outcome::Missing(Missing {
            reason,
            message: truncate(&message, MAX_MESSAGE).into_owned(),
        })
    }

    async fn write(&self, namespace: &str) -> Result<(), PkiError> {
        let api: Api<ConfigMap> = Api::namespaced(self.client.clone(), namespace);
        let doing = || doing(namespace);
        let bundle = &self.trust.now().bundle;
        let Some(present) = api.get_opt(CA_CONFIG_MAP).await.map_err(PkiError::api(doing()))? else {
            let new = ConfigMap {
                metadata: our_metadata(namespace, CA_CONFIG_MAP),
                data: Some([(CA_CONFIG_MAP_KEY.to_owned(), bundle.clone())].into()),
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
        if present.data.as_ref().and_then(|data| data.get(CA_CONFIG_MAP_KEY)) == Some(bundle) {
            return Ok(());
        }
        let patch = json!({
            "metadata": {"resourceVersion": present.metadata.resource_version},
            "data": {CA_CONFIG_MAP_KEY: bundle},
        });
        api.patch(CA_CONFIG_MAP, &PatchParams::default(), &Patch::Merge(patch))
            .await
            .map_err(PkiError::api(doing()))?;
        tracing::info!(namespace, "corrected the CA ConfigMap");
        Ok(())
    }
}

fn doing(namespace: &str) -> String {
    format!("writing the ConfigMap {namespace}/{CA_CONFIG_MAP}")
}

fn slow(namespace: &str) -> PkiError {
    PkiError::Slow {
        doing: doing(namespace),
        limit: API_TIMEOUT,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::convert::Infallible;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use axum::http::{Method, Request, Response};
    use kube::client::Body;
    use tokio::time::Instant;

    use crate::metrics::Metrics;
    use crate::pki::authority::Authority;
    use crate::pki::trust::{Signer, Trusted};

    fn config_maps(client: Client) -> ConfigMaps {
        let metrics = Arc::new(Metrics::new().unwrap());
        let reporter = Reporter::new(client.clone(), "system", "controller-0", metrics);
        let ca = Authority::generate("a", time::OffsetDateTime::UNIX_EPOCH).unwrap();
        let trust = Trust::new(Trusted {
            signer: Signer::Own(Arc::new(Authority::from_pem(&ca).unwrap())),
            bundle: "certificate".to_owned(),
            as_of: None,
        });
        ConfigMaps::new(client, reporter, trust)
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_that_hangs_ends_by_itself() {
        let hangs = |_: Request<Body>| std::future::pending::<Result<Response<Body>, Infallible>>();
        let begun = Instant::now();
        let outcome = config_maps(Client::new(tower::service_fn(hangs), "default"))
            .ensure("shop")
            .await;
        let Outcome::Missing(missing) = outcome else {
            panic!("{outcome:?}")
        };
        assert_eq!(missing.reason, NOT_WRITTEN);
        assert!(missing.message.ends_with("took more than 10 s"), "{}", missing.message);
        assert!(begun.elapsed() <= 3 * API_TIMEOUT, "{:?}", begun.elapsed());
    }

    #[tokio::test(start_paused = true)]
    async fn a_foreign_config_map_is_reported_ever_more_rarely() {
        let writes = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&writes);
        let service = tower::service_fn(move |request: Request<Body>| {
            let mut body = json!({"metadata": {"name": CA_CONFIG_MAP, "namespace": "shop"}});
            if request.method() != Method::GET {
                counted.fetch_add(1, Ordering::SeqCst);
                body = json!({"metadata": {"name": "event"}, "eventTime": "2026-01-01T00:00:00.000000Z"});
            }
            let body = Body::from(serde_json::to_vec(&body).unwrap());
            std::future::ready(Ok::<_, Infallible>(Response::new(body)))
        });
        let config_maps = config_maps(Client::new(service, "default"));
        let mut told = Vec::new();
        for second in 0..8 {
            let before = writes.load(Ordering::SeqCst);
            for _ in 0..5 {
                let outcome = config_maps.ensure("shop").await;
                assert!(matches!(&outcome, Outcome::Missing(missing) if missing.reason == NOT_OURS));
            }
            if writes.load(Ordering::SeqCst) > before {
                told.push(second);
            }
            tokio::time::advance(std::time::Duration::from_secs(1)).await;
        }
        assert_eq!((told, writes.load(Ordering::SeqCst)), (vec![0, 1, 3, 7], 4));
    }
}
