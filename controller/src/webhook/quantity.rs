//! Quantities of Kubernetes (`resource.Quantity` of apimachinery): a decimal number with a suffix, such as 100m or 16Mi.
//!
//! Not the crate `kube_quantity` (0.9): it converts between decimal and binary suffixes through `f32`, so that equal
//! quantities such as 16Mi and 16777216 needn't compare equal. k8s-openapi's own `Quantity` is only text.

use std::cmp::Ordering;

/// Longer ones mean nothing that a shorter one couldn't say.
const MAX_BYTES: usize = 32;
/// Digits of the number, so that it fits.
const MAX_DIGITS: usize = 18;

/// A quantity that isn't negative, as it was written.
#[derive(Debug, Clone)]
pub(crate) struct Quantity {
    text: String,
    nano: u128,
}

impl Quantity {
    /// Reads a quantity; `None` when it is none, negative, or too large to count in billionths.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        if text.len() > MAX_BYTES {
            return None;
        }
        let end = text.find(|c: char| !c.is_ascii_digit() && c != '.');
        let (number, suffix) = text.split_at(end.unwrap_or(text.len()));
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        let digits = format!("{whole}{fraction}");
        if digits.is_empty() || digits.len() > MAX_DIGITS || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
            return None;
        }
        let digits: u128 = digits.parse().ok()?;
        let times = digits.checked_mul(nano_of(suffix)?)?;
        let divisor = 10_u128.checked_pow(u32::try_from(fraction.len()).ok()?)?;
        Some(Self {
            text: text.to_owned(),
            nano: times.div_ceil(divisor),
        })
    }

    /// Whether it is nothing.
    pub(crate) const fn is_zero(&self) -> bool {
        self.nano == 0
    }

    /// As it was written.
    pub(crate) fn as_str(&self) -> &str {
        &self.text
    }
}

impl PartialEq for Quantity {
    fn eq(&self, other: &Self) -> bool {
        self.nano == other.nano
    }
}

impl Eq for Quantity {}

impl PartialOrd for Quantity {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Quantity {
    fn cmp(&self, other: &Self) -> Ordering {
        self.nano.cmp(&other.nano)
    }
}

/// Billionths that one of this suffix is.
fn nano_of(suffix: &str) -> Option<u128> {
    const ONE: u128 = 1_000_000_000;
    let binary = |power: u32| 1024_u128.checked_pow(power)?.checked_mul(ONE);
    let decimal = |power: i32| {
        let power = power.checked_add(9)?;
        10_u128.checked_pow(u32::try_from(power).ok()?)
    };
    match suffix {
        "n" => decimal(-9),
        "u" => decimal(-6),
        "m" => decimal(-3),
        "" => decimal(0),
        "k" => decimal(3),
        "M" => decimal(6),
        "G" => decimal(9),
        "T" => decimal(12),
        "P" => decimal(15),
        "E" => decimal(18),
        "Ki" => binary(1),
        "Mi" => binary(2),
        "Gi" => binary(3),
        "Ti" => binary(4),
        "Pi" => binary(5),
        "Ei" => binary(6),
        exponent => decimal(exponent.strip_prefix(['e', 'E'])?.parse().ok()?),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn nano(text: &str) -> Option<u128> {
        Quantity::parse(text).map(|quantity| quantity.nano)
    }

    #[test]
    fn quantities_of_one_value_are_equal() {
        for same in [
            ["100m", "0.1", ".1", "100000u", "1e-1", "0.100"],
            ["16Mi", "16777216", "16384Ki", "16777216.", "0.015625Gi", "16777.216k"],
            ["2k", "2000", "2e3", "2E3", "2E+3", "0.002M"],
            ["1E", "1e18", "1000P", "1000000T", "1000000000G", "1E18"],
        ] {
            for text in same {
                assert_eq!(nano(text), nano(same[0]), "{text}");
                assert!(nano(text).is_some(), "{text}");
            }
        }
        assert_eq!(nano("0.1n"), Some(1), "rounded up");
        assert_eq!(nano("0"), Some(0));
    }

    #[test]
    fn text_that_is_no_quantity_is_refused() {
        for text in [
            "",
            ".",
            "-1",
            "+1",
            "1 Mi",
            " 1",
            "1mi",
            "1MI",
            "1KiB",
            "1.2.3",
            "Mi",
            "m",
            "1e",
            "1ee3",
            "1e1.5",
            "1e99",
            "0x10",
            "1_000",
            "9999999999999999999",
            "1e-10",
            "१",
            "none",
            "9999999999999Ei",
        ] {
            assert_eq!(nano(text), None, "{text:?}");
        }
        assert_eq!(nano(&"1".repeat(10_000)), None);
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in ".{0,40}", number in "[0-9.]{0,20}[a-zA-Z+0-9-]{0,6}") {
            let _ = nano(&text);
            let _ = nano(&number);
        }

        #[test]
        fn the_order_is_that_of_numbers(a in 0_u64..1 << 50, b in 0_u64..1 << 50) {
            let (left, right) = (Quantity::parse(&format!("{a}m")), Quantity::parse(&format!("{b}m")));
            prop_assert_eq!(left.cmp(&right), a.cmp(&b));
        }
    }
}
