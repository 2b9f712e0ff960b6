//! What a body has that does not fit the type it is read into.

use std::fmt;

use agentwrit_protocol::excerpt::excerpt;
use serde::de::{Error, Expected, Unexpected};

use super::scan::NotJson;

/// A member that does not fit: which one, and what would be right.
///
/// ```text
/// spec.scopes[3] must be a string, not a number
/// ```
#[derive(Debug)]
pub struct Misfit {
    path: String,
    problem: Problem,
}

#[derive(Debug)]
enum Problem {
    /// The member is not there.
    Missing,
    /// It is of another type or range, as the text says.
    Wrong(String),
    /// A list with more items than this.
    Items(usize),
    /// The body is no JSON at all.
    NotJson,
}

impl Misfit {
    /// The value is wrong in this way, which follows its name: `must be …`.
    pub fn wrong(problem: impl fmt::Display) -> Self {
        Self::new(Problem::Wrong(problem.to_string()))
    }

    pub(super) fn items(most: usize) -> Self {
        Self::new(Problem::Items(most))
    }

    fn new(problem: Problem) -> Self {
        Self {
            path: String::new(),
            problem,
        }
    }

    /// The same, of a value that is the member of this name.
    #[must_use]
    pub fn in_member(mut self, name: &str) -> Self {
        let dot = if matches!(self.path.bytes().next(), None | Some(b'[')) {
            ""
        } else {
            "."
        };
        self.path = format!("{name}{dot}{}", self.path);
        self
    }

    /// The same, of a value that is this item of a list.
    #[must_use]
    pub fn in_item(self, index: usize) -> Self {
        self.in_member(&format!("[{index}]"))
    }

    /// Whether there is no JSON that could fit.
    pub(super) fn is_not_json(&self) -> bool {
        matches!(self.problem, Problem::NotJson)
    }

    /// Whether the type is right, but a list is longer than any that is read.
    pub(super) fn is_length(&self) -> bool {
        matches!(self.problem, Problem::Items(_))
    }
}

impl fmt::Display for Misfit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = if self.path.is_empty() { "the value" } else { &self.path };
        match &self.problem {
            Problem::Missing => write!(f, "{path} is required"),
            Problem::Wrong(problem) => write!(f, "{path} {problem}"),
            Problem::Items(most) => write!(f, "{path} must have at most {most} items"),
            Problem::NotJson => write!(f, "{path} is not JSON"),
        }
    }
}

impl std::error::Error for Misfit {}

impl From<NotJson> for Misfit {
    fn from(NotJson: NotJson) -> Self {
        Self::new(Problem::NotJson)
    }
}

/// What types say of a value that was read; none of them repeats a long text.
impl Error for Misfit {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self::wrong(format_args!("is wrong: {}", excerpt(&message.to_string())))
    }

    fn invalid_type(unexpected: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Self::invalid_value(unexpected, expected)
    }

    fn invalid_value(unexpected: Unexpected<'_>, expected: &dyn Expected) -> Self {
        match unexpected {
            Unexpected::Str(_) | Unexpected::Bytes(_) => Self::wrong(format_args!("must be {expected}")),
            other => Self::wrong(format_args!("must be {expected}, not {other}")),
        }
    }

    fn unknown_variant(variant: &str, expected: &'static [&'static str]) -> Self {
        let expected = expected.join(" or ");
        Self::wrong(format_args!("must be {expected}, not {:?}", excerpt(variant)))
    }

    fn missing_field(field: &'static str) -> Self {
        Self::new(Problem::Missing).in_member(field)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_path_leads_from_the_body_to_the_member() {
        let misfit = Misfit::missing_field("sequence").in_member("order").in_item(3);
        assert_eq!(misfit.to_string(), "[3].order.sequence is required");
        let misfit = Misfit::wrong("must be a string, not a number").in_item(7);
        let misfit = misfit.in_member("scopes").in_member("spec");
        assert_eq!(misfit.to_string(), "spec.scopes[7] must be a string, not a number");
        let misfit = Misfit::items(4096).in_member("scopes");
        assert_eq!(misfit.to_string(), "scopes must have at most 4096 items");
        assert_eq!(
            Misfit::wrong("must be an object").to_string(),
            "the value must be an object"
        );
    }

    #[test]
    fn no_message_repeats_a_long_text() {
        let long = "x".repeat(1 << 20);
        let unexpected = Unexpected::Str(&long);
        for misfit in [
            Misfit::custom(&long),
            Misfit::invalid_type(unexpected, &"a word"),
            Misfit::unknown_variant(&long, &["one", "two"]),
        ] {
            assert!(misfit.to_string().len() < 400);
        }
        let misfit = Misfit::unknown_variant("three", &["one", "two"]).in_member("state");
        assert_eq!(misfit.to_string(), "state must be one or two, not \"three\"");
    }
}
