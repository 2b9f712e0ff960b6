//! What is to happen, in order of time.

use std::cmp::Ordering;
use std::collections::BinaryHeap;

/// Soonest first; of the same moment, the one that was put in first.
pub(crate) struct Queue<T> {
    heap: BinaryHeap<Entry<T>>,
    puts: u64,
}

struct Entry<T> {
    at: u64,
    number: u64,
    what: T,
}

impl<T> Queue<T> {
    pub(crate) fn new() -> Self {
        Self {
            heap: BinaryHeap::new(),
            puts: 0,
        }
    }

    pub(crate) fn put(&mut self, at: u64, what: T) {
        self.puts += 1;
        self.heap.push(Entry {
            at,
            number: self.puts,
            what,
        });
    }

    pub(crate) fn take(&mut self) -> Option<(u64, T)> {
        self.heap.pop().map(|entry| (entry.at, entry.what))
    }
}

impl<T> Ord for Entry<T> {
    fn cmp(&self, other: &Self) -> Ordering {
        (other.at, other.number).cmp(&(self.at, self.number))
    }
}

impl<T> PartialOrd for Entry<T> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<T> PartialEq for Entry<T> {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl<T> Eq for Entry<T> {}
