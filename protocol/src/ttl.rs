//! Bounds of lives, seconds: those that a policy, an app or a pod may ask for, and the ceiling of all (`AA_MAX_TTL`).

/// Shortest life that a policy or an app sets.
pub const MIN_POLICY_TTL_SECONDS: i64 = 60;
/// Longest life that a policy or an app sets, or a pod asks for: one day.
pub const MAX_TTL_SECONDS: i64 = 86_400;

/// `ttl` under the ceiling of every token's life; a ceiling of 0 is none.
pub fn clamp_ttl(ttl: i64, max_ttl: i64) -> i64 {
    if max_ttl > 0 { ttl.min(max_ttl) } else { ttl }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_life_is_cut_at_the_ceiling_and_0_is_none() {
        assert_eq!(
            (clamp_ttl(299, 300), clamp_ttl(301, 300), clamp_ttl(301, 0)),
            (299, 300, 301)
        );
    }
}
