//! TLS of the API listener; the files are read again when they change.

use std::path::Path;
use std::sync::{Arc, PoisonError, RwLock};

use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::TlsAcceptor;

use crate::config::TlsMode;

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
    mode: TlsMode,
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

fn load(mode: &TlsMode) -> Result<Option<Loaded>, TlsError> {
    let TlsMode::Tls { cert, key, client_ca } = mode else {
        return Ok(None);
    };
    let contents = Contents {
        cert: read("TLS certificate", cert)?,
        key: read("TLS key", key)?,
        client_ca: client_ca.as_deref().map(|path| read("client CA", path)).transpose()?,
    };
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider)).with_safe_default_protocol_versions()?;
    let builder = match client_ca.as_deref().zip(contents.client_ca.as_deref()) {
        None => builder.with_no_client_auth(),
        Some((path, pem)) => {
            let mut roots = RootCertStore::empty();
            for certificate in certificates("client CA", path, pem)? {
                roots
                    .add(certificate)
                    .map_err(|error| content("client CA", path, &error))?;
            }
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build()?;
            builder.with_client_cert_verifier(verifier)
        }
    };
    let chain = certificates("TLS certificate", cert, &contents.cert)?;
    let private = PrivateKeyDer::from_pem_slice(&contents.key).map_err(|error| content("TLS key", key, &error))?;
    let mut config = builder.with_single_cert(chain, private)?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Some(Loaded {
        contents,
        acceptor: TlsAcceptor::from(Arc::new(config)),
    }))
}

impl Tls {
    /// Loads the files; `None` for plain HTTP.
    ///
    /// # Errors
    /// Names the file and what is wrong with it.
    pub fn load(mode: &TlsMode) -> Result<Option<Self>, TlsError> {
        Ok(load(mode)?.map(|loaded| Self {
            mode: mode.clone(),
            loaded: RwLock::new(loaded),
        }))
    }

    /// The acceptor for a new connection.
    pub fn acceptor(&self) -> TlsAcceptor {
        self.loaded
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .acceptor
            .clone()
    }

    /// Reads the files again; true when they had changed. On an error the last good content stays.
    ///
    /// # Errors
    /// As for [`Tls::load`].
    pub fn refresh(&self) -> Result<bool, TlsError> {
        let Some(fresh) = load(&self.mode)? else {
            return Ok(false);
        };
        let mut loaded = self.loaded.write().unwrap_or_else(PoisonError::into_inner);
        let changed = loaded.contents != fresh.contents;
        if changed {
            *loaded = fresh;
        }
        Ok(changed)
    }
}
