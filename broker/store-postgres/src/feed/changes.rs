//! Rows of changes.

use agentwrit_protocol::UnixMillis;
use agentwrit_store::{EndReason, FromStored, Result, Revocation, RevocationLevel, StoreError, ViewChange};

use crate::link::Link;
use crate::row::Row;
use crate::value::{Value, values};

const SAVE: &str = "save_view_changes";
const READ: &str = "read_view_changes";
/// Changes that are read one by one; who lacks more loads all.
const MOST_READ: i64 = 20_000;

/// What happened, in a row. The other columns of each: `target` | `value` | `extra`.
mod kind {
    /// Session or delegation | reason.
    pub(super) const ENDED: &str = "ended";
    /// Session or delegation | its token now | the token before.
    pub(super) const RENEWED: &str = "renewed";
    /// As revoked | level.
    pub(super) const REVOKED: &str = "revoked";
    /// As revoked | level.
    pub(super) const LIFTED: &str = "lifted";
    /// Nothing: all has to be loaded.
    pub(super) const EPOCH: &str = "epoch";
}

/// A change, or that all has to be loaded.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Told {
    Change(ViewChange),
    /// All has to be loaded.
    All,
}

/// The columns of a change; `None` of one that is of a process alone.
fn columns(change: &ViewChange) -> Option<[Value; 6]> {
    let moment = |moment: &Option<UnixMillis>| Value::from(moment.map(UnixMillis::get));
    let text = |text: &str| Value::from(text);
    Some(match change {
        ViewChange::SessionEnded {
            sid,
            reason,
            overlap_until,
            until,
        } => [
            text(kind::ENDED),
            text(sid),
            text(reason.as_str()),
            text(""),
            moment(overlap_until),
            until.get().into(),
        ],
        ViewChange::Renewed {
            node,
            jti,
            previous,
            overlap_until,
            until,
        } => [
            text(kind::RENEWED),
            text(node),
            text(jti),
            text(previous),
            moment(overlap_until),
            until.get().into(),
        ],
        ViewChange::Revoked(revocation) => [
            text(kind::REVOKED),
            text(&revocation.target),
            text(revocation.level.as_str()),
            text(""),
            Value::from(None::<i64>),
            moment(&revocation.until),
        ],
        ViewChange::Lifted { level, target } => [
            text(kind::LIFTED),
            text(target),
            text(level.as_str()),
            text(""),
            Value::from(None::<i64>),
            Value::from(None::<i64>),
        ],
        ViewChange::Expired { .. } => return None,
    })
}

fn from_row(row: &Row<'_>) -> Result<(i64, Told)> {
    let (target, value) = (row.text("target")?, row.text("value")?);
    let until = || {
        let moment = row.any_millis("until")?;
        moment.ok_or_else(|| corrupt("has no moment".to_owned()))
    };
    let change = match row.text("kind")?.as_str() {
        kind::ENDED => ViewChange::SessionEnded {
            sid: target.into(),
            reason: EndReason::from_stored(&value)?,
            overlap_until: row.any_millis("overlap_until")?,
            until: until()?,
        },
        kind::RENEWED => ViewChange::Renewed {
            node: target.into(),
            jti: value.into(),
            previous: row.text("extra")?.into(),
            overlap_until: row.any_millis("overlap_until")?,
            until: until()?,
        },
        kind::REVOKED => ViewChange::Revoked(Revocation {
            level: RevocationLevel::from_stored(&value)?,
            target,
            until: row.any_millis("until")?,
        }),
        kind::LIFTED => ViewChange::Lifted {
            level: RevocationLevel::from_stored(&value)?,
            target,
        },
        // A new epoch, or what a newer program has written: the tables say what has become of it.
        _ => return Ok((row.whole("seq")?, Told::All)),
    };
    Ok((row.whole("seq")?, Told::Change(change)))
}

fn corrupt(why: String) -> StoreError {
    StoreError::Corrupt {
        what: "change of the revocation view",
        why,
    }
}

/// Writes the changes of a transaction after the one with this number, and tells the others with its commit. Returns each with
/// its number.
pub(crate) async fn append(
    link: &mut Link<'_>,
    after: i64,
    changes: Vec<ViewChange>,
    now: UnixMillis,
) -> Result<Vec<(i64, ViewChange)>> {
    let mut rows: [Vec<Value>; 6] = Default::default();
    let mut numbered = Vec::with_capacity(changes.len());
    let mut last = after;
    for change in changes {
        let Some(columns) = columns(&change) else { continue };
        for (row, column) in rows.iter_mut().zip(columns) {
            row.push(column);
        }
        last = last.saturating_add(1);
        numbered.push((last, change));
    }
    if numbered.is_empty() {
        return Ok(numbered);
    }
    let [kinds, targets, values, extras, overlaps, untils] = rows.map(|row| Value::column(&row));
    let sql = "WITH head AS (UPDATE chain_head SET view_seq = $3 WHERE id = 1) \
               INSERT INTO view_changes (seq, at, kind, target, value, extra, overlap_until, until) \
               SELECT $1::bigint + number, $2::bigint, kind, target, value, extra, overlap_until, until FROM unnest($4::text[], \
               $5::text[], $6::text[], $7::text[], $8::bigint[], $9::bigint[]) WITH ORDINALITY \
               AS changed (kind, target, value, extra, overlap_until, until, number)";
    let values = vec![
        after.into(),
        now.get().into(),
        last.into(),
        kinds,
        targets,
        values,
        extras,
        overlaps,
        untils,
    ];
    link.send(SAVE, sql, values).await?;
    notify(link, last).await?;
    Ok(numbered)
}

/// Writes that an epoch begins, after the change with this number.
pub(crate) async fn append_epoch(link: &mut Link<'_>, after: i64, now: UnixMillis) -> Result<()> {
    let seq = after.saturating_add(1);
    let sql = "WITH head AS (UPDATE chain_head SET view_seq = $1 WHERE id = 1) \
               INSERT INTO view_changes (seq, at, kind, target, value, extra) VALUES ($1, $2, $3, '', '', '')";
    link.send(SAVE, sql, values![seq, now.get(), kind::EPOCH]).await?;
    notify(link, seq).await
}

async fn notify(link: &mut Link<'_>, seq: i64) -> Result<()> {
    let sql = "SELECT pg_notify($1, $2)";
    link.send("notify", sql, values![super::CHANNEL, seq.to_string()]).await
}

/// The changes after this number up to that one; `None` when they are not all there, or too many.
pub(super) async fn between(link: &mut Link<'_>, after: i64, last: i64) -> Result<Option<Vec<(i64, Told)>>> {
    let lacking = last.saturating_sub(after);
    if !(0..=MOST_READ).contains(&lacking) {
        return Ok(None);
    }
    let sql = select!(view_changes, "WHERE seq > $1 AND seq <= $2 ORDER BY seq");
    let found = link.all(READ, sql, values![after, last], from_row).await?;
    Ok(Some(found).filter(|found| i64::try_from(found.len()) == Ok(lacking)))
}
