//! New ids: of time and randomness, which are passed in.

use std::sync::Arc;

use agentwrit_protocol::{Clock, Entropy, EntropyError, lower_hex};

use agentwrit_store::session::{STEM_TIME, pod_mark};

/// Stems of the same so many milliseconds stand beside each other in their index: with 6,000 a second on a few pages.
/// After 18 hours they begin again.
const STEM_MILLIS: i64 = 64;

/// Makes ids that nobody else has.
pub struct IdGenerator {
    clock: Arc<dyn Clock>,
    entropy: Arc<dyn Entropy>,
}

impl IdGenerator {
    /// Ids of this clock and this randomness.
    pub fn new(clock: Arc<dyn Clock>, entropy: Arc<dyn Entropy>) -> Self {
        Self { clock, entropy }
    }

    /// `N` random bytes as lower hex.
    ///
    /// # Errors
    /// When there is no randomness.
    pub fn random_hex<const N: usize>(&self) -> Result<String, EntropyError> {
        let mut bytes = [0_u8; N];
        self.entropy.fill(&mut bytes)?;
        Ok(lower_hex(bytes))
    }

    /// A stem (see [`agentwrit_store::session::STEM`]) that nobody else has: 5 digits of the time, 11 random ones.
    ///
    /// # Errors
    /// When there is no randomness.
    pub fn new_stem(&self) -> Result<String, EntropyError> {
        self.new_stem_of("")
    }

    /// The stem of a session of this pod, with its mark; of any other session when the UID has none.
    ///
    /// # Errors
    /// When there is no randomness.
    pub fn new_stem_of(&self, pod_uid: &str) -> Result<String, EntropyError> {
        let when = self.clock.unix_millis().div_euclid(STEM_MILLIS).rem_euclid(0x10_0000);
        let mut stem = format!("{when:0STEM_TIME$x}");
        stem.push_str(pod_mark(pod_uid).unwrap_or_default());
        let random = self.random_hex::<8>()?;
        stem.push_str(random.get(stem.len()..).unwrap_or_default());
        Ok(stem)
    }

    /// The id of 32 characters that begins with a stem.
    ///
    /// # Errors
    /// When there is no randomness.
    pub fn random_id(&self, stem: &str) -> Result<String, EntropyError> {
        Ok(format!("{stem}{}", self.random_hex::<8>()?))
    }
}
