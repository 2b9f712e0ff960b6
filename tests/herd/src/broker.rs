//! A model of the broker: it answers after some milliseconds, is away, or has more launches than it can serve.

use std::ops::Range;
use std::time::Duration;

use agentwrit_client::Class;

use crate::random::Random;
use crate::scenario::Scenario;

/// One HTTP request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Request {
    Launch,
    Challenge,
    Register,
    Renew,
    Validate,
}

/// An answer, and after how many milliseconds it comes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Answer {
    pub(crate) after: u64,
    pub(crate) outcome: Result<(), Class>,
}

/// A launch waits so long for its turn at the API server, then it is 503.
const TURN: u64 = 5_000;
/// `Retry-After` of a 503.
const BUSY: Duration = Duration::from_secs(1);

pub(crate) struct Broker {
    away: Range<u64>,
    /// What a request meets meanwhile.
    meets: Class,
    /// Microseconds of the API server that a launch takes; 0 when there is no bound.
    launch_takes: u64,
    /// Until when launches have their turns, microseconds.
    launches_until: u64,
    random: Random,
}

impl Broker {
    pub(crate) fn new(scenario: &Scenario) -> Self {
        let away = &scenario.away;
        Self {
            away: away.start * 1_000..away.end * 1_000,
            meets: Class::Retry(scenario.answers_503.then_some(BUSY)),
            launch_takes: scenario.launches_a_second.map_or(0, |rate| 1_000_000 / rate.max(1)),
            launches_until: 0,
            random: Random::seeded(scenario.seed),
        }
    }

    pub(crate) fn is_away(&self, now: u64) -> bool {
        self.away.contains(&now)
    }

    /// Whether it has been there for the last `span` milliseconds.
    pub(crate) fn there_for(&self, span: u64, now: u64) -> bool {
        let since = now.saturating_sub(span);
        !(self.away.start < now && since < self.away.end)
    }

    pub(crate) fn answer(&mut self, request: Request, now: u64) -> Answer {
        if self.is_away(now) {
            return Answer {
                after: 1,
                outcome: Err(self.meets),
            };
        }
        let mut after = self.random.between(2, 12);
        if request == Request::Launch {
            let micros = now.saturating_mul(1_000);
            let begins = self.launches_until.max(micros);
            let wait = (begins - micros) / 1_000;
            if wait > TURN {
                return Answer {
                    after: TURN,
                    outcome: Err(Class::Retry(Some(BUSY))),
                };
            }
            self.launches_until = begins + self.launch_takes;
            after += wait;
        }
        Answer { after, outcome: Ok(()) }
    }
}

/// The rate of launches of one pod: one in 10 s, three at once.
#[derive(Debug, Default)]
pub(crate) struct LaunchRate {
    used_until: u64,
}

impl LaunchRate {
    const EVERY: u64 = 10_000;
    const AT_ONCE: u64 = 3;
    /// The refusal of a launch beyond it.
    pub(crate) const REFUSAL: Class = Class::RateLimited(Some(Duration::from_secs(10)));

    pub(crate) fn allows(&mut self, now: u64) -> bool {
        let allowed = self.used_until <= now.saturating_add(Self::EVERY * (Self::AT_ONCE - 1));
        if allowed {
            self.used_until = self.used_until.max(now) + Self::EVERY;
        }
        allowed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn broker(away: Range<u64>, launches_a_second: Option<u64>) -> Broker {
        Broker::new(&Scenario {
            away,
            launches_a_second,
            ..Scenario::named("outage", 1).unwrap()
        })
    }

    #[test]
    fn it_is_away_when_it_should_be_and_then_not() {
        let mut broker = broker(1..2, None);
        for (now, there) in [(0, true), (999, true), (1_000, false), (1_999, false), (2_000, true)] {
            assert_eq!(broker.answer(Request::Renew, now).outcome.is_ok(), there, "{now}");
        }
        for (now, long) in [(900, true), (1_500, false), (2_099, false), (2_100, true)] {
            assert_eq!(broker.there_for(100, now), long, "{now}");
        }
    }

    #[test]
    fn launches_beyond_its_turns_are_refused_with_503() {
        let mut broker = broker(0..0, Some(10));
        let refused = |broker: &mut Broker, now| {
            let answer = broker.answer(Request::Launch, now);
            answer.outcome == Err(Class::Retry(Some(BUSY)))
        };
        let first = (0..100).filter(|_| refused(&mut broker, 0)).count();
        assert_eq!(first, 49, "51 have a turn within 5 s");
        assert!(!refused(&mut broker, 1_000), "and later there are turns again");
    }

    #[test]
    fn a_pod_launches_three_times_at_once_then_each_ten_seconds() {
        let mut rate = LaunchRate::default();
        let allowed: Vec<bool> = [0, 1, 2, 3, 9_999, 10_000, 10_001].map(|now| rate.allows(now)).into();
        assert_eq!(allowed, [true, true, true, false, false, true, false]);
    }
}
