//! What the broker does by itself, now and then.

use std::time::Duration;

use agentwrit_protocol::session::RevocationView;
use agentwrit_store::{Command, Result as StoreResult, Tx};
use async_trait::async_trait;
use tokio::time::{Instant, MissedTickBehavior};

use super::{clock_watch, sweeps};
use crate::broker::{AppState, Broker};
use crate::service::k8s::policy::ceilings;
use crate::service::signing_keys::FollowError;

const DENIALS_EVERY: Duration = Duration::from_secs(10);
const KEYS_EVERY: Duration = Duration::from_secs(1);
const CLOCK_EVERY: Duration = Duration::from_secs(1);
const PRUNE_EVERY: Duration = Duration::from_mins(1);

/// Works until the task is dropped.
pub async fn run(broker: AppState) {
    // Concurrently: neither a slow export nor a long trail holds the rest up.
    tokio::join!(
        run_timers(&broker),
        shorten_trail_regularly(&broker),
        follow_keys(&broker),
        hold_to_ceilings(&broker),
        broker.retention.run()
    );
}

/// A trail that is long takes its time, for which the timers don't wait.
async fn shorten_trail_regularly(broker: &Broker) {
    let mut timer = tokio::time::interval_at(Instant::now() + PRUNE_EVERY, PRUNE_EVERY);
    timer.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        timer.tick().await;
        shorten(broker, WHOLE_EVENTS).await;
    }
}

/// Looks once which keys there are.
///
/// # Errors
/// What is wrong with them, in words. A store that is away is logged by itself.
pub async fn look_at_keys(broker: &Broker) -> Result<(), String> {
    match broker.key_follower().follow().await {
        Ok(()) | Err(FollowError::Store(_)) => Ok(()),
        Err(problem) => Err(problem.to_string()),
    }
}

/// Looks each second which keys there are. A problem is logged when it begins.
async fn follow_keys(broker: &Broker) {
    let mut timer = tokio::time::interval(KEYS_EVERY);
    timer.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut logged = None;
    loop {
        timer.tick().await;
        let text = look_at_keys(broker).await.err();
        if let Some(problem) = text.as_deref().filter(|text| logged.as_deref() != Some(*text)) {
            tracing::warn!(target: "KEYS", component = "Follow", problem, "the signing keys stay as they are");
        }
        logged = text;
    }
}

/// Holds sessions to the ceilings of their namespaces: soon again when the store was away at the start, and now and then
/// in case a replica with other ceilings did so last.
async fn hold_to_ceilings(broker: &Broker) {
    loop {
        let pause = match ceilings::hold(&broker.store, &broker.config.scope_ceilings).await {
            Ok(()) => PRUNE_EVERY,
            Err(_) => DENIALS_EVERY,
        };
        tokio::time::sleep(pause).await;
    }
}

/// Watches the clock, writes how many denials were only counted, and prunes, each at its own interval.
async fn run_timers(broker: &Broker) {
    let now = Instant::now();
    let mut denials = tokio::time::interval_at(now + DENIALS_EVERY, DENIALS_EVERY);
    let mut prune_timer = tokio::time::interval_at(now + PRUNE_EVERY, PRUNE_EVERY);
    let mut clock_timer = tokio::time::interval_at(now, CLOCK_EVERY);
    clock_timer.set_missed_tick_behavior(MissedTickBehavior::Delay);
    // At once, so that a wrong clock is logged before anything is answered.
    let mut clock_is_wrong = clock_watch::watch(broker, clock_watch::Wrong::default());
    denials.set_missed_tick_behavior(MissedTickBehavior::Delay);
    prune_timer.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = clock_timer.tick() => clock_is_wrong = clock_watch::watch(broker, clock_is_wrong),
            _ = denials.tick() => broker.denials.flush_suppressed(),
            _ = prune_timer.tick() => prune(broker).await,
        }
    }
}

/// Removes what can never matter again.
pub async fn prune(broker: &Broker) {
    broker.limits.prune();
    prune_view(broker).await;
    sweeps::sweep(broker).await;
}

/// Piece by piece, and requests in between: there may be a million entries.
async fn prune_view(broker: &Broker) {
    let times = broker.judging.observe();
    for piece in 0..RevocationView::PIECES {
        broker.tokens.view.prune_piece(piece, times);
        tokio::task::yield_now().await;
    }
}

/// Events at the end of the trail that are stored as they are served; those before are kept in the short form.
pub const WHOLE_EVENTS: i64 = 16_384;

/// Brings the events but the last `keep` into the short form in which the trail is kept.
pub async fn shorten(broker: &Broker, keep: i64) {
    loop {
        match broker.store.commit(Shorten { keep }).await {
            Ok(0) => break,
            Ok(_) => {}
            Err(error) => {
                tracing::warn!(target: "STORE", component = "Shorten", error = %error, "not all of the trail was shortened");
                break;
            }
        }
    }
}

struct Shorten {
    keep: i64,
}

#[async_trait]
impl Command for Shorten {
    type Outcome = u64;

    async fn run(self, tx: &mut dyn Tx) -> StoreResult<u64> {
        tx.shorten_trail(self.keep).await
    }
}
