//! The webhook's certificate: it is proved against the caBundle that the API server uses, and replaced in time.

use std::sync::Arc;
use std::time::Duration;

use agentwrit_protocol::{UnixSeconds, error_chain};

use super::tls::Leaf;
use crate::context::Context;
use crate::pki::authority::PemPair;
use crate::pki::ca_bundle::{self, CONFIGURATION};
use crate::pki::trust::believes;

/// How often it is proved.
const PROVE_EVERY: Duration = Duration::from_secs(5);
/// The same while the API server doesn't believe it: until then, pods are refused.
const HURRY: Duration = Duration::from_secs(1);

pub(super) struct LeafKeeper {
    context: Arc<Context>,
    leaf: Arc<Leaf>,
    names: Vec<String>,
    present: PemPair,
}

/// What comes of a look.
#[derive(Debug, PartialEq, Eq)]
struct Look {
    /// The leaf to serve from now on, if it is another one.
    replace: Option<PemPair>,
    /// What is wrong with the one that is served then, for the API server.
    wrong: Option<String>,
}

impl LeafKeeper {
    /// Serves a first certificate.
    ///
    /// Fails when it can't be made.
    pub(super) fn new(context: Arc<Context>, leaf: Arc<Leaf>, names: Vec<String>) -> Result<Self, String> {
        let present = fresh(&context, &names)?;
        leaf.set(&present)?;
        Ok(Self {
            context,
            leaf,
            names,
            present,
        })
    }

    /// Runs for ever. Every replica reads for itself, the leader writes caBundle.
    pub(super) async fn run(mut self) {
        const REASON: &str = "CABundleNotRead";
        let context = Arc::clone(&self.context);
        let mut changes = context.trust.changes();
        loop {
            let pause = match ca_bundle::live(&context.client).await {
                Ok(bundles) => {
                    context.reporter.own_recovered(REASON);
                    self.follow(&bundles)
                }
                // The API server doesn't answer: whether it believes us is as it was.
                Err(error) => {
                    context.reporter.own_recurring("reading caBundle", REASON, &error).await;
                    HURRY
                }
            };
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                gone = changes.changed() => if gone.is_err() { return },
            }
        }
    }

    fn follow(&mut self, bundles: &[Vec<u8>]) -> Duration {
        let look = self.look(bundles).unwrap_or_else(|error| Look {
            replace: None,
            wrong: Some(error),
        });
        if let Some(pair) = look.replace {
            match self.leaf.set(&pair) {
                Ok(()) => {
                    tracing::info!("the webhook has another certificate");
                    self.present = pair;
                }
                Err(error) => tracing::error!(error, "renewing the webhook's certificate failed"),
            }
        }
        let is_believed = look.wrong.is_none();
        if self.context.readiness.ca_bundle(is_believed) {
            match &look.wrong {
                None => tracing::info!("the API server believes the webhook's certificate"),
                Some(why) => tracing::warn!(why, "the API server doesn't believe the webhook's certificate"),
            }
        }
        if is_believed { PROVE_EVERY } else { HURRY }
    }

    fn look(&self, bundles: &[Vec<u8>]) -> Result<Look, String> {
        let (now, trusted) = (self.context.clock.unix_seconds(), self.context.trust.now());
        let stale = trusted.authority.stale(&self.present.certificate, &self.names, now);
        let wrong = |pair: &PemPair| wrong(pair, &self.names, bundles, now);
        if stale.is_some() {
            Ok(choose(&self.present, fresh(&self.context, &self.names)?, wrong))
        } else {
            Ok(Look {
                replace: None,
                wrong: wrong(&self.present),
            })
        }
    }
}

/// Which of two certificates is served: one that the API server believes isn't given up for one that it doesn't.
fn choose(present: &PemPair, new: PemPair, wrong: impl Fn(&PemPair) -> Option<String>) -> Look {
    let before = wrong(present);
    if new == *present {
        return Look {
            replace: None,
            wrong: before,
        };
    }
    let after = wrong(&new);
    if before.is_none() && after.is_some() {
        return Look {
            replace: None,
            wrong: None,
        };
    }
    Look {
        replace: Some(new),
        wrong: after,
    }
}

/// Why an API server with these caBundles doesn't believe a server with this certificate, if it doesn't.
fn wrong(pair: &PemPair, names: &[String], bundles: &[Vec<u8>], now: UnixSeconds) -> Option<String> {
    let name = names.first().map_or("", String::as_str);
    if bundles.is_empty() {
        return Some(format!("there is no {CONFIGURATION}"));
    }
    bundles
        .iter()
        .find_map(|bundle| believes(bundle, &pair.certificate, name, now).err())
}

/// A certificate of the CA that signs now.
fn fresh(context: &Context, names: &[String]) -> Result<PemPair, String> {
    let trusted = context.trust.now();
    trusted
        .authority
        .issue(names, context.clock.now())
        .map_err(|error| error_chain(&error))
}

#[cfg(test)]
mod tests {
    use agentwrit_protocol::Ttl;
    use time::OffsetDateTime;

    use super::*;
    use crate::pki::authority::Authority;

    const NOW: UnixSeconds = UnixSeconds::new(1_800_000_000);

    fn names() -> Vec<String> {
        vec!["webhook.test".into(), "127.0.0.1".into()]
    }

    fn ca() -> Authority {
        let now = OffsetDateTime::from_unix_timestamp(NOW.get()).unwrap();
        Authority::from_pem(&Authority::generate("a", now).unwrap()).unwrap()
    }

    fn leaf(ca: &Authority) -> PemPair {
        let now = OffsetDateTime::from_unix_timestamp(NOW.get()).unwrap();
        ca.issue(&names(), now).unwrap()
    }

    #[test]
    fn a_believed_certificate_is_given_up_only_for_a_believed_one() {
        let (old, new) = (ca(), ca());
        let (before, after) = (leaf(&old), leaf(&new));
        let bundle = |cas: &[&Authority]| -> Vec<u8> { cas.iter().flat_map(|ca| ca.certificate().bytes()).collect() };
        let look = |bundles: &[Vec<u8>]| {
            let look = choose(&before, after.clone(), |pair| wrong(pair, &names(), bundles, NOW));
            (look.replace.is_some(), look.wrong.is_none())
        };
        let (only_old, both, only_new) = (bundle(&[&old]), bundle(&[&old, &new]), bundle(&[&new]));
        assert_eq!(
            look(std::slice::from_ref(&only_old)),
            (false, true),
            "the successor isn't known yet"
        );
        assert_eq!(look(&[both.clone(), only_old]), (false, true), "not to every webhook");
        assert_eq!(look(&[both.clone(), both]), (true, true));
        assert_eq!(look(&[only_new]), (true, true), "the CA was lost");
        assert_eq!(look(&[Vec::new()]), (true, false), "nobody is believed");
        assert_eq!(look(&[]), (true, false), "there is no configuration");
        let same = choose(&before, before.clone(), |_| None);
        assert_eq!(same.replace, None);
    }

    #[test]
    fn an_expired_certificate_isnt_believed() {
        let ca = ca();
        let bundles = [ca.certificate().as_bytes().to_vec()];
        let told = |days: i64| wrong(&leaf(&ca), &names(), &bundles, NOW + Ttl::seconds(days * 86_401));
        assert_eq!(told(89), None);
        assert!(told(90).is_some());
    }
}
