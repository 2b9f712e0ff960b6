//! All that a store holds of revocations, for the revocation view.

use agentwrit_protocol::{Times, UnixMillis};
use agentwrit_store::session::kept_until;
use agentwrit_store::{
    EndReason, FromStored, MetaKey, Result, Revocation, RevocationLevel, RevocationLoad, ViewChange,
};
use agentwrit_trail::{ChainHead, Identity};

use crate::audit::head;
use crate::facts;
use crate::identity::identity_of;
use crate::link::Link;
use crate::row::Row;
use crate::shared::Shared;
use crate::value::values;

/// The view as a transaction sees it, and where the store stands.
pub(crate) struct Snapshot<'s> {
    /// Number of the last change that is in it.
    pub(crate) seq: i64,
    pub(crate) identity: Identity,
    pub(crate) head: ChainHead,
    /// The listener's, which has taken all.
    pub(crate) load: Box<dyn RevocationLoad + 's>,
    /// How many that was.
    pub(crate) changes: usize,
}

/// Reads all of it, in a transaction of one moment, or one that has the lock of the chain's head.
pub(crate) async fn snapshot<'s>(link: &mut Link<'_>, shared: &'s Shared) -> Result<Snapshot<'s>> {
    let head = head::seen(link).await?;
    let epoch = facts::read(link, MetaKey::Epoch).await?.unwrap_or_default();
    let identity = identity_of(link, epoch).await?;
    let mut load = shared.revocations.load(identity.min_iat);
    let mut changes = 0_usize;
    let take = |change| {
        load.take(change);
        changes += 1;
    };
    load_changes(link, shared.judging.observe(), take).await?;
    Ok(Snapshot {
        seq: head.view_seq,
        identity,
        head: head.chain,
        load,
        changes,
    })
}

/// Everything that the revocation view must know at start. An overlap that is over by now has no moment any more.
async fn load_changes(link: &mut Link<'_>, times: Times, mut take: impl FnMut(ViewChange)) -> Result<()> {
    const SESSIONS: &str = "load_sessions";
    const REVOCATIONS: &str = "load_revocations";
    let passed = times.passed().second();
    let overlap = |moment: Option<UnixMillis>| moment.filter(|moment| *moment > times.judged);
    let ended = |row: &Row<'_>| {
        let reason = EndReason::from_stored(&row.text("end_reason")?)?;
        Ok(ViewChange::SessionEnded {
            sid: row.text("sid")?.into(),
            reason,
            overlap_until: overlap(row.any_millis("ended_at")?).filter(|_| reason == EndReason::Superseded),
            until: row.seconds("last_exp")?.end(),
        })
    };
    let renewed = |row: &Row<'_>| {
        Ok(ViewChange::Renewed {
            node: row.text("sid")?.into(),
            jti: row.text("jti")?.into(),
            previous: row.text("prev_jti")?.into(),
            overlap_until: overlap(row.any_millis("prev_over")?),
            until: row.seconds("last_exp")?.end(),
        })
    };
    let revoked = |row: &Row<'_>| {
        Ok(ViewChange::Revoked(Revocation {
            level: RevocationLevel::from_stored(&row.text("level")?)?,
            target: row.text("target")?,
            until: row.any_millis("until")?,
        }))
    };
    let kept = || values![kept_until(passed).get(), passed.get()];
    let sql = "SELECT sid, end_reason, ended_at, last_exp FROM sessions \
               WHERE ended_at IS NOT NULL AND kept_until >= $1 AND last_exp >= $2";
    link.each(SESSIONS, sql, kept(), |row| ended(row).map(&mut take))
        .await?;
    let sql = "SELECT sid, jti, prev_jti, prev_over, last_exp FROM sessions \
               WHERE kept_until >= $1 AND prev_jti IS NOT NULL AND last_exp >= $2";
    link.each(SESSIONS, sql, kept(), |row| renewed(row).map(&mut take))
        .await?;
    let sql = "SELECT level, target, until FROM revocations WHERE until IS NULL OR until >= $1";
    link.each(REVOCATIONS, sql, values![times.passed().get()], |row| {
        revoked(row).map(&mut take)
    })
    .await
}
