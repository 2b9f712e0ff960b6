//! The certificate authority of the installation, and the leaves that it signs.

use std::time::Duration;

use agentwrit_protocol::{Ttl, UnixSeconds};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};
use rustls::sign::CertifiedKey;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use time::OffsetDateTime;
use x509_parser::prelude::{ASN1Time, FromDer, X509Certificate};

use super::PkiError;

/// Certificates begin a little in the past: clocks differ.
pub(crate) const BACKDATED: Ttl = Ttl::seconds(300);

/// How long certificates live; another one follows when a third of it is left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lives {
    /// Of a CA.
    pub ca: Duration,
    /// Of a leaf; never longer than its CA's.
    pub leaf: Duration,
}

impl Default for Lives {
    fn default() -> Self {
        Self {
            ca: Duration::from_hours(3650 * 24),
            leaf: Duration::from_hours(90 * 24),
        }
    }
}

/// A certificate and its key, PEM.
#[derive(Clone, PartialEq, Eq)]
pub struct PemPair {
    pub(crate) certificate: String,
    /// The private key, PKCS#8.
    pub(crate) key: String,
}

impl PemPair {
    /// The certificate, PEM.
    pub fn certificate(&self) -> &str {
        &self.certificate
    }

    /// The private key, PEM.
    pub fn key(&self) -> &str {
        &self.key
    }

    /// What a server shows and signs by.
    ///
    /// Fails with what is wrong with it.
    pub(crate) fn certified(&self) -> Result<CertifiedKey, String> {
        let certificates = CertificateDer::pem_slice_iter(self.certificate.as_bytes())
            .collect::<Result<Vec<_>, _>>()
            .map_err(|error| error.to_string())?;
        let key = PrivateKeyDer::from_pem_slice(self.key.as_bytes()).map_err(|error| error.to_string())?;
        let key = rustls::crypto::aws_lc_rs::sign::any_supported_type(&key).map_err(|error| error.to_string())?;
        let certified = CertifiedKey::new(certificates, key);
        certified.keys_match().map_err(|error| error.to_string())?;
        Ok(certified)
    }
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
    lives: Lives,
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
        Self::generate_living(installation, now, Lives::default())
    }

    /// The same, with another life.
    ///
    /// # Errors
    /// When the key or the certificate can't be made.
    pub fn generate_living(installation: &str, now: OffsetDateTime, lives: Lives) -> Result<PemPair, PkiError> {
        let make = |source| PkiError::Make { what: "the CA", source };
        let key = KeyPair::generate().map_err(make)?;
        let mut params = CertificateParams::default();
        params.not_before = now - backdated();
        params.not_after = now + lives.ca;
        // Two CAs of one name would be told apart by their keys alone.
        let second = now.unix_timestamp();
        params.distinguished_name = name(&format!("AgentWrit CA of {installation}, {second}"));
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
        Self::signing_for(pair, Lives::default())
    }

    /// The same, whose leaves have another life.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(crate) fn signing_for(pair: &PemPair, lives: Lives) -> Result<Self, String> {
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
            lives,
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
        params.not_before = now - backdated();
        let end = now + self.lives.leaf;
        let cas_end = validity(&self.certificate).map(|(_, to)| to).unwrap_or_default();
        params.not_after = OffsetDateTime::from_unix_timestamp(cas_end.get()).map_or(end, |cas| end.min(cas));
        params.distinguished_name = name(names.first().map_or("agentwrit", String::as_str));
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.use_authority_key_identifier_extension = true;
        Ok(PemPair {
            certificate: params.signed_by(&key, &self.issuer).map_err(make)?.pem(),
            key: key.serialize_pem(),
        })
    }

    /// Whether this CA signed that leaf.
    pub(crate) fn signed(&self, leaf: &str) -> bool {
        with_certificate(leaf, |leaf| self.is_issuer_of(leaf)) == Ok(true)
    }

    fn is_issuer_of(&self, leaf: &X509Certificate<'_>) -> bool {
        let signed = with_certificate(&self.certificate, |ca| {
            leaf.issuer() == ca.subject() && leaf.verify_signature(Some(ca.public_key())).is_ok()
        });
        signed == Ok(true)
    }

    /// Why a stored leaf has to be replaced, if it has to be.
    pub(crate) fn stale(&self, leaf: &str, names: &[String], now: UnixSeconds) -> Option<String> {
        let checked = with_certificate(leaf, |leaf| {
            let validity = leaf.validity();
            let (from, to) = (second(validity.not_before), second(validity.not_after));
            if now >= to - Ttl::seconds((to - (from + BACKDATED)).get() / 3) {
                return Some("less than a third of its life is left".to_owned());
            }
            if names_of(leaf) != names.iter().cloned().collect() {
                return Some("it is for other names".to_owned());
            }
            (!self.is_issuer_of(leaf)).then(|| "another CA signed it".to_owned())
        });
        checked.unwrap_or_else(Some)
    }
}

/// Each certificate of a PEM text.
pub(super) fn certificates(text: &str) -> Vec<String> {
    const BEGIN: &str = "-----BEGIN CERTIFICATE-----";
    const END: &str = "-----END CERTIFICATE-----";
    let ends = text.split_inclusive(END).filter(|part| part.ends_with(END));
    // What stands before it, such as a remark, is nobody's to trust.
    let each = ends.filter_map(|part| part.rfind(BEGIN).and_then(|begin| part.get(begin..)));
    each.map(|certificate| format!("{certificate}\n")).collect()
}

/// When a certificate begins and when it expires.
///
/// Fails when it can't be read.
pub(crate) fn validity(pem: &str) -> Result<(UnixSeconds, UnixSeconds), String> {
    der_validity(&der(pem)?)
}

const fn backdated() -> Duration {
    Duration::from_mins(5)
}

/// The same of a certificate in DER.
pub(crate) fn der_validity(der: &[u8]) -> Result<(UnixSeconds, UnixSeconds), String> {
    let (_, certificate) =
        X509Certificate::from_der(der).map_err(|error| format!("the certificate can't be read: {error}"))?;
    let validity = certificate.validity();
    Ok((second(validity.not_before), second(validity.not_after)))
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
    let der = der(pem)?;
    let (_, certificate) =
        X509Certificate::from_der(&der).map_err(|error| format!("the certificate can't be read: {error}"))?;
    Ok(read(&certificate))
}

fn der(pem: &str) -> Result<CertificateDer<'static>, String> {
    CertificateDer::from_pem_slice(pem.as_bytes()).map_err(|error| format!("the certificate is not PEM: {error}"))
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
        let life = Ttl::seconds(90 * 86_400);
        assert_eq!(validity(&leaf.certificate), Ok((NOW - BACKDATED, NOW + life)));
        let late = now() + Duration::from_hours(3600 * 24);
        let leaf = authority.issue(&names(), late).unwrap();
        let end = NOW + Ttl::seconds(3650 * 86_400);
        assert_eq!(validity(&leaf.certificate).unwrap().1, end, "no longer than the CA's");
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
