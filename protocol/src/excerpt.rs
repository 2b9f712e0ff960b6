//! What a message repeats of a text that somebody else chose.

use std::borrow::Cow;
use std::fmt::Write as _;

/// Characters of a text that are repeated at most.
pub const EXCERPT: usize = 256;
/// Bytes that [`describe_request`] spends at most.
pub const REQUEST_DESCRIPTION_BYTES: usize = 1024;
/// Bytes that an event spends on a list of scopes at most.
pub const EVENT_SCOPES_BYTES: usize = 768;
/// Bytes of one item of a list, or of one name, at most.
const ITEM: usize = 120;
const ELLIPSIS: &str = "…";

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
        Some(beginning) => format!("{beginning}{ELLIPSIS}"),
        None => text.to_owned(),
    }
}

/// The items joined by commas, in at most `room` bytes, and how many were left out.
///
/// Long items are cut. An item that could be taken for more than one is quoted, and so is one with a space or a
/// character that isn't printed.
///
/// ```
/// use agentwrit_protocol::excerpt::excerpt_list;
///
/// let scopes = ["read:data:x", "read:data:y", "read:data:z"];
/// assert_eq!(excerpt_list(&scopes, 100), "read:data:x, read:data:y, read:data:z");
/// assert_eq!(excerpt_list(&scopes, 30), "read:data:x, … (+2)");
/// assert_eq!(excerpt_list(&["a, b"], 100), "\"a, b\"");
/// ```
pub fn excerpt_list<S: AsRef<str>>(items: &[S], room: usize) -> String {
    let mut text = String::new();
    let mut left = items.len();
    for item in items {
        let separator = if text.is_empty() { "" } else { ", " };
        let item = readable(item.as_ref());
        left -= 1;
        let rest = if left == 0 { 0 } else { left_out(", ", left).len() };
        let free = room.saturating_sub(text.len() + separator.len() + rest);
        if item.len() > free {
            let rest = left_out(separator, left + 1);
            if text.len() + rest.len() <= room {
                text.push_str(&rest);
            }
            return text;
        }
        text.push_str(separator);
        text.push_str(&item);
    }
    text
}

/// The scopes joined by spaces where that takes no more than this room, else as [`excerpt_list`] lists them.
///
/// ```
/// use agentwrit_protocol::excerpt::list_scopes;
///
/// let scopes = ["read:data:x", "read:data:y", "read:data:z"];
/// assert_eq!(list_scopes(&scopes, 100), "read:data:x read:data:y read:data:z");
/// assert_eq!(list_scopes(&scopes, 30), "read:data:x, … (+2)");
/// ```
pub fn list_scopes<S: AsRef<str>>(scopes: &[S], room: usize) -> String {
    let whole: usize = scopes.iter().map(|scope| scope.as_ref().len() + 1).sum();
    if whole > room.saturating_add(1) {
        return excerpt_list(scopes, room);
    }
    let scopes: Vec<&str> = scopes.iter().map(AsRef::as_ref).collect();
    scopes.join(" ")
}

/// What was asked for, in at most [`REQUEST_DESCRIPTION_BYTES`]: the scopes, as far as they fit, and up to four names,
/// each with what it is the name of. Empty names are left out. `None` asks for all that is allowed.
///
/// It has none of the separators after which [`crate::audit::sanitise`] masks what follows a word like "secret", so that
/// a name with such a word masks nothing.
///
/// ```
/// use agentwrit_protocol::excerpt::describe_request;
///
/// let scopes = ["read:data:x".to_owned(), "write:data:x".to_owned()];
/// assert_eq!(
///     describe_request(Some(&scopes), &[("agent_name", "reader"), ("app", "")]),
///     "requested 2 scopes [read:data:x, write:data:x]; agent_name \"reader\"",
/// );
/// assert_eq!(describe_request(None, &[]), "requested all allowed scopes");
/// ```
pub fn describe_request(scopes: Option<&[String]>, names: &[(&str, &str)]) -> String {
    let mut about = String::new();
    for (what, name) in names.iter().filter(|(_, name)| !name.is_empty()) {
        // A String takes whatever is written to it.
        let _ = write!(about, "; {what} {}", truncate(&quoted(name), ITEM));
    }
    let (mut text, end) = match scopes.map(<[String]>::len) {
        None => ("requested all allowed scopes".to_owned(), ""),
        Some(0) => ("requested no scopes".to_owned(), ""),
        Some(1) => ("requested 1 scope [".to_owned(), "]"),
        Some(count) => (format!("requested {count} scopes ["), "]"),
    };
    let room = REQUEST_DESCRIPTION_BYTES.saturating_sub(text.len() + end.len() + about.len());
    text.push_str(&excerpt_list(scopes.unwrap_or_default(), room));
    text.push_str(end);
    text.push_str(&about);
    text
}

fn left_out(separator: &str, count: usize) -> String {
    format!("{separator}{ELLIPSIS} (+{count})")
}

/// One item, cut, and quoted where it could be misread.
fn readable(item: &str) -> String {
    let plain = |c: char| c.is_alphanumeric() || (c.is_ascii_graphic() && !matches!(c, ',' | ';' | '"' | '[' | ']'));
    // What is beyond the cut needs no look.
    let start = excerpt(item);
    if !item.is_empty() && start.trim_end_matches(ELLIPSIS).chars().all(plain) {
        truncate(&start, ITEM).into_owned()
    } else {
        truncate(&quoted(item), ITEM).into_owned()
    }
}

fn quoted(text: &str) -> String {
    format!("{:?}", excerpt(text))
}

/// The text, or the first bytes of a long one and an ellipsis: `max` bytes at most.
///
/// ```
/// use agentwrit_protocol::excerpt::truncate;
///
/// assert_eq!(truncate("read:data", 9), "read:data");
/// assert_eq!(truncate("read:data:x", 9), "read:d…");
/// ```
pub fn truncate(text: &str, max: usize) -> Cow<'_, str> {
    if text.len() <= max {
        return Cow::Borrowed(text);
    }
    let end = text.floor_char_boundary(max.saturating_sub(ELLIPSIS.len()));
    Cow::Owned(format!("{}{ELLIPSIS}", text.get(..end).unwrap_or_default()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn only_longer_text_is_cut_and_never_within_a_character() {
        for character in ["a", "é", "😀"] {
            let whole = character.repeat(EXCERPT);
            assert_eq!(excerpt(&whole), whole);
            assert_eq!(excerpt(&format!("{whole}{character}")), format!("{whole}…"));
        }
        assert_eq!(excerpt(""), "");
    }

    #[test]
    fn a_long_text_is_cut_at_a_character() {
        assert_eq!(truncate("short", 10), "short");
        let cut = truncate(&"ä".repeat(600), 1000).into_owned();
        assert!(cut.len() <= 1000 && cut.ends_with(ELLIPSIS), "{}", cut.len());
    }

    #[test]
    fn scopes_are_listed_whole_as_long_as_they_fit() {
        let scopes = ["read:data:x", "read:data:y"];
        let whole = scopes.join(" ");
        assert_eq!(list_scopes(&scopes, whole.len()), whole);
        assert_eq!(list_scopes(&scopes, whole.len() - 1), "read:data:x, … (+1)");
    }

    #[test]
    fn a_list_says_how_many_were_left_out() {
        let scopes: Vec<String> = (0..120).map(|n| format!("read:data:{n:03}")).collect();
        let text = excerpt_list(&scopes, 60);
        assert_eq!(text, "read:data:000, read:data:001, read:data:002, … (+117)");
        let whole = scopes.join(", ");
        assert_eq!(excerpt_list(&scopes, whole.len()), whole);
        assert!(excerpt_list(&scopes, whole.len() - 1).ends_with(" (+1)"));
    }

    #[test]
    fn confusing_text_is_quoted_and_long_text_is_cut() {
        for (item, shown) in [
            ("read:data:é", "read:data:é".to_owned()),
            ("", "\"\"".to_owned()),
            ("a b", "\"a b\"".to_owned()),
            ("a,b", "\"a,b\"".to_owned()),
            ("a;b", "\"a;b\"".to_owned()),
            ("a]b", "\"a]b\"".to_owned()),
            ("a\"b", "\"a\\\"b\"".to_owned()),
            ("a\nb\u{202e}", "\"a\\nb\\u{202e}\"".to_owned()),
            (&"x".repeat(1000), format!("{}…", "x".repeat(117))),
            (&"é".repeat(1000), format!("{}…", "é".repeat(58))),
            (&" ".repeat(1000), format!("\"{}…", " ".repeat(116))),
        ] {
            assert_eq!(excerpt_list(&[item], REQUEST_DESCRIPTION_BYTES), shown);
        }
        assert_eq!(excerpt_list::<&str>(&[], REQUEST_DESCRIPTION_BYTES), "");
        assert_eq!(excerpt_list(&["read:data:x"], 3), "");
    }

    #[test]
    fn a_summary_of_a_request_counts_scopes_and_names_targets() {
        let scopes: Vec<String> = (0..120).map(|n| format!("read:data:{n:03}")).collect();
        let text = describe_request(
            Some(&scopes),
            &[("agent_name", "night \"shift\""), ("app", "app-orders-123456")],
        );
        assert!(
            text.starts_with("requested 120 scopes [read:data:000, read:data:001, "),
            "{text}"
        );
        assert!(
            text.ends_with("]; agent_name \"night \\\"shift\\\"\"; app \"app-orders-123456\""),
            "{text}"
        );
        assert!(
            text.len() <= REQUEST_DESCRIPTION_BYTES && text.contains(", … (+"),
            "{text}"
        );
        let detail = format!("refused, LaunchToken secret-scanner; {text}");
        assert_eq!(crate::audit::sanitise(&detail), detail);
        assert_eq!(
            describe_request(Some(&[]), &[("agent_name", "")]),
            "requested no scopes"
        );
        assert_eq!(
            describe_request(Some(&["a:b:c".to_owned()]), &[]),
            "requested 1 scope [a:b:c]"
        );
    }

    proptest! {
        #[test]
        fn listed_scopes_are_bounded_and_whole_where_they_fit(
            scopes in proptest::collection::vec("\\PC{0,60}|[a-z:]{3,40}", 0..30),
            room in 10_usize..600,
        ) {
            let (text, whole) = (list_scopes(&scopes, room), scopes.join(" "));
            prop_assert!(text.len() <= room, "{text}");
            prop_assert_eq!(text == whole, whole.len() <= room, "{}", text);
        }

        #[test]
        fn a_summary_of_a_request_is_bounded(
            scopes in proptest::collection::vec("\\PC{0,200}|[\\x00-\\x20]{0,200}|[a-z:]{3,40}", 0..20),
            names in proptest::collection::vec("\\PC{0,300}|[\\x00-\\x20]{0,300}", 4),
        ) {
            let names: Vec<(&str, &str)> = names.iter().map(|name| ("delegate_to_whom", name.as_str())).collect();
            let text = describe_request(Some(&scopes), &names);
            prop_assert!(text.len() <= REQUEST_DESCRIPTION_BYTES, "{} bytes: {text}", text.len());
            let count = format!("requested {} scope", scopes.len());
            prop_assert!(scopes.is_empty() || text.starts_with(&count), "{text}");
            prop_assert!(scopes.is_empty() || text.contains(']'), "{text}");
        }

        #[test]
        fn items_and_the_count_of_those_left_out_add_up(
            scopes in proptest::collection::vec("[a-z]{1,12}", 1..40),
            room in 10_usize..300,
        ) {
            let text = excerpt_list(&scopes, room);
            prop_assert!(text.len() <= room, "{text}");
            let (shown, rest) = text.split_once('…').unwrap_or((&text, " (+0)"));
            let shown = shown.split(", ").filter(|item| !item.is_empty()).count();
            let rest: usize = rest.trim_matches(|c: char| !c.is_ascii_digit()).parse().unwrap();
            prop_assert_eq!(shown + rest, scopes.len(), "{}", text);
        }
    }
}
