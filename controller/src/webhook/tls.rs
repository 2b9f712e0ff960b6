//! TLS of the webhook: a leaf that is replaced while serving, and client certificates if they are asked for.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use agentwrit_server::TlsSource;
use agentwrit_server::tls::{TlsError, client_verifier, provider};
use parking_lot::RwLock;
use rustls::ServerConfig;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use tokio_rustls::TlsAcceptor;

use crate::pki::authority::PemPair;

/// The present leaf.
#[derive(Debug, Default)]
pub struct Leaf {
    present: RwLock<Option<Arc<CertifiedKey>>>,
}

impl Leaf {
    /// Serves this leaf from now on.
    ///
    /// # Errors
    /// When the pair isn't usable.
    pub fn set(&self, pair: &PemPair) -> Result<(), String> {
        let certified = Arc::new(pair.certified()?);
        *self.present.write() = Some(certified);
        Ok(())
    }
}

impl ResolvesServerCert for Leaf {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.present.read().clone()
    }
}

struct Loaded {
    client_ca: Option<Vec<u8>>,
    acceptor: TlsAcceptor,
}

/// The acceptor of new connections.
pub(crate) struct WebhookTls {
    leaf: Arc<Leaf>,
    client_ca: Option<PathBuf>,
    loaded: RwLock<Loaded>,
}

fn load(leaf: &Arc<Leaf>, path: Option<&Path>) -> Result<Loaded, TlsError> {
    let client_ca = match path {
        None => None,
        Some(path) => Some(std::fs::read(path).map_err(|source| TlsError::File {
            what: "client CA",
            path: path.display().to_string(),
            source,
        })?),
    };
    let builder = ServerConfig::builder_with_provider(provider()).with_safe_default_protocol_versions()?;
    let builder = match path.zip(client_ca.as_deref()) {
        None => builder.with_no_client_auth(),
        Some((path, pem)) => builder.with_client_cert_verifier(client_verifier(path, pem)?),
    };
    let resolver: Arc<dyn ResolvesServerCert> = leaf.clone();
    let mut config = builder.with_cert_resolver(resolver);
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Loaded {
        client_ca,
        acceptor: TlsAcceptor::from(Arc::new(config)),
    })
}

impl WebhookTls {
    /// Serves `leaf`; with `client_ca`, a file, only to clients that have a certificate of it.
    ///
    /// Fails when the file can't be used.
    pub(crate) fn load(leaf: Arc<Leaf>, client_ca: Option<PathBuf>) -> Result<Self, TlsError> {
        let loaded = RwLock::new(load(&leaf, client_ca.as_deref())?);
        Ok(Self {
            leaf,
            client_ca,
            loaded,
        })
    }

    /// Reads the file again; true when it had changed. On an error its last good content stays.
    pub(crate) fn refresh(&self) -> Result<bool, TlsError> {
        let fresh = load(&self.leaf, self.client_ca.as_deref())?;
        let mut loaded = self.loaded.write();
        let changed = loaded.client_ca != fresh.client_ca;
        if changed {
            *loaded = fresh;
        }
        Ok(changed)
    }
}

impl TlsSource for WebhookTls {
    fn acceptor(&self) -> TlsAcceptor {
        let loaded = self.loaded.read();
        loaded.acceptor.clone()
    }
}

#[cfg(test)]
mod tests {
    use agentwrit_testkit::{Authority, Issued};
    use rustls::pki_types::ServerName;
    use rustls::{ClientConfig, RootCertStore};
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};
    use tokio_rustls::TlsConnector;

    use super::*;

    /// Whether a client with this certificate gets through.
    async fn connects(tls: &WebhookTls, server: &Authority, client: Option<&Issued>) -> bool {
        let mut roots = RootCertStore::empty();
        roots.add(server.der()).unwrap();
        let builder = ClientConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots);
        let config = match client {
            None => builder.with_no_client_auth(),
            Some(own) => builder.with_client_auth_cert(vec![own.der()], own.key_der()).unwrap(),
        };
        let (ours, theirs) = duplex(64 * 1024);
        let accepting = async {
            let mut stream = tls.acceptor().accept(theirs).await.ok()?;
            stream.write_all(b"x").await.ok()?;
            stream.flush().await.ok()
        };
        let name = ServerName::try_from("webhook.test").unwrap();
        let connecting = async {
            let mut stream = TlsConnector::from(Arc::new(config)).connect(name, ours).await.ok()?;
            stream.read_u8().await.ok()
        };
        let (accepted, read) = tokio::join!(accepting, connecting);
        accepted.is_some() && read == Some(b'x')
    }

    #[tokio::test]
    async fn only_the_api_servers_certificate_gets_through() {
        let (server, apiserver, stranger) = (Authority::new(), Authority::new(), Authority::new());
        let leaf = Arc::new(Leaf::default());
        let issued = server.issue("webhook.test");
        leaf.set(&PemPair {
            certificate: issued.pem(),
            key: issued.key_pem(),
        })
        .unwrap();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ca.crt");
        std::fs::write(&path, apiserver.pem()).unwrap();
        let open = WebhookTls::load(Arc::clone(&leaf), None).unwrap();
        assert!(connects(&open, &server, None).await);
        let tls = WebhookTls::load(leaf, Some(path.clone())).unwrap();
        let (good, bad) = (apiserver.issue("kube-apiserver"), stranger.issue("kube-apiserver"));
        assert!(connects(&tls, &server, Some(&good)).await);
        assert!(!connects(&tls, &server, Some(&bad)).await);
        assert!(!connects(&tls, &server, None).await);
        assert!(!tls.refresh().unwrap());
        std::fs::write(&path, "half a file").unwrap();
        assert!(tls.refresh().unwrap_err().to_string().contains("ca.crt"));
        assert!(
            connects(&tls, &server, Some(&good)).await,
            "the last good content stays"
        );
        std::fs::write(&path, stranger.pem()).unwrap();
        assert!(tls.refresh().unwrap());
        assert!(connects(&tls, &server, Some(&bad)).await && !connects(&tls, &server, Some(&good)).await);
    }
}
