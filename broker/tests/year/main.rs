//! A broker that works for a long time, on a clock of the test's choice: the trail stays within its bound and whole.
//!
//! `scripts/soak.sh` runs the long ones as a release build: a year of bursts, a week of 1,000 agents, a day of 10,000.
//! Without it the same is done for less than a minute of work.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    unreachable_pub
)]

mod agents;
mod watch;

use std::sync::Arc;

use agentwrit_broker::broker::AppState;
use agentwrit_broker::process::housekeeping;
use agentwrit_testkit::Setup;

use agents::{register, renew};
use watch::Watch;

const MIB: u64 = 1024 * 1024;
/// A token of 300 s is renewed when four fifths of its life are over.
const RENEWED_AFTER: i64 = 240;
const YEAR: i64 = 365 * 86_400;

/// How a broker is used.
struct Scenario {
    agents: usize,
    /// How often all agents register, and then renew.
    bursts: usize,
    renewals: usize,
    /// Seconds from one burst to the next.
    jump: i64,
    max_bytes: u64,
    /// What the tables beside the trail may take.
    beside: u64,
    /// Events and drops that must have been seen at the end.
    events: i64,
    drops: usize,
}

/// More than a million events in a year, from a thousand agents that come and go.
const A_YEAR: Scenario = Scenario {
    agents: 1_000,
    bursts: 100,
    renewals: 8,
    jump: YEAR / 100,
    max_bytes: 64 * MIB,
    beside: 0,
    events: 1_000_000,
    drops: 5,
};
/// What fits among the other tests.
const A_SHORT_YEAR: Scenario = Scenario {
    agents: 400,
    bursts: 12,
    renewals: 3,
    jump: YEAR / 12,
    max_bytes: 16 * MIB,
    beside: 0,
    events: 24_000,
    drops: 5,
};
const A_WEEK: Scenario = Scenario {
    agents: 1_000,
    bursts: 1,
    renewals: 7 * 360,
    jump: 0,
    max_bytes: 256 * MIB,
    beside: 0,
    events: 2_500_000,
    drops: 5,
};
const A_DAY: Scenario = Scenario {
    agents: 10_000,
    bursts: 1,
    renewals: 360,
    jump: 0,
    max_bytes: 256 * MIB,
    beside: 32 * MIB,
    events: 3_600_000,
    drops: 5,
};

fn setup(max_bytes: u64) -> Setup {
    Setup::new(&[
        ("AA_ADMIN_AUTH", "off"),
        ("AA_ADMIN_SECRET", "{unset}"),
        ("AA_AUDIT_MAX_BYTES", &max_bytes.to_string()),
        ("AA_STORE_REQUIRED", "true"),
    ])
}

/// Does what the broker does by itself, and looks at the file.
async fn work(broker: &AppState, watch: &mut Watch) {
    watch.size();
    broker.retention.apply().await;
    watch.size();
    housekeeping::prune(broker).await;
    watch.size();
    housekeeping::shorten(broker, housekeeping::WHOLE_EVENTS).await;
    watch.size();
}

async fn run(scenario: &Scenario) {
    let setup = setup(scenario.max_bytes);
    let clock = Arc::clone(&setup.clock);
    let mut broker = setup.assemble().await.unwrap();
    let mut watch = Watch::new(&broker, setup.folder.path(), scenario.max_bytes, scenario.beside);
    for burst in 0..scenario.bursts {
        let sessions = register(&broker, &clock, scenario.agents).await;
        work(&broker, &mut watch).await;
        for renewal in 0..scenario.renewals {
            clock.advance(RENEWED_AFTER);
            // What was written before is verified while the next is written; nothing is dropped meanwhile.
            tokio::join!(watch.trail(&broker), renew(&broker, &sessions));
            work(&broker, &mut watch).await;
            if renewal == 7 || renewal + 1 == scenario.renewals {
                watch.memory();
            }
        }
        watch.trail(&broker).await;
        if burst % 25 == 24 || scenario.bursts == 1 {
            watch.whole_trail(&broker).await;
        }
        clock.advance(scenario.jump);
    }
    assert!(watch.events() >= scenario.events, "{} events", watch.events());
    assert!(watch.drops() >= scenario.drops, "{} drops", watch.drops());
    // A start finds the same.
    broker.store.close().await.unwrap();
    drop(broker);
    broker = setup.assemble().await.unwrap();
    work(&broker, &mut watch).await;
    watch.trail(&broker).await;
    watch.whole_trail(&broker).await;
    broker.store.close().await.unwrap();
    watch.report("done");
}

#[test]
fn the_trail_stays_within_its_bound_and_whole() {
    let scenarios: &[&Scenario] = match std::env::var("SOAK").as_deref() {
        Err(_) => &[&A_SHORT_YEAR],
        Ok("year") => &[&A_YEAR],
        Ok("week") => &[&A_WEEK],
        Ok("day") => &[&A_DAY],
        Ok(other) => panic!("SOAK={other:?} must be year, week or day"),
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build();
    let runtime = runtime.unwrap();
    for scenario in scenarios {
        runtime.block_on(run(scenario));
    }
}
