//! Signed checkpoints: what the broker's key says about the chain so far.
//!
//! A checkpoint is an event of type `audit_checkpoint`. Its detail is
//! `sequence=<n> head=<hash of event n> kid=<key> signature=<base64url>`, where n is the number of the event right
//! before it. The Ed25519 signature (RFC 8032) is over the bytes of [`Checkpoint::message`]. From the first event on,
//! no more than [`MAX_UNSIGNED`] events stand between two checkpoints, so that nobody without the key can take them
//! out and chain the rest anew. A checkpoint that is kept elsewhere shows that the end of the trail is missing.

use super::{AuditEvent, EventType};

/// Most events in a row that are no checkpoint.
pub const MAX_UNSIGNED: i64 = 999;

/// Length of an Ed25519 signature in base64url without padding.
const SIGNATURE_LENGTH: usize = 86;
/// Length of a lower-hex SHA-256.
const HASH_LENGTH: usize = 64;

/// What is signed, and the signature.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Checkpoint {
    /// Number of the last event that it covers.
    pub sequence: i64,
    /// `hash` of that event.
    pub head: String,
    /// When it was signed, as the checkpoint's event has it.
    pub timestamp: String,
    /// RFC 7638 thumbprint of the key.
    pub kid: String,
    /// Ed25519, base64url without padding.
    pub signature: String,
}

/// Why an event is no checkpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CheckpointError {
    /// Its type is another.
    #[error("it is no audit_checkpoint")]
    Type,
    /// Its detail is not `sequence=… head=… kid=… signature=…`.
    #[error("its detail is not that of a checkpoint")]
    Detail,
}

/// A signature over a text, and the key that made it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignedStatement {
    /// Id of the key.
    pub kid: String,
    /// base64url without padding.
    pub signature: String,
}

/// What a key set says about a signature.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SignatureCheck {
    /// The key with this id made it.
    Valid,
    /// The key with this id did not make it.
    Invalid,
    /// There is no key with this id: nothing can be said.
    UnknownKey,
}

/// Keys that checkpoints may be signed with. A closure will do.
pub trait CheckpointKeys {
    /// Whether the key `kid` made `signature` (base64url without padding) over `message`.
    fn check(&self, kid: &str, message: &str, signature: &str) -> SignatureCheck;
}

impl<F: Fn(&str, &str, &str) -> SignatureCheck> CheckpointKeys for F {
    fn check(&self, kid: &str, message: &str, signature: &str) -> SignatureCheck {
        self(kid, message, signature)
    }
}

impl Checkpoint {
    /// The signed bytes: four lines, each ended by a line feed.
    ///
    /// ```
    /// let message = agentwrit_protocol::audit::Checkpoint::message(999, "ab…", "2026-11-21T12:00:00Z");
    /// assert_eq!(message, "agentwrit audit checkpoint v1\n999\nab…\n2026-11-21T12:00:00Z\n");
    /// ```
    pub fn message(sequence: i64, head: &str, timestamp: &str) -> String {
        format!("agentwrit audit checkpoint v1\n{sequence}\n{head}\n{timestamp}\n")
    }

    /// The detail of its event.
    pub fn detail(&self) -> String {
        let Self {
            sequence,
            head,
            kid,
            signature,
            ..
        } = self;
        format!("sequence={sequence} head={head} kid={kid} signature={signature}")
    }

    /// Reads it from its event.
    ///
    /// # Errors
    /// When the event is none.
    pub fn from_event(event: &AuditEvent) -> Result<Self, CheckpointError> {
        if event.event_type != EventType::AuditCheckpoint.as_str() {
            return Err(CheckpointError::Type);
        }
        let checkpoint = Self::from_detail(&event.detail, &event.timestamp).ok_or(CheckpointError::Detail)?;
        // One spelling only: what was read has to be written the same way.
        if checkpoint.detail() == event.detail {
            Ok(checkpoint)
        } else {
            Err(CheckpointError::Detail)
        }
    }

    fn from_detail(detail: &str, timestamp: &str) -> Option<Self> {
        let rest = detail.strip_prefix("sequence=")?;
        let (sequence, rest) = rest.split_once(" head=")?;
        let (head, rest) = rest.split_once(" kid=")?;
        let (kid, signature) = rest.split_once(" signature=")?;
        let is_hash = head.len() == HASH_LENGTH && head.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        let url_safe = |text: &str| {
            text.bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
        };
        let is_signature = signature.len() == SIGNATURE_LENGTH && url_safe(signature);
        (is_hash && is_signature && url_safe(kid)).then_some(Self {
            sequence: sequence.parse().ok().filter(|number| *number >= 0)?,
            head: head.to_owned(),
            timestamp: timestamp.to_owned(),
            kid: kid.to_owned(),
            signature: signature.to_owned(),
        })
    }

    /// What the keys say about its signature.
    pub fn check(&self, keys: &dyn CheckpointKeys) -> SignatureCheck {
        let message = Self::message(self.sequence, &self.head, &self.timestamp);
        keys.check(&self.kid, &message, &self.signature)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::GENESIS_HASH;

    fn checkpoint() -> Checkpoint {
        Checkpoint {
            sequence: 999,
            head: GENESIS_HASH.to_owned(),
            timestamp: "2026-11-21T12:00:00Z".to_owned(),
            kid: "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k".to_owned(),
            signature: "A-_9".repeat(21) + "Ag",
        }
    }

    fn event(detail: String) -> AuditEvent {
        let mut event = AuditEvent {
            event_type: "audit_checkpoint".to_owned(),
            timestamp: checkpoint().timestamp,
            detail,
            ..AuditEvent::default()
        };
        event.seal(1000, GENESIS_HASH);
        event
    }

    #[test]
    fn a_checkpoint_reads_back_from_its_event() {
        assert_eq!(Checkpoint::from_event(&event(checkpoint().detail())), Ok(checkpoint()));
    }

    #[test]
    fn a_signature_that_spells_a_secret_word_is_not_masked() {
        let unlucky = Checkpoint {
            signature: "secret".to_owned() + &"a".repeat(80),
            ..checkpoint()
        };
        assert_eq!(Checkpoint::from_event(&event(unlucky.detail())), Ok(unlucky));
    }

    #[test]
    fn other_events_and_other_spellings_are_no_checkpoints() {
        let mut other = event(checkpoint().detail());
        other.event_type = "admin_auth".to_owned();
        assert_eq!(Checkpoint::from_event(&other), Err(CheckpointError::Type));
        let good = checkpoint().detail();
        for bad in [
            String::new(),
            good.replace("sequence=999", "sequence=0999"),
            good.replace("sequence=999", "sequence=-1"),
            good.replace("sequence=999", "sequence=+999"),
            good.replace("kid=", "kid= "),
            good.replace(GENESIS_HASH, &GENESIS_HASH.replace('0', "A")),
            format!("{good} "),
            format!("{good}A"),
            format!("{good} x=1"),
        ] {
            assert_eq!(
                Checkpoint::from_event(&event(bad.clone())),
                Err(CheckpointError::Detail),
                "{bad}"
            );
        }
    }

    #[test]
    fn the_keys_are_asked_about_what_was_signed() {
        let keys = |kid: &str, message: &str, signature: &str| {
            let mine = checkpoint();
            if kid != mine.kid {
                return SignatureCheck::UnknownKey;
            }
            let wanted = format!("agentwrit audit checkpoint v1\n999\n{GENESIS_HASH}\n2026-11-21T12:00:00Z\n");
            if message == wanted && signature == mine.signature {
                SignatureCheck::Valid
            } else {
                SignatureCheck::Invalid
            }
        };
        assert_eq!(checkpoint().check(&keys), SignatureCheck::Valid);
        let later = Checkpoint {
            sequence: 1000,
            ..checkpoint()
        };
        assert_eq!(later.check(&keys), SignatureCheck::Invalid);
        let foreign = Checkpoint {
            kid: "other".to_owned(),
            ..checkpoint()
        };
        assert_eq!(foreign.check(&keys), SignatureCheck::UnknownKey);
    }
}
