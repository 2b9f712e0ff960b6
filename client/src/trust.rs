//! TLS settings from CA certificates and the client's own.

use std::sync::Arc;

use rustls::RootCertStore;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

/// PEM texts that a connection is made with.
#[derive(Clone, Default, PartialEq, Eq)]
pub(crate) struct Material {
    /// The CAs that may have signed the server's certificate; none with plain HTTP.
    pub(crate) ca: Option<Vec<u8>>,
    /// The client's own certificate and key, for mTLS.
    pub(crate) own: Option<OwnCertificate>,
}

/// A certificate chain and its key, PEM.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct OwnCertificate {
    pub(crate) chain: Vec<u8>,
    pub(crate) key: Vec<u8>,
}

/// Why no connection can be set up with the material: what is wrong, and with which part of it.
#[derive(Debug)]
pub(crate) enum Unusable {
    Ca(String),
    /// The client's own certificate.
    Certificate(String),
    Key(String),
    Tls(String),
}

/// The CA certificates of a PEM text.
///
/// The error says what is wrong with it.
pub(crate) fn roots(pem: &[u8]) -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(pem)? {
        roots
            .add(certificate)
            .map_err(|error| format!("it holds a certificate that can't be read: {error}"))?;
    }
    Ok(roots)
}

fn certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, String> {
    let read: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    let read = read.map_err(|error| format!("it is not a PEM certificate: {error}"))?;
    if read.is_empty() {
        return Err("it holds no PEM block CERTIFICATE".to_owned());
    }
    Ok(read)
}

/// TLS client settings that trust only the CA certificates of the material.
///
/// The error says what is wrong with which part.
pub(crate) fn tls_config(material: &Material) -> Result<rustls::ClientConfig, Unusable> {
    let roots = match &material.ca {
        Some(pem) => roots(pem).map_err(Unusable::Ca)?,
        None => RootCertStore::empty(),
    };
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| Unusable::Tls(format!("TLS can't be set up: {error}")))?
        .with_root_certificates(roots);
    let Some(own) = &material.own else {
        return Ok(builder.with_no_client_auth());
    };
    let chain = certificates(&own.chain).map_err(Unusable::Certificate)?;
    let key = PrivateKeyDer::from_pem_slice(&own.key)
        .map_err(|_| Unusable::Key("it holds no PEM block with a private key".to_owned()))?;
    builder
        .with_client_auth_cert(chain, key)
        .map_err(|error| Unusable::Key(format!("it doesn't go with the certificate: {error}")))
}
