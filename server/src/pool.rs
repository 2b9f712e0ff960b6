//! A pool of bytes that connections share: each source gets its share, and no connection waits.
//!
//! The pool is work-conserving: one source may use all that no other wants. When it is full, the source that holds
//! most loses its idlest connection. So a source that holds less than its fair share (capacity / sources present) loses
//! nothing, whatever the others do.
//!
//! An address that showed to be trusted (the controller's, after the API server vouched for it) is a source of its own for
//! a minute. It loses nothing to others and may use a reserve that no other can take, as long as it holds no more than
//! twice that reserve: others may come from the same address behind a NAT.

use std::cmp::Reverse;
use std::collections::{BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Mutex, MutexGuard};
use tokio::time::Instant;

use crate::Source;

/// How often at most the order of a source's connections is corrected in search of the idlest one.
const MAX_CORRECTIONS: usize = 64;
/// How long a source stays trusted.
const TRUST_DURATION: Duration = Duration::from_mins(1);
/// Most sources that are trusted at once.
const MAX_TRUSTED: usize = 64;

/// What holds bytes of a pool and can be made to give them up.
pub(crate) trait Evictable: Send + Sync {
    /// Since when it does nothing useful; the present moment while it works. Never goes back.
    fn idle_since(&self) -> Instant;
    /// Makes it end. Must not use the pool, and must not block.
    fn evict(&self);
}

struct Item {
    source: Source,
    bytes: usize,
    /// What [`Evictable::idle_since`] said last: the key in the source's order.
    seen: Instant,
    evictable: Arc<dyn Evictable>,
}

/// What a source holds, and since when its idlest item is idle as far as is known.
type Rank = (usize, Reverse<Option<Instant>>);

#[derive(Default)]
struct Holder {
    bytes: usize,
    /// Its items, the idlest first as far as is known.
    order: BTreeSet<(Instant, u64)>,
}

#[derive(Default)]
struct State {
    used: usize,
    next_id: u64,
    evictions: u64,
    items: HashMap<u64, Item>,
    holders: HashMap<Source, Holder>,
    /// The last one loses something first: it holds most, and of those that hold equally much its idlest item is idlest.
    ranks: BTreeSet<(Rank, Source)>,
    trusted: HashMap<Source, Instant>,
}

/// What a pool holds at a moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Occupancy {
    /// Connections.
    pub connections: usize,
    /// Bytes that they are counted with.
    pub bytes: usize,
    /// Sources that they come from.
    pub sources: usize,
    /// Connections that had to end for others, since the start.
    pub evictions: u64,
}

pub(crate) struct Pool {
    capacity: usize,
    reserve: usize,
    few: usize,
    state: Mutex<State>,
}

impl Pool {
    /// A pool of `capacity` bytes, and `reserve` more for trusted sources. A source that holds up to `few` bytes takes from
    /// any that holds its fair share or more, and not from itself: two probes of one kubelet must not end each other
    /// where there are more sources than places.
    pub(crate) fn new(capacity: usize, reserve: usize, few: usize) -> Arc<Self> {
        Arc::new(Self {
            capacity,
            reserve,
            few,
            state: Mutex::default(),
        })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock()
    }

    /// Takes `bytes` for a new item of `peer`. Of them `share` counts when shares are compared: less than all of them where
    /// a handshake may need more for a moment. `None` only when they don't fit beside what can't be evicted.
    pub(crate) fn admit(
        self: &Arc<Self>,
        peer: IpAddr,
        bytes: usize,
        share: usize,
        evictable: Arc<dyn Evictable>,
    ) -> Option<Place> {
        let mut evicted = Vec::new();
        let mut state = self.lock();
        let exact = Source::exact(peer);
        let source = if state.trusts(exact) { exact } else { Source::of(peer) };
        let id = self
            .make_room(&mut state, source, (bytes, share), None, &mut evicted)
            .then(|| {
                let id = state.next_id;
                state.next_id += 1;
                let seen = evictable.idle_since();
                let item = Item {
                    source,
                    bytes: 0,
                    seen,
                    evictable,
                };
                state.items.insert(id, item);
                state.change(source, |holder| {
                    holder.order.insert((seen, id));
                });
                state.resize(id, bytes);
                id
            });
        drop(state);
        end_all(evicted);
        let pool = Arc::clone(self);
        id.map(|id| Place { pool, id, peer })
    }

    /// Treats `peer` as trusted for a minute.
    pub(crate) fn trust(&self, peer: IpAddr) {
        let source = Source::exact(peer);
        let now = Instant::now();
        let mut state = self.lock();
        if state.trusted.len() >= MAX_TRUSTED {
            state.trusted.retain(|_, until| *until > now);
        }
        if state.trusted.len() < MAX_TRUSTED || state.trusted.contains_key(&source) {
            state.trusted.insert(source, now + TRUST_DURATION);
        }
    }

    pub(crate) fn occupancy(&self) -> Occupancy {
        let state = self.lock();
        Occupancy {
            connections: state.items.len(),
            bytes: state.used,
            sources: state.holders.len(),
            evictions: state.evictions,
        }
    }

    /// Evicts until `bytes` more fit for `source`. An item that grows doesn't make room for itself.
    fn make_room(
        &self,
        state: &mut State,
        source: Source,
        (bytes, share): (usize, usize),
        growing: Option<u64>,
        evicted: &mut Vec<Arc<dyn Evictable>>,
    ) -> bool {
        let most_trusted = self.reserve.saturating_mul(2);
        let exempt = |state: &State, source| state.trusts(source) && state.held(source) <= most_trusted;
        let reserve = if exempt(state, source) { self.reserve } else { 0 };
        let limit = self.capacity.saturating_add(reserve);
        while state.used.saturating_add(bytes) > limit {
            let own = state.held(source).saturating_add(share);
            let sources = state.holders.len() + usize::from(!state.holders.contains_key(&source));
            let fair = self.capacity / sources.max(1);
            let least = if own <= self.few { own.min(fair.max(1)) } else { own };
            let Some(id) = state.loser(source, least, growing, exempt) else {
                return false;
            };
            evicted.extend(state.remove(id));
            state.evictions += 1;
        }
        true
    }
}

/// Outside of the pool's lock.
fn end_all(evicted: Vec<Arc<dyn Evictable>>) {
    for evictable in evicted {
        evictable.evict();
    }
}

impl State {
    fn trusts(&self, source: Source) -> bool {
        self.trusted.get(&source).is_some_and(|until| *until > Instant::now())
    }

    fn held(&self, source: Source) -> usize {
        self.holders.get(&source).map_or(0, |holder| holder.bytes)
    }

    /// Changes what is known of a source, and its rank with it.
    fn change(&mut self, source: Source, change: impl FnOnce(&mut Holder)) {
        let holder = self.holders.entry(source).or_default();
        self.ranks.remove(&(holder.rank(), source));
        change(holder);
        if holder.order.is_empty() {
            self.holders.remove(&source);
        } else {
            self.ranks.insert((holder.rank(), source));
        }
    }

    /// The item that makes room for one of `source`: the idlest one of the source that holds most, if that is at least
    /// `least`, else of `source` itself.
    fn loser(
        &mut self,
        source: Source,
        least: usize,
        growing: Option<u64>,
        exempt: impl Fn(&Self, Source) -> bool,
    ) -> Option<u64> {
        let mut found = None;
        for _ in 0..MAX_CORRECTIONS {
            let mut others = self.ranks.iter().rev().map(|((held, _), other)| (*held, *other));
            let largest = others.find(|(_, other)| *other != source && !exempt(self, *other));
            let loser = largest
                .filter(|(held, _)| *held >= least)
                .map_or(source, |(_, loser)| loser);
            let before = self.holders.get(&loser)?.rank();
            found = Some(self.idlest(loser, growing)?);
            // It was less idle than was known: another source that holds as much may be idler.
            if self.holders.get(&loser).is_some_and(|holder| holder.rank() == before) {
                break;
            }
        }
        found
    }

    /// The idlest item of a source, besides one that grows.
    fn idlest(&mut self, source: Source, besides: Option<u64>) -> Option<u64> {
        let mut idlest: Option<(Instant, u64)> = None;
        for _ in 0..MAX_CORRECTIONS {
            let order = &self.holders.get(&source)?.order;
            let Some((seen, id)) = order.iter().find(|(_, id)| Some(*id) != besides).copied() else {
                break;
            };
            let item = self.items.get_mut(&id)?;
            let idle_since = item.evictable.idle_since();
            if idlest.is_none_or(|(since, _)| idle_since < since) {
                idlest = Some((idle_since, id));
            }
            if idle_since <= seen {
                break;
            }
            // It did something since: its turn to go is later.
            item.seen = idle_since;
            self.change(source, |holder| {
                holder.order.remove(&(seen, id));
                holder.order.insert((idle_since, id));
            });
        }
        idlest.map(|(_, id)| id)
    }

    /// Counts an item with `bytes` from now on.
    fn resize(&mut self, id: u64, bytes: usize) {
        let Some(item) = self.items.get_mut(&id) else { return };
        let before = std::mem::replace(&mut item.bytes, bytes);
        let source = item.source;
        self.used = self.used.saturating_sub(before).saturating_add(bytes);
        self.change(source, |holder| {
            holder.bytes = holder.bytes.saturating_sub(before).saturating_add(bytes);
        });
    }

    fn remove(&mut self, id: u64) -> Option<Arc<dyn Evictable>> {
        self.resize(id, 0);
        let item = self.items.remove(&id)?;
        self.change(item.source, |holder| {
            holder.order.remove(&(item.seen, id));
        });
        Some(item.evictable)
    }
}

impl Holder {
    fn rank(&self) -> Rank {
        let idlest = self.order.first().map(|(seen, _)| *seen);
        (self.bytes, Reverse(idlest))
    }
}

/// What an item holds of a pool; given back when it is dropped.
pub(crate) struct Place {
    pool: Arc<Pool>,
    id: u64,
    peer: IpAddr,
}

impl Place {
    /// Takes `bytes` more. False when there is no room for them, or the item was evicted.
    pub(crate) fn grow(&self, bytes: usize) -> bool {
        let mut evicted = Vec::new();
        let mut state = self.pool.lock();
        let grown = match state.items.get(&self.id).map(|item| (item.source, item.bytes)) {
            None => false,
            Some((source, held)) => {
                let room = self
                    .pool
                    .make_room(&mut state, source, (bytes, bytes), Some(self.id), &mut evicted);
                if room {
                    state.resize(self.id, held.saturating_add(bytes));
                }
                room
            }
        };
        drop(state);
        end_all(evicted);
        grown
    }

    /// Gives `bytes` back.
    pub(crate) fn shrink(&self, bytes: usize) {
        let mut state = self.pool.lock();
        if let Some(held) = state.items.get(&self.id).map(|item| item.bytes) {
            state.resize(self.id, held.saturating_sub(bytes));
        }
    }

    /// Treats the item's peer as trusted for a minute.
    pub(crate) fn trust(&self) {
        self.pool.trust(self.peer);
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        // It is gone already when it was evicted.
        drop(self.pool.lock().remove(self.id));
    }
}

#[cfg(test)]
mod tests;
