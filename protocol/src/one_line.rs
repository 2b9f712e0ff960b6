//! A text of somebody else as part of one line.

/// The text with a space in place of each control character, so that it neither ends the line nor steers a terminal.
///
/// ```
/// use agentwrit_protocol::one_line::one_line;
///
/// assert_eq!(one_line("refused: a\nb\u{1b}[2J"), "refused: a b [2J");
/// ```
pub fn one_line(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}
