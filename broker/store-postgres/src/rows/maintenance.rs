//! What is pruned. Nothing of the trail is: it is only appended to, and goes by segments.

use std::time::Duration;

use agentwrit_protocol::UnixSeconds;
use agentwrit_store::{Maintenance, Policies, Result};
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
    async fn prune(&mut self) -> Result<u64> {
        let passed = self.times.passed();
        let long_passed = (passed - KEPT).get();
        let swept = self.indexes.as_ref().map(|indexes| indexes.swept_until());
        let swept = swept.unwrap_or(UnixSeconds::new(i64::MIN));
        let statements = [
            // A launch token answers "expired" or "already consumed" for an hour, then "not found".
            (prune!("launch_tokens", "hash", "expires_at"), (passed - HOUR).get()),
            (prune!("nonces", "until, nonce", "until"), long_passed),
            (prune!("revocations", "level, target", "until"), long_passed),
            // `kept_until` is so long after the end already. Before a row goes its status index is taken back.
            (
                prune!("sessions", "sid", "kept_until"),
                passed.second().min(swept).get(),
            ),
        ];
        let mut rows = 0_u64;
        for (statement, limit) in statements {
            let gone = self
                .link
                .change(PRUNE, statement, values![limit, PRUNED_AT_ONCE])
                .await?;
            rows = rows.saturating_add(gone);
        }
        // Who lacks older ones loads all.
        let sql = "DELETE FROM view_changes WHERE seq IN (SELECT seq FROM (SELECT seq, at FROM view_changes ORDER BY seq LIMIT $2) \
                   AS oldest WHERE at < $1)";
        let told = (passed - TOLD_FOR).get();
        rows = rows.saturating_add(self.link.change(PRUNE, sql, values![told, PRUNED_AT_ONCE * 10]).await?);
        // Of processes that are gone: a COMMIT is looked up within a minute. By the database's own clock.
        let sql = "DELETE FROM committers WHERE seen < now() - interval '1 day'";
        self.link.send(PRUNE, sql, values![]).await?;
        self.purge_policy_rows().await?;
        Ok(rows)
    }

    async fn shorten_trail(&mut self, _keep: i64) -> Result<u64> {
        Ok(0)
    }
}
