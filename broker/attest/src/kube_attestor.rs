//! The real API server, by kube.

use std::time::Duration;

use async_trait::async_trait;
use k8s_openapi::api::authentication::v1::{TokenReview, TokenReviewSpec};
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, GetParams, ObjectMeta, PostParams};
use kube::core::Request;
use kube::{Client, Config, Resource};
use secrecy::{ExposeSecret, SecretString};

use crate::{Attestor, AttestorError, PodFacts, Review};

/// Longest wait for one answer of the API server, and for a connection to it.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
const EXTRA_POD_NAME: &str = "authentication.kubernetes.io/pod-name";
const EXTRA_POD_UID: &str = "authentication.kubernetes.io/pod-uid";
const EXTRA_NODE_NAME: &str = "authentication.kubernetes.io/node-name";

/// Asks the API server of the cluster that the broker runs in, or of `KUBECONFIG`.
#[derive(Clone)]
pub struct KubeAttestor {
    client: Client,
}

impl KubeAttestor {
    /// Reads the configuration: `KUBECONFIG`, else the pod's own. No request is made yet.
    ///
    /// # Errors
    /// When there is neither, or it can't be used.
    pub async fn connect() -> Result<Self, AttestorError> {
        let mut config = Config::infer()
            .await
            .map_err(|e| AttestorError::Configuration(e.into()))?;
        config.connect_timeout = Some(CONNECT_TIMEOUT);
        config.read_timeout = Some(ANSWER_TIMEOUT);
        let client = Client::try_from(config).map_err(|e| AttestorError::Configuration(e.into()))?;
        Ok(Self { client })
    }
}

async fn within<T>(answer: impl Future<Output = kube::Result<T>>) -> Result<T, AttestorError> {
    match tokio::time::timeout(ANSWER_TIMEOUT, answer).await {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(error)) => Err(classify(error)),
        Err(elapsed) => Err(AttestorError::Unreachable(elapsed.into())),
    }
}

fn classify(error: kube::Error) -> AttestorError {
    match &error {
        kube::Error::Api(status) => match status.code {
            401 | 403 => AttestorError::BrokerRefused(error.into()),
            _ => AttestorError::Unexpected(error.into()),
        },
        kube::Error::SerdeError(_) | kube::Error::BuildRequest(_) => AttestorError::Unexpected(error.into()),
        _ => AttestorError::Unreachable(error.into()),
    }
}

#[async_trait]
impl Attestor for KubeAttestor {
    async fn review(&self, token: &SecretString, audience: &str) -> Result<Review, AttestorError> {
        let request = TokenReview {
            metadata: ObjectMeta::default(),
            spec: TokenReviewSpec {
                audiences: Some(vec![audience.to_owned()]),
                token: token.expose_secret().to_owned(),
            },
            status: None,
        };
        let api: Api<TokenReview> = Api::all(self.client.clone());
        let status = within(api.create(&PostParams::default(), &request))
            .await?
            .status
            .unwrap_or_default();
        let user = status.user.unwrap_or_default();
        let extra = user.extra.unwrap_or_default();
        let first = |key: &str| extra.get(key).and_then(|values| values.first()).cloned();
        Ok(Review {
            authenticated: status.authenticated.unwrap_or(false),
            audiences: status.audiences.unwrap_or_default(),
            username: user.username.unwrap_or_default(),
            pod_name: first(EXTRA_POD_NAME),
            pod_uid: first(EXTRA_POD_UID),
            node: first(EXTRA_NODE_NAME),
        })
    }

    async fn pod(&self, namespace: &str, name: &str) -> Result<Option<PodFacts>, AttestorError> {
        let pods = Request::new(Pod::url_path(&(), Some(namespace)));
        let request = pods
            .get(name, &GetParams::default())
            .map_err(|error| AttestorError::Unexpected(error.into()))?;
        let reading = async {
            match self.client.request_text(request).await {
                Err(kube::Error::Api(status)) if status.is_not_found() => Ok(None),
                text => text.map(Some),
            }
        };
        let Some(text) = within(reading).await? else {
            return Ok(None);
        };
        let facts = PodFacts::from_json(&text).map_err(|error| AttestorError::Unexpected(error.into()))?;
        Ok(Some(facts))
    }
}
