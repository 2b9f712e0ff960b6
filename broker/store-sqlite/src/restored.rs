//! A store that was put back from a copy: how it is noticed, and what is done then.

use agentwrit_protocol::audit::EventType;
use agentwrit_protocol::{Clock, StoreMark};
use agentwrit_store::session::AT_ONCE;
use agentwrit_store::{EventDraft, MetaKey, Remembered, Result};
use agentwrit_trail::{ChainHead, Finding, Identity, Rule, new_epoch};
use rusqlite::Connection;

use super::error::Operation;
use super::identity::{append_event, former_epochs, next_second, remember_epoch};
use super::shared::Shared;
use super::statements::{Statements, begin};
use crate::audit::events::hash_at;
use crate::facts;

const OPERATION: &str = "restore";

/// Which rule makes a store with the mark `present` a restored one, given what is remembered of it.
pub(super) fn judge(connection: &Connection, present: &StoreMark, remembered: &Remembered) -> Result<Option<Rule>> {
    let Remembered::Mark(mark) = remembered else {
        return Ok(agentwrit_trail::judge(present, remembered, &[], None));
    };
    let hash = hash_at(connection, mark.sequence)?;
    Ok(agentwrit_trail::judge(
        present,
        remembered,
        &former_epochs(connection)?,
        hash.as_deref(),
    ))
}

/// Makes a restored store one of its own: a new epoch, and all tokens and launch tokens of before are refused, since
/// it isn't known which of them were revoked or used after the copy was made. The trail, the log and a metric tell of it.
pub(super) fn begin_anew(
    connection: &mut Connection,
    head: &mut ChainHead,
    before: &Identity,
    finding: &Finding,
    shared: &Shared,
) -> Result<Identity> {
    let epoch = new_epoch(shared.entropy.as_ref())?;
    let present = head.mark(before.epoch.clone());
    let detail = finding.describe(&present, &epoch);
    let event = EventDraft::success(EventType::StoreRestored, detail.clone());
    // The mark has been taken note of: seen once more, it says nothing new.
    let noted = match &finding.remembered {
        Remembered::Mark(mark) => Some(mark.epoch.as_str()),
        _ => None,
    };
    let identity = begin_epoch(connection, head, before, (epoch, noted), event, shared)?;
    let rule = finding.rule.as_str();
    shared.observer.restored(rule);
    tracing::warn!(target: "STORE", component = "Restore", rule, detail,
        "the store was put back from a copy: all tokens of before are refused; revoke, and deregister, once more \
         what was since the copy was made");
    Ok(identity)
}

/// Begins an epoch because a person says so, with this event.
pub(super) fn begin_by_person(
    connection: &mut Connection,
    head: &mut ChainHead,
    before: &Identity,
    mut event: EventDraft,
    shared: &Shared,
) -> Result<Identity> {
    let epoch = new_epoch(shared.entropy.as_ref())?;
    event.detail = format!("{}; old epoch={}; new epoch={epoch}", event.detail, before.epoch);
    let identity = begin_epoch(connection, head, before, (epoch, None), event, shared)?;
    tracing::warn!(target: "STORE", component = "Epoch", epoch = identity.epoch,
        "a person began a new epoch: all tokens of before are refused");
    Ok(identity)
}

/// Refuses all tokens and launch tokens of before, with the event that tells of it, under a new epoch; `noted` is
/// another epoch that is known from now on.
fn begin_epoch(
    connection: &mut Connection,
    head: &mut ChainHead,
    before: &Identity,
    (epoch, noted): (String, Option<&str>),
    event: EventDraft,
    shared: &Shared,
) -> Result<Identity> {
    let now = if before.fresh || before.made {
        before.min_iat
    } else {
        next_second(shared)
    };
    let min_iat = now.max(before.min_iat);
    let transaction = begin(connection, OPERATION)?;
    for known in std::iter::once(before.epoch.as_str()).chain(noted) {
        remember_epoch(&transaction, known)?;
    }
    facts::write(&transaction, MetaKey::Epoch, &epoch)?;
    facts::write(&transaction, MetaKey::MinIat, &min_iat.to_string())?;
    facts::write(&transaction, MetaKey::EpochDue, "")?;
    let sql = "DELETE FROM meta WHERE key = ?";
    transaction.change(OPERATION, sql, [MetaKey::MovedTo.as_str()])?;
    if !before.made {
        // Also for commands that wait already, and whose bearers were looked at before: agents start over.
        let sql = "UPDATE sessions SET ended_at = ?1, end_reason = 'superseded', status_set_at = ?1 \
                   WHERE ended_at IS NULL OR (end_reason = 'superseded' AND ended_at > ?1)";
        transaction.change(OPERATION, sql, [AT_ONCE.get()])?;
        let sql = "UPDATE launch_tokens SET expires_at = ?1 WHERE expires_at > ?1";
        transaction.change(OPERATION, sql, [shared.clock.unix_millis().get()])?;
    }
    let links = append_event(&transaction, head, shared, event)?;
    transaction.commit().during(OPERATION)?;
    shared.observer.audited(&links.event_types());
    *head = links.head;
    Ok(Identity {
        epoch,
        min_iat,
        fresh: true,
        made: false,
    })
}
