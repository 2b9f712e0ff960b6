//! TLS settings from CA certificates.

use std::sync::Arc;

use rustls::RootCertStore;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;

/// TLS client settings that believe the certificates in `pem` and nothing else.
///
/// # Errors
/// Says what is wrong with the PEM text.
pub(crate) fn tls_config(pem: &[u8]) -> Result<rustls::ClientConfig, String> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(pem) {
        let certificate = certificate.map_err(|error| format!("it is not a PEM certificate: {error}"))?;
        roots
            .add(certificate)
            .map_err(|error| format!("it holds a certificate that can't be read: {error}"))?;
    }
    if roots.is_empty() {
        return Err("it holds no PEM block CERTIFICATE".to_owned());
    }
    with_roots(roots)
}

/// TLS client settings that believe nobody, for connectors that only speak plain HTTP.
///
/// # Errors
/// As [`tls_config`].
pub(crate) fn no_trust() -> Result<rustls::ClientConfig, String> {
    with_roots(RootCertStore::empty())
}

fn with_roots(roots: RootCertStore) -> Result<rustls::ClientConfig, String> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    Ok(rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| format!("TLS can't be set up: {error}"))?
        .with_root_certificates(roots)
        .with_no_client_auth())
}
