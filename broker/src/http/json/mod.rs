//! JSON bodies, with the tolerance and the strictness of `docs/wire-contract.md` §3.

mod misfit;
mod raw;
mod scan;
mod text;

use agentwrit_protocol::go_json::to_line;
use axum::body::Body;
use axum::response::Response;
use http::{HeaderValue, StatusCode};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::error::ApiError;
use raw::Whole;
use scan::Scanner;

pub(super) use misfit::Misfit;
pub(super) use raw::Raw;

/// What follows the first value of a body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trailing {
    /// Nothing but white space may.
    Refused,
    /// It is not looked at.
    Ignored,
}

/// Reads a body: lossy UTF-8, one value, `null` as `{}`, of members with one name the last one.
///
/// # Errors
/// 400 `malformed JSON body`, or the list that has too many items.
pub fn read<T: DeserializeOwned>(body: &[u8], trailing: Trailing) -> Result<T, ApiError> {
    read_named(body, trailing).map_err(|error| match error {
        Unreadable::Misfit(misfit) if misfit.is_length() => ApiError::invalid(misfit.to_string()),
        Unreadable::Malformed | Unreadable::Misfit(_) => ApiError::invalid(Unreadable::Malformed.to_string()),
    })
}

/// Reads a body into a type that borrows its texts. `None` says nothing: one of them may have to be copied.
pub(super) fn parse_usual<'de, T: Deserialize<'de>>(body: &'de [u8], trailing: Trailing) -> Option<T> {
    read_named(body, trailing).ok()
}

/// Why a body can't be read into a type.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unreadable {
    /// It does not begin with a JSON object or `null`, or goes on after it.
    #[error("malformed JSON body")]
    Malformed,
    /// It does not fit the type.
    #[error("malformed body: {0}")]
    Misfit(Misfit),
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

/// Reads a body like [`read`], and says what does not fit.
pub(super) fn read_named<'de, T: Deserialize<'de>>(body: &'de [u8], trailing: Trailing) -> Result<T, Unreadable> {
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

/// A success with a JSON body.
pub fn reply<T: Serialize>(status: StatusCode, value: &T) -> Response {
    reply_text(status, to_line(value))
}

/// A success with a body that is JSON and ends with a line feed.
pub fn reply_text(status: StatusCode, line: impl Into<Body>) -> Response {
    let mut response = Response::new(line.into());
    *response.status_mut() = status;
    response
        .headers_mut()
        .insert(http::header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

#[cfg(test)]
mod against_reference;
#[cfg(test)]
mod reference;
#[cfg(test)]
mod tests;
