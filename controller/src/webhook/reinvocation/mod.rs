//! Looks again at injected items that a pod already has: after another admission plugin changed it (reinvocation),
//! restored from a backup, or copied.
//!
//! Compared is what makes them work. What others added or rewrote beyond that is kept, what is missing is put back, and
//! what contradicts is refused. This protects the function, not the authority: the author of a pod may run any image
//! with any mounts; what a pod may have is decided by attestation at the broker.

pub(crate) mod mounts;
mod security;
pub(crate) mod sidecar;
pub(crate) mod volumes;

use super::refusal::Refusal;

/// An item contradicts what it must be.
fn contradiction(item: &str, field: &str, found: String, right: impl Into<String>) -> Refusal {
    Refusal::Contradiction {
        item: item.to_owned(),
        field: field.to_owned(),
        found,
        right: right.into(),
    }
}

#[cfg(test)]
mod tests;
