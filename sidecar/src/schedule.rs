//! When things are due: back-off and jitter, in milliseconds.

use std::sync::Arc;
use std::time::Duration;

use agentwrit_protocol::{Entropy, lower_hex};

/// First pause after a failure.
const FIRST_PAUSE_MS: i64 = 1_000;

/// Between two validations: with the answer and the renewal that follows, a revocation is felt within 30 s.
pub(crate) const VALIDATION: Pause = Pause::of_seconds(24, 29);
/// Between two registrations of a quarantined pod.
pub(crate) const QUARANTINE: Pause = Pause::of_seconds(54, 60);
/// Longest pause after a refusal.
pub(crate) const REFUSED_CAP_MS: i64 = 60_000;
/// Longest pause while the broker is away.
pub(crate) const AWAY_CAP_MS: i64 = 30_000;

/// The bounds of a pause that is drawn by chance, both included.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pause {
    shortest_ms: i64,
    longest_ms: i64,
}

impl Pause {
    const fn of_seconds(shortest: i64, longest: i64) -> Self {
        Self {
            shortest_ms: shortest * 1_000,
            longest_ms: longest * 1_000,
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

    /// A value between `low` and `high`, both included; the middle when the generator fails.
    pub(crate) fn between(&self, low: i64, high: i64) -> i64 {
        let span = high.saturating_sub(low).max(0);
        let mut bytes = [0_u8; 4];
        let draw = match self.entropy.fill(&mut bytes) {
            Ok(()) => i64::from(u32::from_le_bytes(bytes)),
            Err(_) => i64::from(u32::MAX / 2),
        };
        low + i64::try_from(i128::from(draw) * i128::from(span) / i128::from(u32::MAX)).unwrap_or(0)
    }

    /// A pause within its bounds, milliseconds.
    pub(crate) fn draw(&self, pause: Pause) -> i64 {
        self.between(pause.shortest_ms, pause.longest_ms)
    }

    /// The pause after the `failures`-th failure in a row: doubles from 1 s up to `cap`, the upper half by chance,
    /// and never shorter than what the broker asked for.
    pub(crate) fn back_off(&self, failures: u32, cap: i64, asked: Option<Duration>) -> i64 {
        let doubled = FIRST_PAUSE_MS.saturating_mul(1_i64 << failures.saturating_sub(1).min(16));
        let pause = doubled.min(cap);
        let asked = asked.map_or(0, |asked| {
            i64::try_from(asked.as_millis()).unwrap_or(i64::MAX).min(cap * 10)
        });
        self.between(pause / 2, pause).max(asked)
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
        for (failures, low, high) in [
            (1, 500, 1_000),
            (2, 1_000, 2_000),
            (5, 8_000, 16_000),
            (60, 30_000, 60_000),
        ] {
            let pause = schedule.back_off(failures, 60_000, None);
            assert!((low..=high).contains(&pause), "{failures}: {pause}");
        }
        assert_eq!(schedule.back_off(1, 60_000, Some(Duration::from_secs(20))), 20_000);
        assert!(schedule.back_off(1, 60_000, Some(Duration::from_secs(u64::MAX))) <= 600_000);
    }

    #[test]
    fn draws_stay_in_range_and_differ() {
        let schedule = Schedule::new(Arc::new(SequenceEntropy::default()));
        let draws: Vec<i64> = (0..50).map(|_| schedule.between(10, 20)).collect();
        assert!(draws.iter().all(|draw| (10..=20).contains(draw)));
        assert!(draws.iter().any(|draw| *draw != 15));
        assert_ne!(schedule.random_key(), schedule.random_key());
    }
}
