//! What the sidecar asks of the broker with its key: launch, challenge and register; renew.

use agentwrit_client::{BrokerClient, Class, Renewal};
use agentwrit_protocol::k8s::PodLaunchRequest;
use agentwrit_protocol::wire::RegisterRequest;
use agentwrit_protocol::{Sensitive, Ttl, UnixSeconds};

use crate::agent::{Failure, OVERLAP};
use crate::config::Config;
use crate::key::{AgentKey, Nonce};
use crate::request::BrokerRequest;
use crate::token::Issued;

fn malformed(request: BrokerRequest, text: &str) -> Failure {
    Failure {
        request,
        class: Class::Retry(None),
        symptom: "malformed",
        text: text.to_owned(),
    }
}

/// Gets a token for this pod.
///
/// The error names the step that failed.
pub(crate) async fn register(client: &BrokerClient, config: &Config, key: &AgentKey) -> Result<Issued, Failure> {
    let at = |request| move |error| Failure::new(request, &error);
    let launch = PodLaunchRequest {
        policy: Some(config.launch_token.clone()),
        public_key: Some(key.public()),
        scopes: (!config.scopes.is_empty()).then(|| config.scopes.clone()),
        ttl_seconds: config.ttl.map(Ttl::get),
        renewal_proof: Some(true),
    };
    let launched = client.pod_launch(&launch).await.map_err(at(BrokerRequest::Launch))?;
    let challenge = client.challenge().await.map_err(at(BrokerRequest::Challenge))?;
    let nonce =
        Nonce::read(&challenge.nonce).map_err(|error| malformed(BrokerRequest::Challenge, &error.to_string()))?;
    let request = RegisterRequest {
        launch_token: Some(launched.launch_token),
        nonce: Some(challenge.nonce),
        public_key: Some(key.public()),
        signature: Some(key.sign_nonce(&nonce)),
        orch_id: Some(launched.orch_id.into()),
        task_id: Some(launched.task_id.into()),
        requested_scope: Some(if config.scopes.is_empty() {
            launched.policy.allowed_scope
        } else {
            config.scopes.clone()
        }),
        requested_ttl: config.ttl.map(Ttl::get),
    };
    let registered = client.register(&request).await.map_err(at(BrokerRequest::Register))?;
    read(BrokerRequest::Register, registered.access_token, registered.expires_in)
}

/// Renews a token, with a proof that this process holds its key; `time` is the broker's.
pub(crate) async fn renew(
    client: &BrokerClient,
    key: &AgentKey,
    held: &Issued,
    idempotency_key: Option<&str>,
    time: UnixSeconds,
) -> Result<Issued, Failure> {
    let proof = key
        .prove(&held.agent_id, &held.jti, time)
        .map(|proof| proof.to_string());
    let renewal = Renewal {
        overlap: Some(OVERLAP),
        idempotency_key,
        proof: proof.as_deref(),
    };
    let renewed = client
        .renew(&held.token, renewal)
        .await
        .map_err(|error| Failure::new(BrokerRequest::Renew, &error))?;
    read(BrokerRequest::Renew, renewed.access_token, renewed.expires_in)
}

fn read(request: BrokerRequest, token: Sensitive, expires_in: Ttl) -> Result<Issued, Failure> {
    Issued::answered(token, expires_in).ok_or_else(|| malformed(request, "the broker's answer holds no valid token"))
}
