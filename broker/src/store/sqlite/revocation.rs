//! Rows of revocations.

use async_trait::async_trait;

use super::SqliteTx;
use crate::store::{Ledger, Operation, Result, Revocation, RevocationLevel, Revocations};
use crate::view::ViewChange;

#[async_trait]
impl Revocations for SqliteTx<'_> {
    async fn add_revocation(&mut self, revocation: &Revocation) -> Result<()> {
        // NULL means never, so it wins over any moment.
        sqlx::query(
            "INSERT INTO revocations (level, target, until) VALUES (?, ?, ?) ON CONFLICT (level, target) DO UPDATE SET \
             until = CASE WHEN until IS NULL OR excluded.until IS NULL THEN NULL ELSE MAX(until, excluded.until) END",
        )
        .bind(revocation.level.as_str())
        .bind(&revocation.target)
        .bind(revocation.until)
        .execute(&mut *self.connection)
        .await
        .during("save_revocation")?;
        self.view_change(ViewChange::Revoked(revocation.clone()));
        Ok(())
    }
    async fn lift_revocation(&mut self, level: RevocationLevel, target: &str) -> Result<bool> {
        let done = sqlx::query("DELETE FROM revocations WHERE level = ? AND target = ?")
            .bind(level.as_str())
            .bind(target)
            .execute(&mut *self.connection)
            .await
            .during("lift_revocation")?;
        if done.rows_affected() == 0 {
            return Ok(false);
        }
        self.view_change(ViewChange::Lifted {
            level,
            target: target.to_owned(),
        });
        Ok(true)
    }
}
