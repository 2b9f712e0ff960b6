//! What the revocation view takes of memory: a million live revocations and ended sessions fit in 100 MiB, also while
//! its tables grow; an entry costs the same however many there are and however long its id is.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

use agentwrit_protocol::revocation_change::ViewChange;
use agentwrit_protocol::session::{EndReason, Revocation, RevocationLevel, RevocationView};
use agentwrit_protocol::{Times, UnixMillis, UnixSeconds};
use parking_lot::Mutex;
use peak_alloc::PeakAlloc;

/// Counts a reallocation as the old and the new block together, as if it always had to move.
#[global_allocator]
static ALLOCATED: PeakAlloc = PeakAlloc;

/// One test at a time: the counter is that of the whole process.
static COUNTED: Mutex<()> = Mutex::new(());

const MIB: usize = 1024 * 1024;
/// What an entry costs at most, right after the tables have doubled: 30 bytes and one of the table's, of which seven of
/// sixteen are taken.
const DEAREST: usize = 72;
/// What the tables of one kind cost beside it, when they are nearly empty.
const TABLES: usize = 16 * 1024;
const UNTIL: UnixMillis = UnixMillis::new(1_800_000_900_000);

type Make = fn(usize) -> ViewChange;

/// Sessions and delegations, one in four superseded with an overlap.
fn ended(number: usize) -> ViewChange {
    let superseded = number.is_multiple_of(4);
    let sid = if number.is_multiple_of(10) {
        format!("{number:048x}")
    } else {
        format!("{number:032x}")
    };
    ViewChange::SessionEnded {
        sid: sid.into(),
        reason: if superseded {
            EndReason::Superseded
        } else {
            EndReason::PodEnded
        },
        overlap_until: superseded.then_some(UnixMillis::new(1_800_000_010_000)),
        until: UNTIL,
    }
}

fn revoked(level: RevocationLevel, target: String) -> ViewChange {
    ViewChange::Revoked(Revocation {
        level,
        target,
        until: Some(UNTIL),
    })
}

fn token(number: usize) -> ViewChange {
    revoked(RevocationLevel::Token, format!("{number:032x}"))
}

fn subject(number: usize) -> String {
    format!(
        "spiffe://agentwrit.local/agent/k8s.payments.invoice-reader/6f1b3c0e-7c1f-4a57-9d3f-{number:012x}/{number:016x}"
    )
}

fn agent(number: usize) -> ViewChange {
    revoked(RevocationLevel::Agent, subject(number))
}

fn chain(number: usize) -> ViewChange {
    revoked(RevocationLevel::Chain, subject(number))
}

fn task(number: usize) -> ViewChange {
    revoked(RevocationLevel::Task, format!("6f1b3c0e-7c1f-4a57-9d3f-{number:012x}"))
}

fn expired(number: usize) -> ViewChange {
    ViewChange::Expired {
        jti: format!("{number:032x}").into(),
        until: UNTIL,
    }
}

/// Half are ended sessions, a quarter revoked tokens, the rest agents, tasks and chains.
fn mixed(number: usize) -> ViewChange {
    match number % 40 {
        0..20 => ended(number),
        20..30 => token(number),
        30..35 => agent(number),
        35..39 => task(number),
        _ => chain(number),
    }
}

/// A view of so many entries, what it takes, and what it took at most while it was filled. A change itself is in both.
fn filled(count: usize, make: Make) -> (RevocationView, usize, usize) {
    let before = ALLOCATED.current_usage();
    ALLOCATED.reset_peak_usage();
    let view = RevocationView::loaded(UnixSeconds::new(0), (0..count).map(make));
    let taken = ALLOCATED.current_usage() - before;
    (view, taken, ALLOCATED.peak_usage() - before)
}

#[test]
fn a_million_entries_fit_in_100_mib() {
    let _alone = COUNTED.lock();
    let (mut view, taken, peak) = filled(1_000_000, mixed);
    println!("a million entries take {taken} bytes, and took {peak} at most");
    assert_eq!(view.len(), 1_000_000);
    // Twice: when all is loaded anew, the view before it still answers.
    assert!(2 * peak <= 100 * MIB, "{peak}");
    // What has been forgotten takes nothing.
    view.prune(Times::at(UNTIL));
    ALLOCATED.reset_peak_usage();
    let before = ALLOCATED.current_usage();
    drop(view);
    let left = before - ALLOCATED.current_usage();
    assert!(left <= 5 * TABLES, "{left} bytes for no entry");
}

#[test]
fn an_entry_costs_the_same_however_many_there_are() {
    let _alone = COUNTED.lock();
    let kinds: [(&str, Make); 7] = [
        ("mixed", mixed),
        ("ended", ended),
        ("token", token),
        ("agent", agent),
        ("task", task),
        ("chain", chain),
        ("expired", expired),
    ];
    for (name, make) in kinds {
        let tables = if name == "mixed" { 5 * TABLES } else { TABLES };
        // Some are right before a doubling, others right after it.
        for count in [1, 80, 1_000, 3_500, 10_000, 14_000, 20_000, 40_000, 60_000, 100_000] {
            let (view, taken, peak) = filled(count, make);
            assert_eq!(view.len(), count);
            assert!(
                peak <= count * DEAREST + tables,
                "{name}: {count} entries, {taken} {peak}"
            );
        }
    }
}

#[test]
fn a_long_id_costs_no_more_than_a_short_one() {
    let _alone = COUNTED.lock();
    let long = |number: usize| revoked(RevocationLevel::Task, format!("{number}{}", "t".repeat(16 * 1024)));
    let (_, short, _) = filled(80, task);
    let (_, taken, peak) = filled(1_000, long);
    assert!(taken <= 1_000 * DEAREST + TABLES, "{taken}, of short ones {short}");
    assert!(peak <= taken + 3 * 16 * 1024, "{peak}: one at a time");
}

/// A view that lives for years takes what it needs now, whatever it needed once.
#[test]
fn a_view_that_is_used_for_long_does_not_grow() {
    let _alone = COUNTED.lock();
    let before = ALLOCATED.current_usage();
    let mut view = RevocationView::loaded(UnixSeconds::new(0), []);
    let mut most = 0;
    for round in 0..40 {
        for number in 0..5_000 {
            view.apply(token(round * 5_000 + number));
        }
        assert_eq!(view.len(), 5_000);
        view.prune(Times::at(UNTIL));
        most = most.max(ALLOCATED.current_usage() - before);
    }
    assert!(most <= TABLES, "{most}");
    assert!(view.is_empty());
}
