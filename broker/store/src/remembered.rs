//! What is remembered of a store outside it, by which a store that was put back from a copy is noticed.

use agentwrit_protocol::StoreMark;

/// What is remembered of the store outside it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Remembered {
    /// Nothing: there is no mark yet.
    Nothing,
    /// Where it stood.
    Mark(StoreMark),
    /// There is something that can't be read, and why.
    Unreadable(String),
}

impl Remembered {
    /// What a text says.
    pub fn from_text(text: &str) -> Self {
        match StoreMark::parse(text) {
            Ok(mark) => Self::Mark(mark),
            Err(error) => Self::Unreadable(error.to_string()),
        }
    }
}

/// What a comparison with a mark found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Compared {
    /// The mark of the store as it is now.
    pub mark: StoreMark,
    /// Whether it was found to be a restored one, and has begun again.
    pub restored: bool,
}
