//! The end of the programs: a line with the counts, and the exit code.

use std::process::ExitCode;

use agentwrit_testkit::load::failure::Result;

use crate::run::{Progress, Summary};

/// Runs it, says what came of it, and gives the exit code: a failure unless all went as it must.
pub fn end(say: Progress<'_>, run: impl Future<Output = Result<Summary>>) -> ExitCode {
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            say(&error.to_string());
            return ExitCode::FAILURE;
        }
    };
    let summary = runtime.block_on(run).unwrap_or_else(|error| {
        say(&error.to_string());
        Summary { passed: 0, failed: 1 }
    });
    say(&format!("{} passed, {} failed", summary.passed, summary.failed));
    if summary.failed == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}
