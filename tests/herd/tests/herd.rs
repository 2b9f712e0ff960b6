//! What the pauses of sidecars promise of a broker that comes back. With 2,000 pods, and five seconds counted as one:
//! chance then weighs as much as with 10,000 and one.
#![allow(clippy::unwrap_used)]

use agentwrit_herd::{Figures, GOAL, Run, Scenario, run};

const PODS: u32 = 2_000;

fn ran(name: &str) -> (Run, Figures) {
    let run = run(&Scenario::named(name, PODS).unwrap());
    let figures = run.figures();
    (run, figures)
}

/// Never a token too late, and never an untrue word about one.
fn is_right(run: &Run) {
    let name = run.scenario.name;
    assert_eq!(run.dishonest, 0, "{name}: file, endpoint and readiness say what is so");
    assert_eq!(
        run.late, 0,
        "{name}: a token that stands is renewed when the broker is back in time"
    );
}

fn no_herd(name: &str) -> (Run, Figures) {
    let (run, figures) = ran(name);
    is_right(&run);
    let start = run.longest_start;
    assert!(
        start < 50,
        "{name}: a pod that starts gets its token at once: {start} ms"
    );
    assert!(figures.ratio <= GOAL, "{name}: {figures:?}");
    assert!(figures.later_ratio <= 1.4, "{name}: a second wave: {figures:?}");
    (run, figures)
}

#[test]
fn after_five_minutes_the_peak_is_twice_the_steady_rate() {
    let (run, figures) = no_herd("outage");
    assert_eq!(
        (run.expired, figures.without_token),
        (PODS, PODS),
        "all lost their token"
    );
    assert!(figures.all_after <= 82, "{figures:?}");
    assert!(figures.renewals_ratio <= 2.5, "{figures:?}");
}

#[test]
fn tokens_of_a_minute_come_back_without_a_herd() {
    let (_, figures) = no_herd("ttl-60");
    assert!(figures.all_after <= 82, "{figures:?}");
}

#[test]
fn most_tokens_of_a_quarter_of_an_hour_outlive_the_outage() {
    let (run, _) = no_herd("ttl-900");
    assert!((PODS / 10..PODS / 4).contains(&run.expired), "{}", run.expired);
}

#[test]
fn a_rollout_of_ten_seconds_costs_no_token() {
    let (run, figures) = no_herd("rollout");
    assert_eq!((run.expired, figures.all_after), (0, 0));
}

#[test]
fn pods_that_waited_for_their_first_token_come_spread() {
    let (run, figures) = no_herd("cold");
    assert_eq!(run.expired, 0);
    assert!(figures.all_after <= 82, "{figures:?}");
}

#[test]
fn a_broker_that_attests_few_serves_all_all_the_same() {
    let (run, figures) = ran("busy");
    is_right(&run);
    assert!(figures.ratio <= GOAL, "{figures:?}");
    assert!(figures.all_after <= 180, "100 a second need 100 s: {figures:?}");
}

#[test]
fn the_same_seed_gives_the_same_run() {
    let scenario = Scenario {
        ends: 400,
        ..Scenario::named("rollout", 50).unwrap()
    };
    let seconds = |seed| {
        run(&Scenario {
            seed,
            ..scenario.clone()
        })
        .arrivals
        .seconds()
        .to_vec()
    };
    assert_eq!(seconds(1), seconds(1));
    assert_ne!(seconds(1), seconds(2));
}
