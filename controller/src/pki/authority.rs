//! The certificate authority of the installation, and the leaves that it signs.

use agentwrit_protocol::{Ttl, UnixSeconds};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use time::{Duration, OffsetDateTime};
use x509_parser::prelude::{ASN1Time, FromDer, X509Certificate};

use super::PkiError;

/// Life of the CA.
const CA_LIFE: Duration = Duration::days(3650);
/// Life of a leaf; it is replaced after two thirds of it.
pub(crate) const LEAF_LIFE: Duration = Duration::days(90);
/// Certificates begin a little in the past: clocks differ.
const BACKDATED: Duration = Duration::minutes(5);

/// A certificate and its key, PEM.
#[derive(Clone)]
pub struct PemPair {
    pub(crate) certificate: String,
    /// The private key, PKCS#8.
    pub(crate) key: String,
}

impl std::fmt::Debug for PemPair {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PemPair")
            .field("certificate", &self.certificate)
            .finish_non_exhaustive()
    }
}

/// The CA: signs leaves.
pub struct Authority {
    certificate: String,
    issuer: Issuer<'static, KeyPair>,
}

impl std::fmt::Debug for Authority {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Authority")
            .field("certificate", &self.certificate)
            .finish_non_exhaustive()
    }
}

impl Authority {
    /// A new CA, ECDSA P-256.
    ///
    /// # Errors
    /// When the key or the certificate can't be made.
    pub fn generate(installation: &str, now: OffsetDateTime) -> Result<PemPair, PkiError> {
        let make = |source| PkiError::Make { what: "the CA", source };
        let key = KeyPair::generate().map_err(make)?;
        let mut params = CertificateParams::default();
        params.not_before = now - BACKDATED;
        params.not_after = now + CA_LIFE;
        params.distinguished_name = name(&format!("AgentWrit CA of {installation}"));
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        Ok(PemPair {
            certificate: params.self_signed(&key).map_err(make)?.pem(),
            key: key.serialize_pem(),
        })
    }

    /// The CA of a stored pair.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn from_pem(pair: &PemPair) -> Result<Self, String> {
        let key = KeyPair::from_pem(&pair.key).map_err(|error| format!("the private key can't be read: {error}"))?;
        let public = key.public_key_raw().to_vec();
        let issuer = Issuer::from_ca_cert_pem(&pair.certificate, key)
            .map_err(|error| format!("the certificate can't be read: {error}"))?;
        let matches = with_certificate(&pair.certificate, |certificate| {
            certificate.is_ca() && certificate.public_key().subject_public_key.data.as_ref() == public.as_slice()
        })?;
        if !matches {
            return Err("it is no CA certificate, or the private key belongs to another one".into());
        }
        Ok(Self {
            certificate: pair.certificate.clone(),
            issuer,
        })
    }

    /// The CA's certificate, PEM.
    pub fn certificate(&self) -> &str {
        &self.certificate
    }

    /// A new leaf for servers under these DNS names and IP addresses, with a new key.
    ///
    /// # Errors
    /// When a name is none, or the certificate can't be made.
    pub fn issue(&self, names: &[String], now: OffsetDateTime) -> Result<PemPair, PkiError> {
        let make = |source| PkiError::Make {
            what: "a server certificate",
            source,
        };
        let key = KeyPair::generate().map_err(make)?;
        let mut params = CertificateParams::new(names).map_err(make)?;
        params.not_before = now - BACKDATED;
        params.not_after = now + LEAF_LIFE;
        params.distinguished_name = name(names.first().map_or("agentwrit", String::as_str));
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.use_authority_key_identifier_extension = true;
        Ok(PemPair {
            certificate: params.signed_by(&key, &self.issuer).map_err(make)?.pem(),
            key: key.serialize_pem(),
        })
    }

    /// Why a stored leaf has to be replaced, if it has to be.
    pub(crate) fn stale(&self, leaf: &str, names: &[String], now: UnixSeconds) -> Option<String> {
        let checked = with_certificate(leaf, |leaf| {
            let validity = leaf.validity();
            let (from, to) = (second(validity.not_before), second(validity.not_after));
            if now >= to - Ttl::seconds((to - from).get() / 3) {
                return Some("less than a third of its life is left".to_owned());
            }
            if names_of(leaf) != names.iter().cloned().collect() {
                return Some("it is for other names".to_owned());
            }
            let signed = with_certificate(&self.certificate, |ca| {
                leaf.issuer() == ca.subject() && leaf.verify_signature(Some(ca.public_key())).is_ok()
            });
            (signed != Ok(true)).then(|| "another CA signed it".to_owned())
        });
        checked.unwrap_or_else(Some)
    }
}

/// When a certificate expires.
///
/// Fails when it can't be read.
pub(crate) fn not_after(pem: &str) -> Result<UnixSeconds, String> {
    with_certificate(pem, |certificate| second(certificate.validity().not_after))
}

fn second(time: ASN1Time) -> UnixSeconds {
    UnixSeconds::new(time.timestamp())
}

fn names_of(leaf: &X509Certificate<'_>) -> std::collections::BTreeSet<String> {
    use x509_parser::extensions::GeneralName;
    let Ok(Some(extension)) = leaf.subject_alternative_name() else {
        return std::collections::BTreeSet::new();
    };
    let text = |name: &GeneralName<'_>| match name {
        GeneralName::DNSName(name) => Some((*name).to_owned()),
        GeneralName::IPAddress(bytes) => {
            let v4 = <[u8; 4]>::try_from(*bytes).map(std::net::IpAddr::from);
            let v6 = || <[u8; 16]>::try_from(*bytes).map(std::net::IpAddr::from);
            v4.or_else(|_| v6()).ok().map(|address| address.to_string())
        }
        _ => None,
    };
    extension.value.general_names.iter().filter_map(text).collect()
}

fn with_certificate<T>(pem: &str, read: impl FnOnce(&X509Certificate<'_>) -> T) -> Result<T, String> {
    let der = CertificateDer::from_pem_slice(pem.as_bytes())
        .map_err(|error| format!("the certificate is not PEM: {error}"))?;
    let (_, certificate) =
        X509Certificate::from_der(&der).map_err(|error| format!("the certificate can't be read: {error}"))?;
    Ok(read(&certificate))
}

fn name(common_name: &str) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    name.push(DnType::CommonName, common_name);
    name
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: UnixSeconds = UnixSeconds::new(1_800_000_000);

    fn now() -> OffsetDateTime {
        OffsetDateTime::from_unix_timestamp(NOW.get()).unwrap()
    }

    fn names() -> Vec<String> {
        vec!["agentwrit-broker.agentwrit-system.svc".into(), "10.0.0.1".into()]
    }

    #[test]
    fn a_stored_ca_signs_again() {
        let pair = Authority::generate("agentwrit-system", now()).unwrap();
        let authority = Authority::from_pem(&pair).unwrap();
        let leaf = authority.issue(&names(), now()).unwrap();
        assert_eq!(authority.stale(&leaf.certificate, &names(), NOW), None);
        let life = Ttl::seconds(LEAF_LIFE.whole_seconds());
        assert_eq!(not_after(&leaf.certificate), Ok(NOW + life));
    }

    #[test]
    fn leaves_are_replaced_for_expiry_names_or_another_ca() {
        let authority = Authority::from_pem(&Authority::generate("a", now()).unwrap()).unwrap();
        let other = Authority::from_pem(&Authority::generate("a", now()).unwrap()).unwrap();
        let leaf = authority.issue(&names(), now()).unwrap().certificate;
        let why = |authority: &Authority, names: &[String], days: i64| {
            authority
                .stale(&leaf, names, NOW + Ttl::seconds(days * 86_400))
                .unwrap_or_default()
        };
        assert_eq!(why(&authority, &names(), 59), "");
        assert!(why(&authority, &names(), 60).contains("third"));
        assert!(why(&authority, &["other".to_owned()], 1).contains("names"));
        assert!(why(&other, &names(), 1).contains("another CA"));
        assert!(authority.stale("garbage", &names(), NOW).is_some());
    }

    #[test]
    fn a_pair_that_doesnt_match_is_no_ca() {
        let one = Authority::generate("a", now()).unwrap();
        let two = Authority::generate("a", now()).unwrap();
        let mixed = PemPair {
            certificate: one.certificate.clone(),
            key: two.key,
        };
        assert!(Authority::from_pem(&mixed).is_err());
        let leaf = Authority::from_pem(&one).unwrap().issue(&names(), now()).unwrap();
        assert!(Authority::from_pem(&leaf).is_err(), "a leaf is no CA");
        assert!(!format!("{one:?}").contains("PRIVATE"));
    }
}
