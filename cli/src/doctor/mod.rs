//! `awrit doctor`: from the name in the URL to the last event of the audit trail, one check after the other.

mod broker;
mod report;
mod skew;
mod way;

use agentwrit_client::BrokerClient;
use agentwrit_client::system::SystemClock;
use agentwrit_protocol::Sensitive;

use crate::args::DoctorArgs;
use crate::error::CliError;
use crate::output::Output;
use crate::session::{Context, wait_for};

use broker::{CHECKS, NOT_ASKED, Visit};
use report::Report;
use way::reach;

pub(crate) fn run(args: &DoctorArgs, context: &mut Context<'_, '_>) -> Result<(), CliError> {
    let client = context.client()?;
    let secret = context.admin_secret();
    let output = &mut *context.output;
    let report = wait_for(async { Ok(examine(&client, secret.as_ref(), args.full, output).await) })?;
    output.result(&report, ["STATUS", "CHECK", "RESULT"], Report::rows)?;
    match report.failed() {
        0 => Ok(()),
        failed => Err(CliError::Unwell {
            failed,
            checks: report.checks(),
        }),
    }
}

async fn examine(client: &BrokerClient, secret: Option<&Sensitive>, full: bool, output: &mut Output<'_>) -> Report {
    let mut report = Report::default();
    if reach(client, &SystemClock, &mut report).await {
        return Visit::new(client, &SystemClock, report)
            .check(secret, full, output)
            .await;
    }
    report.skip_all(&CHECKS, NOT_ASKED);
    report
}
