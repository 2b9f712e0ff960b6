//! What a message repeats of a text that somebody else chose.

/// Characters of a text that are repeated at most.
pub const EXCERPT: usize = 256;

/// The text, or the beginning of a long one and an ellipsis.
///
/// ```
/// use agentwrit_protocol::excerpt::excerpt;
///
/// assert_eq!(excerpt("read:data"), "read:data");
/// assert_eq!(excerpt(&"é".repeat(1000)), format!("{}…", "é".repeat(256)));
/// ```
pub fn excerpt(text: &str) -> String {
    let mut characters = text.char_indices();
    let end = characters.nth(EXCERPT).map(|(end, _)| end);
    match end.and_then(|end| text.get(..end)) {
        Some(beginning) => format!("{beginning}…"),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_longer_is_cut_and_never_within_a_character() {
        for character in ["a", "é", "😀"] {
            let whole = character.repeat(EXCERPT);
            assert_eq!(excerpt(&whole), whole);
            assert_eq!(excerpt(&format!("{whole}{character}")), format!("{whole}…"));
        }
        assert_eq!(excerpt(""), "");
    }
}
