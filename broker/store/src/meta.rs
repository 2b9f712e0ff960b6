//! Facts about the store itself.

use async_trait::async_trait;

use super::Result;

/// The closed set of keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MetaKey {
    /// Random text, new at creation and at every restore; the header `Agentwrit-Epoch`.
    Epoch,
    /// Unix second of creation or restore: tokens issued before are refused.
    MinIat,
    /// Epochs that the store had before, and those of marks that were taken note of, separated by spaces.
    FormerEpochs,
    /// The longest `AA_MAX_TTL` ever in force, seconds; 0 = there was none.
    LongestTtl,
    /// The latest time that the broker believed, Unix milliseconds: see [`agentwrit_protocol::judging`].
    HighWater,
    /// The highest lease epoch of a controller's write.
    LeaseEpoch,
    /// The last signed statement about the audit trail, JSON.
    AuditCheckpoint,
    /// Number of the first event that is kept; there is none before the first drop.
    AuditFirst,
    /// Number of the last event that was looked at to be kept short.
    Shortened,
    /// Id of the last shared row of events that was looked at, whether any event needs it.
    WhoSwept,
    /// A person's wish for another signing key: how many there were, and the Unix second.
    KeyRotation,
    /// Set while a leaked signing key is retired and the epoch that its end begins has not begun: id of the key, and who
    /// retired it. The new epoch empties it.
    EpochDue,
    /// Whose the store is: `AA_INSTALLATION` of the broker that opened it first with one.
    Installation,
    /// The trust domain of its SPIFFE ids, `AA_TRUST_DOMAIN` of the broker that opened it first.
    TrustDomain,
    /// Where a person has moved the store's content to, and when: a broker refuses what is left here. A restore removes it.
    MovedTo,
    /// Digest of the ceilings of namespaces that the sessions were last held to.
    ScopeCeilings,
    /// Written to see whether the store takes a write; means nothing.
    WriteProbe,
}

impl MetaKey {
    /// The key in the store.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Epoch => "epoch",
            Self::MinIat => "min_iat",
            Self::FormerEpochs => "former_epochs",
            Self::LongestTtl => "longest_ttl",
            Self::HighWater => "high_water",
            Self::LeaseEpoch => "lease_epoch",
            Self::AuditCheckpoint => "audit_checkpoint",
            Self::AuditFirst => "audit_first",
            Self::Shortened => "shortened",
            Self::WhoSwept => "who_swept",
            Self::KeyRotation => "key_rotation",
            Self::EpochDue => "epoch_due",
            Self::Installation => "installation",
            Self::TrustDomain => "trust_domain",
            Self::MovedTo => "moved_to",
            Self::ScopeCeilings => "scope_ceilings",
            Self::WriteProbe => "write_probe",
        }
    }
}

/// Repository of facts about the store.
#[async_trait]
pub trait Meta {
    /// The value of a key.
    async fn meta(&mut self, key: MetaKey) -> Result<Option<String>>;
    /// Sets the value of a key.
    async fn set_meta(&mut self, key: MetaKey, value: &str) -> Result<()>;
}
