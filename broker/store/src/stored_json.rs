//! Columns of JSON text.

use crate::{Attested, Result, StoreError};

fn corrupt(what: &'static str, error: &serde_json::Error) -> StoreError {
    StoreError::Corrupt {
        what,
        why: error.to_string(),
    }
}

/// Writes a value as JSON text.
///
/// # Errors
/// When it can't be written.
pub fn to_json<T: serde::Serialize>(what: &'static str, value: &T) -> Result<String> {
    serde_json::to_string(value).map_err(|error| corrupt(what, &error))
}

/// Reads a value from JSON text.
///
/// # Errors
/// When the text holds no such value.
pub fn from_json<T: serde::de::DeserializeOwned>(what: &'static str, text: &str) -> Result<T> {
    serde_json::from_str(text).map_err(|error| corrupt(what, &error))
}

/// Reads the optional attestation column.
///
/// # Errors
/// When the text holds none.
pub fn attested(text: Option<String>) -> Result<Option<Attested>> {
    text.map(|text| from_json("attestation", &text)).transpose()
}
