//! The webhook's certificate: it is proved against the caBundle that the API server uses, and replaced in time.

use std::sync::Arc;
use std::time::Duration;

use agentwrit_protocol::{UnixSeconds, error_chain};

use super::tls::Leaf;
use crate::context::Context;
use crate::pki::authority::PemPair;
use crate::pki::ca_bundle::{self, CONFIGURATION};
use crate::pki::issued::{Issued, may_be_shown};
use crate::pki::trust::{Signer, believes};

/// How often it is proved.
const PROVE_EVERY: Duration = Duration::from_secs(5);
/// The same while the API server doesn't believe it: until then, pods are refused.
const HURRY: Duration = Duration::from_secs(1);

pub(super) struct LeafKeeper {
    context: Arc<Context>,
    leaf: Arc<Leaf>,
    names: Vec<String>,
    /// None while cert-manager has issued nothing yet.
    present: Option<PemPair>,
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
    /// Serves a first certificate, if there is one.
    ///
    /// Fails when our own CA can't make it.
    pub(super) fn new(context: Arc<Context>, leaf: Arc<Leaf>, names: Vec<String>) -> Result<Self, String> {
        let mut keeper = Self {
            context,
            leaf,
            names,
            present: None,
        };
        let trusted = keeper.context.trust.now();
        if let Some(first) = keeper.candidate(&trusted.signer, keeper.context.clock.unix_seconds())? {
            keeper.serve(first)?;
        }
        Ok(keeper)
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
        if let Some(pair) = look.replace
            && let Err(error) = self.serve(pair)
        {
            tracing::error!(error, "renewing the webhook's certificate failed");
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

    fn serve(&mut self, pair: PemPair) -> Result<(), String> {
        self.leaf.set(&pair)?;
        self.context.readiness.certificate();
        tracing::info!("the webhook has another certificate");
        self.present = Some(pair);
        Ok(())
    }

    fn look(&self, bundles: &[Vec<u8>]) -> Result<Look, String> {
        let (now, trusted) = (self.context.clock.unix_seconds(), self.context.trust.now());
        let wrong = |pair: &PemPair| wrong(pair, &self.names, bundles, now);
        let Some(new) = self.candidate(&trusted.signer, now)? else {
            let nothing = || Some("cert-manager has issued none".to_owned());
            return Ok(Look {
                replace: None,
                wrong: self.present.as_ref().map_or_else(nothing, wrong),
            });
        };
        let is_due = self.present.as_ref().is_none_or(|present| match &trusted.signer {
            Signer::Own(_) => true,
            Signer::Issuers { shown } => {
                let (new, present) = (&new.certificate, &present.certificate);
                may_be_shown(shown, new, present, self.name(), now)
            }
        });
        Ok(choose(self.present.as_ref(), new, is_due, wrong))
    }

    fn name(&self) -> &str {
        self.names.first().map_or("", String::as_str)
    }

    /// Another certificate than the present one, if that is to be replaced.
    ///
    /// Fails when our own CA can't make it.
    fn candidate(&self, signer: &Signer, now: UnixSeconds) -> Result<Option<PemPair>, String> {
        let context = &self.context;
        match signer {
            Signer::Own(authority) => {
                let stale = |present: &PemPair| authority.stale(&present.certificate, &self.names, now).is_some();
                if self.present.as_ref().is_none_or(stale) {
                    let issued = authority.issue(&self.names, context.clock.now());
                    return issued.map(Some).map_err(|error| error_chain(&error));
                }
                Ok(None)
            }
            // What is wrong with the files, the keeper says.
            Signer::Issuers { .. } => {
                let issued = Issued::from_folder(&context.config.issued_webhook_folder, self.name(), now);
                let pair = issued.ok().map(|issued| issued.pair);
                Ok(pair.filter(|pair| self.present.as_ref() != Some(pair)))
            }
        }
    }
}

/// Which of two certificates is served: one that the API server believes isn't given up for one that it doesn't, nor before
/// that `is_due`.
fn choose(present: Option<&PemPair>, new: PemPair, is_due: bool, wrong: impl Fn(&PemPair) -> Option<String>) -> Look {
    let is_believed = present.is_some_and(|present| wrong(present).is_none());
    let after = wrong(&new);
    if is_believed && (after.is_some() || !is_due) {
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
            let look = choose(Some(&before), after.clone(), true, |pair| {
                wrong(pair, &names(), bundles, NOW)
            });
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
        let early = choose(Some(&before), after.clone(), false, |_| None);
        assert_eq!(
            (early.replace, early.wrong),
            (None, None),
            "both are believed, and it isn't due"
        );
        let lost = choose(Some(&before), after.clone(), false, |pair| {
            (*pair == before).then(String::new)
        });
        assert_eq!(lost.replace, Some(after.clone()), "the present one is worth nothing");
        assert_eq!(
            choose(None, after.clone(), false, |_| Some(String::new())).replace,
            Some(after)
        );
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
