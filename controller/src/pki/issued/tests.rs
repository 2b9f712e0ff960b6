use k8s_openapi::ByteString;
use rcgen::{CertificateParams, KeyPair};
use time::OffsetDateTime;

use super::*;
use crate::pki::authority::Authority;

const NOW: UnixSeconds = UnixSeconds::new(1_800_000_000);
const NAME: &str = "webhook.test";

fn now() -> OffsetDateTime {
    OffsetDateTime::from_unix_timestamp(NOW.get()).unwrap()
}

fn ca() -> Authority {
    Authority::from_pem(&Authority::generate("issuer", now()).unwrap()).unwrap()
}

fn leaf(ca: &Authority) -> PemPair {
    ca.issue(&[NAME.to_owned()], now()).unwrap()
}

type Entries = Vec<(&'static str, Vec<u8>)>;

fn entries(pair: &PemPair, ca: &str) -> Entries {
    let text = |text: &str| text.as_bytes().to_vec();
    vec![
        (CERTIFICATE, text(&pair.certificate)),
        (KEY, text(&pair.key)),
        (CA, text(ca)),
    ]
}

/// The same from a Secret and from files.
fn read(entries: &Entries) -> Result<Issued, IssuedError> {
    let folder = tempfile::tempdir().unwrap();
    for (name, bytes) in entries {
        std::fs::write(folder.path().join(name), bytes).unwrap();
    }
    let data = entries
        .iter()
        .map(|(name, bytes)| ((*name).to_owned(), ByteString(bytes.clone())));
    let secret = Secret {
        data: Some(data.collect()),
        ..Secret::default()
    };
    let of_files = Issued::from_folder(folder.path(), NAME, NOW);
    let of_secret = Issued::from_secret(Some(&secret), NAME, NOW);
    if !entries.is_empty() {
        assert_eq!(of_files, of_secret);
    }
    of_files
}

fn with(entries: &Entries, name: &'static str, bytes: Option<&[u8]>) -> Entries {
    let mut changed = entries.clone();
    changed.retain(|(entry, _)| *entry != name);
    changed.extend(bytes.map(|bytes| (name, bytes.to_vec())));
    changed
}

#[test]
fn a_certificate_is_found_with_its_cas() {
    let (ca, other) = (ca(), ca());
    let pair = leaf(&ca);
    let both = format!("# the issuer's\n{}{}", ca.certificate(), other.certificate());
    let issued = read(&entries(&pair, &both)).unwrap();
    assert_eq!(issued.pair, pair);
    assert_eq!(issued.roots, [ca.certificate(), other.certificate()], "and no remark");
}

#[test]
fn a_self_signed_certificate_is_its_own_ca() {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new([NAME.to_owned()]).unwrap();
    (params.not_before, params.not_after) = (now(), now() + std::time::Duration::from_hours(1));
    let pair = PemPair {
        certificate: params.self_signed(&key).unwrap().pem(),
        key: key.serialize_pem(),
    };
    let issued = read(&entries(&pair, &pair.certificate)).unwrap();
    assert_eq!(issued.roots.len(), 1);
}

#[test]
fn what_cant_be_used_is_refused_in_a_word_and_a_sentence() {
    let (ca, other) = (ca(), ca());
    let good = entries(&leaf(&ca), ca.certificate());
    let many = ca.certificate().repeat(MAX_ROOTS + 1);
    let own = ca.issue(&["other.test".to_owned()], now()).unwrap();
    let cases = [
        (Vec::new(), "secret_missing", "kubectl describe certificate"),
        (with(&good, CERTIFICATE, None), "entry_missing", "tls.crt is missing"),
        (with(&good, KEY, None), "entry_missing", "tls.key is missing"),
        (with(&good, CA, None), "ca_missing", "as ACME issuers don't"),
        (with(&good, CA, Some(b" \n")), "ca_missing", "certificates.issuerRef"),
        (with(&good, CA, Some(b"half")), "entry_unreadable", "holds 0"),
        (with(&good, CA, Some(many.as_bytes())), "entry_unreadable", "holds 5"),
        (
            with(&good, CERTIFICATE, Some(&[0xff])),
            "entry_unreadable",
            "it is not text",
        ),
        (with(&good, KEY, Some(b"half")), "key_unusable", "tls.key"),
        (
            with(&good, KEY, Some(leaf(&ca).key.as_bytes())),
            "key_unusable",
            "tls.key",
        ),
        (
            entries(&leaf(&other), ca.certificate()),
            "certificate_not_believed",
            NAME,
        ),
        (entries(&own, ca.certificate()), "certificate_not_believed", NAME),
    ];
    for (entries, kind, words) in cases {
        let error = read(&entries).unwrap_err();
        let told = error.to_string();
        assert!(error.kind() == kind && told.contains(words), "{kind}: {told}");
        assert!(!told.contains("PRIVATE"), "{told}");
    }
    assert_eq!(Issued::from_secret(None, NAME, NOW), Err(IssuedError::Missing));
    let late = NOW + Ttl::seconds(91 * 86_400);
    let folder = tempfile::tempdir().unwrap();
    for (name, bytes) in &good {
        std::fs::write(folder.path().join(name), bytes).unwrap();
    }
    let expired = Issued::from_folder(folder.path(), NAME, late).unwrap_err();
    assert_eq!(expired.kind(), "certificate_not_believed");
}

#[test]
fn a_certificate_waits_for_its_ca_unless_the_last_one_ends() {
    let (old, new) = (ca(), ca());
    let (present, next) = (leaf(&old).certificate, leaf(&new).certificate);
    let both = format!("{}{}", old.certificate(), new.certificate());
    let may = |shown: &str, days: i64| {
        let now = NOW + Ttl::seconds(days * 86_400);
        may_be_shown(shown, &next, &present, NAME, now)
    };
    assert!(!may(old.certificate(), 1) && may(&both, 1));
    assert!(!may(old.certificate(), 74));
    assert!(may(old.certificate(), 75), "a sixth of ninety days is left");
}
