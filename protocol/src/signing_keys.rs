//! The life of signing keys: each is published before it signs, signs until a later one does, is accepted until its
//! last token has expired, and is then retired. What all replicas agree on is in the store; these are the rules.

pub mod wire;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::time::UnixSeconds;
use crate::ttl::Ttl;

/// Keys that a store remembers, retired ones included.
pub const MOST_KEYS: usize = 1000;
/// Keys whose private halves a folder, or a Secret, may hold.
pub const MOST_HELD: usize = 16;
/// How the files of private halves end.
pub const FILE_SUFFIX: &str = ".key";

/// The name of the file of a key that we make. A thumbprint may begin with `-`.
pub fn file_name(kid: &str) -> String {
    format!("signing-{kid}{FILE_SUFFIX}")
}

/// A key as the store has it. Its private half is never there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SigningKey {
    /// RFC 7638 thumbprint.
    pub kid: String,
    /// The member `x` of its JSON Web Key.
    pub x: String,
    /// From when on tokens of it are accepted.
    pub published_at: UnixSeconds,
    /// From when on it signs, unless a later one does.
    pub signs_from: UnixSeconds,
    /// When its last token has expired; known some time after a later key signs.
    pub retires_at: Option<UnixSeconds>,
    /// When it was retired.
    pub retirement: Option<Retirement>,
}

impl SigningKey {
    /// A key as it begins.
    pub fn published(kid: &str, x: &str, at: UnixSeconds, signs_from: UnixSeconds) -> Self {
        Self {
            kid: kid.to_owned(),
            x: x.to_owned(),
            published_at: at,
            signs_from,
            retires_at: None,
            retirement: None,
        }
    }
}

/// The end of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retirement {
    /// From when on no token of it is accepted.
    pub at: UnixSeconds,
    /// Whether a person retired it at once.
    pub leaked: bool,
}

/// Where a key is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum KeyState {
    /// Published, and not signing yet.
    Next,
    /// It signs.
    Active,
    /// A later key signs; tokens of it are accepted.
    Previous,
    /// No token of it is accepted.
    Retired,
}

impl KeyState {
    /// The word on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Next => "next",
            Self::Active => "active",
            Self::Previous => "previous",
            Self::Retired => "retired",
        }
    }
}

/// What the rules need to know of the settings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeyTimes {
    /// How long a key is published before it signs; also how long after it a replica that has not got it yet may go on
    /// with the one before.
    pub publish_ahead: Ttl,
    /// The longest life of a token that no session remembers: of an admin or an app.
    pub longest_unremembered: Ttl,
}

/// A change of the keys that is due.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeyChange {
    /// A new key is published.
    Publish(SigningKey),
    /// It is now known until when tokens of this key live.
    Expect {
        /// Which.
        kid: String,
        /// The last second of its last token.
        retires_at: UnixSeconds,
    },
    /// Tokens of it are accepted no more.
    Retire {
        /// Which.
        kid: String,
        /// Why, for the trail.
        why: &'static str,
    },
    /// A key that was replaced is back in its place.
    Reinstate {
        /// Which.
        kid: String,
    },
}

/// The keys of a store, in any order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SigningKeys(pub Vec<SigningKey>);

impl SigningKeys {
    /// The key with this id.
    pub fn get(&self, kid: &str) -> Option<&SigningKey> {
        self.0.iter().find(|key| key.kid == kid)
    }

    /// Those whose tokens are accepted, the newest first.
    pub fn published(&self) -> Vec<&SigningKey> {
        let mut keys: Vec<_> = self.0.iter().filter(|key| key.retirement.is_none()).collect();
        keys.sort_by(|one, other| (other.signs_from, &other.kid).cmp(&(one.signs_from, &one.kid)));
        keys
    }

    /// Those that may have signed, the newest first: their time has come. Where that is so for none, a clock that was
    /// ahead has dated them, and it is the oldest.
    fn signed(&self, now: UnixSeconds) -> Vec<&SigningKey> {
        let published = self.published();
        let oldest = published.last().map_or(now, |key| key.signs_from.max(now));
        published.into_iter().filter(|key| key.signs_from <= oldest).collect()
    }

    /// The one that signs: the newest whose time has come.
    pub fn active(&self, now: UnixSeconds) -> Option<&SigningKey> {
        self.signed(now).into_iter().next()
    }

    /// The one that will sign.
    pub fn next(&self, now: UnixSeconds) -> Option<&SigningKey> {
        let signed = self.signed(now).len();
        let mut published = self.published();
        published.truncate(published.len().saturating_sub(signed));
        published.pop()
    }

    /// Where a key is in its life.
    pub fn state(&self, key: &SigningKey, now: UnixSeconds) -> KeyState {
        state_beside(self.active(now), key, now)
    }

    /// Every key with its state.
    pub fn states(&self, now: UnixSeconds) -> impl Iterator<Item = (&SigningKey, KeyState)> {
        let active = self.active(now);
        self.0.iter().map(move |key| (key, state_beside(active, key, now)))
    }

    /// The key that a process signs with that holds these: the active one, or for a while the one before it.
    pub fn signer<'k>(&'k self, held: &[&str], now: UnixSeconds, times: KeyTimes) -> Option<&'k SigningKey> {
        let active = self.active(now)?;
        let newest = self
            .signed(now)
            .into_iter()
            .find(|key| held.contains(&key.kid.as_str()))?;
        let is_in_time = newest.retires_at.is_none() && now < active.signs_from + times.publish_ahead;
        (newest.kid == active.kid || is_in_time).then_some(newest)
    }

    /// The key that every replica holds which issues anything, of those that a process holds: the newest that has signed
    /// for as long as a late replica may go on with the one before, else the oldest.
    pub fn settled<'k>(&'k self, held: &[&str], now: UnixSeconds, times: KeyTimes) -> Option<&'k SigningKey> {
        let mut published = self.published();
        published.retain(|key| held.contains(&key.kid.as_str()));
        let settled = published.iter().find(|key| key.signs_from + times.publish_ahead <= now);
        settled.or(published.last()).copied()
    }

    /// The changes that are due where there can be one key only, this one (id and `x`): whatever was there before it is
    /// retired at once, for who replaces the file of a key means to be rid of it.
    pub fn due_for_only(&self, (kid, x): (&str, &str), now: UnixSeconds) -> Vec<KeyChange> {
        let kept = match self.get(kid) {
            None => Some(KeyChange::Publish(SigningKey::published(kid, x, now, now))),
            Some(SigningKey {
                retirement: Some(Retirement { leaked: false, .. }),
                ..
            }) => Some(KeyChange::Reinstate { kid: kid.to_owned() }),
            Some(_) => None,
        };
        let room = self.0.len() < MOST_KEYS;
        let kept = kept.filter(|change| room || !matches!(change, KeyChange::Publish(_)));
        let others = self.published().into_iter().filter(|key| key.kid != kid);
        let retired = others.map(|key| KeyChange::Retire {
            kid: key.kid.clone(),
            why: "its file holds another key now",
        });
        kept.into_iter().chain(retired).collect()
    }

    /// The changes that are due for a process that holds these keys (id and `x`), given the last second of any
    /// session's token.
    pub fn due(
        &self,
        held: &[(&str, &str)],
        now: UnixSeconds,
        times: KeyTimes,
        last_session_exp: UnixSeconds,
    ) -> Vec<KeyChange> {
        let ids: Vec<&str> = held.iter().map(|(kid, _)| *kid).collect();
        // Where nothing can sign there is nothing to wait for: a new installation, or one that has lost its key.
        let is_urgent = self.signer(&ids, now, times).is_none();
        let room = MOST_KEYS.saturating_sub(self.0.len());
        let new = held.iter().filter(|(kid, _)| self.get(kid).is_none()).take(room);
        let publish = new.map(|(kid, x)| {
            let signs_from = if is_urgent { now } else { now + times.publish_ahead };
            KeyChange::Publish(SigningKey::published(kid, x, now, signs_from))
        });
        let active = self.active(now);
        let switched = active.map(|active| active.signs_from);
        let previous = self
            .published()
            .into_iter()
            .filter(|key| state_beside(active, key, now) == KeyState::Previous);
        let end = previous.filter_map(|key| match (key.retires_at, switched) {
            (Some(retires_at), _) => (retires_at < now).then(|| KeyChange::Retire {
                kid: key.kid.clone(),
                why: "its last token has expired",
            }),
            // Replicas that are late have stopped to sign with it.
            (None, Some(switched)) if switched + times.publish_ahead <= now => Some(KeyChange::Expect {
                kid: key.kid.clone(),
                retires_at: last_session_exp.max(now + times.longest_unremembered),
            }),
            (None, _) => None,
        });
        publish.chain(end).collect()
    }
}

fn state_beside(active: Option<&SigningKey>, key: &SigningKey, now: UnixSeconds) -> KeyState {
    if key.retirement.is_some() {
        KeyState::Retired
    } else if active.is_some_and(|active| active.kid == key.kid) {
        KeyState::Active
    } else if key.signs_from > now {
        KeyState::Next
    } else {
        KeyState::Previous
    }
}

/// The id of a key from the member `x` of its JSON Web Key: the thumbprint of RFC 7638 over the members that RFC 8037 §2
/// requires.
pub fn thumbprint(x: &str) -> String {
    URL_SAFE_NO_PAD.encode(Sha256::digest(format!(r#"{{"crv":"Ed25519","kty":"OKP","x":"{x}"}}"#)))
}

/// The detail of the event `key_published`, by which a reader of the trail learns the key.
pub fn published_detail(kid: &str, x: &str, signs_from: &str) -> String {
    format!("kid={kid} x={x} signs_from={signs_from}")
}

/// Id and `x` from such a detail; `None` when it is no such detail.
pub fn published_key(detail: &str) -> Option<(&str, &str)> {
    let (kid, rest) = detail.strip_prefix("kid=")?.split_once(" x=")?;
    let (x, signs_from) = rest.split_once(" signs_from=")?;
    let is_word = |text: &str| !text.is_empty() && !text.contains(' ');
    (is_word(kid) && is_word(x) && is_word(signs_from)).then_some((kid, x))
}

#[cfg(test)]
mod tests;
