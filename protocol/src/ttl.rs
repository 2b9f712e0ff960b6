//! Bounds of lives that a policy, an app or a pod asks for, seconds.

/// Shortest life that a policy or an app sets.
pub const MIN_POLICY_TTL_SECONDS: i64 = 60;
/// Longest life that a policy or an app sets, or a pod asks for: one day.
pub const MAX_TTL_SECONDS: i64 = 86_400;
