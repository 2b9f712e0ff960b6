//! What people do with the signing keys: look at them, ask for another one, retire one that has leaked.

use agentwrit_protocol::UnixSeconds;
use agentwrit_protocol::audit::EventType;
use agentwrit_protocol::excerpt::excerpt;
use agentwrit_protocol::signing_keys::{KeyState, MOST_KEYS, Retirement, SigningKeys};
use agentwrit_store::{Command, MetaKey, Result as StoreResult, Store, StoreError, TakesAuthority, Tx};
use async_trait::async_trait;

use super::follow::change_key;
use super::{FollowError, KeyFollower, Rotation, StoredKeys};
use crate::service::actor::Actor;

/// Why nothing is done.
#[derive(Debug, thiserror::Error)]
pub(crate) enum KeysError {
    #[error("there is no signing key {0:?}: GET /v1/admin/keys lists them")]
    NotFound(String),
    /// One file is one key.
    #[error(
        "the signing key is one file: to rotate it, make a folder, move the file into it under a name that ends with \
         .key, and name the folder in AA_SIGNING_KEY_PATH"
    )]
    OneFile,
    #[error("{MOST_KEYS} signing keys are known: more can't be remembered")]
    Full,
    /// Why it can't go in peace.
    #[error(
        "signing key {kid} is {state}: it is retired by itself when its last token has expired; say now if it has \
         leaked: all tokens of before are then refused"
    )]
    InUse { kid: String, state: &'static str },
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// What came of retiring a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Retired {
    pub(crate) kid: String,
    pub(crate) retirement: Retirement,
    /// The epoch that began with it.
    pub(crate) epoch: Option<String>,
}

/// The signing keys as people see them.
pub(crate) struct KeyAdmin<'a> {
    pub(crate) store: &'a Store,
    pub(crate) follower: KeyFollower<'a>,
    /// Whether another key can be made at all.
    pub(crate) rotates: bool,
}

impl KeyAdmin<'_> {
    /// In the order in which they were published.
    pub(crate) async fn list(&self) -> Result<StoredKeys, KeysError> {
        Ok(self.store.query(|tx| Box::pin(StoredKeys::read(tx))).await?)
    }

    /// Asks for another key; again, or while one is published that doesn't sign yet, changes nothing.
    pub(crate) async fn rotate(&self, actor: Actor) -> Result<(), KeysError> {
        if !self.rotates {
            return Err(KeysError::OneFile);
        }
        if !self.store.commit(Rotate { actor }).await? {
            return Err(KeysError::Full);
        }
        self.catch_up().await;
        Ok(())
    }

    /// Retires a key that no token needs; or, `now`, one that has leaked, with every token that there is.
    pub(crate) async fn retire(&self, kid: String, now: bool, actor: Actor) -> Result<Retired, KeysError> {
        let retire = Retire {
            kid,
            leaked: now,
            actor,
        };
        let Ended {
            kid,
            retirement,
            is_epoch_due,
        } = self.store.commit(retire).await??;
        self.catch_up().await;
        if self.list().await?.epoch_due.is_some() {
            // It begins within a second of the store's return, whether the call is repeated or not.
            return Err(StoreError::NotOpen.into());
        }
        let epoch = is_epoch_due.then(|| self.store.epoch());
        Ok(Retired { kid, retirement, epoch })
    }

    /// So that the answer is true when it is there. What can't be done now is tried each second.
    async fn catch_up(&self) {
        // Twice: a key that is made is published by the next look.
        for _ in 0..2 {
            if let Err(error) = self.follower.follow().await {
                report(&error);
            }
        }
    }
}

fn report(error: &FollowError) {
    tracing::warn!(target: "KEYS", component = "Follow", error = %error, "the signing keys can't be brought up to date yet");
}

struct Rotate {
    actor: Actor,
}

#[async_trait]
impl Command for Rotate {
    /// False when no more keys can be remembered.
    type Outcome = bool;

    async fn run(self, tx: &mut dyn Tx) -> StoreResult<bool> {
        let stored = StoredKeys::read(tx).await?;
        let now = tx.times().judged.second();
        if stored.rotation.is_some() || stored.keys.next(now).is_some() {
            return Ok(true);
        }
        let known = stored.keys.0.len();
        if known >= MOST_KEYS {
            return Ok(false);
        }
        let wish = Rotation { known, at: now };
        tx.set_meta(MetaKey::KeyRotation, &wish.to_text()).await?;
        tx.audit(self.actor.event(
            EventType::KeyRotationRequested,
            format!("{known} signing keys are known"),
        ));
        Ok(true)
    }
}

/// Finds a successor for the key that signed.
async fn succeed(tx: &mut dyn Tx, keys: &SigningKeys, now: UnixSeconds) -> StoreResult<()> {
    if let Some(next) = keys.next(now) {
        // Verifiers may not have it yet, but none takes the tokens of the other one any longer.
        return change_key(tx, &keys.0, &next.kid, |key| key.signs_from = now).await;
    }
    let known = keys.0.len();
    let wish = Rotation { known, at: now };
    tx.set_meta(MetaKey::KeyRotation, &wish.to_text()).await
}

/// A key that has been retired.
struct Ended {
    kid: String,
    retirement: Retirement,
    /// Whether tokens of before have yet to be refused.
    is_epoch_due: bool,
}

#[derive(Clone)]
struct Retire {
    kid: String,
    leaked: bool,
    actor: Actor,
}

#[async_trait]
impl Command for Retire {
    type Outcome = Result<Ended, KeysError>;
    const TAKES_AUTHORITY: TakesAuthority<Self> = TakesAuthority::Again(Self::clone);

    async fn run(self, tx: &mut dyn Tx) -> StoreResult<Self::Outcome> {
        let StoredKeys { keys, epoch_due, .. } = StoredKeys::read(tx).await?;
        let Some(key) = keys.get(&self.kid).cloned() else {
            return Ok(Err(KeysError::NotFound(excerpt(&self.kid))));
        };
        let now = tx.times().judged.second();
        let state = keys.state(&key, now);
        if !self.leaked && matches!(state, KeyState::Active | KeyState::Previous) {
            let state = state.as_str();
            return Ok(Err(KeysError::InUse { kid: key.kid, state }));
        }
        let before = key.retirement.filter(|retirement| retirement.leaked || !self.leaked);
        let mut is_epoch_due = epoch_due.is_some();
        let retirement = if let Some(retirement) = before {
            retirement
        } else {
            let retirement = Retirement {
                at: now,
                leaked: self.leaked,
            };
            change_key(tx, &keys.0, &key.kid, |key| key.retirement = Some(retirement)).await?;
            if state == KeyState::Active {
                succeed(tx, &keys, now).await?;
            }
            if self.leaked {
                let due = format!("{} {}", key.kid, self.actor.subject);
                tx.set_meta(MetaKey::EpochDue, &due).await?;
                is_epoch_due = true;
            }
            let why = if self.leaked {
                "it has leaked"
            } else {
                "it was never used"
            };
            tx.audit(
                self.actor
                    .event(EventType::KeyRetired, format!("kid={}: {why}", key.kid)),
            );
            retirement
        };
        Ok(Ok(Ended {
            kid: key.kid,
            retirement,
            is_epoch_due,
        }))
    }
}
