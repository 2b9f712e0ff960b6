//! The broker, seen by a person with the admin secret.

use agentwrit_client::{AuditQuery, BrokerClient, ClientConfig, Identity, Trust};
use agentwrit_protocol::Sensitive;
use agentwrit_protocol::audit::AuditEvent;
use agentwrit_protocol::claims::Claims;
use k8s_openapi::api::core::v1::Secret;
use kube::Api;

use crate::support::cluster::SYSTEM;
use crate::support::forward::Forward;
use crate::support::wait::{eventually, seconds};

/// A way to the broker's pod of this moment; open another after it was restarted.
pub(crate) struct Broker {
    pub(crate) client: BrokerClient,
    pub(crate) admin: Sensitive,
    ca: Vec<u8>,
    forward: Forward,
}

impl Broker {
    pub(crate) async fn open(kube: &kube::Client) -> Result<Self, String> {
        Self::open_at(kube, "svc/agentwrit-broker").await
    }

    /// A way to the broker of this pod (`pod/x`).
    pub(crate) async fn open_at(kube: &kube::Client, target: &str) -> Result<Self, String> {
        let forward = Forward::open(SYSTEM, target, 8443)?;
        let ca = secret(kube, "agentwrit-ca", "tls.crt").await?;
        let client = client(&forward, &ca, None)?;
        let secret = secret(kube, "agentwrit-admin", "admin-secret").await?;
        let secret = Sensitive::from(String::from_utf8_lossy(&secret).into_owned());
        let answer = client.admin_auth(&secret).await.map_err(|error| error.to_string())?;
        Ok(Self {
            client,
            admin: answer.access_token,
            ca,
            forward,
        })
    }

    /// The local port that leads to it.
    pub(crate) fn port(&self) -> u16 {
        self.forward.port
    }

    /// The same broker, seen by a pod with this ServiceAccount token.
    pub(crate) fn as_pod(&self, identity: &str) -> BrokerClient {
        client(
            &self.forward,
            &self.ca,
            Some(Identity::Token(Sensitive::from(identity))),
        )
        .unwrap()
    }

    /// The claims of a token that stands.
    pub(crate) async fn claims(&self, token: &str) -> Result<Claims, String> {
        let answer = self.client.validate(&Sensitive::from(token)).await;
        let answer = answer.map_err(|error| error.to_string())?;
        answer.claims.ok_or_else(|| "the token is refused".to_owned())
    }

    /// `Ok` when the token is refused.
    pub(crate) async fn refuses(&self, token: &str) -> Result<(), String> {
        let answer = self.client.validate(&Sensitive::from(token)).await;
        if answer.map_err(|error| error.to_string())?.valid {
            return Err("the token still stands".to_owned());
        }
        Ok(())
    }

    /// Everything that was recorded of a pod, oldest first.
    pub(crate) async fn trail(&self, pod_uid: &str) -> Vec<AuditEvent> {
        let query = AuditQuery {
            pod_uid: Some(pod_uid.into()),
            limit: Some(1000),
            ..AuditQuery::default()
        };
        let answer = self.client.audit_events(&self.admin, &query).await;
        answer.expect("the audit trail can be read").events
    }

    /// Types of the events of a pod, oldest first.
    pub(crate) async fn trail_types(&self, pod_uid: &str) -> Vec<String> {
        self.trail(pod_uid)
            .await
            .into_iter()
            .map(|event| event.event_type)
            .collect()
    }

    /// Waits until the trail of a pod has such an event.
    pub(crate) async fn records(&self, pod_uid: &str, event_type: &str) {
        eventually(&format!("{event_type} is on record"), seconds(20), async || {
            let types = self.trail_types(pod_uid).await;
            if types.iter().any(|found| found == event_type) {
                Ok(())
            } else {
                Err(format!("{types:?}"))
            }
        })
        .await;
    }
}

fn client(forward: &Forward, ca: &[u8], identity: Option<Identity>) -> Result<BrokerClient, String> {
    BrokerClient::new(ClientConfig {
        trust: Trust::Pem(ca.to_vec()),
        identity,
        // Through a port-forward, a kept connection may have gone without notice.
        max_idle_connections: 0,
        ..ClientConfig::new(format!("https://localhost:{}", forward.port))
    })
    .map_err(|error| error.to_string())
}

async fn secret(kube: &kube::Client, name: &str, key: &str) -> Result<Vec<u8>, String> {
    let api: Api<Secret> = Api::namespaced(kube.clone(), SYSTEM);
    let secret = api.get(name).await.map_err(|error| error.to_string())?;
    let value = secret.data.and_then(|mut data| data.remove(key));
    Ok(value.ok_or_else(|| format!("Secret {name} has no key {key}"))?.0)
}
