//! What is trusted and who signs, now: one place that everything else asks, and that tells of changes.

use std::sync::Arc;

use rustls::RootCertStore;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use tokio::sync::watch;

use agentwrit_protocol::UnixSeconds;
use agentwrit_server::tls::provider;

use super::authority::{Authority, der_validity};
use crate::leader::leadership::{Claim, Leadership};

/// Who signs certificates.
#[derive(Debug)]
pub(crate) enum Signer {
    /// The installation's own CA.
    Own(Arc<Authority>),
    /// cert-manager. What these CAs signed may be shown, PEM; everybody has trusted them for an overlap.
    Issuers { shown: String },
}

impl Signer {
    /// The certificates of the CAs, PEM.
    pub(crate) fn certificates(&self) -> &str {
        match self {
            Self::Own(authority) => authority.certificate(),
            Self::Issuers { shown } => shown,
        }
    }
}

/// Certificates that are trusted, and who signs.
#[derive(Debug)]
pub(crate) struct Trusted {
    pub(crate) signer: Signer,
    /// CA certificates, PEM.
    pub(crate) bundle: String,
    /// The lease epoch of the claim under which this was looked up: who has just begun to lead may have slept for long.
    pub(crate) as_of: Option<i64>,
}

/// The present [`Trusted`].
#[derive(Debug, Clone)]
pub(crate) struct Trust(watch::Sender<Arc<Trusted>>);

impl Trust {
    pub(crate) fn new(first: Trusted) -> Self {
        Self(watch::Sender::new(Arc::new(first)))
    }

    pub(crate) fn now(&self) -> Arc<Trusted> {
        Arc::clone(&self.0.borrow())
    }

    /// Hears of each change from now on.
    pub(crate) fn changes(&self) -> watch::Receiver<Arc<Trusted>> {
        self.0.subscribe()
    }

    /// Whether the holder of this claim has looked it up.
    fn is_of(&self, claim: Claim) -> bool {
        self.0.borrow().as_of == Some(claim.epoch)
    }

    /// Whether this replica leads, and has looked it up under its claim: before that it may know less than was published.
    pub(crate) fn is_publishable(&self, leadership: &Leadership) -> bool {
        leadership.claim().is_some_and(|claim| self.is_of(claim))
    }

    /// Waits until this replica leads, and has looked up under this claim what is trusted: before that it may know less
    /// than it once published.
    pub(crate) async fn publishable(&self, leadership: &Leadership) {
        let mut changes = self.changes();
        loop {
            changes.mark_unchanged();
            leadership.gained().await;
            if self.is_publishable(leadership) {
                return;
            }
            // The sender is our own.
            if changes.changed().await.is_err() {
                return;
            }
        }
    }

    /// Sets it; whether other certificates are trusted, or another one signs.
    pub(crate) fn set(&self, new: Trusted) -> bool {
        let mut is_another = false;
        self.0.send_if_modified(|present| {
            is_another = present.bundle != new.bundle || present.signer.certificates() != new.signer.certificates();
            let modified = is_another || present.as_of != new.as_of;
            if modified {
                *present = Arc::new(new);
            }
            modified
        });
        is_another
    }
}

/// The CAs of `bundle`, PEM, that are valid now.
///
/// Fails with what is wrong.
pub(crate) fn roots(bundle: &[u8], now: UnixSeconds) -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(bundle) {
        let certificate = certificate.map_err(|error| format!("what is trusted is not PEM: {error}"))?;
        // The API server, written in Go, minds the end of a root's life; webpki doesn't.
        if der_validity(&certificate).is_ok_and(|(_, to)| now < to) {
            roots.add(certificate).map_err(|error| error.to_string())?;
        }
    }
    Ok(roots)
}

/// Whether who trusts `bundle`, PEM, believes a server of this name that shows `leaf`, PEM.
///
/// Fails with what is wrong.
pub(crate) fn believes(bundle: &[u8], leaf: &str, name: &str, now: UnixSeconds) -> Result<(), String> {
    let roots = roots(bundle, now)?;
    let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider())
        .build()
        .map_err(|_| "no certificate that is trusted is valid now".to_owned())?;
    let chain: Vec<_> = CertificateDer::pem_slice_iter(leaf.as_bytes())
        .collect::<Result<_, _>>()
        .map_err(|error| format!("the server's certificate is not PEM: {error}"))?;
    let (leaf, above) = chain.split_first().ok_or("there is no server certificate")?;
    let server = ServerName::try_from(name).map_err(|_| format!("{name} is no server name"))?;
    let since_epoch = std::time::Duration::from_secs(u64::try_from(now.get()).unwrap_or(0));
    verifier
        .verify_server_cert(leaf, above, &server, &[], UnixTime::since_unix_epoch(since_epoch))
        .map(drop)
        .map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use agentwrit_protocol::Ttl;
    use time::OffsetDateTime;

    use super::super::authority::{Lives, PemPair};
    use super::*;

    const NOW: UnixSeconds = UnixSeconds::new(1_800_000_000);
    const DAY: Duration = Duration::from_hours(24);

    fn ca(days: u32) -> PemPair {
        let lives = Lives {
            ca: DAY * days,
            leaf: DAY,
        };
        let now = OffsetDateTime::from_unix_timestamp(NOW.get()).unwrap();
        Authority::generate_living("a", now, lives).unwrap()
    }

    #[test]
    fn a_leaf_is_believed_by_its_ca_name_and_time_alone() {
        let now = OffsetDateTime::from_unix_timestamp(NOW.get()).unwrap();
        let lives = Lives { ca: DAY * 9, leaf: DAY };
        let (one, two) = (ca(9), ca(9));
        let leaf = Authority::signing_for(&one, lives).unwrap();
        let leaf = leaf.issue(&["webhook.test".to_owned()], now).unwrap().certificate;
        let both = format!("{}{}", two.certificate, one.certificate);
        let at = |days: i64| NOW + Ttl::seconds(days * 86_401);
        for (bundle, name, when, wanted) in [
            (&*both, "webhook.test", at(0), true),
            (&*one.certificate, "webhook.test", at(0), true),
            (&*two.certificate, "webhook.test", at(0), false),
            (&*both, "other.test", at(0), false),
            (&*both, "webhook.test", at(1), false),
            ("", "webhook.test", at(0), false),
            ("garbage", "webhook.test", at(0), false),
        ] {
            let believed = believes(bundle.as_bytes(), &leaf, name, when);
            assert_eq!(believed.is_ok(), wanted, "{name} {when:?}: {believed:?}");
        }
        assert!(believes(both.as_bytes(), "", "webhook.test", NOW).is_err());
    }

    #[test]
    fn a_root_that_has_expired_is_not_believed() {
        let now = OffsetDateTime::from_unix_timestamp(NOW.get()).unwrap();
        let root = ca(1);
        let longer = Authority::from_pem(&ca(9)).unwrap();
        let leaf = longer.issue(&["webhook.test".to_owned()], now).unwrap().certificate;
        let late = NOW + Ttl::seconds(86_400);
        let told = believes(root.certificate.as_bytes(), &leaf, "webhook.test", late).unwrap_err();
        assert!(told.contains("no certificate that is trusted"), "{told}");
    }

    #[test]
    fn only_what_differs_is_a_change() {
        let pair = ca(9);
        let trusted = || Trusted {
            signer: Signer::Own(Arc::new(Authority::from_pem(&pair).unwrap())),
            bundle: pair.certificate.clone(),
            as_of: Some(1),
        };
        let trust = Trust::new(trusted());
        let changes = trust.changes();
        assert!(!trust.set(trusted()) && !changes.has_changed().unwrap());
        let more = Trusted {
            bundle: format!("{}{}", pair.certificate, ca(9).certificate),
            ..trusted()
        };
        assert!(trust.set(more) && changes.has_changed().unwrap());
        let claim = |epoch| Claim {
            until: tokio::time::Instant::now(),
            epoch,
        };
        assert!(trust.is_of(claim(1)) && !trust.is_of(claim(2)));
    }

    #[tokio::test(start_paused = true)]
    async fn nothing_is_published_before_the_leader_has_looked() {
        let pair = ca(9);
        let looked_up = |as_of| Trusted {
            signer: Signer::Own(Arc::new(Authority::from_pem(&pair).unwrap())),
            bundle: pair.certificate.clone(),
            as_of,
        };
        let trust = Trust::new(looked_up(Some(1)));
        let leads = Leadership::fixed(Some(2));
        let waits = async |leadership: &Leadership| {
            let publishable = trust.publishable(leadership);
            tokio::time::timeout(DAY, publishable).await.is_err()
        };
        assert!(waits(&leads).await, "what is known is from a lead before");
        trust.set(looked_up(Some(2)));
        assert!(!waits(&leads).await);
        assert!(waits(&Leadership::fixed(None)).await, "it doesn't lead");
        trust.set(looked_up(None));
        let (one, ()) = tokio::join!(waits(&leads), async {
            tokio::time::sleep(DAY / 2).await;
            trust.set(looked_up(Some(2)));
        });
        assert!(!one, "it hears of the look");
    }
}
