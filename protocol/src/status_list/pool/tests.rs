use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;
use crate::clock::SequenceEntropy;

const SMALL: Bounds = Bounds {
    entries: 5_000,
    at_least_free: 100,
    lists: 3,
};

/// Always the same bytes.
struct Constant(u128);

impl Entropy for Constant {
    fn fill(&self, buffer: &mut [u8]) -> Result<(), EntropyError> {
        buffer.copy_from_slice(&self.0.to_be_bytes());
        Ok(())
    }
}

struct Nothing;

impl Entropy for Nothing {
    fn fill(&self, _buffer: &mut [u8]) -> Result<(), EntropyError> {
        Err(EntropyError("nothing".to_owned()))
    }
}

fn at(list: u32, index: u32) -> StatusIndex {
    StatusIndex::new(list, index).unwrap()
}

#[test]
fn the_bounds_that_ship_are_those_of_the_design() {
    let bounds = Bounds::default();
    assert_eq!(
        (bounds.entries, bounds.at_least_free, bounds.lists),
        (1_048_576, 65_536, 64)
    );
    let pool = IndexPool::new(bounds);
    assert_eq!((pool.lists(), pool.free_count()), (1, 1_048_576));
    let too_many = IndexPool::new(Bounds {
        entries: u32::MAX,
        at_least_free: u32::MAX,
        lists: u32::MAX,
    });
    assert_eq!((too_many.bounds.entries, too_many.bounds.lists), (ENTRIES, MOST_LISTS));
}

#[test]
fn a_list_is_opened_when_fewer_than_enough_are_free() {
    let entropy = SequenceEntropy::default();
    let mut pool = IndexPool::new(SMALL);
    for drawn in 1..=15_000 - SMALL.at_least_free + 1 {
        let lists = pool.lists();
        assert!(pool.free_count() >= SMALL.at_least_free || lists < 3);
        let index = pool.draw(&entropy).unwrap().unwrap();
        assert!(index.list() < pool.lists());
        // 4,901 draws leave 99 of the first list.
        let opened = (1..3).filter(|list| drawn > list * 5_000 - 99).count();
        assert_eq!(pool.lists(), 1 + u32::try_from(opened).unwrap(), "{drawn}");
    }
    assert!(pool.is_full());
    assert_eq!(pool.draw(&entropy).unwrap(), None);
    assert_eq!((pool.lists(), pool.free_count()), (3, 99), "nothing changed");
    pool.free(at(0, 7));
    assert!(!pool.is_full() && pool.draw(&entropy).unwrap().is_some());
}

#[test]
fn each_random_number_draws_another_of_the_free_ones() {
    let small = Bounds {
        entries: 70,
        at_least_free: 1,
        lists: 2,
    };
    let mut pool = IndexPool::new(small);
    pool.hold(at(1, 69));
    for index in 10..60 {
        pool.hold(at(0, index));
    }
    let free = pool.free_count();
    let mut drawn = BTreeSet::new();
    for random in 0..free {
        let index = pool.draw(&Constant(random.into())).unwrap().unwrap();
        pool.free(index);
        drawn.insert(index);
        let again = pool.draw(&Constant(u128::from(free) * 3 + u128::from(random))).unwrap();
        assert_eq!(again, Some(index), "the remainder decides");
        pool.free(index);
    }
    assert_eq!(u32::try_from(drawn.len()).unwrap(), free);
    assert_eq!(free, 89);
}

#[test]
fn free_places_are_drawn_evenly_however_they_lie() {
    let mut pool = IndexPool::new(Bounds {
        entries: 10_000,
        at_least_free: 1,
        lists: 1,
    });
    // One alone, and two neighbours, far apart: with probing from a random start the first would win.
    let free = [at(0, 5_000), at(0, 9_998), at(0, 9_999)];
    for index in (0..10_000).map(|index| at(0, index)) {
        if !free.contains(&index) {
            pool.hold(index);
        }
    }
    let entropy = SequenceEntropy::default();
    let mut counts = BTreeMap::new();
    for _ in 0..30_000 {
        let index = pool.draw(&entropy).unwrap().unwrap();
        *counts.entry(index).or_insert(0_u32) += 1;
        pool.free(index);
    }
    assert_eq!(counts.keys().copied().collect::<Vec<_>>(), free);
    for (index, count) in counts {
        assert!((9_700..10_300).contains(&count), "{index}: {count} of 30,000");
    }
}

#[test]
fn without_randomness_nothing_is_held() {
    let mut pool = IndexPool::new(SMALL);
    assert!(pool.draw(&Nothing).is_err());
    assert_eq!(pool.free_count(), 5_000);
}

#[test]
fn one_that_two_hold_is_free_when_both_gave_it_back() {
    let mut pool = IndexPool::new(SMALL);
    for _ in 0..3 {
        pool.hold(at(0, 1));
    }
    for _ in 0..3 {
        assert_eq!(pool.free_count(), 4_999);
        pool.free(at(0, 1));
    }
    pool.free(at(0, 1));
    pool.free(at(2, 1));
    assert_eq!((pool.free_count(), pool.lists(), pool.again.len()), (5_000, 1, 0));
}

#[test]
fn no_places_at_all_are_full_lists() {
    for (entries, lists) in [(0, 3), (5, 0)] {
        let mut pool = IndexPool::new(Bounds {
            entries,
            at_least_free: 10,
            lists,
        });
        pool.open_enough();
        assert_eq!(pool.draw(&Constant(0)).unwrap(), None);
    }
}

/// One thing that happens to a pool.
#[derive(Debug, Clone)]
enum Op {
    Draw(u128),
    Free(usize),
    Hold(u32, u32),
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        6 => any::<u128>().prop_map(Op::Draw),
        2 => any::<usize>().prop_map(Op::Free),
        1 => (0_u32..3, 0_u32..90).prop_map(|(list, index)| Op::Hold(list, index)),
    ]
}

proptest! {
    #[test]
    fn what_is_drawn_is_what_nobody_holds(ops in prop::collection::vec(op(), 1..400), at_least_free in 0_u32..40) {
        let bounds = Bounds { entries: 90, at_least_free, lists: 3 };
        let mut pool = IndexPool::new(bounds);
        let mut held: Vec<StatusIndex> = Vec::new();
        for op in ops {
            match op {
                Op::Draw(random) => {
                    let (free, lists) = (pool.free_count(), pool.lists());
                    let drawn = pool.draw(&Constant(random)).unwrap();
                    let enough = free >= at_least_free.max(1);
                    prop_assert_eq!(drawn.is_some(), enough || lists < 3);
                    prop_assert!(pool.lists() == lists || !enough, "opened only when it had to be");
                    if let Some(index) = drawn {
                        prop_assert!(!held.contains(&index) && index.list() < pool.lists() && index.index() < 90);
                        held.push(index);
                    }
                }
                Op::Free(number) if !held.is_empty() => {
                    let index = held.swap_remove(number % held.len());
                    pool.free(index);
                }
                Op::Free(_) => {}
                Op::Hold(list, index) => {
                    pool.hold(at(list, index));
                    held.push(at(list, index));
                }
            }
            let distinct: BTreeSet<_> = held.iter().collect();
            let distinct = u32::try_from(distinct.len()).unwrap();
            prop_assert_eq!(pool.free_count() + distinct, pool.lists() * 90);
            let counted: u32 = pool.lists.iter().map(|list| list.free).sum();
            prop_assert_eq!(pool.free_count(), counted);
        }
    }
}
