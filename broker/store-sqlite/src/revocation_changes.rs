//! What a store holds of revocations at its opening, for the revocation view.

use agentwrit_protocol::{Times, UnixMillis, UnixSeconds};
use agentwrit_store::session::kept_until;
use agentwrit_store::{EndReason, FromStored, Result, Revocation, RevocationLevel, ViewChange};
use rusqlite::{Connection, Row};

use super::columns;
use super::error::Operation;
use super::shared::Shared;
use super::statements::Statements;

/// Replaces what is known of revocations by what the store holds.
pub(super) fn load_revocations(connection: &Connection, shared: &Shared, min_iat: UnixSeconds) -> Result<()> {
    let mut load = shared.revocations.load(min_iat);
    load_changes(connection, shared.judging.observe(), |change| load.take(change))?;
    load.done();
    shared.status.set_min_iat(min_iat);
    Ok(())
}

/// Everything that the revocation view must know at start. An overlap that is over by now has no moment any more.
fn load_changes(connection: &Connection, times: Times, mut take: impl FnMut(ViewChange)) -> Result<()> {
    const SESSIONS: &str = "load_sessions";
    const REVOCATIONS: &str = "load_revocations";
    let passed = times.passed().second();
    let text = |row: &Row<'_>, column| row.get::<_, String>(column).during(SESSIONS);
    let overlap_until = |moment| Some(UnixMillis::new(moment)).filter(|moment| *moment > times.judged);
    let end_of = |row: &Row<'_>, last_exp| row.get(last_exp).map(UnixSeconds::new).map(UnixSeconds::end);
    connection.each(
        SESSIONS,
        "SELECT sid, end_reason, ended_at, last_exp FROM sessions \
         WHERE ended_at IS NOT NULL AND last_exp >= ?",
        [passed.get()],
        |row| {
            let reason: String = row.get(1).during(SESSIONS)?;
            let reason = EndReason::from_stored(&reason)?;
            take(ViewChange::SessionEnded {
                sid: text(row, 0)?.into(),
                reason,
                overlap_until: overlap_until(row.get(2).during(SESSIONS)?).filter(|_| reason == EndReason::Superseded),
                until: end_of(row, 3).during(SESSIONS)?,
            });
            Ok(())
        },
    )?;
    connection.each(
        SESSIONS,
        "SELECT sid, jti, prev_jti, prev_over, last_exp FROM sessions \
         WHERE kept_until >= ? AND prev_jti IS NOT NULL AND last_exp >= ?",
        [kept_until(passed).get(), passed.get()],
        |row| {
            take(ViewChange::Renewed {
                node: text(row, 0)?.into(),
                jti: text(row, 1)?.into(),
                previous: text(row, 2)?.into(),
                overlap_until: overlap_until(row.get(3).during(SESSIONS)?),
                until: end_of(row, 4).during(SESSIONS)?,
            });
            Ok(())
        },
    )?;
    connection.each(
        REVOCATIONS,
        "SELECT level, target, until FROM revocations WHERE until IS NULL OR until >= ?",
        [times.passed().get()],
        |row| {
            let level: String = row.get(0).during(REVOCATIONS)?;
            take(ViewChange::Revoked(Revocation {
                level: RevocationLevel::from_stored(&level)?,
                target: row.get(1).during(REVOCATIONS)?,
                until: columns::any_millis(row, 2).during(REVOCATIONS)?,
            }));
            Ok(())
        },
    )
}
