//! Keeps secrets out of details (`docs/wire-contract.md` §15.3).

/// What replaces a secret in a detail.
pub const REDACTED: &str = "***REDACTED***";
const SECRET_WORDS: [&str; 4] = ["secret", "password", "token_value", "private_key"];

/// Masks what follows a secret-sounding word in a detail: after the first `=`, else after the first `: `.
pub fn sanitise(detail: &str) -> String {
    let names_secret = |text: &str| {
        let lower = text.to_lowercase();
        SECRET_WORDS.iter().any(|word| lower.contains(word))
    };
    if !names_secret(detail) {
        return detail.to_owned();
    }
    for separator in ["=", ": "] {
        if let Some((before, _)) = detail.split_once(separator)
            && names_secret(before)
        {
            return format!("{before}{separator}{REDACTED}");
        }
    }
    detail.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sanitiser_masks_after_the_first_separator() {
        let table = [
            ("agent registered", "agent registered"),
            ("secret=abc def", "secret=***REDACTED***"),
            ("PASSWORD: hunter2", "PASSWORD: ***REDACTED***"),
            ("x=1 secret=abc", "x=1 secret=abc"),
            ("my private_key: a=b", "my private_key: a=***REDACTED***"),
            ("wrong secret", "wrong secret"),
        ];
        for (given, wanted) in table {
            assert_eq!(sanitise(given), wanted);
        }
    }
}
