//! SPIFFE ids of agents: `spiffe://<trust domain>/agent/<orch_id>/<task_id>/<instance>`.
//!
//! Source: SPIFFE-ID specification §2, with the narrower alphabet of `docs/wire-contract.md` §14.3.

use std::fmt;

use serde::Serialize;

use crate::excerpt::excerpt;
use crate::ids::{OrchId, TaskId};

/// The longest path segment, in bytes.
pub const MAX_SEGMENT_BYTES: usize = 253;
/// The longest whole id, in bytes (SPIFFE-ID §2.3).
pub const MAX_ID_BYTES: usize = 2048;

/// Why an id can't be built or read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SpiffeIdError {
    /// The trust domain is empty or holds an illegal character.
    #[error("trust domain {0:?} must be non-empty, at most 255 bytes, of a-z, 0-9, '.', '_' and '-'")]
    TrustDomain(String),
    /// A segment is empty, `.`/`..`, too long, or holds an illegal character.
    #[error("{field} {value:?} must be 1 to 253 bytes of A-Z, a-z, 0-9, '.', '_' and '-', and not '.' or '..'")]
    Segment {
        /// Which part: `orch_id`, `task_id` or `instance`.
        field: &'static str,
        /// The value as given; of a long one the beginning.
        value: String,
    },
    /// The whole id is longer than 2048 bytes.
    #[error("the SPIFFE id would be longer than 2048 bytes")]
    TooLong,
    /// The text is not an agent's SPIFFE id.
    #[error("{0:?} is not of the form spiffe://<trust domain>/agent/<orch_id>/<task_id>/<instance>")]
    Format(String),
}

/// Checks a trust domain.
///
/// # Errors
/// When it is empty, longer than 255 bytes, or holds a character outside `[a-z0-9._-]`.
pub fn check_trust_domain(name: &str) -> Result<(), SpiffeIdError> {
    let legal = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'.' | b'_' | b'-');
    if name.is_empty() || name.len() > 255 || !name.bytes().all(legal) {
        return Err(SpiffeIdError::TrustDomain(excerpt(name)));
    }
    Ok(())
}

/// Checks one path segment; `field` names it in the error.
///
/// # Errors
/// When it is empty, `.` or `..`, longer than 253 bytes, or holds a character outside `[A-Za-z0-9._-]`.
pub fn check_segment(field: &'static str, value: &str) -> Result<(), SpiffeIdError> {
    let legal = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
    if value.is_empty() || value == "." || value == ".." || value.len() > MAX_SEGMENT_BYTES || !value.bytes().all(legal)
    {
        return Err(SpiffeIdError::Segment {
            field,
            value: excerpt(value),
        });
    }
    Ok(())
}

/// The id of one agent instance.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct SpiffeId {
    text: String,
    orch: (usize, usize),
    task: (usize, usize),
}

impl SpiffeId {
    /// Builds an id from its parts.
    ///
    /// # Errors
    /// Names the part that is illegal.
    pub fn agent(
        trust_domain: &str,
        orch_id: &OrchId,
        task_id: &TaskId,
        instance: &str,
    ) -> Result<Self, SpiffeIdError> {
        Self::of_parts(trust_domain, orch_id, task_id, instance)
    }

    fn of_parts(trust_domain: &str, orch_id: &str, task_id: &str, instance: &str) -> Result<Self, SpiffeIdError> {
        check_trust_domain(trust_domain)?;
        check_segment("orch_id", orch_id)?;
        check_segment("task_id", task_id)?;
        check_segment("instance", instance)?;
        let orch_start = "spiffe://".len() + trust_domain.len() + "/agent/".len();
        let orch = (orch_start, orch_start + orch_id.len());
        let task = (orch.1 + 1, orch.1 + 1 + task_id.len());
        let text = format!("spiffe://{trust_domain}/agent/{orch_id}/{task_id}/{instance}");
        if text.len() > MAX_ID_BYTES {
            return Err(SpiffeIdError::TooLong);
        }
        Ok(Self { text, orch, task })
    }

    /// Reads an id.
    ///
    /// # Errors
    /// When the text is not an agent's id or one of its parts is illegal.
    pub fn parse(text: &str) -> Result<Self, SpiffeIdError> {
        let malformed = || SpiffeIdError::Format(excerpt(text));
        let rest = text.strip_prefix("spiffe://").ok_or_else(malformed)?;
        let mut parts = rest.split('/');
        match (
            parts.next(),
            parts.next(),
            parts.next(),
            parts.next(),
            parts.next(),
            parts.next(),
        ) {
            (Some(domain), Some("agent"), Some(orch), Some(task), Some(instance), None) => {
                Self::of_parts(domain, orch, task, instance)
            }
            _ => Err(malformed()),
        }
    }

    /// The whole id.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The `orch_id` segment.
    pub fn orch_id(&self) -> &str {
        self.text.get(self.orch.0..self.orch.1).unwrap_or_default()
    }

    /// The `task_id` segment.
    pub fn task_id(&self) -> &str {
        self.text.get(self.task.0..self.task.1).unwrap_or_default()
    }
}

impl fmt::Display for SpiffeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Serialize for SpiffeId {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn illegal_segments_are_named() {
        for bad in ["", ".", "..", "a b", "a/b", "a:b", "a%b", "ä", &"x".repeat(254)] {
            let error = SpiffeId::agent("agentwrit.local", &bad.into(), &"t".into(), "0123456789abcdef").unwrap_err();
            assert!(error.to_string().starts_with("orch_id "), "{bad:?}: {error}");
        }
        let error = SpiffeId::agent("agentwrit.local", &"o".into(), &"a b".into(), "0123456789abcdef").unwrap_err();
        assert!(error.to_string().starts_with("task_id "));
    }

    #[test]
    fn illegal_trust_domains_are_refused() {
        for bad in ["", "UPPER", "a b", "a/b", &"x".repeat(256)] {
            assert!(
                matches!(check_trust_domain(bad), Err(SpiffeIdError::TrustDomain(_))),
                "{bad:?}"
            );
        }
        check_trust_domain("agentwrit.local").unwrap();
    }

    #[test]
    fn foreign_shapes_are_refused() {
        for bad in [
            "",
            "spiffe://d/ns/x/sa/y",
            "spiffe://d/agent/o/t",
            "spiffe://d/agent/o/t/i/j",
            "https://d/agent/o/t/i",
        ] {
            assert!(SpiffeId::parse(bad).is_err(), "{bad:?}");
        }
    }

    proptest! {
        #[test]
        fn parts_come_back(orch in "[A-Za-z0-9_-]{1,40}", task in "[A-Za-z0-9_-]{1,40}") {
            let id = SpiffeId::agent("agentwrit.local", &orch.as_str().into(), &task.as_str().into(), "0123456789abcdef").unwrap();
            let read = SpiffeId::parse(id.as_str()).unwrap();
            prop_assert_eq!((read.orch_id(), read.task_id()), (orch.as_str(), task.as_str()));
            prop_assert_eq!(read, id);
        }
    }
}
