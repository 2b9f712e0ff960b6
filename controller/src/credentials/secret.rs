//! One Secret at the API server: read, made, changed, removed. Nothing is written without the claim (`leader/guard.rs`).

use std::collections::BTreeMap;
use std::time::Duration;

use agentwrit_crds::{AgentApp, ClientCredentials};
use agentwrit_protocol::excerpt::truncate;
use agentwrit_protocol::inject::{ANNOTATION_CLIENT_SECRET, CA_CONFIG_MAP_KEY, LABEL_CLIENT_CREDENTIALS};
use agentwrit_protocol::k8s::clients::client_id;
use agentwrit_protocol::{Sensitive, UnixSeconds, lower_hex};
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use kube::api::{DeleteParams, Patch, PatchParams, PostParams, Preconditions};
use kube::{Api, Resource, ResourceExt};
use serde_json::json;
use tokio::time::timeout;

use super::record::Record;
use super::seen::owner;
use crate::context::Context;
use crate::ending_namespaces::is_refusal;
use crate::leader::guard::is_not_leading;
use crate::pki::config_maps::MAX_MESSAGE;
use crate::pki::{MANAGED_BY, MANAGER};
use crate::reconcile::ReconcileError;
use crate::reconcile::condition::{Ready, Reason};
use crate::report::chain;

/// Owns what we write of these Secrets.
const FIELD_MANAGER: &str = "agentwrit-client-credentials";
const TYPE: &str = "Opaque";
const CLIENT_ID: &str = "client_id";
const CLIENT_SECRET: &str = "client_secret";
const BROKER_URL: &str = "broker_url";
/// Of 256 bits: nobody finds it by trying, however fast a try is.
const SECRET_BYTES: usize = 32;
/// How long one call may take: other AgentApps wait for it.
const API_TIMEOUT: Duration = Duration::from_secs(10);

/// Why there is no Secret as it should be.
#[derive(Debug)]
pub(super) enum Trouble {
    /// Another look at a later time will do.
    Wait,
    /// The condition says so.
    Shown(Ready),
}

/// The AgentApp's own Secret, as it was found.
#[derive(Debug)]
pub(super) struct Ours {
    pub(super) metadata: ObjectMeta,
    /// `None` when `client_secret` isn't what we wrote.
    pub(super) record: Option<Record>,
    /// Whether everything else is as it should be.
    pub(super) is_whole: bool,
}

/// The Secret of one AgentApp.
pub(super) struct Secrets<'a> {
    api: Api<Secret>,
    app: &'a AgentApp,
    namespace: String,
    name: &'a str,
    /// The CA certificates that stand in it, PEM.
    bundle: &'a str,
    context: &'a Context,
}

impl<'a> Secrets<'a> {
    pub(super) fn new(app: &'a AgentApp, spec: &'a ClientCredentials, bundle: &'a str, context: &'a Context) -> Self {
        let namespace = app.namespace().unwrap_or_default();
        Self {
            api: Api::namespaced(context.writer.clone(), &namespace),
            app,
            namespace,
            name: &spec.secret_name,
            bundle,
            context,
        }
    }

    pub(super) async fn read(&self, now: UnixSeconds) -> Result<Option<Ours>, Trouble> {
        let Some(secret) = self.call("reading", self.api.get_opt(self.name)).await? else {
            return Ok(None);
        };
        if owner(&secret.metadata).map(|owner| owner.uid) != self.app.uid() {
            return Err(self.not_owned());
        }
        if secret.metadata.deletion_timestamp.is_some() {
            return Err(Trouble::Wait);
        }
        let data = |key: &str| {
            secret
                .data
                .as_ref()
                .and_then(|data| data.get(key))
                .map(|value| value.0.as_slice())
        };
        let annotation = secret.annotations().get(ANNOTATION_CLIENT_SECRET).map(String::as_str);
        let is_whole = self
            .labels()
            .iter()
            .all(|(key, value)| secret.labels().get(*key) == Some(value))
            && self
                .values()
                .iter()
                .all(|(key, value)| data(key) == Some(value.as_bytes()));
        Ok(Some(Ours {
            record: Record::read(annotation, data(CLIENT_SECRET), now),
            is_whole,
            metadata: secret.metadata,
        }))
    }

    /// Writes a new secret, where there is none or in place of ours.
    pub(super) async fn issue(
        &self,
        found: Option<&Ours>,
        record: impl FnOnce(&str) -> Record,
    ) -> Result<(ObjectMeta, Record), Trouble> {
        let mut bytes = [0_u8; SECRET_BYTES];
        if let Err(error) = self.context.entropy.fill(&mut bytes) {
            return Err(self.not_written(&format!("there is no randomness: {error}")));
        }
        let secret = Sensitive::from(lower_hex(bytes));
        let record = record(secret.expose());
        let metadata = match found {
            None => self.create(&secret, &record).await?,
            Some(ours) => self.change(&ours.metadata, Some(&secret), &record).await?,
        };
        Ok((metadata, record))
    }

    /// Puts back what else we write than the secret.
    pub(super) async fn repair(&self, metadata: &ObjectMeta, record: &Record) -> Result<ObjectMeta, Trouble> {
        self.change(metadata, None, record).await
    }

    async fn create(&self, secret: &Sensitive, record: &Record) -> Result<ObjectMeta, Trouble> {
        let new = Secret {
            metadata: ObjectMeta {
                name: Some(self.name.to_owned()),
                namespace: Some(self.namespace.clone()),
                labels: Some(
                    self.labels()
                        .into_iter()
                        .map(|(key, value)| (key.to_owned(), value))
                        .collect(),
                ),
                annotations: Some(annotations(record)),
                owner_references: self.app.controller_owner_ref(&()).map(|owner| {
                    // Blocking the owner's deletion would need one more right, and nothing waits for a Secret.
                    vec![OwnerReference {
                        block_owner_deletion: None,
                        ..owner
                    }]
                }),
                ..ObjectMeta::default()
            },
            type_: Some(TYPE.to_owned()),
            data: Some(self.data(Some(secret))),
            ..Secret::default()
        };
        let parameters = PostParams {
            field_manager: Some(FIELD_MANAGER.to_owned()),
            ..PostParams::default()
        };
        let created = self.call("creating", self.api.create(&parameters, &new)).await?;
        Ok(created.metadata)
    }

    async fn change(
        &self,
        present: &ObjectMeta,
        secret: Option<&Sensitive>,
        record: &Record,
    ) -> Result<ObjectMeta, Trouble> {
        let patch = json!({
            "metadata": {
                // Of two writers, one is refused.
                "resourceVersion": present.resource_version,
                "uid": present.uid,
                "labels": self.labels(),
                "annotations": annotations(record),
            },
            "data": self.data(secret),
        });
        let parameters = PatchParams {
            field_manager: Some(FIELD_MANAGER.to_owned()),
            ..PatchParams::default()
        };
        let patch = Patch::Merge(patch);
        let changed = self
            .call("changing", self.api.patch(self.name, &parameters, &patch))
            .await?;
        Ok(changed.metadata)
    }

    fn labels(&self) -> BTreeMap<&'static str, String> {
        BTreeMap::from([
            (MANAGED_BY, MANAGER.to_owned()),
            (LABEL_CLIENT_CREDENTIALS, self.app.name_any()),
        ])
    }

    /// What stands in the Secret beside the secret.
    fn values(&self) -> [(&'static str, String); 3] {
        let config = &self.context.config;
        let url = config.client_broker_url.as_ref().unwrap_or(&config.broker_url);
        [
            (CLIENT_ID, client_id(&self.app.uid().unwrap_or_default().into())),
            (BROKER_URL, url.clone()),
            (CA_CONFIG_MAP_KEY, self.bundle.to_owned()),
        ]
    }

    fn data(&self, secret: Option<&Sensitive>) -> BTreeMap<String, ByteString> {
        let secret = secret.map(|secret| (CLIENT_SECRET, secret.expose().to_owned()));
        let values = self.values().into_iter().chain(secret);
        values
            .map(|(key, value)| (key.to_owned(), ByteString(value.into_bytes())))
            .collect()
    }

    async fn call<T>(&self, doing: &'static str, call: impl Future<Output = kube::Result<T>>) -> Result<T, Trouble> {
        let Ok(answer) = timeout(API_TIMEOUT, call).await else {
            return Err(self.not_written(&format!("{doing} it took more than {} s", API_TIMEOUT.as_secs())));
        };
        answer.map_err(|error| match error {
            // Made, changed or removed meanwhile: the next look sees it.
            kube::Error::Api(status) if status.code == 409 || status.code == 404 => Trouble::Wait,
            // The next leader looks for itself, and nothing is made in a namespace that is being deleted.
            error if is_not_leading(&error) || is_refusal(&error) => Trouble::Wait,
            source => {
                let error = ReconcileError::Api {
                    doing,
                    event: Reason::SecretNotWritten.as_str(),
                    namespace: self.namespace.clone(),
                    name: self.name.to_owned(),
                    source: Box::new(source),
                };
                self.context
                    .reporter
                    .error("keeping a Secret with client credentials", &error);
                self.not_written(&chain(&error))
            }
        })
    }

    fn not_owned(&self) -> Trouble {
        Trouble::Shown(Ready::new(
            Reason::SecretNotOwned,
            format!(
                "The Secret {} of this namespace isn't this AgentApp's own, and is left as it is. Name another one in \
                 spec.clientCredentials.secretName, or delete that one. Whoever could log in goes on so.",
                self.name
            ),
        ))
    }

    fn not_written(&self, why: &str) -> Trouble {
        let message = format!("The Secret {} can't be kept as it should be: {why}", self.name);
        Trouble::Shown(Ready::new(Reason::SecretNotWritten, truncate(&message, MAX_MESSAGE)))
    }
}

fn annotations(record: &Record) -> BTreeMap<String, String> {
    BTreeMap::from([(ANNOTATION_CLIENT_SECRET.to_owned(), json!(record).to_string())])
}

/// Removes a Secret that the AgentApp has no more. What can't be done now is tried at the next look.
pub(super) async fn remove(app: &AgentApp, (name, uid): (&str, &str), context: &Context) {
    let namespace = app.namespace().unwrap_or_default();
    let api: Api<Secret> = Api::namespaced(context.writer.clone(), &namespace);
    let parameters = DeleteParams {
        preconditions: Some(Preconditions {
            uid: Some(uid.to_owned()),
            resource_version: None,
        }),
        ..DeleteParams::default()
    };
    let source = match timeout(API_TIMEOUT, api.delete(name, &parameters)).await {
        Ok(Ok(_)) => {
            tracing::info!(
                namespace,
                name = app.name_any(),
                secret = name,
                "removed a Secret with client credentials"
            );
            return;
        }
        Ok(Err(kube::Error::Api(status))) if status.code == 404 || status.code == 409 => return,
        Ok(Err(error)) if is_not_leading(&error) => return,
        Ok(Err(source)) => source,
        // Its answer is seen by the watch.
        Err(_) => return,
    };
    let error = ReconcileError::Api {
        doing: "removing the Secret",
        event: "SecretNotRemoved",
        namespace,
        name: name.to_owned(),
        source: Box::new(source),
    };
    let reference = app.object_ref(&());
    let reporter = &context.reporter;
    reporter
        .recurring(
            "removing a Secret with client credentials",
            "SecretNotRemoved",
            &error,
            &reference,
        )
        .await;
}
