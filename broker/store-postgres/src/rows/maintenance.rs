//! What is pruned. Nothing of the trail is: it is only appended to, and goes by segments.

use std::time::Duration;

use agentwrit_protocol::UnixSeconds;
use agentwrit_store::{Maintenance, Policies, Result, StatusLists, SweepTask};
use async_trait::async_trait;

use crate::tx::PgTx;
use crate::value::values;

const PRUNE: &str = "prune";
/// How long a change of the view is kept for replicas that haven't heard of it.
const TOLD_FOR: Duration = Duration::from_mins(5);
const HOUR: Duration = Duration::from_hours(1);
/// How long a row is kept beyond its need: a clock that jumped forward and back within a day makes nothing of it
/// forgotten.
const KEPT: Duration = Duration::from_hours(25);
/// Rows of one table that go in one transaction, for which all other commits wait.
const PRUNED_AT_ONCE: i64 = 500;

/// Advisory lock of the one that sweeps: "sweep", for whoever looks into `pg_locks`.
const SWEEPS: i64 = 495_505_302_896;
/// Who lacks older changes loads all. The first condition is that of the primary key.
const OLD_CHANGES: &str = "DELETE FROM view_changes WHERE seq IN (SELECT seq FROM (SELECT seq, at FROM view_changes \
     ORDER BY seq LIMIT $2) AS oldest WHERE at < $1)";

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
            " < $1 LIMIT $2)"
        )
    };
}

#[async_trait]
impl Maintenance for PgTx<'_, '_> {
    async fn begin_sweeps(&mut self) -> Result<bool> {
        // Of the connection: it ends with it.
        let sql = "SELECT pg_try_advisory_lock($1) AS taken";
        let taken = self
            .link
            .first("lock_sweeps", sql, values![SWEEPS], |row| row.flag("taken"));
        Ok(taken.await?.unwrap_or_default())
    }

    async fn end_sweeps(&mut self) -> Result<()> {
        self.link
            .change("unlock_sweeps", "SELECT pg_advisory_unlock_all()", values![])
            .await
            .map(drop)
    }

    async fn sweep(&mut self, task: SweepTask) -> Result<u64> {
        let passed = self.times.passed();
        let long_passed = (passed - KEPT).get();
        let (statement, limit) = match task {
            SweepTask::StatusIndexes => return self.free_status_indexes().await,
            // A launch token answers "expired" or "already consumed" for an hour, then "not found".
            SweepTask::LaunchTokens => (prune!("launch_tokens", "hash", "expires_at"), (passed - HOUR).get()),
            SweepTask::Nonces => (prune!("nonces", "until, nonce", "until"), long_passed),
            SweepTask::Revocations => (prune!("revocations", "ctid", "until"), long_passed),
            // `kept_until` is so long after the end already. Before a row goes its status index is taken back.
            SweepTask::Sessions => {
                let swept = self.indexes.as_ref().map(|indexes| indexes.swept_until());
                let swept = swept.unwrap_or(UnixSeconds::new(i64::MIN));
                (
                    prune!("sessions", "sid", "kept_until"),
                    passed.second().min(swept).get(),
                )
            }
            SweepTask::Policies => {
                self.purge_policy_rows().await?;
                // Of processes that are gone: a COMMIT is looked up within a minute. By the database's own clock.
                let sql = "DELETE FROM committers WHERE seen < now() - interval '1 day'";
                self.link.send(PRUNE, sql, values![]).await?;
                return Ok(0);
            }
            SweepTask::ViewChanges => (OLD_CHANGES, (passed - TOLD_FOR).get()),
        };
        self.link.change(PRUNE, statement, values![limit, PRUNED_AT_ONCE]).await
    }

    async fn shorten_trail(&mut self, _keep: i64) -> Result<u64> {
        Ok(0)
    }
}
