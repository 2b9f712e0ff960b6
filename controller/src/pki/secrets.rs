//! The three Secrets of the release namespace: CA (`ca_secret.rs`), the broker's leaf, and the signing keys.

use std::collections::BTreeMap;
use std::time::Duration;

use agentwrit_protocol::signing_keys::wire::SigningKeysResponse;
use agentwrit_protocol::signing_keys::{FILE_SUFFIX, file_name};
use agentwrit_protocol::{Clock, Entropy};
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use kube::api::{Patch, PatchParams, PostParams};
use kube::{Api, Client};
use serde_json::{Value, json};

use super::authority::{Authority, PemPair};
use super::key_rotation::{Plan, Stored};
use super::succession::Cas;
use super::{PkiError, ca_secret, is_code, is_ours, our_metadata, signing_key};

/// Secret with the CA.
pub(crate) const CA_SECRET: &str = "agentwrit-ca";
/// Secret with the broker's leaf.
pub(crate) const BROKER_TLS_SECRET: &str = "agentwrit-broker-tls";
/// Secret with the broker's signing keys.
pub(crate) const SIGNING_KEY_SECRET: &str = "agentwrit-signing-key";
/// Key of the first signing key.
pub(crate) const SIGNING_KEY: &str = "signing.key";
pub(super) const CERTIFICATE: &str = "tls.crt";
pub(super) const KEY: &str = "tls.key";
pub(super) const TLS: &str = "kubernetes.io/tls";

/// The Secrets of one release namespace.
#[derive(Clone)]
pub struct Secrets {
    api: Api<Secret>,
    namespace: String,
}

impl std::fmt::Debug for Secrets {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Secrets")
            .field("namespace", &self.namespace)
            .finish_non_exhaustive()
    }
}

impl Secrets {
    /// The Secrets of `namespace`.
    pub fn new(client: Client, namespace: &str) -> Self {
        Self {
            api: Api::namespaced(client, namespace),
            namespace: namespace.to_owned(),
        }
    }

    pub(super) fn namespace(&self) -> &str {
        &self.namespace
    }

    /// Creates the Secret with the CAs; fails when another one was faster.
    pub(super) async fn create_ca(&self, cas: &Cas) -> Result<(), PkiError> {
        let secret = ca_secret::secret(cas, our_metadata(&self.namespace, CA_SECRET));
        let created = self.api.create(&PostParams::default(), &secret).await;
        created.map(drop).map_err(PkiError::api("creating the CA"))
    }

    /// A merge patch of one of the Secrets.
    pub(super) async fn patch(&self, name: &str, patch: &Value, doing: &str) -> Result<(), PkiError> {
        let patched = self
            .api
            .patch(name, &PatchParams::default(), &Patch::Merge(patch))
            .await;
        patched.map(drop).map_err(PkiError::api(doing))
    }

    /// Makes or renews the broker's leaf.
    ///
    /// # Errors
    /// When the Secret isn't ours, or the API server doesn't answer.
    pub async fn broker_leaf(&self, authority: &Authority, clock: &dyn Clock) -> Result<(), PkiError> {
        let mut names = service_names("agentwrit-broker", &self.namespace);
        // What `kubectl port-forward` and `awrit` call it.
        names.extend(["localhost".to_owned(), "127.0.0.1".to_owned()]);
        let Some(stored) = self.get(BROKER_TLS_SECRET).await? else {
            let pair = authority.issue(&names, clock.now())?;
            self.create(BROKER_TLS_SECRET, Some(TLS), pair_data(pair)).await?;
            tracing::info!(secret = BROKER_TLS_SECRET, "made the broker's certificate");
            return Ok(());
        };
        if !is_ours(&stored.metadata) {
            return Err(self.not_ours(BROKER_TLS_SECRET));
        }
        let leaf = text(&stored, CERTIFICATE).unwrap_or_default();
        let Some(why) = authority.stale(&leaf, &names, clock.unix_seconds()) else {
            return Ok(());
        };
        let pair = authority.issue(&names, clock.now())?;
        let patch = json!({
            // Of two writers, one is refused.
            "metadata": {"resourceVersion": stored.metadata.resource_version},
            "data": pair_data(pair),
        });
        self.patch(BROKER_TLS_SECRET, &patch, "renewing the broker's certificate")
            .await?;
        tracing::info!(secret = BROKER_TLS_SECRET, why, "renewed the broker's certificate");
        Ok(())
    }

    /// Makes the first signing key when there is none; a stored one is never overwritten.
    ///
    /// # Errors
    /// When a stored one isn't usable, or the API server doesn't answer.
    pub async fn signing_key(&self, entropy: &dyn Entropy) -> Result<(), PkiError> {
        let stored = if let Some(secret) = self.get(SIGNING_KEY_SECRET).await? {
            secret
        } else {
            let pem = signing_key::generate(entropy)?;
            let data = BTreeMap::from([(SIGNING_KEY.to_owned(), ByteString(pem.into_bytes()))]);
            let secret = self.create(SIGNING_KEY_SECRET, None, data).await?;
            tracing::info!(secret = SIGNING_KEY_SECRET, "made the broker's signing key");
            secret
        };
        self.signing_keys(&stored).map(drop)
    }

    /// The keys in the Secret: every entry whose name ends with `.key`, as the broker reads them.
    fn signing_keys(&self, secret: &Secret) -> Result<Vec<Stored>, PkiError> {
        let unusable = |name: &str, why| self.stored(SIGNING_KEY_SECRET, name, why);
        let entries = secret.data.iter().flatten();
        let mut keys = Vec::new();
        for (name, _) in entries.filter(|(name, _)| name.ends_with(FILE_SUFFIX)) {
            let kid = text(secret, name).and_then(|pem| signing_key::kid(&pem));
            let kid = kid.map_err(|why| unusable(name, why))?;
            let name = name.clone();
            keys.push(Stored { name, kid });
        }
        if keys.is_empty() {
            return Err(unusable(SIGNING_KEY, "the key is missing".to_owned()));
        }
        Ok(keys)
    }

    /// Adds a signing key when one was asked for or is due, and removes those that are retired.
    ///
    /// # Errors
    /// When a stored one isn't usable, the Secret isn't ours, or the API server doesn't answer.
    pub(crate) async fn rotate_signing_keys(
        &self,
        broker: &SigningKeysResponse,
        rotate_every: Duration,
        (clock, entropy): (&dyn Clock, &dyn Entropy),
    ) -> Result<(), PkiError> {
        // Made by `signing_key`, if it is gone.
        let Some(stored) = self.get(SIGNING_KEY_SECRET).await? else {
            return Ok(());
        };
        let keys = self.signing_keys(&stored)?;
        let plan = Plan::of(&keys, broker, clock.unix_seconds(), rotate_every);
        if plan.is_empty() {
            return Ok(());
        }
        if !is_ours(&stored.metadata) {
            return Err(self.not_ours(SIGNING_KEY_SECRET));
        }
        let mut data: BTreeMap<String, Option<ByteString>> = BTreeMap::new();
        for name in &plan.remove {
            data.insert(name.clone(), None);
        }
        let mut added = None;
        if plan.add.is_some() {
            let pem = signing_key::generate(entropy)?;
            let kid = signing_key::kid(&pem).map_err(|why| self.stored(SIGNING_KEY_SECRET, SIGNING_KEY, why))?;
            data.insert(file_name(&kid), Some(ByteString(pem.into_bytes())));
            added = Some(kid);
        }
        let patch = json!({
            // Of two writers, one is refused.
            "metadata": {"resourceVersion": stored.metadata.resource_version},
            "data": data,
        });
        self.patch(SIGNING_KEY_SECRET, &patch, "changing the signing keys")
            .await?;
        tracing::info!(
            secret = SIGNING_KEY_SECRET, added, why = plan.add, removed = ?plan.remove, "changed the signing keys"
        );
        Ok(())
    }

    pub(super) fn not_ours(&self, name: &str) -> PkiError {
        PkiError::NotOurs {
            kind: "Secret",
            namespace: self.namespace.clone(),
            name: name.to_owned(),
        }
    }

    pub(super) async fn get(&self, name: &str) -> Result<Option<Secret>, PkiError> {
        let doing = format!("reading the Secret {name}");
        self.api.get_opt(name).await.map_err(PkiError::api(doing))
    }

    /// Creates a Secret; when another one was faster, its Secret is the answer.
    pub(super) async fn create(
        &self,
        name: &str,
        type_: Option<&str>,
        data: BTreeMap<String, ByteString>,
    ) -> Result<Secret, PkiError> {
        let secret = Secret {
            metadata: our_metadata(&self.namespace, name),
            type_: type_.map(str::to_owned),
            data: Some(data),
            ..Secret::default()
        };
        let doing = format!("creating the Secret {name}");
        match self.api.create(&PostParams::default(), &secret).await {
            Ok(created) => Ok(created),
            Err(error) if is_code(&error, 409) => self.api.get(name).await.map_err(PkiError::api(doing)),
            Err(error) => Err(PkiError::api(doing)(error)),
        }
    }

    pub(super) fn stored(&self, name: &str, key: &str, why: String) -> PkiError {
        PkiError::Stored {
            kind: "Secret",
            name: format!("{}/{name}", self.namespace),
            key: key.to_owned(),
            why,
        }
    }
}

/// The names under which a Service of the namespace is called.
pub(crate) fn service_names(service: &str, namespace: &str) -> Vec<String> {
    vec![
        format!("{service}.{namespace}.svc"),
        format!("{service}.{namespace}.svc.cluster.local"),
        format!("{service}.{namespace}"),
        service.to_owned(),
    ]
}

pub(super) fn pair_data(pair: PemPair) -> BTreeMap<String, ByteString> {
    BTreeMap::from([
        (CERTIFICATE.to_owned(), ByteString(pair.certificate.into_bytes())),
        (KEY.to_owned(), ByteString(pair.key.into_bytes())),
    ])
}

pub(super) fn text(secret: &Secret, key: &str) -> Result<String, String> {
    let value = secret
        .data
        .as_ref()
        .and_then(|data| data.get(key))
        .ok_or("the key is missing")?;
    String::from_utf8(value.0.clone()).map_err(|_| "it is not text".to_owned())
}
