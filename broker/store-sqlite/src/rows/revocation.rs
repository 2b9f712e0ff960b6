//! Rows of revocations.

use agentwrit_protocol::UnixMillis;
use agentwrit_store::ViewChange;
use agentwrit_store::{Result, Revocation, RevocationLevel, Revocations};
use async_trait::async_trait;
use rusqlite::params;

use crate::statements::{Statements, scalar};
use crate::tx::SqliteTx;

#[async_trait]
impl Revocations for SqliteTx<'_> {
    async fn add_revocation(&mut self, revocation: &Revocation) -> Result<()> {
        // NULL means never, so it wins over any moment.
        self.connection.change(
            "save_revocation",
            "INSERT INTO revocations (level, target, until) VALUES (?, ?, ?) ON CONFLICT (level, target) DO UPDATE SET \
             until = CASE WHEN until IS NULL OR excluded.until IS NULL THEN NULL ELSE MAX(until, excluded.until) END",
            params![
                revocation.level.as_str(),
                revocation.target,
                revocation.until.map(UnixMillis::get)
            ],
        )?;
        self.view_change(ViewChange::Revoked(revocation.clone()));
        Ok(())
    }

    async fn is_revoked(&mut self, level: RevocationLevel, target: &str) -> Result<bool> {
        const OPERATION: &str = "read_revocation";
        let sql = "SELECT 1 FROM revocations WHERE level = ? AND target = ? AND (until IS NULL OR until > ?)";
        let values = params![level.as_str(), target, self.times.passed().get()];
        let found = self
            .connection
            .first(OPERATION, sql, values, scalar::<i64>(OPERATION))?;
        Ok(found.is_some())
    }

    async fn revoked_targets(&mut self, level: RevocationLevel) -> Result<Vec<String>> {
        const OPERATION: &str = "read_revocation";
        let sql = "SELECT target FROM revocations WHERE level = ?";
        self.connection.all(OPERATION, sql, [level.as_str()], scalar(OPERATION))
    }

    async fn lift_revocation(&mut self, level: RevocationLevel, target: &str) -> Result<bool> {
        let sql = "DELETE FROM revocations WHERE level = ? AND target = ?";
        if self
            .connection
            .change("lift_revocation", sql, [level.as_str(), target])?
            == 0
        {
            return Ok(false);
        }
        self.view_change(ViewChange::Lifted {
            level,
            target: target.to_owned(),
        });
        Ok(true)
    }
}
