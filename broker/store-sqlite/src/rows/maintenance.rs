//! What is pruned, and what is kept short.

use std::time::Duration;

use agentwrit_store::{Maintenance, Policies, Result, StatusLists, SweepTask};
use async_trait::async_trait;

use crate::audit::short;
use crate::statements::Statements;
use crate::tx::SqliteTx;

const HOUR: Duration = Duration::from_hours(1);
/// How long a row is kept beyond its need: a clock that jumped forward and back within a day makes nothing of it
/// forgotten.
const KEPT: Duration = Duration::from_hours(25);
/// Rows of one table that go in one transaction, for which all other commits wait.
const PRUNED_AT_ONCE: i64 = 500;

/// Removes some of the rows whose moment is before the first value.
macro_rules! prune {
    ($table:literal, $key:literal, $moment:literal) => {
        concat!(
            "DELETE FROM ",
            $table,
            " WHERE (",
            $key,
            ") IN (SELECT ",
            $key,
            " FROM ",
            $table,
            " WHERE ",
            $moment,
            " < ? LIMIT ?)"
        )
    };
}

#[async_trait]
impl Maintenance for SqliteTx<'_> {
    async fn begin_sweeps(&mut self) -> Result<bool> {
        // There is no other.
        Ok(true)
    }

    async fn end_sweeps(&mut self) -> Result<()> {
        Ok(())
    }

    async fn sweep(&mut self, task: SweepTask) -> Result<u64> {
        let passed = self.times.passed();
        let long_passed = (passed - KEPT).get();
        let (statement, limit) = match task {
            SweepTask::StatusIndexes => return self.free_status_indexes().await,
            // A launch token answers "expired" or "already consumed" for an hour, then "not found".
            SweepTask::LaunchTokens => (prune!("launch_tokens", "id", "expires_at"), (passed - HOUR).get()),
            SweepTask::Nonces => (prune!("nonces", "until, nonce", "until"), long_passed),
            SweepTask::Revocations => (prune!("revocations", "level, target", "until"), long_passed),
            // `kept_until` is so long after the end already. Before a row goes its status index is taken back.
            SweepTask::Sessions => (
                prune!("sessions", "id", "kept_until"),
                passed.second().min(self.swept_until()).get(),
            ),
            SweepTask::Policies => {
                self.purge_policy_rows().await?;
                return Ok(0);
            }
            // There is none: nobody else hears of them.
            SweepTask::ViewChanges => return Ok(0),
        };
        let gone = self.connection.change("prune", statement, [limit, PRUNED_AT_ONCE])?;
        Ok(u64::try_from(gone).unwrap_or(u64::MAX))
    }

    async fn shorten_trail(&mut self, keep: i64) -> Result<u64> {
        let (looked_at, saved) = short::shorten(self.connection, keep)?;
        self.saved = self.saved.and(saved);
        Ok(looked_at)
    }
}
