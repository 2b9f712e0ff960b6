//! Connects to a broker layer by layer (DNS, TCP, TLS), to find the layer that fails.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use agentwrit_protocol::{Clock, error_chain};
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier;
use rustls::{AlertDescription, CertificateError, ProtocolVersion};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use time::OffsetDateTime;
use tokio::net::{TcpStream, lookup_host};
use tokio_rustls::TlsConnector;

use crate::error::Error;
use crate::transport::BrokerClient;
use crate::trust;

/// Later than any certificate's end, so that the verifier's error names that end.
const FAR_AHEAD: Duration = Duration::from_hours(24 * 365 * 200);
/// No chain is longer.
const MAX_CHAIN: usize = 8;

/// A TLS connection that could be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsFacts {
    /// `TLS 1.2` or `TLS 1.3`.
    pub version: &'static str,
    /// When the first certificate of the chain ends, the trusted authority's own not counted: its end isn't checked.
    /// `None` when the verifier doesn't say.
    pub expires: Option<OffsetDateTime>,
}

/// Why no TLS connection can be made.
#[derive(Debug, thiserror::Error)]
pub enum TlsProblem {
    /// A certificate of the server's chain has expired.
    #[error("a certificate of the broker's chain has expired{}", .0.map(at).unwrap_or_default())]
    Expired(Option<OffsetDateTime>),
    /// Its time has not come.
    #[error("a certificate of the broker's chain is not valid {}", .0.map_or_else(|| "yet".to_owned(), before))]
    NotYet(Option<OffsetDateTime>),
    /// It is for other names.
    #[error("the broker's certificate is not for {wanted:?} but for {presented}")]
    Name {
        /// The host of the broker's URL.
        wanted: String,
        /// Subject alternative names, separated by commas.
        presented: String,
    },
    /// It is signed by somebody else.
    #[error("the broker's certificate is signed by an authority that isn't trusted")]
    Issuer,
    /// What answers speaks no TLS.
    #[error("what answers there speaks no TLS")]
    NotTls,
    /// No whole handshake before the deadline.
    #[error("no TLS handshake within {} ms", .0.as_millis())]
    Timeout(Duration),
    /// A file can't be used.
    #[error(transparent)]
    File(Error),
    /// Anything else.
    #[error("the TLS handshake failed: {0}")]
    Other(String),
}

fn at(moment: OffsetDateTime) -> String {
    format!(" on {}", moment.date())
}

fn before(moment: OffsetDateTime) -> String {
    format!("before {}", moment.date())
}

impl BrokerClient {
    /// Host and port of the broker's URL; IPv6 without brackets.
    pub fn authority(&self) -> (&str, u16) {
        let (host, port) = &self.base().authority;
        (host, *port)
    }

    /// Whether the broker is spoken to with TLS.
    pub fn speaks_tls(&self) -> bool {
        !self.base().plain
    }

    /// The addresses of the broker's host.
    ///
    /// # Errors
    /// When the name has none, or not before the deadline.
    pub async fn resolve(&self) -> std::io::Result<Vec<SocketAddr>> {
        let (host, port) = self.authority();
        let found: Vec<SocketAddr> = self.before_deadline(lookup_host((host, port))).await?.collect();
        if found.is_empty() {
            return Err(std::io::Error::other("the name has no address"));
        }
        Ok(found)
    }

    /// A connection to the first of these addresses that takes one.
    ///
    /// # Errors
    /// What the last of them says.
    pub async fn connect(&self, addresses: &[SocketAddr]) -> std::io::Result<TcpStream> {
        let mut refused = std::io::Error::other("there is no address to connect to");
        for address in addresses {
            match self.before_deadline(TcpStream::connect(address)).await {
                Ok(stream) => return Ok(stream),
                Err(error) => refused = error,
            }
        }
        Err(refused)
    }

    /// A TLS handshake over a connection, which is closed afterwards.
    ///
    /// # Errors
    /// Says which property of the certificate, or of the server, is in the way.
    pub async fn handshake(&self, stream: TcpStream, clock: &dyn Clock) -> Result<TlsFacts, TlsProblem> {
        let material = self.http().material().map_err(TlsProblem::File)?;
        let config = trust::tls_config(&material).map_err(|unusable| TlsProblem::File(self.http().name(unusable)))?;
        let (host, _) = self.authority();
        let name = ServerName::try_from(host.to_owned()).map_err(|error| TlsProblem::Other(error.to_string()))?;
        let connecting = TlsConnector::from(Arc::new(config)).connect(name.clone(), stream);
        let deadline = self.deadline();
        let connection = match tokio::time::timeout(deadline, connecting).await {
            Ok(Ok(connection)) => connection,
            Ok(Err(error)) => return Err(explain(&error, host)),
            Err(_) => return Err(TlsProblem::Timeout(deadline)),
        };
        let (_, session) = connection.get_ref();
        let version = match session.protocol_version() {
            Some(ProtocolVersion::TLSv1_2) => "TLS 1.2",
            _ => "TLS 1.3",
        };
        let chain = session.peer_certificates().unwrap_or_default();
        let expires = material.ca.and_then(|ca| expiry(&ca, chain, &name, clock));
        Ok(TlsFacts { version, expires })
    }

    async fn before_deadline<T>(&self, work: impl Future<Output = std::io::Result<T>>) -> std::io::Result<T> {
        let deadline = self.deadline();
        match tokio::time::timeout(deadline, work).await {
            Ok(result) => result,
            Err(_) => Err(std::io::Error::new(
                std::io::ErrorKind::TimedOut,
                format!("no answer within {} ms", deadline.as_millis()),
            )),
        }
    }
}

/// When the chain stops being accepted: the verifier is asked about moments ahead, because it names the end of the
/// certificate that it meets first.
fn expiry(ca: &[u8], chain: &[CertificateDer<'_>], name: &ServerName<'_>, clock: &dyn Clock) -> Option<OffsetDateTime> {
    let (end_entity, intermediates) = chain.split_first()?;
    let roots = Arc::new(trust::roots(ca).ok()?);
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let verifier = WebPkiServerVerifier::builder_with_provider(roots, provider)
        .build()
        .ok()?;
    let now = Duration::from_secs(u64::try_from(clock.unix_seconds().get()).ok()?);
    let mut asked = UnixTime::since_unix_epoch(now.checked_add(FAR_AHEAD)?);
    let mut end = None;
    for _ in 0..MAX_CHAIN {
        match verifier.verify_server_cert(end_entity, intermediates, name, &[], asked) {
            Err(rustls::Error::InvalidCertificate(CertificateError::ExpiredContext { not_after, .. })) => {
                end = moment(not_after);
                asked = UnixTime::since_unix_epoch(Duration::from_secs(not_after.as_secs().checked_sub(1)?));
            }
            _ => break,
        }
    }
    end
}

fn moment(time: UnixTime) -> Option<OffsetDateTime> {
    OffsetDateTime::from_unix_timestamp(i64::try_from(time.as_secs()).ok()?).ok()
}

fn explain(error: &std::io::Error, host: &str) -> TlsProblem {
    let Some(tls) = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) else {
        return TlsProblem::Other(error_chain(error));
    };
    match tls {
        rustls::Error::InvalidMessage(_) => TlsProblem::NotTls,
        rustls::Error::InvalidCertificate(certificate) => match certificate {
            CertificateError::Expired => TlsProblem::Expired(None),
            CertificateError::ExpiredContext { not_after, .. } => TlsProblem::Expired(moment(*not_after)),
            CertificateError::NotValidYet => TlsProblem::NotYet(None),
            CertificateError::NotValidYetContext { not_before, .. } => TlsProblem::NotYet(moment(*not_before)),
            CertificateError::NotValidForName => name_problem(host, &[]),
            CertificateError::NotValidForNameContext { presented, .. } => name_problem(host, presented),
            // The second: an authority of the same name with another key, such as that of an earlier installation.
            CertificateError::UnknownIssuer | CertificateError::BadSignature => TlsProblem::Issuer,
            other => TlsProblem::Other(other.to_string()),
        },
        other => TlsProblem::Other(other.to_string()),
    }
}

fn name_problem(host: &str, presented: &[String]) -> TlsProblem {
    TlsProblem::Name {
        wanted: host.to_owned(),
        presented: if presented.is_empty() {
            "other names".to_owned()
        } else {
            presented.iter().map(|name| bare(name)).collect::<Vec<_>>().join(", ")
        },
    }
}

/// `broker.example` of `DnsName("broker.example")`, as the verifier writes names.
fn bare(name: &str) -> &str {
    let inner = name.split_once('(').and_then(|(_, rest)| rest.strip_suffix(')'));
    inner.unwrap_or(name).trim_matches('"')
}

impl Error {
    /// Whether the broker ended the connection because it wants another client certificate, or wants one at all: in
    /// TLS 1.3 a client hears that only after its first request.
    pub fn wants_client_certificate(&self) -> bool {
        let Self::Network(_, Some(source)) = self else {
            return false;
        };
        let mut source: Option<&(dyn std::error::Error + 'static)> = Some(source.as_ref());
        while let Some(error) = source {
            let inner = error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
            let tls = inner.and_then(|inner| inner.downcast_ref::<rustls::Error>());
            if let Some(rustls::Error::AlertReceived(alert)) = tls.or_else(|| error.downcast_ref()) {
                return matches!(
                    alert,
                    AlertDescription::CertificateRequired
                        | AlertDescription::BadCertificate
                        | AlertDescription::UnsupportedCertificate
                        | AlertDescription::CertificateRevoked
                        | AlertDescription::CertificateExpired
                        | AlertDescription::CertificateUnknown
                        | AlertDescription::UnknownCA
                );
            }
            source = error.source();
        }
        false
    }
}
