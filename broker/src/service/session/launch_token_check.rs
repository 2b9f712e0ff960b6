//! Step 3 of a registration (`docs/wire-contract.md` §8): the launch token that is presented.

use std::collections::HashMap;

use agentwrit_protocol::{Sensitive, UnixMillis};
use agentwrit_server::Source;
use agentwrit_store::{Command, LaunchToken, LaunchTokenHash, Result, Store, StoreError, Tx};
use async_trait::async_trait;
use parking_lot::{Mutex, MutexGuard};

use super::registration::RegistrationDenial;
use crate::service::stranger_reads::StrangerReads;

/// Most launch tokens that are remembered.
const MAX_REMEMBERED: usize = 4096;

/// Launch tokens that could be used when this process last saw them, and the end of their lives.
/// For one of these the transaction is asked at once, without a look before it.
#[derive(Debug, Default)]
pub(crate) struct RecentLaunchTokens(Mutex<HashMap<LaunchTokenHash, UnixMillis>>);

impl RecentLaunchTokens {
    /// Remembers one that was made or seen just now.
    pub(crate) fn add(&self, hash: LaunchTokenHash, expires_at: UnixMillis, now: UnixMillis) {
        let mut recent = self.lock();
        if recent.len() >= MAX_REMEMBERED {
            recent.retain(|_, end| *end > now);
        }
        if recent.len() >= MAX_REMEMBERED {
            recent.clear();
        }
        recent.insert(hash, expires_at);
    }

    /// Forgets one that can't be used any more.
    pub(crate) fn remove(&self, hash: &LaunchTokenHash) {
        self.lock().remove(hash);
    }

    /// Why a launch token can't be used, found without the one writer, whose time a stranger must not take. `None` says
    /// nothing for sure: the transaction decides again.
    pub(super) async fn precheck(
        &self,
        store: &Store,
        strangers: &StrangerReads,
        presented: &Sensitive,
        hash: &LaunchTokenHash,
        source: Source,
        now: UnixMillis,
    ) -> Result<Option<Unusable>> {
        // A store in memory has no readers: its writer would be asked twice.
        if !store.persistent() || self.has(hash, now) {
            return Ok(None);
        }
        if !store.connected() {
            return Err(StoreError::NotOpen);
        }
        if !has_form(presented.expose()) {
            return Ok(Some(unknown()));
        }
        match strangers.read(source, store.read(Look(hash.clone()))).await? {
            Ok(launch) => {
                self.add(launch.hash, launch.expires_at, now);
                Ok(None)
            }
            Err(unusable) => Ok(Some(unusable)),
        }
    }

    fn has(&self, hash: &LaunchTokenHash, now: UnixMillis) -> bool {
        self.lock().get(hash).is_some_and(|end| *end > now)
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<LaunchTokenHash, UnixMillis>> {
        self.0.lock()
    }
}

/// Why a launch token can't be used.
#[derive(Debug)]
pub(super) struct Unusable {
    pub(super) denial: RegistrationDenial,
    /// The launch token, unless there is none.
    pub(super) launch: Option<Box<LaunchToken>>,
}

fn unknown() -> Unusable {
    Unusable {
        denial: RegistrationDenial::LaunchTokenUnknown,
        launch: None,
    }
}

/// 64 lower-hex characters, as all launch tokens are.
fn has_form(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

/// The launch token, or why it can't be used.
pub(super) async fn read(
    tx: &mut dyn Tx,
    hash: &LaunchTokenHash,
) -> Result<std::result::Result<LaunchToken, Unusable>> {
    let Some(launch) = tx.launch_token(hash).await? else {
        return Ok(Err(unknown()));
    };
    let denial = if launch.expires_at <= tx.times().judged {
        RegistrationDenial::LaunchTokenExpired
    } else if launch.single_use && launch.consumed_at.is_some() {
        RegistrationDenial::LaunchTokenConsumed
    } else {
        return Ok(Ok(launch));
    };
    Ok(Err(Unusable {
        denial,
        launch: Some(Box::new(launch)),
    }))
}

struct Look(LaunchTokenHash);

#[async_trait]
impl Command for Look {
    type Outcome = std::result::Result<LaunchToken, Unusable>;

    async fn run(self, tx: &mut dyn Tx) -> Result<Self::Outcome> {
        read(tx, &self.0).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The hash of a launch token by its number.
    fn hash(number: usize) -> LaunchTokenHash {
        LaunchTokenHash::of(&format!("{number:064x}"))
    }

    #[test]
    fn expired_launch_tokens_are_forgotten_when_there_are_many() {
        let (recent, early, late) = (RecentLaunchTokens::default(), UnixMillis::new(10), UnixMillis::new(20));
        for number in 0..MAX_REMEMBERED {
            let end = if number % 2 == 0 { early } else { late };
            recent.add(hash(number), end, UnixMillis::new(0));
        }
        assert_eq!(recent.lock().len(), MAX_REMEMBERED, "none is forgotten before");
        recent.add(hash(MAX_REMEMBERED), late, early);
        assert_eq!(recent.lock().len(), MAX_REMEMBERED / 2 + 1);
        let has = |number| recent.has(&hash(number), early);
        assert_eq!((has(0), has(1), has(MAX_REMEMBERED)), (false, true, true));
    }

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
    fn launch_tokens_are_remembered_until_they_end_up_to_a_limit() {
        let recent = RecentLaunchTokens::default();
        let at = UnixMillis::new;
        recent.add(hash(0), at(1_000), at(0));
        assert!(recent.has(&hash(0), at(999)) && !recent.has(&hash(0), at(1_000)) && !recent.has(&hash(1), at(0)));
        recent.remove(&hash(0));
        assert!(!recent.has(&hash(0), at(0)));
        for n in 0..MAX_REMEMBERED {
            recent.add(hash(n), at(1_000), at(0));
        }
        // Those that have ended make room, and if none has, all do.
        recent.add(hash(MAX_REMEMBERED), at(5_000), at(1_000));
        assert_eq!(recent.lock().len(), 1);
        for n in 0..2 * MAX_REMEMBERED {
            recent.add(hash(n), at(5_000), at(1_000));
            assert!(recent.has(&hash(n), at(1_000)) && recent.lock().len() <= MAX_REMEMBERED);
        }
    }
}
