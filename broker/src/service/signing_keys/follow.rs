//! Brings the keys of this process in line with the files it reads and with the store, which all replicas share.

use std::sync::Arc;

use agentwrit_protocol::audit::EventType;
use agentwrit_protocol::signing_keys::{KeyChange, KeyTimes, Retirement, SigningKey, SigningKeys, published_detail};
use agentwrit_protocol::timestamp::rfc3339_seconds;
use agentwrit_protocol::{Entropy, JudgingClock, UnixSeconds};
use agentwrit_store::{Command, EventDraft, Result as StoreResult, Store, StoreError, Tx};
use agentwrit_tokens::key_set::{KeyPair, KeySet};
use agentwrit_tokens::key_source::{KeyError, KeySource};
use agentwrit_tokens::verifier::Verifier;
use async_trait::async_trait;
use tokio::sync::Mutex;

use super::{EpochDue, Looks, StoredKeys, public_key, snapshot};

/// What the keys of this process were made of last. Locked while they are looked at: two looks at once would make two
/// keys of one wish.
#[derive(Debug, Default)]
pub(crate) struct Followed(Mutex<Option<Taken>>);

#[derive(Debug)]
struct Taken {
    made: Made,
    /// Id of a key in the store that is none. Looked for once, since it costs a computation for each key of all times.
    malformed: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Made {
    stored: StoredKeys,
    held: Vec<String>,
    active: Option<String>,
    signer: Option<String>,
    settled: Option<String>,
}

/// Why the keys are as they were.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FollowError {
    #[error(transparent)]
    Key(#[from] KeyError),
    #[error("the store has a signing key {kid} whose x is no Ed25519 key: it is taken for none")]
    Malformed { kid: String },
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Follows files and store.
#[derive(Clone, Copy)]
pub(crate) struct KeyFollower<'a> {
    pub(crate) source: &'a KeySource,
    pub(crate) keys: &'a KeySet,
    pub(crate) verifier: &'a Verifier,
    pub(crate) store: &'a Store,
    pub(crate) judging: &'a JudgingClock,
    pub(crate) entropy: &'a dyn Entropy,
    pub(crate) times: KeyTimes,
    pub(crate) followed: &'a Followed,
    pub(crate) looks: &'a Looks,
}

impl KeyFollower<'_> {
    /// Reads the files, publishes what is new in them, retires what has had its time, and signs with what is due.
    ///
    /// # Errors
    /// When the store can't be asked: all stays as it is. When a file can't be read: the keys of before are held on.
    pub(crate) async fn follow(&self) -> Result<(), FollowError> {
        let mut before = self.followed.0.lock().await;
        let (held, problem) = self.held();
        let public: Vec<(String, String)> = held
            .iter()
            .map(|pair| (pair.kid().to_owned(), pair.public().x().to_owned()))
            .collect();
        let mut stored = self.store.query(|tx| Box::pin(StoredKeys::read(tx))).await?;
        let now = self.judging.times().judged.second();
        if !self.due(&stored, &public, now).is_empty() {
            let keep = KeepKeys {
                held: public.clone(),
                holder: self.holder(),
            };
            stored = self.store.commit(keep).await?;
        }
        self.take(&mut before, held, stored.clone(), now);
        if let Some(EpochDue { kid, actor }) = &stored.epoch_due {
            let event = EventDraft::success(EventType::EpochBegun, format!("signing key {kid} has leaked"));
            self.store.begin_epoch(event.actor(actor)).await?;
        }
        self.tend_folder(&stored, &public)?;
        let malformed = before.as_ref().and_then(|taken| taken.malformed.clone());
        match (problem, malformed) {
            (Some(problem), _) => Err(problem.into()),
            (None, Some(kid)) => Err(FollowError::Malformed { kid }),
            (None, None) => Ok(()),
        }
    }

    /// The keys of the files; those of before when they can't be read, or are all gone.
    fn held(&self) -> (Vec<Arc<KeyPair>>, Option<KeyError>) {
        match self.source.load(true) {
            Ok(pairs) => (pairs, None),
            Err(error) => (self.keys.current().held().to_vec(), Some(error)),
        }
    }

    fn holder(&self) -> Holder {
        match self.source {
            KeySource::File(_) => Holder::File,
            KeySource::Folder(_) => Holder::Folder(self.times),
        }
    }

    fn due(&self, stored: &StoredKeys, held: &[(String, String)], now: UnixSeconds) -> Vec<KeyChange> {
        self.holder().due(&stored.keys, held, now, UnixSeconds::default())
    }

    /// Replaces the keys of the process when they are others than before.
    fn take(&self, before: &mut Option<Taken>, held: Vec<Arc<KeyPair>>, stored: StoredKeys, now: UnixSeconds) {
        let ids: Vec<&str> = held.iter().map(|pair| pair.kid()).collect();
        let signer = stored.keys.signer(&ids, now, self.times).map(|key| key.kid.clone());
        let settled = stored.keys.settled(&ids, now, self.times).map(|key| key.kid.clone());
        let made = Made {
            active: stored.keys.active(now).map(|key| key.kid.clone()),
            held: ids.iter().map(ToString::to_string).collect(),
            signer,
            settled,
            stored,
        };
        let last = before.as_ref().map(|before| &before.made);
        if last == Some(&made) {
            return;
        }
        let kids =
            |keys: &StoredKeys| -> Vec<String> { keys.keys.published().iter().map(|key| key.kid.clone()).collect() };
        let published = kids(&made.stored);
        let gone = last
            .iter()
            .flat_map(|last| kids(&last.stored))
            .any(|kid| !published.contains(&kid));
        self.keys.replace(snapshot(held, &made.stored.keys, now, self.times));
        if gone {
            self.verifier.forget();
        }
        report(last, &made);
        let malformed = made.stored.keys.0.iter().find(|key| public_key(key).is_none());
        let malformed = malformed.map(|key| key.kid.clone());
        *before = Some(Taken { made, malformed });
    }

    /// Makes the key that a person asked for, and removes those that are retired, where the folder is ours: a mounted
    /// Secret is the controller's, and read-only.
    fn tend_folder(&self, stored: &StoredKeys, held: &[(String, String)]) -> Result<(), KeyError> {
        let is_unpublished = |(kid, _): &(String, String)| stored.keys.get(kid).is_none();
        if stored.rotation.is_some() && !held.iter().any(is_unpublished) {
            self.source.add(self.entropy)?;
        }
        for key in stored.keys.0.iter().filter(|key| key.retirement.is_some()) {
            if held.iter().any(|(kid, _)| *kid == key.kid) {
                self.source.remove(&key.kid)?;
            }
        }
        Ok(())
    }
}

/// What the private halves are in.
#[derive(Clone, Copy)]
enum Holder {
    File,
    Folder(KeyTimes),
}

impl Holder {
    fn due(self, keys: &SigningKeys, held: &[(String, String)], now: UnixSeconds, last: UnixSeconds) -> Vec<KeyChange> {
        let held: Vec<_> = held.iter().map(|(kid, x)| (kid.as_str(), x.as_str())).collect();
        match (self, held.as_slice()) {
            (Self::File, [only]) => keys.due_for_only(*only, now),
            (Self::File, _) => Vec::new(),
            (Self::Folder(times), held) => keys.due(held, now, times, last),
        }
    }
}

/// Says what has changed.
fn report(before: Option<&Made>, now: &Made) {
    let signed = before.and_then(|before| before.signer.clone());
    if signed != now.signer {
        match (&now.signer, &now.active) {
            (Some(kid), _) => tracing::info!(target: "KEYS", component = "Signing", kid, "this key signs tokens"),
            (None, Some(kid)) => tracing::error!(target: "KEYS", component = "Signing", kid,
                "the key that signs is not held here: nothing is issued; put its file back, or add a new key"),
            (None, None) => tracing::error!(target: "KEYS", component = "Signing",
                "every key that is held is retired: nothing is issued; add a new key"),
        }
    }
}

struct KeepKeys {
    held: Vec<(String, String)>,
    holder: Holder,
}

#[async_trait]
impl Command for KeepKeys {
    type Outcome = StoredKeys;

    async fn run(self, tx: &mut dyn Tx) -> StoreResult<StoredKeys> {
        let keys = StoredKeys::read(tx).await?.keys;
        let last = tx.last_session_exp().await?;
        let now = tx.times().judged.second();
        // An only key is told of when there is another one: until then the trail needs no keys to be told apart.
        let mut untold = if keys.0.len() == 1 { keys.0.clone() } else { Vec::new() };
        for change in self.holder.due(&keys, &self.held, now, last) {
            match change {
                KeyChange::Publish(key) => {
                    tx.insert_signing_key(&key).await?;
                    untold.push(key);
                }
                KeyChange::Expect { kid, retires_at } => {
                    let expect = |key: &mut SigningKey| key.retires_at = Some(retires_at);
                    change_key(tx, &keys.0, &kid, expect).await?;
                }
                KeyChange::Reinstate { kid } => {
                    let reinstate = |key: &mut SigningKey| {
                        (key.signs_from, key.retires_at, key.retirement) = (now, None, None);
                    };
                    change_key(tx, &keys.0, &kid, reinstate).await?;
                    untold.extend(keys.get(&kid).cloned());
                }
                KeyChange::Retire { kid, why } => {
                    let retire = |key: &mut SigningKey| key.retirement = Some(Retirement { at: now, leaked: false });
                    change_key(tx, &keys.0, &kid, retire).await?;
                    let detail = format!("kid={kid}: {why}");
                    tx.audit(EventDraft::success(EventType::KeyRetired, detail));
                }
            }
        }
        let stored = StoredKeys::read(tx).await?;
        if stored.keys.0.len() > 1 {
            for key in untold {
                let detail = published_detail(&key.kid, &key.x, &rfc3339_seconds(key.signs_from));
                tx.audit(EventDraft::success(EventType::KeyPublished, detail));
            }
        }
        Ok(stored)
    }
}

pub(super) async fn change_key(
    tx: &mut dyn Tx,
    keys: &[SigningKey],
    kid: &str,
    change: impl FnOnce(&mut SigningKey),
) -> StoreResult<()> {
    let Some(mut key) = keys.iter().find(|key| key.kid == kid).cloned() else {
        return Ok(());
    };
    change(&mut key);
    tx.update_signing_key(&key).await
}
