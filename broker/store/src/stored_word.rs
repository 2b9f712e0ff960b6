//! Words of closed sets, as a store holds them.

use super::{Result, StoreError};

/// A word of a closed set, as the store holds it.
pub trait FromStored: Sized {
    /// What it is, for the error.
    const WHAT: &'static str;

    /// The value with this name.
    fn from_text(text: &str) -> Option<Self>;

    /// Reads a stored word.
    ///
    /// # Errors
    /// When the store holds another word.
    fn from_stored(text: &str) -> Result<Self> {
        Self::from_text(text).ok_or_else(|| StoreError::Corrupt {
            what: Self::WHAT,
            why: format!("{text:?}"),
        })
    }
}
