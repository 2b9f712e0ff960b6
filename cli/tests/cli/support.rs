//! Runs `awrit` and keeps what it said.

use std::io::Write;
use std::process::{Command, Stdio};

/// How a command ended.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Ended {
    pub(crate) code: i32,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Ended {
    /// It went well and printed exactly this.
    pub(crate) fn printed(&self, out: &str, err: &str) {
        let wanted = Self {
            code: 0,
            out: out.to_owned(),
            err: err.to_owned(),
        };
        assert_eq!(self, &wanted);
    }

    /// It failed, printed nothing, and said exactly this.
    pub(crate) fn failed(&self, message: &str) {
        assert_eq!((self.code, self.out.as_str()), (1, ""), "{self:?}");
        assert_eq!(self.error(), format!("Error: {message}"));
    }

    /// What it said when it failed, above the one line with the usage.
    pub(crate) fn error(&self) -> &str {
        let (told, usage) = self.err.trim_end().rsplit_once('\n').unwrap_or(("", &self.err));
        assert!(usage.starts_with("Usage: awrit") && self.code == 1, "{self:?}");
        assert_eq!(
            (self.err.matches("Error: ").count(), self.err.matches("Usage: ").count()),
            (1, 1),
            "{self:?}"
        );
        told
    }

    /// What it printed, as JSON with an indent of two.
    pub(crate) fn json(&self) -> serde_json::Value {
        assert_eq!(self.code, 0, "{self:?}");
        assert!(self.out.starts_with("{\n  \""), "{self:?}");
        serde_json::from_str(&self.out).unwrap()
    }
}

/// Runs `awrit` in this environment and no other.
pub(crate) fn awrit(environment: &[(&str, &str)], arguments: &[&str]) -> Ended {
    awrit_reading("", environment, arguments)
}

/// The same with something on standard input.
pub(crate) fn awrit_reading(input: &str, environment: &[(&str, &str)], arguments: &[&str]) -> Ended {
    let mut child = Command::new(env!("CARGO_BIN_EXE_awrit"))
        .env_clear()
        .envs(environment.iter().copied())
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // Most commands read nothing and may have ended.
    child.stdin.take().unwrap().write_all(input.as_bytes()).ok();
    let output = child.wait_with_output().unwrap();
    Ended {
        code: output.status.code().unwrap(),
        out: String::from_utf8(output.stdout).unwrap(),
        err: String::from_utf8(output.stderr).unwrap(),
    }
}
