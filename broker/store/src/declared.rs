//! What a person says at a start.

use agentwrit_protocol::UnixSeconds;

/// That the store was put back from a copy.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum PutBack {
    /// Nobody says so.
    #[default]
    No,
    /// It was, before this start (`--restored`).
    BeforeThisStart,
    /// It was, at this time (`--restored=TIME`): however many brokers start with it, and however often, one epoch begins.
    At(UnixSeconds),
}

impl PutBack {
    /// Whether anybody says so.
    pub fn is_said(self) -> bool {
        self != Self::No
    }

    /// Whether it is news to a store that refuses all tokens from before `min_iat`: no epoch has begun since.
    pub fn is_news(self, min_iat: UnixSeconds) -> bool {
        match self {
            Self::No => false,
            Self::BeforeThisStart => true,
            Self::At(time) => min_iat < time,
        }
    }
}

/// What a person knows better than the store.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Declared {
    /// The store was put back from a copy.
    pub restored: PutBack,
    /// The wall clock is right (`--accept-clock`).
    pub accept_clock: bool,
    /// The store has moved to this installation (`--adopt-installation`).
    pub adopt_installation: bool,
}

/// Whose brokers these are, by their settings. A store is one installation's: two that shared one by mistake would end each
/// other's agents.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Installation {
    /// `AA_INSTALLATION`; `None` is never compared.
    pub name: Option<String>,
    /// `AA_TRUST_DOMAIN`.
    pub trust_domain: String,
}

impl Default for Installation {
    fn default() -> Self {
        Self {
            name: None,
            trust_domain: "agentwrit.local".to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_restore_with_a_time_is_news_until_an_epoch_begins() {
        let second = UnixSeconds::new;
        for (said, min_iat, news) in [
            (PutBack::No, 0, false),
            (PutBack::BeforeThisStart, 100, true),
            (PutBack::At(second(100)), 0, true),
            (PutBack::At(second(100)), 99, true),
            (PutBack::At(second(100)), 100, false),
            (PutBack::At(second(100)), 101, false),
        ] {
            assert_eq!(said.is_news(second(min_iat)), news, "{said:?} {min_iat}");
            assert_eq!(said.is_said(), said != PutBack::No);
        }
    }
}
