use std::sync::atomic::{AtomicBool, Ordering};

use proptest::prelude::*;

use super::*;

/// Something in a pool: idle since a moment that the test sets.
struct Thing {
    idle_since: Mutex<Option<Instant>>,
    evicted: AtomicBool,
}

impl Evictable for Thing {
    fn idle_since(&self) -> Instant {
        self.idle_since.lock().unwrap_or_else(Instant::now)
    }

    fn evict(&self) {
        assert!(!self.evicted.swap(true, Ordering::SeqCst), "evicted twice");
    }
}

struct Held {
    thing: Arc<Thing>,
    place: Place,
}

impl Held {
    fn stands(&self) -> bool {
        !self.thing.evicted.load(Ordering::SeqCst)
    }

    fn idle_since(&self, moment: Option<Instant>) {
        *self.thing.idle_since.lock() = moment;
    }
}

fn admit(pool: &Arc<Pool>, of: u8, bytes: usize, idle_since: Option<Instant>) -> Option<Held> {
    let thing = Arc::new(Thing {
        idle_since: Mutex::new(idle_since),
        evicted: AtomicBool::new(false),
    });
    let place = pool.admit(peer(of), bytes, bytes, thing.clone())?;
    Some(Held { thing, place })
}

fn peer(last: u8) -> IpAddr {
    [192, 0, 2, last].into()
}

fn moments() -> impl Iterator<Item = Instant> {
    let start = Instant::now() - Duration::from_mins(1);
    (0..).map(move |n| start + Duration::from_millis(n))
}

#[test]
fn one_source_may_use_what_is_free() {
    let pool = Pool::new(100, 0, 0);
    let held: Vec<Held> = moments()
        .take(10)
        .map(|at| admit(&pool, 1, 10, Some(at)).unwrap())
        .collect();
    assert!(held.iter().all(Held::stands));
    let one_more = admit(&pool, 1, 10, Some(Instant::now())).unwrap();
    assert!(one_more.stands() && !held[0].stands(), "its own idlest goes");
    assert!(held[1..].iter().all(Held::stands));
    assert_eq!(pool.occupancy().bytes, 100);
}

#[test]
fn the_source_that_holds_most_makes_room() {
    let pool = Pool::new(100, 0, 0);
    let mut moments = moments();
    let small = admit(&pool, 2, 10, moments.next()).unwrap();
    let flood: Vec<Held> = moments
        .take(9)
        .map(|at| admit(&pool, 1, 10, Some(at)).unwrap())
        .collect();
    let newcomer = admit(&pool, 3, 20, Some(Instant::now())).unwrap();
    assert!(
        newcomer.stands() && small.stands(),
        "though the small one is the idlest of all"
    );
    assert_eq!(flood.iter().filter(|held| !held.stands()).count(), 2);
    assert!(!flood[0].stands() && !flood[1].stands());
}

#[test]
fn the_idlest_connection_is_closed_first_a_busy_one_last() {
    let pool = Pool::new(40, 0, 0);
    let mut moments = moments();
    let working = admit(&pool, 1, 10, None).unwrap();
    let used_again = admit(&pool, 1, 10, moments.next()).unwrap();
    let idle = admit(&pool, 1, 10, moments.next()).unwrap();
    let idle_later = admit(&pool, 1, 10, moments.next()).unwrap();
    used_again.idle_since(moments.next());
    let _first = admit(&pool, 2, 10, moments.next()).unwrap();
    assert!(!idle.stands() && idle_later.stands() && used_again.stands() && working.stands());
    let _second = admit(&pool, 3, 10, moments.next()).unwrap();
    assert!(!idle_later.stands() && used_again.stands());
    let _third = admit(&pool, 4, 10, moments.next()).unwrap();
    assert!(!used_again.stands() && working.stands());
}

#[test]
fn growth_takes_from_others_and_never_from_itself() {
    let pool = Pool::new(100, 0, 0);
    let mut moments = moments();
    let growing = admit(&pool, 1, 10, moments.next()).unwrap();
    let other = admit(&pool, 2, 60, moments.next()).unwrap();
    assert!(growing.place.grow(30) && other.stands(), "there is room");
    assert!(growing.place.grow(10) && !other.stands(), "the larger one goes");
    assert!(growing.place.grow(50));
    assert!(
        !growing.place.grow(1) && growing.stands(),
        "nothing else is left to take"
    );
    assert_eq!(pool.occupancy().bytes, 100);
    drop(growing);
    assert_eq!(
        pool.occupancy(),
        Occupancy {
            connections: 0,
            bytes: 0,
            sources: 0,
            evictions: 1
        }
    );
}

#[test]
fn an_evicted_place_gives_nothing_back_twice() {
    let pool = Pool::new(10, 0, 0);
    let first = admit(&pool, 1, 10, moments().next()).unwrap();
    let second = admit(&pool, 2, 10, None).unwrap();
    assert!(!first.stands() && !first.place.grow(1));
    drop(first);
    assert_eq!(pool.occupancy().bytes, 10);
    drop(second);
    assert_eq!(pool.occupancy().bytes, 0);
}

#[test]
fn more_than_the_pool_is_refused() {
    let pool = Pool::new(10, 0, 0);
    assert!(admit(&pool, 1, 11, None).is_none());
    let held = admit(&pool, 1, 10, None).unwrap();
    assert!(
        admit(&pool, 2, 11, None).is_none(),
        "nobody is evicted in vain for long"
    );
    drop(held);
    assert_eq!(pool.occupancy().bytes, 0);
}

#[test]
fn trusted_sources_lose_nothing_and_have_a_reserve() {
    let pool = Pool::new(100, 50, 0);
    let mut moments = moments();
    let controller = admit(&pool, 9, 10, moments.next()).unwrap();
    controller.place.trust();
    assert!(controller.place.grow(60));
    let flood: Vec<Held> = moments
        .by_ref()
        .take(20)
        .map(|at| admit(&pool, 1, 10, Some(at)).unwrap())
        .collect();
    assert!(controller.stands(), "though it holds most");
    assert!(controller.place.grow(40), "strangers can't take the reserve");
    assert!(flood.iter().any(Held::stands));
}

#[test]
fn trust_is_bounded() {
    let pool = Pool::new(100, 10, 0);
    for last in 0..=255 {
        pool.trust(peer(last));
    }
    assert_eq!(pool.lock().trusted.len(), MAX_TRUSTED);
}

proptest! {
    /// Whatever happens, the sums are right, the pool is not over its capacity, and a source that holds no more than
    /// its fair share loses nothing to others.
    #[test]
    fn a_fair_share_is_never_taken(steps in proptest::collection::vec((0_u8..6, 1_usize..40, 0_u8..4), 1..200)) {
        const CAPACITY: usize = 200;
        let pool = Pool::new(CAPACITY, 0, 0);
        let mut held: Vec<(u8, usize, Held)> = Vec::new();
        let mut moments = moments();
        for (of, bytes, action) in steps {
            let before: HashMap<u8, usize> = (0..6).map(|of| (of, sum(&held, of))).collect();
            let sources = before.iter().filter(|(other, bytes)| **bytes > 0 || **other == of).count();
            match action {
                0 => { let at = held.iter().position(|(source, ..)| *source == of); if let Some(at) = at { held.remove(at); } }
                1 => if let Some((_, size, item)) = held.iter_mut().find(|(source, ..)| *source == of)
                    && item.place.grow(bytes) { *size += bytes; },
                _ => if let Some(item) = admit(&pool, of, bytes, moments.next()) { held.push((of, bytes, item)); },
            }
            held.retain(|(_, _, item)| item.stands());
            for other in (0..6).filter(|other| *other != of) {
                if before[&other] <= CAPACITY / sources {
                    prop_assert_eq!(sum(&held, other), before[&other], "{} lost to {}", other, of);
                }
            }
            let total: usize = (0..6).map(|of| sum(&held, of)).sum();
            prop_assert_eq!(pool.occupancy().bytes, total);
            prop_assert_eq!(pool.occupancy().connections, held.len());
            prop_assert!(total <= CAPACITY);
        }
    }
}

fn sum(held: &[(u8, usize, Held)], of: u8) -> usize {
    held.iter()
        .filter(|(source, ..)| *source == of)
        .map(|(_, bytes, _)| bytes)
        .sum()
}

#[test]
fn a_handshakes_surcharge_is_no_larger_share() {
    let pool = Pool::new(10 * 80, 0, 0);
    let mut moments = moments();
    let sources: Vec<Held> = (0..10)
        .map(|of| admit(&pool, of, 80, moments.next()).unwrap())
        .collect();
    let thing = Arc::new(Thing {
        idle_since: Mutex::new(None),
        evicted: AtomicBool::new(false),
    });
    let newcomer = pool.admit(peer(99), 80 + 64, 80, thing.clone()).unwrap();
    assert!(
        !thing.evicted.load(Ordering::SeqCst),
        "a newcomer over TLS gets its place"
    );
    assert!(!sources[0].stands() && !sources[1].stands(), "from the idlest");
    assert_eq!(sources.iter().filter(|held| held.stands()).count(), 8);
    drop(newcomer);
}

#[test]
fn trust_is_for_one_address_and_for_so_much() {
    let pool = Pool::new(1000, 100, 0);
    let address = |text: &str| text.parse::<IpAddr>().unwrap();
    let mut moments = moments();
    let mut admit = |from: &str| {
        let thing = Arc::new(Thing {
            idle_since: Mutex::new(moments.next()),
            evicted: AtomicBool::new(false),
        });
        let place = pool.admit(address(from), 100, 100, thing.clone()).unwrap();
        Held { thing, place }
    };
    pool.trust(address("2001:db8::1"));
    let controller = admit("2001:db8::1");
    let neighbours: Vec<Held> = (0..9).map(|_| admit("2001:db8::2")).collect();
    let others: Vec<Held> = (0..4).map(|_| admit("2001:db8:1::1")).collect();
    assert!(controller.stands() && others.iter().all(Held::stands));
    let standing = neighbours.iter().filter(|held| held.stands()).count();
    assert_eq!(standing, 5, "they share the network, not the trust");
    let many: Vec<Held> = (0..6).map(|_| admit("2001:db8::1")).collect();
    let late: Vec<Held> = (0..2).map(|_| admit("2001:db8:2::1")).collect();
    assert!(
        late.iter().all(Held::stands),
        "beyond twice the reserve it is one of many"
    );
    assert!(many.iter().chain([&controller]).any(|held| !held.stands()));
}

#[test]
fn of_equal_sources_the_idlest_is_closed() {
    let pool = Pool::new(100, 0, 0);
    let mut moments = moments();
    // 100 sources hold as much as any other; the first ones are the idlest.
    let held: Vec<Held> = (0..100)
        .map(|of| admit(&pool, of, 1, moments.next()).unwrap())
        .collect();
    let mut newcomers = Vec::new();
    for of in 100..130 {
        newcomers.push(admit(&pool, of, 1, moments.next()).unwrap());
        assert!(
            newcomers.iter().all(Held::stands),
            "no newcomer goes while others are idler"
        );
    }
    assert!(held[..30].iter().all(|held| !held.stands()) && held[30..].iter().all(Held::stands));
    // One that did something meanwhile is passed over.
    held[30].idle_since(moments.next());
    let _last = admit(&pool, 200, 1, moments.next()).unwrap();
    assert!(held[30].stands() && !held[31].stands());
}

#[test]
fn two_connections_of_one_source_do_not_end_each_other() {
    let pool = Pool::new(64, 0, 4);
    let mut moments = moments();
    let flood: Vec<Held> = (0..200)
        .map(|of| admit(&pool, of, 1, moments.next()).unwrap())
        .collect();
    let probes: Vec<Held> = (0..4).map(|_| admit(&pool, 250, 1, moments.next()).unwrap()).collect();
    assert!(probes.iter().all(Held::stands));
    assert_eq!(flood.iter().filter(|held| held.stands()).count(), 60);
    let fifth = admit(&pool, 250, 1, moments.next()).unwrap();
    assert!(
        fifth.stands() && !probes[0].stands(),
        "beyond a few it is the one that holds most"
    );
}

#[test]
fn few_take_nothing_from_a_fair_share() {
    let pool = Pool::new(8, 0, 4);
    let mut moments = moments();
    let one: Vec<Held> = (0..3).map(|_| admit(&pool, 1, 1, moments.next()).unwrap()).collect();
    let two: Vec<Held> = (0..9).map(|_| admit(&pool, 2, 1, moments.next()).unwrap()).collect();
    assert!(one.iter().all(Held::stands), "less than half of the pool");
    assert_eq!(two.iter().filter(|held| held.stands()).count(), 5);
}
