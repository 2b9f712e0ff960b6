//! Entries by id. A million of them in one table would be moved at once when it grows, with both tables in memory and
//! everybody waiting; so there are many tables, each of which grows, is pruned and shrinks by itself.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::hash::BuildHasherDefault;

use super::fingerprint::{AsItIs, Fingerprint};

/// How many pieces there are. A table's places double when seven of eight are taken: with so many pieces it is well
/// filled at a million entries, where a power of two would have doubled just before.
pub(super) const PIECES: u8 = 80;

/// A table with more places than so many times its entries gives them back.
const SPARSE: usize = 8;

/// Entries of one kind.
#[derive(Debug)]
pub(super) struct Table<V> {
    /// None before the first entry.
    pieces: Vec<HashMap<Fingerprint, V, BuildHasherDefault<AsItIs>>>,
    len: usize,
}

impl<V> Default for Table<V> {
    fn default() -> Self {
        Self {
            pieces: Vec::new(),
            len: 0,
        }
    }
}

impl<V> Table<V> {
    pub(super) const fn len(&self) -> usize {
        self.len
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.len == 0
    }

    pub(super) fn get(&self, id: Fingerprint) -> Option<&V> {
        self.pieces.get(id.table(PIECES))?.get(&id)
    }

    /// Takes an entry in, or has the known one do it.
    pub(super) fn merge(&mut self, id: Fingerprint, new: V, merge: impl FnOnce(&mut V, V)) {
        if self.pieces.is_empty() {
            self.pieces.resize_with(PIECES.into(), HashMap::default);
        }
        let piece = self.pieces.get_mut(id.table(PIECES));
        match piece.map(|piece| piece.entry(id)) {
            Some(Entry::Occupied(mut known)) => merge(known.get_mut(), new),
            Some(Entry::Vacant(place)) => {
                place.insert(new);
                self.len += 1;
            }
            None => {}
        }
    }

    pub(super) fn remove(&mut self, id: Fingerprint) {
        let piece = self.pieces.get_mut(id.table(PIECES));
        if piece.is_some_and(|piece| piece.remove(&id).is_some()) {
            self.len -= 1;
        }
    }

    /// Keeps of one piece what is still needed, and of its places what the rest may need.
    pub(super) fn prune(&mut self, piece: u8, is_needed: impl Fn(&V) -> bool) {
        let Some(piece) = self.pieces.get_mut(usize::from(piece)) else {
            return;
        };
        let before = piece.len();
        piece.retain(|_, value| is_needed(value));
        self.len -= before - piece.len();
        if piece.capacity() > SPARSE * piece.len() {
            piece.shrink_to(2 * piece.len());
        }
    }
}
