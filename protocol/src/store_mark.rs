//! Where a store stands, as somebody outside it remembers.

use serde::{Deserialize, Serialize};

use crate::audit::GENESIS_HASH;
#[cfg(feature = "openapi")]
use crate::schema;

/// Epoch of a store, and number and hash of the last event of its audit trail.
///
/// Kept outside the store (in a file, in an annotation of the controller's Lease), it shows a store that was put back
/// from a copy: the copy stands before it, or has another history.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct StoreMark {
    /// The store's epoch: 32 lower-hex digits.
    #[cfg_attr(feature = "openapi", schema(value_type = schema::Hex32))]
    pub epoch: String,
    /// Number of the last event; 0 before the first.
    #[cfg_attr(feature = "openapi", schema(minimum = 0, examples(1042)))]
    pub sequence: i64,
    /// Hash of that event: 64 lower-hex digits, all 0 before the first.
    #[cfg_attr(feature = "openapi", schema(value_type = schema::Hex64))]
    pub head: String,
}

/// A text that is no mark.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not a mark of a store: {0}")]
pub struct MalformedMark(String);

impl StoreMark {
    /// Reads a mark from its JSON text.
    ///
    /// # Errors
    /// When the text is no JSON object with the three members in their forms; names the member.
    pub fn parse(text: &str) -> Result<Self, MalformedMark> {
        let mark: Self = serde_json::from_str(text).map_err(|error| MalformedMark(error.to_string()))?;
        let hex = |text: &str, digits: usize| {
            text.len() == digits && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
        };
        let wrong = if !hex(&mark.epoch, 32) {
            "epoch must be 32 lower-hex digits"
        } else if mark.sequence < 0 {
            "sequence must be 0 or more"
        } else if !hex(&mark.head, GENESIS_HASH.len()) {
            "head must be 64 lower-hex digits"
        } else {
            return Ok(mark);
        };
        Err(MalformedMark(wrong.to_owned()))
    }

    /// The mark as JSON, on one line.
    pub fn text(&self) -> String {
        serde_json::json!({"epoch": self.epoch, "sequence": self.sequence, "head": self.head}).to_string()
    }

    /// Whether this is an earlier mark of the same store as `other`.
    pub fn is_behind(&self, other: &Self) -> bool {
        self.epoch == other.epoch && self.sequence < other.sequence
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mark() -> StoreMark {
        StoreMark {
            epoch: "0f".repeat(16),
            sequence: 12,
            head: "a1".repeat(32),
        }
    }

    #[test]
    fn a_mark_is_read_as_it_was_written() {
        assert_eq!(StoreMark::parse(&mark().text()), Ok(mark()));
    }

    #[test]
    fn a_malformed_mark_is_refused_with_its_reason() {
        let with = |change: &dyn Fn(&mut StoreMark)| {
            let mut changed = mark();
            change(&mut changed);
            changed.text()
        };
        let table = [
            (String::new(), "EOF"),
            ("{}".to_owned(), "missing field `epoch`"),
            (with(&|mark| mark.epoch.push('0')), "epoch must be"),
            (with(&|mark| mark.epoch = "0F".repeat(16)), "epoch must be"),
            (with(&|mark| mark.sequence = -1), "sequence must be"),
            (with(&|mark| mark.head.clear()), "head must be"),
        ];
        for (text, reason) in table {
            let error = StoreMark::parse(&text).unwrap_err().to_string();
            assert!(error.contains(reason), "{text:?}: {error}");
        }
    }

    #[test]
    fn only_a_mark_of_the_same_store_is_behind() {
        let later = StoreMark { sequence: 13, ..mark() };
        let other = StoreMark {
            epoch: "00".repeat(16),
            ..later.clone()
        };
        assert!(mark().is_behind(&later));
        assert!(!later.is_behind(&mark()) && !mark().is_behind(&mark()) && !mark().is_behind(&other));
    }
}
