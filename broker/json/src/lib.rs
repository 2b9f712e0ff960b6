//! Reads JSON bodies of requests with the tolerance and the strictness of `docs/wire-contract.md` §3.
//!
//! [`read`] reads a whole body; [`Raw`] is a value in it that is read later, or not at all.
#![deny(missing_docs)]

mod misfit;
mod raw;
mod scan;
mod text;

use serde::Deserialize;

pub use misfit::Misfit;
pub use raw::Raw;
use raw::Whole;
use scan::Scanner;

/// What follows the first value of a body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trailing {
    /// Nothing but white space may.
    Refused,
    /// It is not looked at.
    Ignored,
}

/// Why a body can't be read into a type.
#[derive(Debug, thiserror::Error)]
pub enum Unreadable {
    /// It does not begin with a JSON object or `null`, or goes on after it.
    #[error("malformed JSON body")]
    Malformed,
    /// It does not fit the type.
    #[error("malformed body: {0}")]
    Misfit(Misfit),
}

impl Unreadable {
    /// The text for clients of endpoints that don't name what does not fit, but for a list that is too long.
    pub fn brief(&self) -> String {
        match self {
            Self::Misfit(misfit) if misfit.is_length() => misfit.to_string(),
            Self::Malformed | Self::Misfit(_) => Self::Malformed.to_string(),
        }
    }
}

impl From<Misfit> for Unreadable {
    fn from(misfit: Misfit) -> Self {
        if misfit.is_not_json() {
            Self::Malformed
        } else {
            Self::Misfit(misfit)
        }
    }
}

/// Reads a body: lossy UTF-8, one value, `null` as `{}`, of members with one name the last one.
///
/// # Errors
/// What does not fit, or that it is no JSON.
pub fn read<'de, T: Deserialize<'de>>(body: &'de [u8], trailing: Trailing) -> Result<T, Unreadable> {
    let mut scanner = Scanner::new(body);
    let value = if scanner.peek() == Some(b'{') {
        T::deserialize(Whole(&mut scanner))?
    } else {
        let value = scanner.value().map_err(Misfit::from)?;
        if !value.is_null() || !ends_a_word(scanner.next_byte()) {
            return Err(Unreadable::Malformed);
        }
        Raw::EMPTY_OBJECT.read()?
    };
    if trailing == Trailing::Refused && scanner.peek().is_some() {
        return Err(Unreadable::Malformed);
    }
    Ok(value)
}

/// Whether a word such as `null` is over before this byte.
fn ends_a_word(next: Option<u8>) -> bool {
    next.is_none_or(|byte| {
        matches!(
            byte,
            b' ' | b'\t' | b'\n' | b'\r' | b'"' | b'[' | b']' | b'{' | b'}' | b',' | b':'
        )
    })
}

#[cfg(test)]
mod against_reference;
#[cfg(test)]
mod reference;
#[cfg(test)]
mod tests;
