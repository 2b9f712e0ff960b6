use time::OffsetDateTime;

use super::super::super::authority::{Authority, Lives};
use super::*;

const NOW: UnixSeconds = UnixSeconds::new(1_800_000_000);
const OVERLAP: Duration = Duration::from_hours(1);

fn at(seconds: i64) -> UnixSeconds {
    NOW + Ttl::seconds(seconds)
}

/// Lives for so many hours.
fn ca(hours: u64) -> String {
    let made = OffsetDateTime::from_unix_timestamp(NOW.get()).unwrap();
    let lives = Lives {
        ca: Duration::from_hours(hours),
        ..Lives::default()
    };
    let pair = Authority::generate_living("a", made, lives).unwrap();
    pair.certificate().to_owned()
}

fn found(roots: &[&String]) -> Found {
    Found {
        roots: roots.iter().map(|root| (*root).clone()).collect(),
        is_complete: true,
    }
}

fn lists(roots: &Roots) -> [Vec<String>; 3] {
    [roots.shown.clone(), roots.next.clone(), roots.previous.clone()]
}

/// The steps that are due at these seconds, each done at once.
fn steps(mut roots: Roots, found: &Found, seconds: &[i64]) -> (Roots, Vec<Option<Due>>) {
    let mut all = Vec::new();
    for second in seconds {
        roots = roots.with(found, at(*second));
        let due = roots.due(at(*second), OVERLAP);
        if let Some(due) = due {
            roots = roots.after(due, at(*second));
        }
        all.push(due);
    }
    (roots, all)
}

#[test]
fn the_first_ca_is_shown_at_once() {
    let one = ca(9);
    let roots = Roots::default().with(&found(&[&one, &one]), NOW);
    assert_eq!(lists(&roots), [vec![one.clone()], vec![], vec![]]);
    assert_eq!(roots.bundle(), one);
    assert_eq!(roots.due(at(9), OVERLAP), None);
}

#[test]
fn a_ca_is_trusted_an_overlap_before_and_after() {
    let (one, two) = (ca(90), ca(90));
    let first = Roots::default().with(&found(&[&one]), NOW);
    let both = found(&[&two]);
    let announced = first.with(&both, at(10));
    assert_eq!(lists(&announced), [vec![one.clone()], vec![two.clone()], vec![]]);
    assert_eq!(announced.needed().count(), 2);
    assert_eq!(announced.with(&both, at(11)), announced, "nothing is new");

    let (settled, due) = steps(announced, &both, &[20, 3619]);
    assert_eq!(due, [Some(Due::Settle), None]);
    let (promoted, due) = steps(settled, &both, &[3620]);
    assert_eq!(due, [Some(Due::Promote)]);
    assert_eq!(promoted.shown, [one.clone(), two.clone()]);

    let (left, due) = steps(promoted, &both, &[3630, 7229]);
    assert_eq!(lists(&left), [vec![two.clone()], vec![], vec![one]]);
    assert_eq!(due, [Some(Due::Settle), None]);
    let (alone, due) = steps(left, &both, &[7230, 7231]);
    assert_eq!(due, [Some(Due::Forget), None]);
    assert_eq!(lists(&alone), [vec![two], vec![], vec![]]);
}

#[test]
fn a_ca_that_one_secret_still_names_is_shown() {
    let (one, two) = (ca(90), ca(90));
    let first = Roots::default().with(&found(&[&one]), NOW);
    // The webhook's certificate was renewed, the broker's will be in a month.
    let both = found(&[&two, &one]);
    let (roots, _) = steps(first, &both, &[1, 2, 3700, 3701, 9999]);
    assert_eq!(lists(&roots), [vec![one.clone(), two.clone()], vec![], vec![]]);
    let (roots, due) = steps(roots, &found(&[&two]), &[20_000, 23_600]);
    assert_eq!(due, [Some(Due::Settle), Some(Due::Forget)]);
    assert_eq!(lists(&roots), [vec![two], vec![], vec![]]);
}

#[test]
fn what_cant_be_read_names_its_ca_still() {
    let (one, two) = (ca(90), ca(90));
    let first = Roots::default().with(&found(&[&one]), NOW);
    let partly = Found {
        roots: vec![two.clone()],
        is_complete: false,
    };
    let (roots, _) = steps(first.clone(), &partly, &[1, 2, 3700, 3701]);
    assert_eq!(lists(&roots), [vec![one, two], vec![], vec![]]);
    let nothing = Found::default();
    assert_eq!(first.with(&nothing, at(5)), first);
}

#[test]
fn a_ca_that_comes_back_is_shown_again_at_once() {
    let (one, two) = (ca(90), ca(90));
    let first = Roots::default().with(&found(&[&one]), NOW);
    let announced = first.with(&found(&[&two]), at(1));
    let back = announced.with(&found(&[&one]), at(2));
    assert_eq!(
        lists(&back),
        [vec![one.clone()], vec![], vec![two.clone()]],
        "it was never shown"
    );
    let again = back.with(&found(&[&two]), at(3));
    assert_eq!(lists(&again), [vec![two], vec![], vec![one]], "all trust it");
}

#[test]
fn a_ca_that_has_expired_is_trusted_no_more() {
    let (one, two) = (ca(1), ca(90));
    let first = Roots::default().with(&found(&[&one]), NOW);
    let announced = first.with(&found(&[&two]), at(1));
    let late = announced.with(&found(&[&two]), at(3600));
    assert_eq!(lists(&late), [vec![two], vec![], vec![]]);
}

#[test]
fn what_a_clock_that_was_ahead_has_settled_is_settled_anew() {
    let (one, two) = (ca(90), ca(90));
    let first = Roots::default().with(&found(&[&one]), NOW);
    let announced = first.with(&found(&[&two]), at(1));
    let settled = announced.after(Due::Settle, at(9000));
    assert_eq!(settled.due(at(2), OVERLAP), Some(Due::Settle));
}

#[test]
fn no_list_of_cas_grows_without_a_bound() {
    let mut roots = Roots::default().with(&found(&[&ca(90)]), NOW);
    let mut last = String::new();
    for second in 0..30 {
        last = ca(90);
        roots = roots.with(&found(&[&last]), at(second));
        if second % 2 == 0 {
            roots = roots.after(Due::Promote, at(second));
        }
    }
    assert!(
        lists(&roots).iter().all(|list| list.len() <= MAX_ROOTS),
        "{:?}",
        lists(&roots).map(|list| list.len())
    );
    assert!(roots.knows(&last));
    let many: Vec<String> = (0..30).map(|_| ca(90)).collect();
    let partly = Found {
        roots: many,
        is_complete: false,
    };
    let roots = roots.with(&partly, at(40));
    assert!(lists(&roots).iter().all(|list| list.len() <= MAX_ROOTS));
}
