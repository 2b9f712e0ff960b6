//! The disk of a store, as others may know it.

/// What is known of the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DiskSpace {
    /// Bytes that a process without privileges may still take.
    pub free: u64,
    /// Bytes that the reserve holds beside them.
    pub reserve: u64,
    /// Whether there is little left.
    pub scarce: bool,
    /// Whether only what takes authority away is written.
    pub full: bool,
}
