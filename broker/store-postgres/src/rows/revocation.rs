//! Rows of revocations.

use agentwrit_protocol::UnixMillis;
use agentwrit_store::ViewChange;
use agentwrit_store::{Result, Revocation, RevocationLevel, Revocations};
use async_trait::async_trait;

use crate::tx::PgTx;
use crate::value::values;

const READ: &str = "read_revocation";

/// The entry of the second value at the level of the first, found by its hash.
macro_rules! is_target {
    () => {
        "level = $1 AND target_hash(target) = target_hash($2) AND target = $2"
    };
}

#[async_trait]
impl Revocations for PgTx<'_, '_> {
    async fn add_revocation(&mut self, revocation: &Revocation) -> Result<()> {
        // NULL means never, so it wins over any moment.
        let sql = "INSERT INTO revocations AS r (level, target, until) VALUES ($1, $2, $3) \
                   ON CONFLICT (level, target_hash(target)) DO UPDATE SET until = CASE WHEN r.until IS NULL OR excluded.until IS NULL \
                   THEN NULL ELSE greatest(r.until, excluded.until) END";
        let values = values![
            revocation.level.as_str(),
            &revocation.target,
            revocation.until.map(UnixMillis::get)
        ];
        self.link.send("save_revocation", sql, values).await?;
        self.view_change(ViewChange::Revoked(revocation.clone()));
        Ok(())
    }

    async fn is_revoked(&mut self, level: RevocationLevel, target: &str) -> Result<bool> {
        let sql = concat!(
            "SELECT true FROM revocations WHERE ",
            is_target!(),
            " AND (until IS NULL OR until > $3)"
        );
        let values = values![level.as_str(), target, self.times.passed().get()];
        self.any(READ, sql, values).await
    }

    async fn revoked_targets(&mut self, level: RevocationLevel) -> Result<Vec<String>> {
        let sql = "SELECT target FROM revocations WHERE level = $1";
        self.link
            .all(READ, sql, values![level.as_str()], |row| row.text("target"))
            .await
    }

    async fn lift_revocation(&mut self, level: RevocationLevel, target: &str) -> Result<bool> {
        let sql = concat!("DELETE FROM revocations WHERE ", is_target!());
        let values = values![level.as_str(), target];
        if !self.changed("lift_revocation", sql, values).await? {
            return Ok(false);
        }
        self.view_change(ViewChange::Lifted {
            level,
            target: target.to_owned(),
        });
        Ok(true)
    }
}
