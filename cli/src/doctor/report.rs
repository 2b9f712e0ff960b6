//! What was found, and what to do about it.

use serde::Serialize;

/// How a check ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Status {
    Ok,
    /// It works now, but not for long or not for every client.
    Warn,
    Fail,
    /// It couldn't be tried.
    Skip,
}

impl Status {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "OK",
            Self::Warn => "WARN",
            Self::Fail => "FAIL",
            Self::Skip => "SKIP",
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct Check {
    name: &'static str,
    status: Status,
    result: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    advice: Option<String>,
}

/// All checks in order.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    ok: bool,
    checks: Vec<Check>,
}

impl Default for Report {
    fn default() -> Self {
        Self {
            ok: true,
            checks: Vec::new(),
        }
    }
}

impl Report {
    pub(super) fn ok(&mut self, check: &'static str, result: impl Into<String>) {
        self.add(check, Status::Ok, result, None);
    }

    pub(super) fn skip(&mut self, check: &'static str, reason: impl Into<String>) {
        self.add(check, Status::Skip, reason, None);
    }

    pub(super) fn skip_all(&mut self, checks: &[&'static str], reason: &str) {
        for check in checks {
            self.skip(check, reason);
        }
    }

    pub(super) fn warn(&mut self, check: &'static str, result: impl Into<String>, advice: impl Into<String>) {
        self.add(check, Status::Warn, result, Some(advice.into()));
    }

    pub(super) fn fail(&mut self, check: &'static str, result: impl Into<String>, advice: impl Into<String>) {
        self.add(check, Status::Fail, result, Some(advice.into()));
    }

    fn add(&mut self, name: &'static str, status: Status, result: impl Into<String>, advice: Option<String>) {
        self.ok &= status != Status::Fail;
        self.checks.push(Check {
            name,
            status,
            result: result.into(),
            advice,
        });
    }

    pub(super) fn failed(&self) -> usize {
        self.checks.iter().filter(|check| check.status == Status::Fail).count()
    }

    pub(super) fn checks(&self) -> usize {
        self.checks.len()
    }

    /// One line a check.
    pub(super) fn rows(&self) -> Vec<[String; 3]> {
        let row = |check: &Check| {
            let advice = check.advice.as_ref().map(|advice| format!(" -> {advice}"));
            let result = format!("{}{}", check.result, advice.unwrap_or_default());
            [check.status.as_str().to_owned(), check.name.to_owned(), result]
        };
        self.checks.iter().map(row).collect()
    }
}
