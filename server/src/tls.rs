//! TLS from files, which can be read again when they change, and the parts of it that other sources of certificates use.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::RwLock;
use rustls::crypto::CryptoProvider;
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;
use rustls::{RootCertStore, ServerConfig};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::TlsAcceptor;

use crate::TlsSource;

/// The files of a listener's TLS.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsFiles {
    /// PEM chain, leaf first.
    pub cert: PathBuf,
    /// PEM key.
    pub key: PathBuf,
    /// PEM certificates of the CAs that clients must be of; without it no client certificate is asked for.
    pub client_ca: Option<PathBuf>,
}

/// Why there is no TLS.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file can't be read.
    #[error("loading {what}: {path}: {source}")]
    File {
        /// Which one.
        what: &'static str,
        /// Its path.
        path: String,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// A file holds something else.
    #[error("loading {what}: {path}: {why}")]
    Content {
        /// Which one.
        what: &'static str,
        /// Its path.
        path: String,
        /// What is wrong.
        why: String,
    },
    /// Certificate and key don't go together.
    #[error("loading TLS certificate and key: {0}")]
    Pair(#[from] rustls::Error),
    /// The CAs of clients can't be used.
    #[error("loading client CA: {0}")]
    ClientCa(#[from] rustls::server::VerifierBuilderError),
}

/// Contents of the files, to see whether they changed. A mounted Secret changes by a symlink, so times don't tell.
#[derive(PartialEq, Eq)]
struct Contents {
    cert: Vec<u8>,
    key: Vec<u8>,
    client_ca: Option<Vec<u8>>,
}

struct Loaded {
    contents: Contents,
    acceptor: TlsAcceptor,
}

/// The acceptor of new connections, always with the files' last good content.
pub struct Tls {
    files: TlsFiles,
    loaded: RwLock<Loaded>,
}

fn content(what: &'static str, path: &Path, why: &dyn std::fmt::Display) -> TlsError {
    TlsError::Content {
        what,
        path: path.display().to_string(),
        why: why.to_string(),
    }
}

fn read(what: &'static str, path: &Path) -> Result<Vec<u8>, TlsError> {
    std::fs::read(path).map_err(|source| TlsError::File {
        what,
        path: path.display().to_string(),
        source,
    })
}

fn certificates(what: &'static str, path: &Path, pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    let chain = chain.map_err(|error| content(what, path, &error))?;
    if chain.is_empty() {
        return Err(content(what, path, &"no PEM block CERTIFICATE"));
    }
    Ok(chain)
}

/// Checks that clients have a certificate of one of the CAs in `pem`, which came from `path`.
///
/// # Errors
/// When there is no usable certificate in it.
pub fn client_verifier(path: &Path, pem: &[u8]) -> Result<Arc<dyn ClientCertVerifier>, TlsError> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates("client CA", path, pem)? {
        roots
            .add(certificate)
            .map_err(|error| content("client CA", path, &error))?;
    }
    Ok(WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider()).build()?)
}

/// The one crypto provider of our programs.
pub fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}

fn load(files: &TlsFiles) -> Result<Loaded, TlsError> {
    let TlsFiles { cert, key, client_ca } = files;
    let contents = Contents {
        cert: read("TLS certificate", cert)?,
        key: read("TLS key", key)?,
        client_ca: client_ca.as_deref().map(|path| read("client CA", path)).transpose()?,
    };
    let builder = ServerConfig::builder_with_provider(provider()).with_safe_default_protocol_versions()?;
    let builder = match client_ca.as_deref().zip(contents.client_ca.as_deref()) {
        None => builder.with_no_client_auth(),
        Some((path, pem)) => builder.with_client_cert_verifier(client_verifier(path, pem)?),
    };
    let chain = certificates("TLS certificate", cert, &contents.cert)?;
    let private = PrivateKeyDer::from_pem_slice(&contents.key).map_err(|error| content("TLS key", key, &error))?;
    let mut config = builder.with_single_cert(chain, private)?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Loaded {
        contents,
        acceptor: TlsAcceptor::from(Arc::new(config)),
    })
}

impl Tls {
    /// Loads the files.
    ///
    /// # Errors
    /// Names the file and what is wrong with it.
    pub fn load(files: TlsFiles) -> Result<Self, TlsError> {
        let loaded = RwLock::new(load(&files)?);
        Ok(Self { files, loaded })
    }

    /// Reads the files again; true when they had changed. On an error the last good content stays.
    ///
    /// # Errors
    /// As for [`Tls::load`].
    pub fn refresh(&self) -> Result<bool, TlsError> {
        let fresh = load(&self.files)?;
        let mut loaded = self.loaded.write();
        let changed = loaded.contents != fresh.contents;
        if changed {
            *loaded = fresh;
        }
        Ok(changed)
    }
}

impl TlsSource for Tls {
    fn acceptor(&self) -> TlsAcceptor {
        self.loaded.read().acceptor.clone()
    }
}
