//! Step 3 of a registration (`docs/wire-contract.md` §8): the launch token that is presented.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use agentwrit_protocol::Sensitive;
use agentwrit_server::Source;
use agentwrit_store::{Command, LaunchToken, LaunchTokenHash, Result, StoreError, Tx};
use async_trait::async_trait;

use super::register::Denial;
use crate::broker::Broker;

/// Most launch tokens that are remembered.
const MOST_STANDING: usize = 4096;

/// Launch tokens that could be used when this process last saw them, and the end of their lives in Unix milliseconds.
/// Whoever presents one is no stranger: the transaction is asked without a look before it. One that is not here costs
/// that look and nothing else.
#[derive(Debug, Default)]
pub struct Standing(Mutex<HashMap<LaunchTokenHash, i64>>);

impl Standing {
    /// Remembers one that was made or seen just now.
    pub(crate) fn add(&self, hash: LaunchTokenHash, expires_at: i64, now_millis: i64) {
        let mut standing = self.lock();
        if standing.len() >= MOST_STANDING {
            standing.retain(|_, end| *end > now_millis);
        }
        if standing.len() >= MOST_STANDING {
            standing.clear();
        }
        standing.insert(hash, expires_at);
    }

    /// Forgets one that can't be used any more.
    pub(crate) fn remove(&self, hash: &LaunchTokenHash) {
        self.lock().remove(hash);
    }

    fn has(&self, hash: &LaunchTokenHash, now_millis: i64) -> bool {
        self.lock().get(hash).is_some_and(|end| *end > now_millis)
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<LaunchTokenHash, i64>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Why a launch token can't be used.
#[derive(Debug)]
pub(crate) struct Unfit {
    /// What the caller hears.
    pub(crate) denial: Denial,
    /// The launch token, unless there is none.
    pub(crate) launch: Option<Box<LaunchToken>>,
}

/// Why the launch token can't be used, found without the one writer, whose time a stranger must not take. `None` says
/// nothing for sure: the transaction decides again.
///
/// # Errors
/// When the store fails.
pub(crate) async fn unfit(
    broker: &Broker,
    presented: &Sensitive,
    hash: &LaunchTokenHash,
    source: Source,
) -> std::result::Result<Option<Unfit>, StoreError> {
    let now = broker.judging.times().judged;
    // A store in memory has no readers: its writer would be asked twice.
    if !broker.store.persistent() || broker.launch_tokens.has(hash, now) {
        return Ok(None);
    }
    if !broker.store.connected() {
        return Err(StoreError::NotOpen);
    }
    if !has_form(presented.expose()) {
        return Ok(Some(unknown()));
    }
    match broker.read_for(source, broker.store.read(LookAt(hash.clone()))).await? {
        Ok(launch) => {
            broker.launch_tokens.add(launch.hash, launch.expires_at, now);
            Ok(None)
        }
        Err(unfit) => Ok(Some(unfit)),
    }
}

fn unknown() -> Unfit {
    Unfit {
        denial: Denial::LaunchTokenUnknown,
        launch: None,
    }
}

/// 64 lower-hex characters, as all launch tokens are.
fn has_form(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

/// The launch token, or why it can't be used.
///
/// # Errors
/// When the store fails.
pub(crate) async fn launch_token(
    tx: &mut dyn Tx,
    hash: &LaunchTokenHash,
) -> Result<std::result::Result<LaunchToken, Unfit>> {
    let Some(launch) = tx.launch_token(hash).await? else {
        return Ok(Err(unknown()));
    };
    let denial = if launch.expires_at <= tx.times().judged {
        Denial::LaunchTokenExpired
    } else if launch.single_use && launch.consumed_at.is_some() {
        Denial::LaunchTokenConsumed
    } else {
        return Ok(Ok(launch));
    };
    Ok(Err(Unfit {
        denial,
        launch: Some(Box::new(launch)),
    }))
}

struct LookAt(LaunchTokenHash);

#[async_trait]
impl Command for LookAt {
    type Outcome = std::result::Result<LaunchToken, Unfit>;

    async fn run(self, tx: &mut dyn Tx) -> Result<Self::Outcome> {
        launch_token(tx, &self.0).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_launch_token_is_64_lower_hex_characters() {
        let good = "0123456789abcdef".repeat(4);
        assert!(has_form(&good));
        for bad in [
            "",
            "0",
            &good[1..],
            &format!("{good}0"),
            &good.to_uppercase(),
            &"é".repeat(32),
            &" ".repeat(64),
        ] {
            assert!(!has_form(bad), "{bad:?}");
        }
    }

    #[test]
    fn launch_tokens_are_remembered_until_they_end_and_never_too_many() {
        let standing = Standing::default();
        let hash = |n: usize| LaunchTokenHash::of(&n.to_string());
        standing.add(hash(0), 1_000, 0);
        assert!(standing.has(&hash(0), 999) && !standing.has(&hash(0), 1_000) && !standing.has(&hash(1), 0));
        standing.remove(&hash(0));
        assert!(!standing.has(&hash(0), 0));
        for n in 0..MOST_STANDING {
            standing.add(hash(n), 1_000, 0);
        }
        // Those that have ended make room, and if none has, all do.
        standing.add(hash(MOST_STANDING), 5_000, 1_000);
        assert_eq!(standing.lock().len(), 1);
        for n in 0..2 * MOST_STANDING {
            standing.add(hash(n), 5_000, 1_000);
            assert!(standing.has(&hash(n), 1_000) && standing.lock().len() <= MOST_STANDING);
        }
    }
}
