//! When things are due: back-off and jitter.

use std::sync::Arc;
use std::time::Duration;

use agentwrit_protocol::{Entropy, lower_hex};

/// First pause after a failure.
const FIRST_PAUSE: Duration = Duration::from_secs(1);

/// Between two validations: with the answer and the renewal that follows, a revocation is felt within 30 s.
pub(crate) const VALIDATION: Pause = Pause::of_seconds(24, 29);
/// Between two registrations of a quarantined pod.
pub(crate) const QUARANTINE: Pause = Pause::of_seconds(54, 60);
/// Longest pause after a refusal.
pub(crate) const REFUSED_CAP: Duration = Duration::from_mins(1);
/// Longest pause of a pod without a token while the broker is away. All that wait come within it when the broker is back:
/// 10,000 are at most twice what arrives on other days (`tests/herd`).
pub(crate) const AWAY_CAP: Duration = Duration::from_secs(80);
/// The same of a pod whose token still stands.
pub(crate) const STANDING_CAP: Duration = Duration::from_secs(30);
/// A token is renewed when this share of its life, in thousandths, is over; the span is drawn on top.
const RENEWAL_SHARE: u32 = 750;
const RENEWAL_SPAN: u32 = 100;
/// The first one after a registration or an outage is drawn from a wider span, down to this share: pods that were served
/// together don't come together again a life later.
const FIRST_RENEWAL_SHARE: u32 = 400;

/// The bounds of a pause that is drawn by chance, both included.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pause {
    shortest: Duration,
    longest: Duration,
}

impl Pause {
    const fn of_seconds(shortest: u64, longest: u64) -> Self {
        Self {
            shortest: Duration::from_secs(shortest),
            longest: Duration::from_secs(longest),
        }
    }
}

/// Draws delays from a source of randomness, so that many pods don't act in the same moment.
#[derive(Clone)]
pub(crate) struct Schedule {
    entropy: Arc<dyn Entropy>,
}

impl Schedule {
    pub(crate) fn new(entropy: Arc<dyn Entropy>) -> Self {
        Self { entropy }
    }

    /// A number from 0 to `most`, both included; the middle when the generator fails.
    fn up_to(&self, most: u64) -> u64 {
        let mut bytes = [0_u8; 4];
        let draw = match self.entropy.fill(&mut bytes) {
            Ok(()) => u32::from_le_bytes(bytes),
            Err(_) => u32::MAX / 2,
        };
        u64::try_from(u128::from(draw) * u128::from(most) / u128::from(u32::MAX)).unwrap_or(most)
    }

    /// A pause within its bounds, in whole milliseconds from the shortest on.
    pub(crate) fn draw(&self, Pause { shortest, longest }: Pause) -> Duration {
        let span = longest.saturating_sub(shortest).as_millis();
        shortest.saturating_add(Duration::from_millis(
            self.up_to(u64::try_from(span).unwrap_or(u64::MAX)),
        ))
    }

    /// How old a token with this life becomes before it is renewed.
    pub(crate) fn renewal_age(&self, life: Duration) -> Duration {
        self.age_from(RENEWAL_SHARE, life)
    }

    /// The same of a token that many other pods may have got in the same minute.
    pub(crate) fn first_renewal_age(&self, life: Duration) -> Duration {
        self.age_from(FIRST_RENEWAL_SHARE, life)
    }

    fn age_from(&self, least: u32, life: Duration) -> Duration {
        let span = (RENEWAL_SHARE + RENEWAL_SPAN).saturating_sub(least);
        let drawn = u32::try_from(self.up_to(span.into())).unwrap_or(span);
        life.saturating_mul(least + drawn) / 1_000
    }

    /// The pause after the `failures`-th failure in a row: doubles from 1 s up to `cap`, the upper half by chance,
    /// and never shorter than what the broker asked for.
    pub(crate) fn back_off(&self, failures: u32, cap: Duration, asked: Option<Duration>) -> Duration {
        let longest = FIRST_PAUSE
            .saturating_mul(1 << failures.saturating_sub(1).min(16))
            .min(cap);
        let pause = Pause {
            shortest: longest / 2,
            longest,
        };
        self.draw(pause)
            .max(asked.unwrap_or_default().min(cap.saturating_mul(10)))
    }

    /// Sixteen unpredictable bytes in hex; `None` when the generator fails.
    pub(crate) fn random_key(&self) -> Option<String> {
        let mut bytes = [0_u8; 16];
        self.entropy.fill(&mut bytes).ok().map(|()| lower_hex(bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use agentwrit_protocol::clock::SequenceEntropy;

    #[test]
    fn back_off_doubles_to_its_cap_and_heeds_the_broker() {
        let schedule = Schedule::new(Arc::new(SequenceEntropy::default()));
        let back_off = |failures, asked| schedule.back_off(failures, Duration::from_mins(1), asked);
        for (failures, low, high) in [
            (1, 500, 1_000),
            (2, 1_000, 2_000),
            (5, 8_000, 16_000),
            (60, 30_000, 60_000),
        ] {
            let pause = back_off(failures, None).as_millis();
            assert!((low..=high).contains(&pause), "{failures}: {pause}");
        }
        assert_eq!(back_off(1, Some(Duration::from_secs(20))), Duration::from_secs(20));
        assert_eq!(back_off(1, Some(Duration::MAX)), Duration::from_mins(10));
    }

    #[test]
    fn a_first_renewal_is_drawn_from_a_wider_span() {
        let schedule = Schedule::new(Arc::new(SequenceEntropy::default()));
        let life = Duration::from_secs(1_000);
        let bounds = |draw: &dyn Fn() -> Duration| {
            let ages: Vec<u64> = (0..500).map(|_| draw().as_secs()).collect();
            (*ages.iter().min().unwrap(), *ages.iter().max().unwrap())
        };
        let (least, most) = bounds(&|| schedule.renewal_age(life));
        assert!(
            (750..760).contains(&least) && (840..=850).contains(&most),
            "{least} {most}"
        );
        let (least, most) = bounds(&|| schedule.first_renewal_age(life));
        assert!(
            (400..410).contains(&least) && (840..=850).contains(&most),
            "{least} {most}"
        );
    }

    #[test]
    fn draws_stay_in_range_and_differ() {
        let schedule = Schedule::new(Arc::new(SequenceEntropy::default()));
        let pause = Pause::of_seconds(10, 20);
        let draws: Vec<Duration> = (0..50).map(|_| schedule.draw(pause)).collect();
        assert!(draws.iter().all(|draw| (pause.shortest..=pause.longest).contains(draw)));
        assert!(draws.iter().any(|draw| *draw != Duration::from_secs(15)));
        assert_ne!(schedule.random_key(), schedule.random_key());
    }
}
