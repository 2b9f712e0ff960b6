//! What is remembered of a client secret, and when a new one is due: decided from plain data.

use agentwrit_crds::ClientCredentials;
use agentwrit_protocol::k8s::clients::{CLIENT_SECRET_CHARACTERS, is_lower_hex, secret_hash};
use agentwrit_protocol::k8s::{AppClient, ClientSecret};
use agentwrit_protocol::{Ttl, UnixSeconds};
use serde::{Deserialize, Serialize};

/// A record from later than this was written by another hand: clocks of a cluster are nearer to each other.
const CLOCKS_APART: Ttl = Ttl::seconds(3_600);

/// What the controller wrote last: an annotation of the Secret, so that whoever leads next goes on from there. With it the
/// hash of the secret before outlives controller and broker.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Record {
    /// Of `client_secret`.
    pub(super) sha256: String,
    /// When that was made.
    pub(super) since: UnixSeconds,
    /// The one before, with the moment until which it counts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) previous: Option<ClientSecret>,
    /// The request for rotation that has been fulfilled, by its hash: a value may be of any length.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) asked: Option<String>,
}

/// Why there is a new secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Why {
    /// There was none.
    New,
    /// The Secret was deleted, or is another one now.
    Gone,
    /// Somebody else changed it.
    Changed,
    Asked,
    Due,
}

impl Why {
    /// In the middle of a sentence.
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::New => "there was none",
            Self::Gone => "the Secret wasn't there",
            Self::Changed => "it had been changed by hand",
            Self::Asked => "that was asked for",
            Self::Due => "rotateEverySeconds had passed",
        }
    }
}

impl Record {
    /// The record of a Secret; `None` when it isn't one of ours, or `client_secret` isn't what we wrote.
    pub(super) fn read(annotation: Option<&str>, client_secret: Option<&[u8]>, now: UnixSeconds) -> Option<Self> {
        let record: Self = serde_json::from_str(annotation?).ok()?;
        let secret = std::str::from_utf8(client_secret?).ok()?;
        let is_ours = secret.len() == CLIENT_SECRET_CHARACTERS
            && is_lower_hex(secret)
            && secret_hash(secret) == record.sha256
            && record.since <= now + CLOCKS_APART
            && record.previous.iter().all(|previous| is_hash(&previous.sha256));
        is_ours.then_some(record)
    }

    /// The record of a new secret. `before` is the hash of what clients log in with so far.
    pub(super) fn new(
        secret: &str,
        before: Option<&str>,
        spec: &ClientCredentials,
        asked: Option<&str>,
        now: UnixSeconds,
    ) -> Self {
        let previous = before.filter(|_| spec.overlap_seconds > 0).map(|before| ClientSecret {
            sha256: before.to_owned(),
            until: Some(now + Ttl::seconds(spec.overlap_seconds)),
        });
        Self {
            sha256: secret_hash(secret),
            since: now,
            previous,
            asked: asked.map(secret_hash),
        }
    }

    /// What the broker is told. An overlap ends early when `overlapSeconds` is lowered, and is never prolonged.
    pub(super) fn client(&self, spec: &ClientCredentials, now: UnixSeconds) -> AppClient {
        let current = ClientSecret {
            sha256: self.sha256.clone(),
            until: None,
        };
        let latest = self.since + Ttl::seconds(spec.overlap_seconds);
        let previous = self.previous.iter().map(|previous| ClientSecret {
            sha256: previous.sha256.clone(),
            until: Some(previous.until.map_or(latest, |until| until.min(latest))),
        });
        let previous = previous.filter(|previous| previous.counts(now));
        AppClient {
            token_ttl_seconds: spec.token_ttl_seconds,
            secrets: std::iter::once(current).chain(previous).collect(),
        }
    }

    /// Whether this is what the broker lets clients log in with.
    pub(super) fn is_held(&self, held: Option<&AppClient>) -> bool {
        held.and_then(AppClient::current) == Some(self.sha256.as_str())
    }

    /// Whether another secret is due. Not before the broker knows this one: of two that follow each other so, clients would
    /// hold one that the broker never hears of.
    pub(super) fn due(
        &self,
        spec: &ClientCredentials,
        held: Option<&AppClient>,
        asked: Option<&str>,
        now: UnixSeconds,
    ) -> Option<Why> {
        if !self.is_held(held) {
            return None;
        }
        if asked.is_some_and(|asked| Some(secret_hash(asked)) != self.asked) {
            return Some(Why::Asked);
        }
        let every = spec.rotate_every_seconds.map(Ttl::seconds);
        every.is_some_and(|every| self.since + every <= now).then_some(Why::Due)
    }
}

fn is_hash(text: &str) -> bool {
    text.len() == 64 && is_lower_hex(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: UnixSeconds = UnixSeconds::new(1_000_000);

    fn spec(overlap_seconds: i64, rotate_every_seconds: Option<i64>) -> ClientCredentials {
        ClientCredentials {
            secret_name: "orders-client".to_owned(),
            token_ttl_seconds: 900,
            overlap_seconds,
            rotate_every_seconds,
        }
    }

    fn secret(digit: char) -> String {
        String::from(digit).repeat(64)
    }

    fn at(seconds: i64) -> UnixSeconds {
        NOW + Ttl::seconds(seconds)
    }

    /// Written at [`NOW`]: `b` after `a`.
    fn record() -> Record {
        Record::new(
            &secret('b'),
            Some(&secret_hash(&secret('a'))),
            &spec(600, None),
            Some("1"),
            NOW,
        )
    }

    fn counting(record: &Record, spec: &ClientCredentials, now: UnixSeconds) -> Vec<Option<i64>> {
        let client = record.client(spec, now);
        assert_eq!(client.current(), Some(secret_hash(&secret('b')).as_str()));
        client
            .secrets
            .iter()
            .map(|secret| secret.until.map(|until| (until - NOW).get()))
            .collect()
    }

    #[test]
    fn the_secret_before_counts_until_its_overlap_ends() {
        let (record, spec) = (record(), spec(600, None));
        for (after, wanted) in [
            (0, vec![None, Some(600)]),
            (599, vec![None, Some(600)]),
            (600, vec![None]),
        ] {
            assert_eq!(counting(&record, &spec, at(after)), wanted, "{after}");
        }
    }

    #[test]
    fn an_overlap_can_be_cut_short_and_not_prolonged() {
        let record = record();
        assert_eq!(counting(&record, &spec(100, None), NOW), [None, Some(100)]);
        assert_eq!(counting(&record, &spec(0, None), NOW), [None]);
        assert_eq!(counting(&record, &spec(10_000, None), NOW), [None, Some(600)]);
        let without = Record::new(
            &secret('b'),
            Some(&secret_hash(&secret('a'))),
            &spec(0, None),
            None,
            NOW,
        );
        assert_eq!(without.previous, None);
    }

    #[test]
    fn what_another_hand_wrote_is_no_record() {
        let (good, data) = (serde_json::to_string(&record()).unwrap(), secret('b'));
        assert_eq!(Record::read(Some(&good), Some(data.as_bytes()), NOW), Some(record()));
        let previous = Record {
            previous: Some(ClientSecret {
                sha256: "short".to_owned(),
                until: None,
            }),
            ..record()
        };
        let later = Record {
            since: at(3_601),
            ..record()
        };
        let weak = Record::new("weak", None, &spec(600, None), None, NOW);
        for (annotation, data) in [
            (None, Some(data.as_bytes())),
            (Some("{"), Some(data.as_bytes())),
            (Some(&*good), None),
            (Some(&*good), Some(secret('c').as_bytes())),
            (Some(&*good), Some(&[0xff; 64][..])),
            (Some(&*serde_json::to_string(&weak).unwrap()), Some(&b"weak"[..])),
            (Some(&*serde_json::to_string(&previous).unwrap()), Some(data.as_bytes())),
            (Some(&*serde_json::to_string(&later).unwrap()), Some(data.as_bytes())),
        ] {
            assert_eq!(Record::read(annotation, data, NOW), None, "{annotation:?}");
        }
    }

    #[test]
    fn another_secret_is_due_once_the_broker_knows_this_one() {
        let record = record();
        let known = record.client(&spec(600, None), NOW);
        let timed = spec(600, Some(3_600));
        let table = [
            (&timed, Some(&known), Some("1"), 3_599, None),
            (&timed, Some(&known), Some("1"), 3_600, Some(Why::Due)),
            (&timed, Some(&known), Some("2"), 0, Some(Why::Asked)),
            // The annotation was taken away; the broker doesn't know this one, or none.
            (&timed, Some(&known), None, 0, None),
            (&timed, None, Some("2"), 3_600, None),
        ];
        for (spec, held, asked, after, wanted) in table {
            assert_eq!(record.due(spec, held, asked, at(after)), wanted, "{asked:?} {after}");
        }
        let earlier = Record::new(&secret('a'), None, &timed, None, NOW).client(&timed, NOW);
        assert!(record.is_held(Some(&known)) && !record.is_held(Some(&earlier)) && !record.is_held(None));
        assert_eq!(record.due(&timed, Some(&earlier), Some("2"), at(3_600)), None);
    }

    #[test]
    fn a_record_holds_no_secret() {
        let text = serde_json::to_string(&record()).unwrap();
        assert!(!text.contains(&secret('a')) && !text.contains(&secret('b')), "{text}");
    }
}
