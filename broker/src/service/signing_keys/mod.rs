//! The signing keys: which are published, which signs, and what people do with them.

mod follow;
mod look_again;
pub(crate) mod person;

pub(crate) use follow::{FollowError, Followed, KeyFollower};
pub(crate) use look_again::Looks;

use std::sync::Arc;

use agentwrit_protocol::UnixSeconds;
use agentwrit_protocol::signing_keys::{KeyTimes, SigningKey, SigningKeys};
use agentwrit_store::{MetaKey, Result as StoreResult, Tx};
use agentwrit_tokens::key_set::{KeyPair, KeySet, KeySnapshot, PublicKey};

/// The keys of a store, and what was asked of them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct StoredKeys {
    pub(crate) keys: SigningKeys,
    pub(crate) rotation: Option<Rotation>,
    pub(crate) epoch_due: Option<EpochDue>,
}

/// A leaked key is retired, and the epoch that begins with it has yet to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct EpochDue {
    pub(crate) kid: String,
    /// Who retired it.
    pub(crate) actor: String,
}

/// A person's wish for another key, until it is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Rotation {
    /// How many keys there were.
    known: usize,
    /// When it was asked for.
    pub(crate) at: UnixSeconds,
}

impl Rotation {
    fn from_text(text: &str) -> Option<Self> {
        let (known, at) = text.split_once(' ')?;
        Some(Self {
            known: known.parse().ok()?,
            at: at.parse().map(UnixSeconds::new).ok()?,
        })
    }

    fn to_text(self) -> String {
        format!("{} {}", self.known, self.at)
    }
}

impl StoredKeys {
    pub(crate) async fn read(tx: &mut dyn Tx) -> StoreResult<Self> {
        let keys = SigningKeys(tx.signing_keys().await?);
        let wish = tx
            .meta(MetaKey::KeyRotation)
            .await?
            .and_then(|text| Rotation::from_text(&text));
        // Once there is another key, the wish has come true.
        let rotation = wish.filter(|wish| wish.known >= keys.0.len());
        let due = tx.meta(MetaKey::EpochDue).await?;
        let due = due.as_deref().and_then(|text| text.split_once(' '));
        let epoch_due = due.map(|(kid, actor)| EpochDue {
            kid: kid.to_owned(),
            actor: actor.to_owned(),
        });
        Ok(Self {
            keys,
            rotation,
            epoch_due,
        })
    }
}

/// The key, unless the row was tampered with: its id is the thumbprint of its `x`.
fn public_key(key: &SigningKey) -> Option<PublicKey> {
    PublicKey::from_x(&key.x).filter(|public| public.kid() == key.kid)
}

/// The public halves of all keys that a store has, which sign nothing.
pub(crate) fn public_keys(keys: &[SigningKey]) -> KeySet {
    let known = keys.iter().filter_map(public_key);
    KeySet::new(KeySnapshot::of(Vec::new(), None, Vec::new(), "", known))
}

/// The keys of a process that holds these, with what the store knows of them.
pub(crate) fn snapshot(
    mut held: Vec<Arc<KeyPair>>,
    keys: &SigningKeys,
    now: UnixSeconds,
    times: KeyTimes,
) -> KeySnapshot {
    let since = |pair: &Arc<KeyPair>| keys.get(pair.kid()).map(|key| key.signs_from);
    held.sort_by_key(|pair| std::cmp::Reverse(since(pair)));
    let ids: Vec<&str> = held.iter().map(|pair| pair.kid()).collect();
    let pair_of = |key: Option<&SigningKey>| {
        held.iter()
            .find(|pair| key.is_some_and(|key| key.kid == pair.kid()))
            .cloned()
    };
    let signer = pair_of(keys.signer(&ids, now, times));
    let settled = pair_of(keys.settled(&ids, now, times));
    let published = keys.published().into_iter().filter_map(public_key).collect();
    let active = keys.active(now).map_or("", |key| &key.kid);
    KeySnapshot::of(
        held,
        signer.as_ref(),
        published,
        active,
        keys.0.iter().filter_map(public_key),
    )
    .settled_on(settled)
}
