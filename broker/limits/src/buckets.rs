//! Token buckets for a bounded number of keys: the state store of governor's limiters.

use std::collections::HashMap;

use governor::nanos::Nanos;
use governor::state::StateStore;
use governor::state::keyed::ShrinkableKeyedStateStore;
use parking_lot::Mutex;

/// Keys are hashes, so that one costs the same memory however long its text is. Keys beyond the bound share one
/// bucket; those known before keep theirs, so that a flood of sources doesn't take it from them.
#[derive(Debug)]
pub(super) struct Buckets {
    most: usize,
    states: Mutex<States>,
}

#[derive(Debug, Default)]
struct States {
    known: HashMap<u64, Nanos>,
    overflow: Option<Nanos>,
}

impl Buckets {
    /// No buckets yet, and never more than these.
    pub(super) fn new(most: usize) -> Self {
        Self {
            most,
            states: Mutex::default(),
        }
    }
}

impl StateStore for Buckets {
    type Key = u64;

    fn measure_and_replace<T, F, E>(&self, key: &u64, f: F) -> Result<T, E>
    where
        F: Fn(Option<Nanos>) -> Result<(T, Nanos), E>,
    {
        let mut states = self.states.lock();
        let known = states.known.get(key).copied();
        let shared = known.is_none() && states.known.len() >= self.most;
        let (outcome, after) = f(if shared { states.overflow } else { known })?;
        if shared {
            states.overflow = Some(after);
        } else {
            states.known.insert(*key, after);
        }
        Ok(outcome)
    }
}

impl ShrinkableKeyedStateStore<u64> for Buckets {
    fn retain_recent(&self, drop_below: Nanos) {
        self.states.lock().known.retain(|_, state| *state >= drop_below);
    }

    fn shrink_to_fit(&self) {
        self.states.lock().known.shrink_to_fit();
    }

    fn len(&self) -> usize {
        self.states.lock().known.len()
    }

    fn is_empty(&self) -> bool {
        self.states.lock().known.is_empty()
    }
}
