//! What a person says at a start.

/// What a person knows better than the store.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Declared {
    /// The store was put back from a copy (`--restored`).
    pub restored: bool,
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
