//! How to reach a broker, and which certificates to trust.

use std::path::PathBuf;
use std::time::Duration;

use agentwrit_protocol::Sensitive;

/// Which certificate authorities may have signed the broker's certificate.
#[derive(Debug, Clone)]
pub enum Trust {
    /// None: for a broker on plain HTTP.
    None,
    /// A PEM file, looked at before every call: mounted Secrets and `ConfigMap`s change in place.
    File(PathBuf),
    /// PEM bytes; [`crate::BrokerClient::set_ca`] replaces them.
    Pem(Vec<u8>),
}

/// The caller's own credential for `/v1/k8s`.
#[derive(Debug, Clone)]
pub enum Identity {
    /// A token that doesn't change.
    Token(Sensitive),
    /// A file, read for every call: projected `ServiceAccount` tokens rotate.
    File(PathBuf),
}

/// The client's own certificate, for a broker that asks for one (mTLS). Both files are looked at before every call.
#[derive(Debug, Clone)]
pub struct ClientCertificate {
    /// Certificate chain, PEM, the client's own first.
    pub certificate: PathBuf,
    /// Its private key, PEM.
    pub key: PathBuf,
}

/// Settings of a client.
#[derive(Debug, Clone)]
pub struct ClientConfig {
    /// `https://host:port`, with an optional path in front of `/v1`.
    pub base_url: String,
    /// Whom to believe on TLS.
    pub trust: Trust,
    /// What the client shows a broker in mode `mtls`.
    pub certificate: Option<ClientCertificate>,
    /// Credential for the calls of `/v1/k8s` that a pod or the controller makes.
    pub identity: Option<Identity>,
    /// From the start of a call to the last byte of its answer; 10 s by default.
    pub timeout: Duration,
    /// Largest answer, bytes; 8 MiB by default.
    pub max_response_bytes: usize,
    /// Idle connections kept; 4 by default.
    pub max_idle_connections: usize,
    /// Allow `http://` to other hosts than this one. Tokens then travel unencrypted.
    pub allow_plain_http: bool,
    /// Header `User-Agent`.
    pub user_agent: String,
}

impl ClientConfig {
    /// Settings for the broker at `base_url` with all defaults.
    pub fn new(base_url: impl Into<String>) -> Self {
        Self {
            base_url: base_url.into(),
            trust: Trust::None,
            certificate: None,
            identity: None,
            timeout: Duration::from_secs(10),
            max_response_bytes: 8 * 1024 * 1024,
            max_idle_connections: 4,
            allow_plain_http: false,
            user_agent: concat!("agentwrit-client/", env!("CARGO_PKG_VERSION")).to_owned(),
        }
    }
}

/// Why a client can't be made.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// Not a URL that a broker can have.
    #[error(
        "broker URL {url:?} {reason}; it must look like https://agentwrit-broker.agentwrit-system.svc:8443, or \
         http://127.0.0.1:8080 for a broker on this machine"
    )]
    Url {
        /// As given, without user information.
        url: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// Plain HTTP to another host.
    #[error(
        "broker URL {0:?} is plain http:// to another host: tokens would travel in the clear; use https:// \
         (plain http:// is for 127.0.0.1, [::1] and localhost)"
    )]
    PlainHttp(String),
    /// An https URL and nothing to check its certificate with.
    #[error("broker URL {0:?} needs the CA certificate that signed the broker's, in PEM form")]
    NoTrust(String),
    /// The CA bytes are not usable.
    #[error("the CA certificate can't be used: {0}")]
    Ca(String),
}
