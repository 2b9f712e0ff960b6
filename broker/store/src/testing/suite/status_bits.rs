//! The bits of status indexes: what an end sets, and from when on.

use std::collections::BTreeMap;
use std::time::Duration;

use agentwrit_protocol::status_list::bits_at;
use agentwrit_protocol::{UnixMillis, UnixSeconds};

use super::status::{AT_ONCE, below, bits, end, index, open, root};
use super::{Bench, Opener};
use crate::testing::START;
use crate::{EndReason, Session};

/// Sessions and delegations: a root with two branches, one of them three deep, and another root with one.
struct Tree {
    root: Session,
    left: Session,
    left_below: Session,
    left_leaf: Session,
    right: Session,
    right_below: Session,
    other: Session,
    other_below: Session,
}

impl Tree {
    async fn open(bench: &Bench, first: u64) -> Self {
        let root_node = open(bench, root(first)).await;
        let left = open(bench, below(first + 1, &root_node)).await;
        let left_below = open(bench, below(first + 2, &left)).await;
        let left_leaf = open(bench, below(first + 3, &left_below)).await;
        let right = open(bench, below(first + 4, &root_node)).await;
        let right_below = open(bench, below(first + 5, &right)).await;
        let other = open(bench, root(first + 6)).await;
        let other_below = open(bench, below(first + 7, &other)).await;
        Self {
            root: root_node,
            left,
            left_below,
            left_leaf,
            right,
            right_below,
            other,
            other_below,
        }
    }

    /// Each that has something below it or above, with all that ends with it.
    fn ends(&self) -> [(&Session, Vec<&Session>); 5] {
        let Self {
            root,
            left,
            left_below,
            left_leaf,
            right,
            right_below,
            other,
            other_below,
        } = self;
        [
            (root, vec![root, left, left_below, left_leaf, right, right_below]),
            (left, vec![left, left_below, left_leaf]),
            (left_below, vec![left_below, left_leaf]),
            (right_below, vec![right_below]),
            (other, vec![other, other_below]),
        ]
    }
}

/// Of nobody above, and nobody beside; for each reason, on each level.
pub async fn an_end_sets_the_bits_of_all_below(opener: &dyn Opener) {
    let bench = Bench::open(opener).await;
    let mut first = 0;
    let mut set = BTreeMap::new();
    for reason in EndReason::ALL {
        for number in 0..5 {
            let tree = Tree::open(&bench, first).await;
            first += 8;
            let ends = tree.ends();
            let (ended, wanted) = ends.get(number).unwrap();
            assert!(end(&bench, &ended.sid, reason, Duration::ZERO).await);
            set.extend(wanted.iter().map(|session| (index(session), AT_ONCE)));
            assert_eq!(bits(&bench).await, set, "{reason:?} {number}");
        }
    }
}

/// Also what is delegated meanwhile; and whatever ends it earlier sets them earlier.
pub async fn a_superseded_session_is_set_when_its_overlap_ends(opener: &dyn Opener) {
    const SECOND: Duration = Duration::from_secs(1);
    let bench = Bench::open(opener).await;
    let start = UnixSeconds::new(START).start();
    let tree = Tree::open(&bench, 0).await;
    let [(root, under_root), (left, under_left), ..] = tree.ends();
    let at = |sessions: &[&Session], moment: UnixMillis| -> BTreeMap<_, _> {
        sessions.iter().map(|session| (index(session), moment)).collect()
    };
    // Of its own it ends earlier than with its session, the other later.
    assert!(end(&bench, &tree.right.sid, EndReason::Superseded, 5 * SECOND).await);
    assert!(end(&bench, &tree.left_leaf.sid, EndReason::Superseded, 20 * SECOND).await);
    assert!(end(&bench, &root.sid, EndReason::Superseded, 10 * SECOND).await);
    let mut wanted = at(&under_root, start + 10 * SECOND);
    wanted.extend(at(&[&tree.right, &tree.right_below], start + 5 * SECOND));
    assert_eq!(bits(&bench).await, wanted);
    let late = open(&bench, below(8, left)).await;
    wanted.extend(at(&[&late], start + 10 * SECOND));
    assert_eq!(bits(&bench).await, wanted);

    let set_at = |moment| {
        let found = bench.store.query(|tx| tx.status_bits());
        async move { bits_at(0, &found.await.unwrap(), moment).ones() }
    };
    let millisecond = Duration::from_millis(1);
    assert_eq!(set_at(start + 5 * SECOND - millisecond).await, 0);
    assert_eq!(set_at(start + 10 * SECOND - millisecond).await, 2);
    assert_eq!(set_at(start + 10 * SECOND).await, 7);

    // A later end changes nothing, an earlier one counts at once.
    bench.clock.advance(1);
    assert!(!end(&bench, &root.sid, EndReason::Superseded, 10 * SECOND).await);
    assert_eq!(bits(&bench).await, wanted);
    assert!(end(&bench, &left.sid, EndReason::Revoked, Duration::ZERO).await);
    wanted.extend(at(&under_left, AT_ONCE));
    wanted.extend(at(&[&late], AT_ONCE));
    assert_eq!(bits(&bench).await, wanted);
    assert!(end(&bench, &root.sid, EndReason::PodEnded, Duration::ZERO).await);
    wanted.extend(at(&under_root, AT_ONCE));
    assert_eq!(bits(&bench).await, wanted);
    let under_other = at(&[&tree.other, &tree.other_below], AT_ONCE);
    assert!(under_other.keys().all(|index| !wanted.contains_key(index)));
}

/// What they were for is refused.
pub async fn a_restored_store_sets_all_bits(opener: &dyn Opener) {
    let bench = Bench::open(opener).await;
    let tree = Tree::open(&bench, 0).await;
    // What this process has made is no copy.
    let bench = bench.reopened(opener).await;
    assert!(end(&bench, &tree.left.sid, EndReason::Superseded, Duration::from_secs(10)).await);
    let compared = bench.store.compare(Some("no mark")).await.unwrap();
    assert!(compared.restored);
    let bits = bits(&bench).await;
    assert_eq!(bits.len(), 8);
    assert!(bits.values().all(|from| *from == AT_ONCE), "{bits:?}");
}
