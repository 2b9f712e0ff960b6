//! Which namespaces need the CA `ConfigMap`, and when each is looked at.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};

use crate::backoff::pause;
use crate::leader::leadership::Leadership;
use crate::pki::ca_bundles::CaBundles;
use crate::pki::config_maps::{ConfigMaps, Outcome};
use crate::pki::trust::Trust;

/// One that was right is looked at again after this long, whatever the watch says.
const SWEEP_EVERY: Duration = Duration::from_mins(5);
/// One that was right this long ago isn't looked at because of another pod: many pods may start at once.
const FRESH_FOR: Duration = Duration::from_secs(10);
/// Schedule because of changes become rarer until the `ConfigMap` has been left alone for so long.
const QUIET_PERIOD: Duration = Duration::from_mins(1);
/// A user who has made room, or put right what was changed, waits no longer than this.
const LONGEST_PAUSE: Duration = Duration::from_mins(1);

/// Why a namespace is to be looked at.
#[derive(Debug)]
pub(crate) enum CaEvent {
    /// It has a `LaunchToken`, or a pod with our sidecar.
    Needed(String),
    /// Its `ConfigMap` was changed or deleted.
    Changed(String),
    /// Another certificate belongs into all of them.
    Replaced,
    /// These namespaces have a `ConfigMap` of that name, all others don't.
    Listed(HashSet<String>),
}

/// Where such events go.
pub(crate) type CaEvents = mpsc::UnboundedSender<CaEvent>;

/// Keeps the `ConfigMap`s of the namespaces that come in, and that of `own`; calls `changed` with each namespace whose
/// state did. Runs for ever.
pub(crate) async fn keep(
    config_maps: ConfigMaps,
    own: String,
    mut events: mpsc::UnboundedReceiver<CaEvent>,
    (leadership, trust): (Leadership, Trust),
    bundles: CaBundles,
    changed: impl Fn(&str),
) {
    let mut schedule = Schedule::default();
    schedule.observe(CaEvent::Needed(own), Instant::now());
    loop {
        let next = schedule.next();
        let is_due = async {
            trust.publishable(&leadership).await;
            match next {
                Some(at) => sleep_until(at).await,
                None => std::future::pending().await,
            }
        };
        // Also while another replica leads, so that nothing piles up.
        tokio::select! {
            event = events.recv() => match event {
                Some(event) => schedule.observe(event, Instant::now()),
                None => return,
            },
            () = is_due => if let Some(namespace) = schedule.due(Instant::now()) {
                let outcome = config_maps.ensure(&namespace).await;
                if bundles.record(&namespace, &outcome) {
                    changed(&namespace);
                }
                schedule.record(namespace, &outcome, Instant::now());
            },
        }
    }
}

/// When each namespace is looked at.
#[derive(Debug, Default)]
struct Schedule(HashMap<String, Look>);

#[derive(Debug, Clone, Copy)]
struct Look {
    next: Instant,
    last: Option<Instant>,
    failures: u32,
    /// Schedule because of changes since the `ConfigMap` was last left alone.
    hurries: u32,
    /// Whether the next look is one of them already.
    hurried: bool,
    changed: Option<Instant>,
}

impl Schedule {
    fn observe(&mut self, event: CaEvent, now: Instant) {
        match event {
            CaEvent::Needed(namespace) => {
                let look = self.0.entry(namespace).or_insert(Look::new(now));
                // What can't be written now can't either because there is one more pod.
                if look.failures == 0 {
                    look.soon(now, FRESH_FOR.max(look.pause_of_changes(now)));
                }
            }
            CaEvent::Changed(namespace) => self.changed(&namespace, now),
            CaEvent::Replaced => self.0.values_mut().for_each(|look| look.next = now),
            CaEvent::Listed(present) => {
                let known = self.0.iter();
                let is_lost =
                    |(namespace, look): &(&String, &Look)| look.failures == 0 && !present.contains(*namespace);
                let lost: Vec<String> = known.filter(is_lost).map(|(namespace, _)| namespace.clone()).collect();
                for namespace in lost {
                    self.changed(&namespace, now);
                }
            }
        }
    }

    fn changed(&mut self, namespace: &str, now: Instant) {
        if let Some(look) = self.0.get_mut(namespace) {
            look.changed(now);
        }
    }

    /// When the next one is due.
    fn next(&self) -> Option<Instant> {
        self.0.values().map(|look| look.next).min()
    }

    /// The namespace that has been due for longest.
    fn due(&self, now: Instant) -> Option<String> {
        let due = self.0.iter().filter(|(_, look)| look.next <= now);
        due.min_by_key(|(_, look)| look.next)
            .map(|(namespace, _)| namespace.clone())
    }

    fn record(&mut self, namespace: String, outcome: &Outcome, now: Instant) {
        if *outcome == Outcome::Gone {
            self.0.remove(&namespace);
            return;
        }
        let look = self.0.entry(namespace).or_insert(Look::new(now));
        look.failures = match outcome {
            Outcome::Missing(_) => look.failures.saturating_add(1),
            // Due at once when this replica leads again.
            Outcome::NotLeading => return,
            Outcome::Right | Outcome::Gone => 0,
        };
        let rest = match look.failures {
            0 => SWEEP_EVERY,
            failures => pause(failures).min(LONGEST_PAUSE),
        };
        look.next = now + rest;
        look.last = Some(now);
        look.hurried = false;
    }
}

impl Look {
    const fn new(next: Instant) -> Self {
        Self {
            next,
            last: None,
            failures: 0,
            hurries: 0,
            hurried: false,
            changed: None,
        }
    }

    /// The first change is looked at at once. Frequent changes get ever fewer looks and writes; our own
    /// writes are changes too.
    fn changed(&mut self, now: Instant) {
        let pause = self.pause_of_changes(now);
        if self.is_quiet(now) {
            self.hurries = 0;
        }
        self.changed = Some(now);
        if !self.hurried {
            self.soon(now, pause);
            self.hurries = self.hurries.saturating_add(1);
            self.hurried = true;
        }
    }

    fn is_quiet(&self, now: Instant) -> bool {
        self.changed.is_none_or(|changed| now > changed + QUIET_PERIOD)
    }

    /// The least time between two looks, by how often the `ConfigMap` was changed of late.
    fn pause_of_changes(&self, now: Instant) -> Duration {
        let hurries = if self.is_quiet(now) { 0 } else { self.hurries };
        pause(hurries).min(LONGEST_PAUSE)
    }

    /// Now, but not sooner than `after` the last one.
    fn soon(&mut self, now: Instant, after: Duration) {
        let soonest = self.last.map_or(now, |last| now.max(last + after));
        self.next = self.next.min(soonest);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pki::config_maps::Missing;

    fn missing(message: &str) -> Outcome {
        Outcome::Missing(Missing {
            reason: "NotWritten",
            message: message.into(),
        })
    }

    fn needed() -> CaEvent {
        CaEvent::Needed("shop".into())
    }

    fn changed() -> CaEvent {
        CaEvent::Changed("shop".into())
    }

    /// Seconds until the next look.
    fn pause_of(schedule: &Schedule, now: Instant) -> Option<u64> {
        schedule
            .next()
            .map(|next| next.saturating_duration_since(now).as_secs())
    }

    #[tokio::test(start_paused = true)]
    async fn a_failed_write_is_retried_ever_more_rarely() {
        let (mut schedule, mut now) = (Schedule::default(), Instant::now());
        schedule.observe(needed(), now);
        let mut pauses = Vec::new();
        for _ in 0..8 {
            assert_eq!(schedule.due(now).as_deref(), Some("shop"));
            schedule.record("shop".into(), &missing("quota"), now);
            schedule.observe(needed(), now);
            let pause = pause_of(&schedule, now).unwrap();
            pauses.push(pause);
            now += Duration::from_secs(pause);
        }
        assert_eq!(
            pauses,
            [1, 2, 4, 8, 16, 32, 60, 60],
            "pods that come meanwhile change nothing"
        );
        schedule.record("shop".into(), &Outcome::Right, now);
        assert_eq!(pause_of(&schedule, now), Some(300));
        schedule.record("shop".into(), &missing("quota"), now);
        assert_eq!(pause_of(&schedule, now), Some(1));
    }

    #[tokio::test(start_paused = true)]
    async fn another_ca_is_written_everywhere_at_once() {
        let (mut schedule, now) = (Schedule::default(), Instant::now());
        schedule.observe(needed(), now);
        schedule.record("shop".into(), &Outcome::Right, now);
        schedule.observe(CaEvent::Replaced, now);
        assert_eq!(schedule.due(now).as_deref(), Some("shop"));
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_was_deleted_is_looked_at_within_a_second() {
        let (mut schedule, now) = (Schedule::default(), Instant::now());
        schedule.observe(changed(), now);
        assert_eq!(schedule.next(), None, "nobody needs it there");
        schedule.observe(needed(), now);
        schedule.record("shop".into(), &Outcome::Right, now);
        schedule.observe(changed(), now);
        assert_eq!(pause_of(&schedule, now), Some(1));
        schedule.record("shop".into(), &Outcome::Right, now);
        let later = now + Duration::from_secs(100);
        schedule.observe(changed(), later);
        assert_eq!(schedule.due(later).as_deref(), Some("shop"));
    }

    /// Seconds between the looks while the `ConfigMap` is changed each second, and each look comes to `outcome`.
    fn pauses_under_changes(outcome: &Outcome) -> Vec<u64> {
        let (mut schedule, mut now) = (Schedule::default(), Instant::now());
        schedule.observe(needed(), now);
        schedule.record("shop".into(), outcome, now);
        now += 2 * QUIET_PERIOD;
        let (mut pauses, mut pause) = (Vec::new(), 0);
        while pauses.len() < 10 {
            schedule.observe(changed(), now);
            schedule.observe(needed(), now);
            if schedule.due(now).is_some() {
                schedule.record("shop".into(), outcome, now);
                pauses.push(std::mem::take(&mut pause));
            }
            now += Duration::from_secs(1);
            pause += 1;
        }
        pauses
    }

    #[tokio::test(start_paused = true)]
    async fn changes_without_end_are_looked_at_ever_more_rarely() {
        let wanted = [0, 1, 2, 4, 8, 16, 32, 60, 60, 60];
        assert_eq!(pauses_under_changes(&Outcome::Right), wanted);
        assert_eq!(pauses_under_changes(&missing("quota")), wanted);
    }

    #[tokio::test(start_paused = true)]
    async fn after_a_quiet_minute_a_change_is_looked_at_at_once() {
        let (mut schedule, mut now) = (Schedule::default(), Instant::now());
        schedule.observe(needed(), now);
        for _ in 0..20 {
            schedule.record("shop".into(), &Outcome::Right, now);
            schedule.observe(changed(), now);
        }
        assert_eq!(pause_of(&schedule, now), Some(60));
        now += QUIET_PERIOD;
        schedule.record("shop".into(), &Outcome::Right, now);
        now += Duration::from_secs(1);
        schedule.observe(changed(), now);
        assert_eq!(schedule.due(now).as_deref(), Some("shop"));
    }

    #[tokio::test(start_paused = true)]
    async fn a_new_list_shows_which_were_lost_unseen() {
        let (mut schedule, now) = (Schedule::default(), Instant::now());
        for namespace in ["has", "lost"] {
            schedule.observe(CaEvent::Needed(namespace.into()), now);
            schedule.record(namespace.into(), &Outcome::Right, now);
        }
        let later = now + Duration::from_secs(10);
        schedule.observe(CaEvent::Listed(HashSet::from(["has".to_owned()])), later);
        assert_eq!(schedule.due(later).as_deref(), Some("lost"));
        schedule.record("lost".into(), &Outcome::Right, later);
        assert_eq!(schedule.due(later), None);
    }

    #[tokio::test(start_paused = true)]
    async fn a_crowd_of_pods_is_one_look_in_ten_seconds() {
        let (mut schedule, now) = (Schedule::default(), Instant::now());
        schedule.observe(needed(), now);
        schedule.record("shop".into(), &Outcome::Right, now);
        schedule.observe(needed(), now);
        assert_eq!(pause_of(&schedule, now), Some(10));
        schedule.record("shop".into(), &Outcome::Gone, now);
        assert_eq!(schedule.next(), None);
    }
}
