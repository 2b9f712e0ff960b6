//! What the other controllers show: asked of each of them, since the kubelet brings their files when it likes.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use agentwrit_protocol::UnixSeconds;
use agentwrit_server::tls::provider;
use k8s_openapi::api::core::v1::Pod;
use kube::api::ListParams;
use kube::{Api, Client, ResourceExt};
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::pki::PkiError;
use crate::pki::trust::roots;

/// Labels of the controllers' pods; the chart sets them.
const LABELS: &str = "app.kubernetes.io/name=agentwrit,app.kubernetes.io/component=controller";
/// Nobody runs more controllers.
const MAX_PODS: u32 = 50;
/// How long a handshake may take.
const LIMIT: Duration = Duration::from_secs(2);

/// The webhooks of an installation.
pub(crate) struct Replicas {
    pub(crate) client: Client,
    pub(crate) namespace: String,
    /// Where each listens.
    pub(crate) port: u16,
    /// The name in their certificates.
    pub(crate) name: String,
}

impl Replicas {
    /// The pods that show what is believed by `bundle` and not by `shown`, by name. One that can't be reached, or that nobody
    /// believes, isn't ready in any case.
    pub(super) async fn behind(&self, shown: &str, bundle: &str, now: UnixSeconds) -> Result<Vec<String>, PkiError> {
        let api: Api<Pod> = Api::namespaced(self.client.clone(), &self.namespace);
        let parameters = ListParams::default().labels(LABELS).limit(MAX_PODS);
        let pods = api
            .list(&parameters)
            .await
            .map_err(PkiError::api("listing the controllers"))?;
        let mut behind = Vec::new();
        for pod in &pods.items {
            if let Some(address) = self.address(pod)
                && !self.is_believed(address, shown, now).await
                && self.is_believed(address, bundle, now).await
            {
                behind.push(pod.name_any());
            }
        }
        Ok(behind)
    }

    fn address(&self, pod: &Pod) -> Option<SocketAddr> {
        let status = pod.status.as_ref()?;
        let ip: IpAddr = status.pod_ip.as_ref()?.parse().ok()?;
        let runs = status.phase.as_deref() == Some("Running") && pod.metadata.deletion_timestamp.is_none();
        runs.then_some(SocketAddr::new(ip, self.port))
    }

    /// Whether who trusts these CAs, PEM, believes the server there.
    async fn is_believed(&self, address: SocketAddr, cas: &str, now: UnixSeconds) -> bool {
        let connected = async {
            let trusted: RootCertStore = roots(cas.as_bytes(), now).ok()?;
            let config = ClientConfig::builder_with_provider(provider())
                .with_safe_default_protocol_versions()
                .ok()?
                .with_root_certificates(trusted)
                .with_no_client_auth();
            let name = ServerName::try_from(self.name.clone()).ok()?;
            let stream = TcpStream::connect(address).await.ok()?;
            // With TLS 1.3 the client has believed the server before that asks for a client certificate.
            TlsConnector::from(Arc::new(config)).connect(name, stream).await.ok()
        };
        tokio::time::timeout(LIMIT, connected)
            .await
            .is_ok_and(|stream| stream.is_some())
    }
}
