//! Which places of the status lists are known to be held, so that a draw asks the store for others. It is a hint: a place
//! that others have drawn since is not known, and every place that is drawn was found free by the store, under the lock.
//! Without it a draw would ask for as many places as lists have for each that is free, which is sixteen when they are full.

use std::sync::Arc;
use std::time::Duration;

use agentwrit_protocol::status_list::{Bounds, IndexPool, StatusIndex};
use agentwrit_protocol::{Entropy, UnixSeconds};
use agentwrit_store::Result;
use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::audit::head;
use crate::connector::connect;
use crate::error::hung;
use crate::link::Link;
use crate::shared::Shared;
use crate::value::values;

const LOAD: &str = "load_status_indexes";
/// A load that takes longer is given up, with its connection.
const LONGEST_LOAD: Duration = Duration::from_mins(1);
/// How soon it is tried again, and how long the next one waits at least.
const AGAIN_AFTER: Duration = Duration::from_secs(5);

struct Known {
    pool: IndexPool,
    /// Rows that were kept until then or less held none when it was loaded; `None` before that.
    swept: Option<UnixSeconds>,
}

/// The places that are known to be held. One that was given back is known again with the next load, which begins when
/// any replica has given some back.
pub(crate) struct KnownHeld {
    bounds: Bounds,
    known: Mutex<Known>,
    load: Notify,
}

impl KnownHeld {
    /// With nothing known.
    pub(crate) fn new(bounds: Bounds) -> Self {
        Self {
            bounds,
            known: Mutex::new(Known {
                pool: pool(bounds),
                swept: None,
            }),
            load: Notify::new(),
        }
    }

    /// How many places of so many lists are not known to be held. Has it loaded anew when the store has swept since.
    pub(crate) fn others(&self, lists: u32, swept: UnixSeconds) -> u32 {
        let mut known = self.known.lock();
        if known.swept != Some(swept) {
            self.outdated();
        }
        known.pool.open_lists(lists);
        known.pool.free_count()
    }

    /// It is to be loaded anew.
    pub(crate) fn outdated(&self) {
        self.load.notify_one();
    }

    /// Draws so many places of these lists, or fewer, evenly from all that are not known to be held.
    ///
    /// # Errors
    /// When there is no randomness.
    pub(crate) fn draw(&self, count: usize, lists: u32, entropy: &dyn Entropy) -> Result<Vec<StatusIndex>> {
        let pool = &mut self.known.lock().pool;
        let mut drawn = Vec::with_capacity(count);
        // Held so long that none is drawn twice.
        let drawing = loop {
            if drawn.len() >= count || pool.free_count() == 0 {
                break Ok(());
            }
            match pool.draw(entropy) {
                Ok(index) => drawn.extend(index),
                Err(error) => break Err(error),
            }
        };
        for index in &drawn {
            pool.free(*index);
        }
        drawing?;
        // A store that was put back may have fewer lists than it had.
        drawn.retain(|index| index.list() < lists);
        Ok(drawn)
    }

    /// These are held, as the store says.
    pub(crate) fn learn(&self, held: impl IntoIterator<Item = StatusIndex>) {
        let pool = &mut self.known.lock().pool;
        held.into_iter().for_each(|index| pool.hold(index));
    }
}

/// Without lists of its own accord.
fn pool(bounds: Bounds) -> IndexPool {
    IndexPool::new(Bounds {
        at_least_free: 0,
        ..bounds
    })
}

/// Loads what is held whenever that is outdated, until the task is dropped.
pub(crate) async fn keep_known(shared: Arc<Shared>) {
    loop {
        shared.held.load.notified().await;
        let loading = tokio::time::timeout(LONGEST_LOAD, load(&shared)).await;
        if let Err(error) = loading.unwrap_or_else(|_| Err(hung(LOAD))) {
            shared.observer.failed(error.operation());
            tracing::warn!(target: "STORE", component = "StatusIndex", operation = error.operation(), error = %error,
                "the status indexes that are held could not be read: a registration costs more until they are");
            shared.held.outdated();
        }
        tokio::time::sleep(AGAIN_AFTER).await;
    }
}

/// Reads what is held.
pub(crate) async fn load(shared: &Shared) -> Result<()> {
    // Not of the pool: a million rows take a while, and requests wait for those.
    let client = connect(&shared.settings).await?;
    let mut link = Link::begin_read(&client).await?;
    let counts = head::seen(&mut link).await?.counts;
    let mut pool = pool(shared.held.bounds);
    // By 64: of a million sessions that are some ten thousand rows.
    let sql = "SELECT status >> 6 AS word, bit_or(1::bigint << (status & 63)::integer) AS held FROM sessions \
               WHERE kept_until > $1 AND status IS NOT NULL GROUP BY word";
    link.each(LOAD, sql, values![counts.swept().get()], |row| {
        let (word, held): (i64, i64) = (row.whole("word")?, row.whole("held")?);
        let held = (0..64).filter(|bit| held >> bit & 1 != 0);
        for index in held.filter_map(|bit| StatusIndex::from_number(word << 6 | bit)) {
            pool.hold(index);
        }
        Ok(())
    })
    .await?;
    link.end_read().await?;
    *shared.held.known.lock() = Known {
        pool,
        swept: Some(counts.swept()),
    };
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use agentwrit_store::testing::surroundings;

    use super::*;

    const BOUNDS: Bounds = Bounds {
        entries: 8,
        at_least_free: 4,
        lists: 3,
    };
    const SWEPT: UnixSeconds = UnixSeconds::new(3600);

    #[test]
    fn what_is_known_to_be_held_is_not_drawn() {
        let (held, entropy) = (KnownHeld::new(BOUNDS), surroundings().0.entropy);
        assert_eq!(held.others(1, SWEPT), 8);
        let drawn = held.draw(5, 1, entropy.as_ref()).unwrap();
        assert_eq!(
            (drawn.len(), held.others(1, SWEPT)),
            (5, 8),
            "a draw alone holds nothing"
        );
        held.learn(drawn.iter().copied());
        let others = held.draw(5, 1, entropy.as_ref()).unwrap();
        assert_eq!((others.len(), held.others(1, SWEPT)), (3, 3));
        let all: BTreeSet<i64> = drawn.iter().chain(&others).map(|index| index.number()).collect();
        assert_eq!(all.len(), 8, "each once, and none of a list that is not open");
        held.learn(others);
        assert_eq!(held.draw(5, 1, entropy.as_ref()).unwrap(), []);
        assert_eq!(held.others(2, SWEPT), 8, "of the second list");
    }

    #[test]
    fn a_list_that_is_not_open_any_more_is_not_drawn_from() {
        let held = KnownHeld::new(BOUNDS);
        held.others(3, SWEPT);
        let drawn = held.draw(24, 1, surroundings().0.entropy.as_ref()).unwrap();
        assert_eq!(drawn.len(), 8);
        assert!(drawn.iter().all(|index| index.list() == 0));
    }
}
