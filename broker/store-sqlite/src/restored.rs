//! A store that was put back from a copy: how it is noticed, and what is done then.

use agentwrit_protocol::audit::EventType;
use agentwrit_protocol::{Clock, StoreMark};
use agentwrit_store::{EventDraft, MetaKey, Remembered, Result};
use rusqlite::Connection;

use super::error::Operation;
use super::identity::{Identity, append_event, former_epochs, new_epoch, next_second, remember_epoch};
use super::shared::Shared;
use super::statements::{Statements, begin};
use crate::audit::chain::ChainHead;
use crate::audit::events::hash_at;
use crate::facts;
use crate::rows::session::AT_ONCE;

const OPERATION: &str = "restore";

/// Why a store counts as restored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Rule {
    /// It ends before the mark.
    LowerSequence,
    /// At the mark's number it has another event.
    OtherHistory,
    /// The mark is of an epoch that it neither has nor had.
    UnknownEpoch,
    /// The mark can't be read. It may be of any epoch, so it counts as one of an unknown one: to take it for none
    /// would let a broken mark hide a restore, and the price of the error is that agents register again.
    UnreadableMark,
    /// A person said so.
    Declared,
}

impl Rule {
    const fn as_str(self) -> &'static str {
        match self {
            Self::LowerSequence => "lower_sequence",
            Self::OtherHistory => "other_history",
            Self::UnknownEpoch => "unknown_epoch",
            Self::UnreadableMark => "unreadable_mark",
            Self::Declared => "declared",
        }
    }
}

/// Who says that a store is restored, and by what.
pub(super) struct Finding {
    pub(super) rule: Rule,
    pub(super) remembered: Remembered,
    /// Where the mark is, for people.
    pub(super) by: &'static str,
}

/// Which rule makes a store with the mark `present` a restored one, given what is remembered of it.
pub(super) fn judge(connection: &Connection, present: &StoreMark, remembered: &Remembered) -> Result<Option<Rule>> {
    let mark = match remembered {
        Remembered::Nothing => return Ok(None),
        Remembered::Unreadable(_) => return Ok(Some(Rule::UnreadableMark)),
        Remembered::Mark(mark) => mark,
    };
    if mark.epoch != present.epoch {
        let known = former_epochs(connection)?.contains(&mark.epoch);
        return Ok((!known).then_some(Rule::UnknownEpoch));
    }
    if mark.sequence > present.sequence {
        return Ok(Some(Rule::LowerSequence));
    }
    // An event that the trail no longer has can't be compared.
    let differs = hash_at(connection, mark.sequence)?.is_some_and(|hash| hash != mark.head);
    Ok(differs.then_some(Rule::OtherHistory))
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
    let epoch = new_epoch(shared)?;
    let present = head.mark(before.epoch.clone());
    let detail = describe(finding, &present, &epoch);
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
    let epoch = new_epoch(shared)?;
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

fn describe(finding: &Finding, present: &StoreMark, epoch: &str) -> String {
    let text = |mark: &StoreMark| format!("epoch={} sequence={} head={}", mark.epoch, mark.sequence, mark.head);
    let remembered = match &finding.remembered {
        Remembered::Nothing => "none".to_owned(),
        Remembered::Mark(mark) => text(mark),
        Remembered::Unreadable(why) => agentwrit_protocol::excerpt::excerpt(why),
    };
    format!(
        "rule={} by={}; mark: {remembered}; store: {}; new epoch={epoch}",
        finding.rule.as_str(),
        finding.by,
        text(present)
    )
}
