//! A store that was put back from a copy: how it is noticed, and what is done then.

use agentwrit_protocol::audit::EventType;
use agentwrit_protocol::{Clock, StoreMark};
use agentwrit_store::session::AT_ONCE;
use agentwrit_store::{EventDraft, MetaKey, Remembered, Result};
use agentwrit_trail::{ChainHead, Finding, Identity, Links, Rule, new_epoch};

use crate::audit::events::hash_at;
use crate::facts;
use crate::identity::{append_event, former_epochs, next_second, remember_epoch};
use crate::link::Link;
use crate::shared::Shared;
use crate::value::values;

const OPERATION: &str = "restore";

/// Which rule makes a store with the mark `present` a restored one, given what is remembered of it.
pub(crate) async fn judge(link: &mut Link<'_>, present: &StoreMark, remembered: &Remembered) -> Result<Option<Rule>> {
    let Remembered::Mark(mark) = remembered else {
        return Ok(agentwrit_trail::judge(present, remembered, &[], None));
    };
    let hash = hash_at(link, mark.sequence).await?;
    let former = former_epochs(link).await?;
    Ok(agentwrit_trail::judge(present, remembered, &former, hash.as_deref()))
}

/// Makes a restored store one of its own: a new epoch, and all tokens and launch tokens of before are refused, since
/// it isn't known which of them were revoked or used after the copy was made. The trail tells of it with this transaction;
/// log and metric do after its commit ([`told`]).
pub(crate) async fn begin_anew(
    link: &mut Link<'_>,
    head: &ChainHead,
    before: &Identity,
    finding: &Finding,
    shared: &Shared,
) -> Result<Links> {
    let epoch = new_epoch(shared.entropy.as_ref())?;
    let detail = finding.describe(&head.mark(before.epoch.clone()), &epoch);
    let event = EventDraft::success(EventType::StoreRestored, detail);
    // The mark has been taken note of: seen once more, it says nothing new.
    let noted = match &finding.remembered {
        Remembered::Mark(mark) => Some(mark.epoch.as_str()),
        _ => None,
    };
    begin_epoch(link, head, before, (epoch, noted), event, shared).await
}

/// Begins an epoch because a person says so, with this event.
pub(crate) async fn begin_by_person(
    link: &mut Link<'_>,
    head: &ChainHead,
    before: &Identity,
    mut event: EventDraft,
    shared: &Shared,
) -> Result<Links> {
    let epoch = new_epoch(shared.entropy.as_ref())?;
    event.detail = format!("{}; old epoch={}; new epoch={epoch}", event.detail, before.epoch);
    begin_epoch(link, head, before, (epoch, None), event, shared).await
}

/// Refuses all tokens and launch tokens of before, with the event that tells of it, under a new epoch; `noted` is
/// another epoch that is known from now on.
async fn begin_epoch(
    link: &mut Link<'_>,
    head: &ChainHead,
    before: &Identity,
    (epoch, noted): (String, Option<&str>),
    event: EventDraft,
    shared: &Shared,
) -> Result<Links> {
    let now = if before.fresh || before.made {
        before.min_iat
    } else {
        next_second(shared).await
    };
    let min_iat = now.max(before.min_iat);
    for known in std::iter::once(before.epoch.as_str()).chain(noted) {
        remember_epoch(link, known).await?;
    }
    facts::write(link, MetaKey::Epoch, &epoch).await?;
    facts::write(link, MetaKey::MinIat, &min_iat.to_string()).await?;
    facts::write(link, MetaKey::EpochDue, "").await?;
    if !before.made {
        // Also for commands that wait already, and whose bearers were looked at before: agents start over.
        let sql = "UPDATE sessions SET ended_at = $1, end_reason = 'superseded', status_set_at = $1 \
                   WHERE ended_at IS NULL OR (end_reason = 'superseded' AND ended_at > $1)";
        link.send(OPERATION, sql, values![AT_ONCE.get()]).await?;
        let sql = "UPDATE launch_tokens SET expires_at = $1 WHERE expires_at > $1";
        link.send(OPERATION, sql, values![shared.clock.unix_millis().get()])
            .await?;
    }
    append_event(link, head, shared, event).await
}

/// Tells of a new epoch that was committed.
pub(crate) fn told(finding: &Finding, links: &Links, shared: &Shared) {
    let rule = finding.rule.as_str();
    shared.observer.audited(&links.event_types());
    shared.observer.restored(rule);
    let restored = EventType::StoreRestored.as_str();
    let event = links.events.iter().find(|sealed| sealed.event.event_type == restored);
    let detail = event.map_or("", |sealed| sealed.event.detail.as_str());
    tracing::warn!(target: "STORE", component = "Restore", rule, detail,
        "the store was put back from a copy: all tokens of before are refused; revoke, and deregister, once more \
         what was since the copy was made");
}
