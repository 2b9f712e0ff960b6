//! Choices that a seed repeats. Nothing secret comes from them.

use fastrand::Rng;

/// A generator of its own for each purpose.
pub fn seeded(seed: u64, purpose: u64) -> Rng {
    // The golden ratio: neighbouring purposes begin far apart.
    Rng::with_seed(seed ^ purpose.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_repeats_its_choices_and_every_choice_comes_up() {
        let draw = |seed, purpose| {
            let mut random = seeded(seed, purpose);
            (0..100).map(|_| random.usize(..10)).collect::<Vec<_>>()
        };
        assert_eq!(draw(1, 3), draw(1, 3));
        assert_ne!(draw(1, 3), draw(2, 3));
        assert_ne!(draw(1, 3), draw(1, 4));
        assert!((0..10).all(|choice| draw(1, 3).contains(&choice)));
    }
}
