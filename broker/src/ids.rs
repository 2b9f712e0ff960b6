//! New ids: of time and randomness, which are passed in.

use std::sync::Arc;

use agentwrit_protocol::{Clock, Entropy, EntropyError, PodUid, lower_hex};

use agentwrit_store::session::{ID_TIME_DIGITS, pod_mark};

/// Ids made within so many milliseconds are neighbours in their index: with 6,000 a second on a few pages. The count
/// begins again after 18 hours.
const PREFIX_MILLIS: i64 = 64;

/// Makes new ids.
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

    /// The beginning of an id (see [`agentwrit_store::session::ID_PREFIX`]): 5 digits of the time, 11 random ones. That of
    /// a session of a pod has the pod's mark after the time, when its UID has one.
    ///
    /// # Errors
    /// When there is no randomness.
    pub fn new_id_prefix(&self, pod_uid: Option<&PodUid>) -> Result<String, EntropyError> {
        let when = self
            .clock
            .unix_millis()
            .get()
            .div_euclid(PREFIX_MILLIS)
            .rem_euclid(0x10_0000);
        let mut prefix = format!("{when:0ID_TIME_DIGITS$x}");
        prefix.push_str(pod_uid.and_then(pod_mark).unwrap_or_default());
        let random = self.random_hex::<8>()?;
        prefix.push_str(random.get(prefix.len()..).unwrap_or_default());
        Ok(prefix)
    }

    /// The id of 32 characters that has this prefix.
    ///
    /// # Errors
    /// When there is no randomness.
    pub fn random_id<T: From<String>>(&self, prefix: &str) -> Result<T, EntropyError> {
        Ok(format!("{prefix}{}", self.random_hex::<8>()?).into())
    }
}
