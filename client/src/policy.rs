//! The attestation and policy API (`docs/kubernetes-api.md` §4); the bearer is the client's own identity.

use agentwrit_protocol::k8s::{
    BulkItem, BulkRequest, BulkResponse, DenialsResponse, MarkRequest, MarkResponse, PodEndedRequest, PodLaunchRequest,
    PodLaunchResponse, PodReleaseResponse, PolicyKind, PolicyListResponse, PutApp, PutLaunchToken, PutPolicyResponse,
    RevokedResponse, WriteOrder,
};
use agentwrit_protocol::{PodUid, PolicyUid, Sensitive};
use http::Method;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::Error;
use crate::token::escape;
use crate::transport::{BrokerClient, Call};

/// An answer and the epoch of the store that gave it; another epoch than before means that the store is a new or a
/// restored one, and everything has to be written again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Epoched<T> {
    /// The answer.
    pub value: T,
    /// The header `Agentwrit-Epoch`; empty when the broker sent none.
    pub epoch: String,
}

fn policy_path(kind: PolicyKind, namespace: &str, name: &str) -> String {
    let kind = kind.path();
    format!("/v1/k8s/policies/{kind}/{}/{}", escape(namespace), escape(name))
}

impl BrokerClient {
    pub(crate) async fn attested<B: Serialize, T: DeserializeOwned>(
        &self,
        method: Method,
        path: String,
        body: Option<&B>,
    ) -> Result<Epoched<T>, Error> {
        let identity = self.identity()?;
        let mut call = Call::new(method, path).bearer(&identity);
        if let Some(body) = body {
            call = call.json(body)?;
        }
        let answer = self.send(call).await?;
        Ok(Epoched {
            value: answer.read()?,
            epoch: answer.epoch(),
        })
    }

    /// `PUT` of an AgentApp.
    ///
    /// # Errors
    /// See [`Error`]; a lower order is refused with `stale_writer` and `current_epoch`.
    pub async fn put_app(
        &self,
        namespace: &str,
        name: &str,
        put: &PutApp,
    ) -> Result<Epoched<PutPolicyResponse>, Error> {
        let path = policy_path(PolicyKind::App, namespace, name);
        self.attested(Method::PUT, path, Some(put)).await
    }

    /// `PUT` of a LaunchToken.
    pub async fn put_launch_token(
        &self,
        namespace: &str,
        name: &str,
        put: &PutLaunchToken,
    ) -> Result<Epoched<PutPolicyResponse>, Error> {
        let path = policy_path(PolicyKind::LaunchToken, namespace, name);
        self.attested(Method::PUT, path, Some(put)).await
    }

    /// `DELETE` of a policy; with `revoke`, its sessions end.
    pub async fn delete_policy(
        &self,
        kind: PolicyKind,
        namespace: &str,
        name: &str,
        uid: &PolicyUid,
        order: WriteOrder,
        revoke: bool,
    ) -> Result<Epoched<RevokedResponse>, Error> {
        let path = format!(
            "{}?uid={}&lease_epoch={}&sequence={}&revoke={revoke}",
            policy_path(kind, namespace, name),
            escape(uid),
            order.lease_epoch,
            order.sequence
        );
        self.attested(Method::DELETE, path, None::<&()>).await
    }

    /// `PUT /v1/k8s/policies`: up to 500 writes at once, one result each in the order sent.
    ///
    /// # Errors
    /// See [`Error`]; refusals of single items are in the results.
    pub async fn bulk(&self, items: Vec<BulkItem>) -> Result<Epoched<BulkResponse>, Error> {
        let body = BulkRequest { items };
        self.attested(Method::PUT, "/v1/k8s/policies".to_owned(), Some(&body))
            .await
    }

    /// `GET /v1/k8s/policies`: what the broker holds.
    pub async fn list_policies(&self) -> Result<Epoched<PolicyListResponse>, Error> {
        self.attested(Method::GET, "/v1/k8s/policies".to_owned(), None::<&()>)
            .await
    }

    /// `POST /v1/k8s/mark`: shows the broker what is remembered of its store; answers with what to remember now, and with
    /// all that it holds if that is asked for (a broker of the version before doesn't know that yet).
    ///
    /// # Errors
    /// See [`Error`]; a broker of before answers `not_found`.
    pub async fn mark(&self, request: &MarkRequest) -> Result<Epoched<MarkResponse>, Error> {
        self.attested(Method::POST, "/v1/k8s/mark".to_owned(), Some(request))
            .await
    }

    /// `POST /v1/k8s/launch-tokens`: a pod asks for its launch token.
    pub async fn pod_launch(&self, request: &PodLaunchRequest) -> Result<PodLaunchResponse, Error> {
        let path = "/v1/k8s/launch-tokens".to_owned();
        let answer: Epoched<PodLaunchResponse> = self.attested(Method::POST, path, Some(request)).await?;
        Ok(answer.value)
    }

    /// `POST /v1/k8s/pods/{uid}/ended`: the pod is gone, and its authority with it.
    pub async fn pod_ended(&self, uid: &PodUid, request: &PodEndedRequest) -> Result<Epoched<RevokedResponse>, Error> {
        let path = format!("/v1/k8s/pods/{}/ended", escape(uid));
        self.attested(Method::POST, path, Some(request)).await
    }

    /// `GET /v1/k8s/denials`: refusals after `cursor`, oldest first.
    pub async fn denials(&self, after: i64) -> Result<Epoched<DenialsResponse>, Error> {
        let path = format!("/v1/k8s/denials?after={after}");
        self.attested(Method::GET, path, None::<&()>).await
    }

    /// `POST /v1/k8s/pods/{uid}/release`: a person lifts the pod's quarantine; needs `admin:revoke:*`.
    pub async fn pod_release(&self, token: &Sensitive, uid: &PodUid) -> Result<PodReleaseResponse, Error> {
        let path = format!("/v1/k8s/pods/{}/release", escape(uid));
        self.send(Call::new(Method::POST, path).bearer(token)).await?.read()
    }
}
