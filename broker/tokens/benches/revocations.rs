//! What a check of a token costs beside 0 and 1,000,000 revocations and ended sessions, and what the view's upkeep
//! costs: `cargo bench -p agentwrit-tokens`. Beside it an Ed25519 verification of the same run.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "a benchmark reads the clock"
)]

use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

use agentwrit_protocol::claims::Claims;
use agentwrit_protocol::clock::ManualClock;
use agentwrit_protocol::revocation_change::ViewChange;
use agentwrit_protocol::session::{EndReason, Revocation, RevocationLevel, RevocationView, TokenState};
use agentwrit_protocol::{JudgingClock, Times, UnixMillis, UnixSeconds};
use agentwrit_tokens::key_set::KeySet;
use agentwrit_tokens::shared_revocation_view::SharedRevocationView;
use agentwrit_tokens::verifier::Verifier;

const NOW: i64 = 1_800_000_000;
const UNTIL: UnixMillis = UnixMillis::new((NOW + 900) * 1000);
const ENTRIES: usize = 1_000_000;
/// As many as the verifier remembers, so that what is looked up of the view is in no cache of the processor's.
const TOKENS: usize = 8_000;
const ROUNDS: usize = 15;

fn subject(number: usize) -> String {
    format!(
        "spiffe://agentwrit.local/agent/k8s.payments.invoice-reader/6f1b3c0e-7c1f-4a57-9d3f-{number:012x}/{number:016x}"
    )
}

/// Half are ended sessions, a quarter revoked tokens, the rest agents, tasks, chains and tokens that have expired.
fn change(number: usize) -> ViewChange {
    let revoked = |level, target| {
        ViewChange::Revoked(Revocation {
            level,
            target,
            until: Some(UNTIL),
        })
    };
    match number % 40 {
        0..20 => ViewChange::SessionEnded {
            sid: format!("{number:032x}").into(),
            reason: EndReason::PodEnded,
            overlap_until: None,
            until: UNTIL,
        },
        20..30 => revoked(RevocationLevel::Token, format!("{number:032x}")),
        30..34 => revoked(RevocationLevel::Agent, subject(number)),
        34..37 => revoked(RevocationLevel::Task, format!("6f1b3c0e-7c1f-4a57-9d3f-{number:012x}")),
        37 => revoked(RevocationLevel::Chain, subject(number)),
        _ => ViewChange::Expired {
            jti: format!("e{number:031x}").into(),
            until: UNTIL,
        },
    }
}

fn payload(number: usize) -> String {
    let subject = subject(ENTRIES + number);
    format!(
        r#"{{"iss":"agentwrit","sub":"{subject}","aud":["agentwrit"],"exp":{},"nbf":{NOW},"iat":{NOW},"jti":"f{number:031x}","sid":"d{number:031x}","scope":["read:invoices:*","write:reports:own"],"task_id":"6f1b3c0e-7c1f-4a57-9d3f-f{number:011x}","orch_id":"k8s.payments.invoice-reader"}}"#,
        NOW + 900
    )
}

struct Side {
    verifier: Verifier,
    view: Arc<SharedRevocationView>,
}

fn side(keys: &Arc<KeySet>, entries: usize) -> Side {
    let view = Arc::new(SharedRevocationView::unloaded());
    let begun = Instant::now();
    view.replace(RevocationView::loaded(UnixSeconds::new(0), (0..entries).map(change)));
    println!("{entries} entries loaded in {:?}, their texts made", begun.elapsed());
    let clock = JudgingClock::new(Arc::new(ManualClock::at(NOW)));
    clock.load(None);
    let verifier = Verifier::new(Arc::clone(keys), Arc::clone(&view), Arc::new(clock), String::new());
    Side { verifier, view }
}

/// Nanoseconds of each call.
fn each<T>(items: &[T], mut call: impl FnMut(&T)) -> f64 {
    let begun = Instant::now();
    for item in items {
        call(black_box(item));
    }
    let count = f64::from(u32::try_from(items.len()).unwrap());
    begun.elapsed().as_secs_f64() * 1e9 / count
}

fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures.get(figures.len() / 2).copied().unwrap_or_default()
}

/// Both sides in turn, so that neighbours disturb both.
fn compare(what: &str, sides: &[Side; 2], mut round: impl FnMut(&Side) -> f64) {
    let (mut without, mut with) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let [none, million] = sides;
        without.push(round(none));
        with.push(round(million));
    }
    let (without, with) = (median(without), median(with));
    println!("{what:<40} {without:>9.0} ns {with:>9.0} ns  {:.2}", with / without);
}

fn main() {
    let keys = Arc::new(KeySet::of_seed(&[5; 32]).unwrap());
    let sides = [side(&keys, 0), side(&keys, ENTRIES)];
    let tokens: Vec<String> = (0..TOKENS)
        .map(|number| keys.sign(payload(number).as_bytes()).unwrap())
        .collect();
    let claims: Vec<Claims> = (0..TOKENS)
        .map(|number| serde_json::from_str(&payload(number)).unwrap())
        .collect();
    let first = tokens.first().unwrap();
    let (message, signature) = first.rsplit_once('.').unwrap();
    let verification = each(&[(); 2_000], |()| {
        assert!(keys.verify(None, black_box(message), black_box(signature)));
    });
    println!(
        "a token has {} bytes; an Ed25519 verification takes {verification:.0} ns",
        first.len()
    );
    println!("{:<40} {:>12} {:>12}", "", "0 entries", "1,000,000");

    let times = Times::at(UnixSeconds::new(NOW).start());
    let check = |side: &Side, token: &String| {
        assert_eq!(side.verifier.verify(token).unwrap().state, TokenState::Active);
    };
    compare("the state of a token", &sides, |side| {
        each(&claims, |claims| {
            assert_eq!(side.view.state(claims, times), TokenState::Active);
        })
    });
    compare("a token that is known", &sides, |side| {
        each(&tokens, |token| check(side, token))
    });
    compare("a token that is new", &sides, |side| {
        side.verifier.forget();
        each(&tokens, |token| check(side, token))
    });
    let [_, million] = &sides;
    upkeep(&million.view);
}

/// What those wait for at most who ask meanwhile.
fn upkeep(view: &SharedRevocationView) {
    let before = view.entries();
    let prune = |what: &str, times: Times| {
        let (mut all, mut longest) = (Duration::ZERO, Duration::ZERO);
        for piece in 0..RevocationView::PIECES {
            let begun = Instant::now();
            view.prune_piece(piece, times);
            all += begun.elapsed();
            longest = longest.max(begun.elapsed());
        }
        println!(
            "{what}: {all:?}, {longest:?} the longest piece of {}",
            RevocationView::PIECES
        );
    };
    let (mut all, mut longest) = (Duration::ZERO, Duration::ZERO);
    for number in ENTRIES..ENTRIES + 200_000 {
        let change = change(number);
        let begun = Instant::now();
        view.apply(vec![change]);
        all += begun.elapsed();
        longest = longest.max(begun.elapsed());
    }
    println!("200,000 changes more, some tables doubled: {all:?}, {longest:?} the longest");
    prune(
        "a look at all, nothing forgotten",
        Times::at(UnixSeconds::new(NOW).start()),
    );
    assert_eq!(view.entries(), before + 200_000);
    prune("all forgotten", Times::at(UNTIL));
    assert_eq!(view.entries(), 0);
}
