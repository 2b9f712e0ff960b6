//! An error with its causes, for a log line.

use std::error::Error;

/// The messages of an error and its sources on one line; a source that repeats its parent's text is left out.
pub fn error_chain(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(inner) = source {
        let inner_text = inner.to_string();
        if !text.ends_with(&inner_text) {
            text.push_str(": ");
            text.push_str(&inner_text);
        }
        source = inner.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("{text}")]
    struct Link {
        text: &'static str,
        source: Option<Box<Link>>,
    }

    fn chain_of(texts: &[&'static str]) -> Option<Box<Link>> {
        let (text, rest) = texts.split_first()?;
        Some(Box::new(Link {
            text,
            source: chain_of(rest),
        }))
    }

    #[test]
    fn every_cause_is_named_once() {
        for (texts, line) in [
            (&["can't connect"][..], "can't connect"),
            (&["can't connect", "timed out"], "can't connect: timed out"),
            (&["tls: bad name", "bad name", "cert"], "tls: bad name: cert"),
        ] {
            assert_eq!(error_chain(&*chain_of(texts).unwrap()), line);
        }
    }
}
