//! `awrit doctor`: from the name in the URL to the last event of the audit trail, one check after the other.

mod broker;
mod network;
mod report;
mod skew;

use agentwrit_client::{BrokerClient, ConfigError};
use agentwrit_protocol::Sensitive;
use agentwrit_protocol::system::SystemClock;

use crate::args::DoctorArgs;
use crate::error::CliError;
use crate::output::Output;
use crate::session::{Context, wait_for};

use broker::{BrokerChecks, CHECKS, NOT_ASKED};
use network::reach;
use report::Report;

pub(crate) fn run(args: &DoctorArgs, context: &mut Context<'_, '_>) -> Result<(), CliError> {
    let secret = context.admin_secret();
    let report = match context.client() {
        Ok(client) => {
            let output = &mut *context.output;
            wait_for(async { Ok(examine(&client, secret.as_ref(), args.full, output).await) })?
        }
        Err(CliError::Config(error)) => unusable_url(&error),
        Err(error) => return Err(error),
    };
    context
        .output
        .result(&report, ["STATUS", "CHECK", "RESULT"], Report::rows)?;
    match report.failed() {
        0 => Ok(()),
        failed => Err(CliError::ChecksFailed {
            failed,
            checks: report.checks(),
        }),
    }
}

fn unusable_url(error: &ConfigError) -> Report {
    let mut report = Report::default();
    report.fail("url", error.to_string(), "correct AACTL_BROKER_URL");
    report.skip_all(&["dns", "tcp", "tls", "http"], "the URL can't be used");
    report.skip_all(&CHECKS, NOT_ASKED);
    report
}

async fn examine(client: &BrokerClient, secret: Option<&Sensitive>, full: bool, output: &mut Output<'_>) -> Report {
    let mut report = Report::default();
    if reach(client, &SystemClock, &mut report).await {
        return BrokerChecks::new(client, &SystemClock, report)
            .check(secret, full, output)
            .await;
    }
    report.skip_all(&CHECKS, NOT_ASKED);
    report
}
