//! Whether a pod is to be injected: by its own label, else by that of its namespace.

use agentwrit_protocol::inject::{INJECT_OFF, INJECT_ON};

use super::refusal::{Refusal, quoted};

/// What a label says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum InjectLabel {
    On,
    Off,
}

impl InjectLabel {
    /// Reads the label's value; `owner` is whose label it is.
    ///
    /// Fails for a value that isn't on the list: a wrong guess either way could go unnoticed.
    pub(crate) fn read(value: &str, owner: impl Into<String>) -> Result<Self, Refusal> {
        if INJECT_ON.contains(&value) {
            Ok(Self::On)
        } else if INJECT_OFF.contains(&value) {
            Ok(Self::Off)
        } else {
            Err(Refusal::Label {
                owner: owner.into(),
                value: quoted(value),
            })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn four_words_and_no_other() {
        for (value, label) in [
            ("true", InjectLabel::On),
            ("enabled", InjectLabel::On),
            ("false", InjectLabel::Off),
            ("disabled", InjectLabel::Off),
        ] {
            assert_eq!(InjectLabel::read(value, "the pod"), Ok(label));
        }
        for value in ["", "True", "TRUE", "yes", "no", "on", "1", "Enabled", " true", "true "] {
            let sentence = InjectLabel::read(value, "the pod").unwrap_err().to_string();
            let right = format!(
                "the label agentwrit.io/inject of the pod is {value:?}; it must be one of \"true\", \"enabled\" to inject, or \
                 of \"false\", \"disabled\" not to"
            );
            assert_eq!(sentence, right);
        }
    }
}
