//! Secrets that are stored as bcrypt hashes, of apps and of the admin: bcrypt is slow on purpose, and a flood of
//! logins must not take the processor.
//!
//! A secret that was made here or found right is remembered by its keyed hash, so that an app that logs in at every
//! call costs bcrypt once a process; wrong ones always cost it, also for clients that don't exist.

use std::collections::HashMap;
use std::future::Future;
use std::num::NonZeroUsize;
use std::ops::RangeInclusive;
use std::thread::available_parallelism;

use agentwrit_protocol::Sensitive;
use agentwrit_server::{Source, Turns};
use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::hmac::{Context, HMAC_SHA256, Key};
use parking_lot::{Mutex, MutexGuard};
use tokio::sync::Semaphore;

use crate::config::{AdminSecret, BCRYPT_BYTES, equal};

/// Bytes of an app's secret: 64 lower-hex characters.
const APP_SECRET_BYTES: RangeInclusive<usize> = 64..=64;
/// Bytes of the admin's secret.
const ADMIN_SECRET_BYTES: RangeInclusive<usize> = 1..=BCRYPT_BYTES;
/// bcrypt cost of comparisons with the dummy hash for the admin.
const ADMIN_COST: u32 = 12;
/// Salt and digest of what clients that don't exist are compared with: well-formed, and of no known secret.
const NO_ONES_HASH: &str = "Q1fJ0yGZVnKw7mXc5uLhTeR3bS8oPdA9iHtE2vYgNxMkFjWqUzC6a";
/// Comparisons that may wait for each one that runs: at a quarter of a second each, 8 s. Sources take turns.
const WAITING_PER_RUNNING: usize = 32;
const MAX_REMEMBERED: usize = 10_000;

/// Why a secret could not be hashed or compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum SecretError {
    /// More logins wait than are let wait.
    #[error("too many logins wait")]
    Busy,
    /// The end of the process cut it short.
    #[error("the comparison did not finish")]
    Interrupted,
    /// bcrypt refused: what is stored is no hash.
    #[error("bcrypt failed")]
    Bcrypt,
}

struct Remembered {
    presented: [u8; 32],
    stored: String,
}

pub(crate) struct HashedSecrets {
    key: [u8; 32],
    cost: u32,
    /// Lengths that a secret can have: nothing that bcrypt would cut short reaches it.
    lengths: RangeInclusive<usize>,
    dummy: Sensitive,
    /// Comparisons that run or wait.
    comparing: Turns,
    registering: Semaphore,
    remembered: Mutex<HashMap<String, Remembered>>,
}

impl HashedSecrets {
    /// Secrets of apps. `key` is random and never leaves the process; `cost` is that of bcrypt. Logins use at most
    /// half of the processors.
    pub(crate) fn of_apps(key: [u8; 32], cost: u32) -> Self {
        let cores = available_parallelism().map_or(1, NonZeroUsize::get);
        Self::with(key, cost, APP_SECRET_BYTES, (cores / 2).max(1))
    }

    fn with(key: [u8; 32], cost: u32, lengths: RangeInclusive<usize>, parallel: usize) -> Self {
        Self {
            key,
            cost,
            lengths,
            dummy: Sensitive::from(format!("$2b${cost:02}${NO_ONES_HASH}")),
            comparing: Turns::new(parallel, parallel.saturating_mul(WAITING_PER_RUNNING)),
            registering: Semaphore::new(parallel.saturating_mul(2)),
            remembered: Mutex::default(),
        }
    }

    /// Runs a few registrations at a time, so that of many parallel ones of one name only the first hash a secret.
    pub(crate) async fn in_turn<T>(&self, registration: impl Future<Output = T>) -> T {
        // Never closed; and a turn is a courtesy.
        let _turn = self.registering.acquire().await;
        registration.await
    }

    /// The hash to store of a new secret.
    pub(crate) async fn hash(&self, secret: &Sensitive) -> Result<Sensitive, SecretError> {
        let (secret, cost) = (secret.clone(), self.cost);
        let hashed = tokio::task::spawn_blocking(move || bcrypt::hash(secret.expose(), cost)).await;
        let hash = hashed
            .map_err(|_| SecretError::Interrupted)?
            .map_err(|_| SecretError::Bcrypt)?;
        Ok(Sensitive::from(hash))
    }

    /// Whether a secret that `source` presented is the one whose hash is stored; takes the same time when nothing is
    /// stored.
    pub(crate) async fn matches(
        &self,
        client_id: &str,
        presented: Sensitive,
        stored: Option<&Sensitive>,
        source: Source,
    ) -> Result<bool, SecretError> {
        let digest = self.digest(client_id, presented.expose());
        if let (Some(digest), Some(stored)) = (digest, stored)
            && self.remembers(client_id, &digest, stored)
        {
            return Ok(true);
        }
        let comparable = stored.filter(|_| self.lengths.contains(&presented.expose().len()));
        let equal = self
            .compare(presented, comparable.unwrap_or(&self.dummy).clone(), source)
            .await?;
        let Some(stored) = comparable.filter(|_| equal) else {
            return Ok(false);
        };
        if let Some(digest) = digest {
            self.remember(client_id, digest, stored);
        }
        Ok(true)
    }

    /// Remembers a secret that was made here, with its hash: the first login needs no comparison either.
    pub(crate) fn made(&self, client_id: &str, secret: &Sensitive, stored: &Sensitive) {
        if let Some(digest) = self.digest(client_id, secret.expose()) {
            self.remember(client_id, digest, stored);
        }
    }

    async fn compare(&self, presented: Sensitive, hash: Sensitive, source: Source) -> Result<bool, SecretError> {
        let turn = self.comparing.acquire(source).await.map_err(|_| SecretError::Busy)?;
        let longest = *self.lengths.end();
        let compared = tokio::task::spawn_blocking(move || {
            // Held to the end of the comparison, which goes on when the caller hangs up.
            let _turn = turn;
            let bytes = presented.expose().as_bytes();
            bcrypt::verify(bytes.get(..longest).unwrap_or(bytes), hash.expose())
        });
        compared
            .await
            .map_err(|_| SecretError::Interrupted)?
            .map_err(|_| SecretError::Bcrypt)
    }

    /// Forgets what was found right for a client.
    pub(crate) fn forget(&self, client_id: &str) {
        self.lock().remove(client_id);
    }

    fn digest(&self, client_id: &str, presented: &str) -> Option<[u8; 32]> {
        let mut mac = Context::with_key(&Key::new(HMAC_SHA256, &self.key));
        // A length in front, so that no two pairs make the same text.
        mac.update(&client_id.len().to_be_bytes());
        mac.update(client_id.as_bytes());
        mac.update(presented.as_bytes());
        mac.sign().as_ref().try_into().ok()
    }

    fn remembers(&self, client_id: &str, digest: &[u8; 32], stored: &Sensitive) -> bool {
        let remembered = self.lock();
        let Some(found) = remembered.get(client_id) else {
            return false;
        };
        found.stored == stored.expose() && verify_slices_are_equal(&found.presented, digest).is_ok()
    }

    fn remember(&self, client_id: &str, presented: [u8; 32], stored: &Sensitive) {
        let mut remembered = self.lock();
        if remembered.len() >= MAX_REMEMBERED {
            remembered.clear();
        }
        let stored = stored.expose().to_owned();
        remembered.insert(client_id.to_owned(), Remembered { presented, stored });
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Remembered>> {
        self.remembered.lock()
    }
}

/// Compares what is presented with the admin's secret, whether its hash is configured or itself.
pub(crate) struct AdminSecrets {
    /// A line of its own, which apps can't crowd. One at a time, for people log in now and then.
    hashed: HashedSecrets,
    compare_key: [u8; 32],
}

impl AdminSecrets {
    /// Both keys are random and never leave the process.
    pub(crate) fn new(compare_key: [u8; 32], remember_key: [u8; 32]) -> Self {
        Self {
            hashed: HashedSecrets::with(remember_key, ADMIN_COST, ADMIN_SECRET_BYTES, 1),
            compare_key,
        }
    }

    pub(crate) async fn matches(
        &self,
        secret: &AdminSecret,
        presented: Sensitive,
        source: Source,
    ) -> Result<bool, SecretError> {
        match secret {
            AdminSecret::Plain(secret) => Ok(equal(secret, &presented, &self.compare_key)),
            AdminSecret::Bcrypt(hash) => match self.hashed.matches("admin", presented, Some(hash), source).await {
                // A hash that nothing can be compared with matches nothing.
                Err(SecretError::Bcrypt) => Ok(false),
                compared => compared,
            },
        }
    }

    /// Lets nothing be compared any more.
    #[cfg(test)]
    pub(crate) fn crowd(&mut self) {
        self.hashed.comparing = Turns::new(0, 0);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    const CLIENT: &str = "or-0123456789ab";

    fn source(last: u8) -> Source {
        Source::of([192, 0, 2, last].into())
    }

    fn stored(secret: &str) -> Sensitive {
        Sensitive::from(bcrypt::hash(secret, 4).unwrap())
    }

    async fn matches(secrets: &HashedSecrets, presented: &str, stored: &Sensitive) -> bool {
        secrets
            .matches(CLIENT, presented.into(), Some(stored), source(1))
            .await
            .unwrap()
    }

    #[tokio::test]
    async fn only_the_whole_secret_matches() {
        let secrets = HashedSecrets::of_apps([1; 32], 4);
        let secret = "5e".repeat(32);
        let stored = stored(&secret);
        let wrong = [
            String::new(),
            secret.to_uppercase(),
            secret[..63].to_owned(),
            // bcrypt sees a key that repeats after its NUL, and no more than 72 bytes of it.
            format!("{secret}\0{}", &secret[..7]),
            format!("{secret}\0"),
            format!("{secret}5e5e5e5e5e"),
            stored.expose().to_owned(),
        ];
        assert!(!matches(&secrets, &secret.to_uppercase(), &stored).await);
        for again in [false, true] {
            assert!(matches(&secrets, &secret, &stored).await, "again: {again}");
        }
        for wrong in &wrong {
            assert!(!matches(&secrets, wrong, &stored).await, "{wrong:?}");
        }
        let nobody = secrets.matches(CLIENT, secret.as_str().into(), None, source(1)).await;
        assert_eq!(
            nobody,
            Ok(false),
            "an app that is gone, however well its secret is remembered"
        );
    }

    #[tokio::test]
    async fn the_admins_secret_is_of_any_length_that_bcrypt_sees_whole() {
        let secrets = AdminSecrets::new([0; 32], [1; 32]).hashed;
        for secret in ["correct horse battery", &"y".repeat(72)] {
            let stored = stored(secret);
            for again in [false, true] {
                assert!(matches(&secrets, secret, &stored).await, "again: {again}");
            }
            for wrong in ["", "correct horse", stored.expose(), &format!("{secret}z")] {
                assert!(!matches(&secrets, wrong, &stored).await, "{wrong:?}");
            }
        }
    }

    #[tokio::test]
    async fn a_right_secret_is_remembered_by_hash_and_client() {
        let secrets = HashedSecrets::with([1; 32], 4, APP_SECRET_BYTES, 0);
        let secret = "5e".repeat(32);
        let hash = stored(&secret);
        let ask = async |client: &str, hash: &Sensitive| {
            secrets
                .matches(client, secret.as_str().into(), Some(hash), source(1))
                .await
        };
        assert_eq!(ask(CLIENT, &hash).await, Err(SecretError::Busy), "no turn at all");
        secrets.made(CLIENT, &secret.as_str().into(), &hash);
        assert_eq!(ask(CLIENT, &hash).await, Ok(true), "without a comparison");
        assert_eq!(ask(CLIENT, &stored(&secret)).await, Err(SecretError::Busy));
        assert_eq!(ask("other", &hash).await, Err(SecretError::Busy));
        secrets.forget(CLIENT);
        assert_eq!(ask(CLIENT, &hash).await, Err(SecretError::Busy));
    }

    #[tokio::test]
    async fn a_flood_of_one_source_leaves_room_for_another() {
        let secrets = Arc::new(HashedSecrets::with([1; 32], 4, APP_SECRET_BYTES, 1));
        let hash = stored("x");
        let turn = secrets.comparing.acquire(source(1)).await.unwrap();
        let ask = |of: u8| {
            let (secrets, hash) = (Arc::clone(&secrets), hash.clone());
            tokio::spawn(async move { secrets.matches(CLIENT, "wrong".into(), Some(&hash), source(of)).await })
        };
        let flood: Vec<_> = (0..WAITING_PER_RUNNING).map(|_| ask(1)).collect();
        while secrets.comparing.waiting() < WAITING_PER_RUNNING {
            tokio::task::yield_now().await;
        }
        assert_eq!(ask(1).await.unwrap(), Err(SecretError::Busy));
        let other = ask(2);
        while !flood.iter().any(tokio::task::JoinHandle::is_finished) {
            tokio::task::yield_now().await;
        }
        drop(turn);
        assert_eq!(other.await.unwrap(), Ok(false), "it took the place of one of the flood");
        for waiting in flood {
            waiting.abort();
        }
    }

    #[tokio::test]
    async fn the_hash_for_unknown_clients_costs_as_much_as_others() {
        let secrets = HashedSecrets::of_apps([1; 32], 12);
        assert_eq!(bcrypt::verify("x", secrets.dummy.expose()).ok(), Some(false));
        let hash = secrets.hash(&"x".into()).await.unwrap();
        assert_eq!(hash.expose()[..7], secrets.dummy.expose()[..7]);
    }

    #[test]
    fn memory_is_bounded() {
        let secrets = HashedSecrets::of_apps([1; 32], 4);
        for n in 0..2 * MAX_REMEMBERED {
            secrets.remember(&n.to_string(), [0; 32], &"hash".into());
        }
        assert!((1..=MAX_REMEMBERED).contains(&secrets.lock().len()));
    }
}
