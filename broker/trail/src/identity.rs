//! Who a store is: its epoch, and the second before which no token of it is accepted.

use std::time::Duration;

use agentwrit_protocol::wall_clock::{both, disagreement, is_wrong};
use agentwrit_protocol::{Entropy, JudgingClock, Ttl, UnixSeconds, lower_hex};
use agentwrit_store::{Result, StoreError};

/// What a store says of itself.
pub struct Identity {
    /// Random text, new at creation and at every restore.
    pub epoch: String,
    /// Older tokens are refused.
    pub min_iat: UnixSeconds,
    /// Whether that is now, and nothing was issued since.
    pub fresh: bool,
    /// Whether this process made the store: it is no copy, so that what it has issued stands.
    pub made: bool,
}

impl Identity {
    /// That of a store in use, whose `min_iat` has this text.
    ///
    /// # Errors
    /// When the text is no number.
    pub fn in_use(epoch: String, min_iat: Option<&str>) -> Result<Self> {
        let text = min_iat.unwrap_or_default();
        let min_iat = text.parse().map(UnixSeconds::new).map_err(|_| StoreError::Corrupt {
            what: "min_iat",
            why: format!("{text:?} is no number"),
        })?;
        Ok(Self {
            epoch,
            min_iat,
            fresh: false,
            made: false,
        })
    }
}

/// A second that no token was issued in yet: tokens date themselves in whole ones.
pub enum UnusedSecond {
    /// This one.
    Now(UnixSeconds),
    /// The wall clock's after such a wait.
    After(Duration),
}

/// Which second no token was issued in yet.
pub fn unused_second(judging: &JudgingClock) -> UnusedSecond {
    let times = judging.observe();
    let next = times.judged.second() + Ttl::seconds(1);
    // A wall clock that is behind has issued tokens for seconds that it has yet to come to: nothing is issued until then.
    if times.judged.since(times.wall) >= Duration::from_secs(1) {
        UnusedSecond::Now(next)
    } else {
        UnusedSecond::After(next.start().since(times.wall))
    }
}

/// A new epoch.
///
/// # Errors
/// When there is no randomness.
pub fn new_epoch(entropy: &dyn Entropy) -> Result<String> {
    let mut bytes = [0_u8; 16];
    entropy.fill(&mut bytes)?;
    Ok(lower_hex(bytes))
}

/// Takes the wall clock for right when the mark is too far ahead of it, and answers both times; otherwise there is
/// nothing to accept.
pub fn accept_clock(judging: &JudgingClock, min_iat: UnixSeconds) -> Option<String> {
    let times = judging.observe();
    if !is_wrong(times, min_iat) {
        tracing::warn!(target: "STORE", component = "Clock",
            "--accept-clock changes nothing: the wall clock is not behind the store's high-water mark");
        return None;
    }
    tracing::warn!(target: "STORE", component = "Clock", "{}", disagreement(times, min_iat));
    judging.accept_wall();
    Some(both(times, min_iat))
}

/// The longest TTL that was ever in force, when it isn't the one of this text; 0 is no bound.
pub fn longer_ttl(known: Option<&str>, max_ttl: Ttl) -> Option<Ttl> {
    let known = known.and_then(|text| text.parse().ok()).map(Ttl::seconds);
    let longest = match known {
        Some(known) if known == Ttl::ZERO || max_ttl == Ttl::ZERO => Ttl::ZERO,
        Some(known) => known.max(max_ttl),
        None => max_ttl,
    };
    (known != Some(longest)).then_some(longest)
}

/// The epochs in a text, separated by spaces.
pub fn epochs_in(text: Option<&str>) -> Vec<String> {
    text.unwrap_or_default().split_whitespace().map(str::to_owned).collect()
}

/// The text with one more epoch; `None` when it is among them.
pub fn with_epoch(text: Option<&str>, epoch: &str) -> Option<String> {
    let mut known = epochs_in(text);
    if known.iter().any(|known| known == epoch) {
        return None;
    }
    known.push(epoch.to_owned());
    Some(known.join(" "))
}
