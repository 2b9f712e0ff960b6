//! The Secret with the CAs: what stands in it, and what is written when it is gone or broken.

use agentwrit_protocol::UnixSeconds;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use kube::api::ObjectMeta;
use serde_json::{Map, Value, json};

use super::authority::{Authority, PemPair, certificates};
use super::secrets::{CERTIFICATE, KEY, TLS, text};
use super::succession::{Asked, Cas, MAX_PREVIOUS, SETTLED_AT, is_valid};
use super::{PkiError, is_ours};

/// All that is trusted; the key by which cert-manager and others name it.
const BUNDLE: &str = "ca.crt";
const NEXT_CERTIFICATE: &str = "next.crt";
const NEXT_KEY: &str = "next.key";
const PREVIOUS: &str = "previous.crt";
/// With any value: a person wants another CA.
const ROTATE: &str = "agentwrit.io/rotate";
/// With any value: a person wants that the announced CA signs, whoever doesn't trust it yet.
const PROMOTE: &str = "agentwrit.io/promote";

/// What was found.
#[derive(Debug)]
pub(super) enum Found {
    Missing,
    /// There is a Secret, but no CA that could sign.
    Unusable {
        version: String,
        is_ours: bool,
        why: String,
        /// The certificate, if at least that can be read.
        certificate: Option<String>,
    },
    Usable(Box<Stored>),
}

/// A Secret with a CA that can sign.
#[derive(Debug)]
pub(super) struct Stored {
    pub(super) version: String,
    pub(super) is_ours: bool,
    pub(super) cas: Cas,
    pub(super) asked: Asked,
    /// Whether all else stands there as a controller writes it; not so after an edit by hand.
    is_complete: bool,
    /// What can't be read, in words.
    faults: Vec<String>,
}

/// What has to be stored in place of what was found.
#[derive(Debug)]
pub(super) struct Repair {
    pub(super) cas: Cas,
    /// If a person should know.
    pub(super) told: Option<Told>,
}

/// What was wrong with the Secret, and what was done about it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Told {
    /// Reason of the Event: each its own, because those with the same reason are counted up and keep their first note.
    pub(super) reason: &'static str,
    pub(super) what: String,
}

/// Reasons of the Events.
const DELETED: &str = "CADeleted";
const BROKEN: &str = "CABroken";
pub(super) const EXPIRED: &str = "CAExpired";
const BY_HAND: &str = "CAReplacedByHand";

const fn told(reason: &'static str, what: String) -> Told {
    Told { reason, what }
}

/// What this replica used last.
#[derive(Debug, Clone, Copy)]
pub(super) struct Memory<'a> {
    pub(super) cas: &'a Cas,
    /// Whether that was within the last overlap, in which no CA can have been replaced by a rotation.
    pub(super) is_recent: bool,
}

impl Found {
    pub(super) fn read(secret: Option<&Secret>, now: UnixSeconds) -> Self {
        let Some(secret) = secret else {
            return Self::Missing;
        };
        let version = secret.metadata.resource_version.clone().unwrap_or_default();
        let is_ours = is_ours(&secret.metadata);
        let mut faults = Vec::new();
        let bundle = text(secret, BUNDLE).unwrap_or_default();
        let signing = match pair(secret, CERTIFICATE, KEY) {
            Ok(signing) => signing,
            // The key may work still, and its certificate stands in a second place.
            Err(why) => match with_key(&certificates(&bundle), secret) {
                Some(signing) => {
                    faults.push(format!("{CERTIFICATE}: {why}"));
                    signing
                }
                None => {
                    return Self::Unusable {
                        version,
                        is_ours,
                        why,
                        certificate: text(secret, CERTIFICATE).ok(),
                    };
                }
            },
        };
        let mut cas = Cas::new(signing);
        if has(secret, NEXT_CERTIFICATE) || has(secret, NEXT_KEY) {
            match pair(secret, NEXT_CERTIFICATE, NEXT_KEY) {
                Ok(next) => cas.next = Some(next),
                Err(why) => faults.push(format!("{NEXT_CERTIFICATE}, {NEXT_KEY}: {why}")),
            }
        }
        if has(secret, PREVIOUS) {
            let mut all = certificates(&text(secret, PREVIOUS).unwrap_or_default());
            if all.is_empty() {
                faults.push(format!("{PREVIOUS}: it holds no certificate"));
                all = certificates(&bundle);
            }
            all.retain(|certificate| is_valid(certificate, now) && !cas.knows(certificate));
            all.truncate(MAX_PREVIOUS);
            cas.previous = all;
        }
        let annotation = |name| secret.metadata.annotations.as_ref().and_then(|all| all.get(name));
        let seconds = annotation(SETTLED_AT).and_then(|text| text.parse().ok());
        cas.settled_at = seconds.map(UnixSeconds::new);
        let asked = Asked {
            another: annotation(ROTATE).is_some(),
            at_once: annotation(PROMOTE).is_some(),
        };
        // A wish that has nothing to do with what stands there would be met much later, when nobody expects it.
        let is_stray = asked.at_once && cas.next.is_none();
        Self::Usable(Box::new(Stored {
            version,
            is_ours,
            is_complete: faults.is_empty() && bundle == cas.bundle() && !is_stray,
            asked,
            cas,
            faults,
        }))
    }

    /// What has to be stored in its place before anything else is done, if anything.
    ///
    /// What is in use goes on signing when the Secret is gone, broken, holds only what has expired, or another CA was put
    /// there by hand; another one is announced, as if it had been asked for: who does that wants that.
    pub(super) fn repair(
        &self,
        memory: Option<Memory<'_>>,
        now: UnixSeconds,
        make: impl Fn() -> Result<PemPair, PkiError>,
    ) -> Result<Option<Repair>, PkiError> {
        let in_use = memory.filter(|memory| is_valid(&memory.cas.signing.certificate, now));
        if let Self::Usable(stored) = self
            && (in_use.is_none() || is_valid(&stored.cas.signing.certificate, now))
        {
            return Ok(stored.repair(in_use, now));
        }
        let (reason, what) = match self {
            Self::Missing => (DELETED, "it was deleted".to_owned()),
            Self::Unusable { why, .. } => (BROKEN, format!("it held no CA that could sign ({why})")),
            Self::Usable(_) => (EXPIRED, "it held a CA that has expired".to_owned()),
        };
        let Some(Memory { cas: used, .. }) = in_use else {
            let mut cas = Cas::new(make()?);
            if let Self::Unusable {
                certificate: Some(before),
                ..
            } = self
            {
                cas.remember(before, now);
            }
            // At an installation there is none, and nothing is wrong with that.
            let told = match self {
                Self::Missing => None,
                Self::Unusable { .. } | Self::Usable(_) => {
                    Some(told(reason, format!("{what}: a new one signs at once")))
                }
            };
            return Ok(Some(Repair { cas, told }));
        };
        let next = match &used.next {
            Some(next) => next.clone(),
            None => make()?,
        };
        let cas = Cas {
            next: Some(next),
            settled_at: None,
            ..used.clone()
        };
        let what = format!("{what}: the CA that is in use was written back, and another one is announced");
        Ok(Some(Repair {
            cas,
            told: Some(told(reason, what)),
        }))
    }

    /// Whether it is ours to write; one that isn't there is.
    pub(super) fn is_ours(&self) -> bool {
        match self {
            Self::Missing => true,
            Self::Unusable { is_ours, .. } => *is_ours,
            Self::Usable(stored) => stored.is_ours,
        }
    }

    /// The version that a write replaces.
    pub(super) fn version(&self) -> Option<&str> {
        match self {
            Self::Missing => None,
            Self::Unusable { version, .. } => Some(version),
            Self::Usable(stored) => Some(&stored.version),
        }
    }

    /// The CAs for a replica that doesn't write, if it can use them: what a person put there by hand is the leader's to
    /// bring in.
    pub(super) fn usable(self, memory: Option<Memory<'_>>, now: UnixSeconds) -> Option<Cas> {
        let Self::Usable(stored) = self else {
            return None;
        };
        let by_hand = stored.is_ours && !stored.is_complete && stored.is_strange(memory);
        (is_valid(&stored.cas.signing.certificate, now) && !by_hand).then_some(stored.cas)
    }
}

impl Stored {
    /// Whether the CA that is in use isn't even known here.
    fn is_strange(&self, memory: Option<Memory<'_>>) -> bool {
        memory.is_some_and(|memory| !self.cas.knows(&memory.cas.signing.certificate))
    }

    fn repair(&self, in_use: Option<Memory<'_>>, now: UnixSeconds) -> Option<Repair> {
        let is_current = |memory: &Memory<'_>| memory.is_recent || !self.is_complete;
        if let Some(in_use) = in_use.filter(is_current)
            && self.is_strange(Some(in_use))
        {
            let cas = Cas {
                next: Some(self.cas.signing.clone()),
                settled_at: None,
                ..in_use.cas.clone()
            };
            let what = "another CA was put there by hand: it is announced, and signs once everybody trusts it";
            return Some(Repair {
                cas,
                told: Some(told(BY_HAND, what.to_owned())),
            });
        }
        if self.is_complete {
            return None;
        }
        let mut cas = self.cas.clone();
        let same = in_use.filter(|memory| memory.cas.signing == cas.signing && !self.faults.is_empty());
        if let Some(Memory { cas: used, .. }) = same {
            cas.next = cas.next.or_else(|| used.next.clone());
            for before in used.previous.iter().rev() {
                if !cas.knows(before) {
                    cas.remember(before, now);
                }
            }
            let next = cas.next.as_ref().map(|next| next.certificate.trim().to_owned());
            cas.previous.retain(|before| Some(before.trim()) != next.as_deref());
        }
        if cas.needed().ne(self.cas.needed()) || !self.faults.is_empty() {
            cas.settled_at = None;
        }
        let what = || {
            let faults = self.faults.join("; ");
            format!("part of it couldn't be read ({faults}): its CA goes on, the rest was written anew")
        };
        let told = if self.faults.is_empty() {
            None
        } else {
            Some(told(BROKEN, what()))
        };
        Some(Repair { cas, told })
    }
}

fn has(secret: &Secret, key: &str) -> bool {
    secret.data.as_ref().is_some_and(|data| data.contains_key(key))
}

fn pair(secret: &Secret, certificate: &str, key: &str) -> Result<PemPair, String> {
    let pair = PemPair {
        certificate: text(secret, certificate)?,
        key: text(secret, key)?,
    };
    Authority::from_pem(&pair).map(|_| pair)
}

/// The first of these certificates to which the Secret's key belongs.
fn with_key(certificates: &[String], secret: &Secret) -> Option<PemPair> {
    let key = text(secret, KEY).ok()?;
    let mut pairs = certificates.iter().map(|certificate| PemPair {
        certificate: certificate.clone(),
        key: key.clone(),
    });
    pairs.find(|pair| Authority::from_pem(pair).is_ok())
}

/// The entries of the Secret; those that are None must not be there.
fn data(cas: &Cas) -> [(&'static str, Option<ByteString>); 6] {
    let bytes = |text: &str| ByteString(text.as_bytes().to_vec());
    let next = cas.next.as_ref();
    let previous = (!cas.previous.is_empty()).then(|| cas.previous.concat());
    [
        (CERTIFICATE, Some(bytes(&cas.signing.certificate))),
        (KEY, Some(bytes(&cas.signing.key))),
        (BUNDLE, Some(bytes(&cas.bundle()))),
        (NEXT_CERTIFICATE, next.map(|next| bytes(&next.certificate))),
        (NEXT_KEY, next.map(|next| bytes(&next.key))),
        (PREVIOUS, previous.map(|text| bytes(&text))),
    ]
}

fn settled_at(cas: &Cas) -> Option<String> {
    cas.settled_at.map(|at| at.get().to_string())
}

/// A Secret that holds this.
pub(super) fn secret(cas: &Cas, metadata: ObjectMeta) -> Secret {
    let settled_at = settled_at(cas).map(|at| (SETTLED_AT.to_owned(), at));
    Secret {
        metadata: ObjectMeta {
            annotations: settled_at.map(|entry| [entry].into()),
            ..metadata
        },
        type_: Some(TLS.to_owned()),
        data: Some(
            data(cas)
                .into_iter()
                .filter_map(|(name, value)| Some((name.to_owned(), value?)))
                .collect(),
        ),
        ..Secret::default()
    }
}

/// The merge patch that stores this in place of `version`.
pub(super) fn patch(cas: &Cas, version: &str) -> Value {
    let mut annotations = Map::from_iter([(SETTLED_AT.to_owned(), json!(settled_at(cas)))]);
    // A wish is met once there is what was wished for: one for another CA when that is announced, one that it sign when
    // nobody is announced any more.
    let met = if cas.next.is_some() { ROTATE } else { PROMOTE };
    annotations.insert(met.to_owned(), Value::Null);
    let data: Map<String, Value> = data(cas)
        .map(|(name, value)| (name.to_owned(), json!(value)))
        .into_iter()
        .collect();
    json!({
        // Of two writers, one is refused.
        "metadata": {"resourceVersion": version, "annotations": annotations},
        "data": data,
    })
}

#[cfg(test)]
mod tests;
