//! What a person says at a start.

/// What a person knows better than the store.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Declared {
    /// The store was put back from a copy (`--restored`).
    pub restored: bool,
    /// The wall clock is right (`--accept-clock`).
    pub accept_clock: bool,
}
