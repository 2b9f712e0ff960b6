//! Randomness from a seed.

use std::sync::atomic::{AtomicU64, Ordering};

use agentwrit_protocol::{Entropy, EntropyError};

const STEP: u64 = 0x9E37_79B9_7F4A_7C15;

/// `SplitMix64`: reproducible, and different for each seed.
#[derive(Debug)]
pub(crate) struct Random {
    state: AtomicU64,
}

impl Random {
    pub(crate) fn seeded(seed: u64) -> Self {
        Self {
            state: AtomicU64::new(mixed(seed)),
        }
    }

    fn next(&self) -> u64 {
        mixed(self.state.fetch_add(STEP, Ordering::Relaxed).wrapping_add(STEP))
    }

    /// From `least` to `most`, both included.
    pub(crate) fn between(&self, least: u64, most: u64) -> u64 {
        let span = u128::from(most.saturating_sub(least)) + 1;
        let drawn = (u128::from(self.next()) * span) >> 64;
        least.saturating_add(u64::try_from(drawn).unwrap_or_default())
    }
}

impl Entropy for Random {
    fn fill(&self, buffer: &mut [u8]) -> Result<(), EntropyError> {
        for chunk in buffer.chunks_mut(8) {
            for (byte, drawn) in chunk.iter_mut().zip(self.next().to_le_bytes()) {
                *byte = drawn;
            }
        }
        Ok(())
    }
}

fn mixed(state: u64) -> u64 {
    let state = (state ^ (state >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let state = (state ^ (state >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    state ^ (state >> 31)
}
