//! What the committer does beside batches: the comparison with a mark, a person's new epoch, and the end.

use std::sync::Arc;
use std::time::Duration;

use agentwrit_protocol::{Clock, StoreMark};
use agentwrit_store::{Compared, EventDraft, MetaKey, Remembered, Result};
use agentwrit_trail::{Finding, Rule, log_checkpoint};

use crate::audit::head::{self, Head};
use crate::facts;
use crate::feed::{Snapshot, append_epoch, snapshot};
use crate::identity::identity_of;
use crate::link::Link;
use crate::open::{Opened, keep_mark};
use crate::restored::{begin_anew, begin_by_person, judge, told};
use crate::shared::Shared;

/// Compares the store with what is remembered of it outside; a restored one begins a new epoch.
pub(crate) async fn compared(opened: &Opened, shared: &Arc<Shared>, remembered: Remembered) -> Result<Compared> {
    const COMPARE: &str = "compare";
    let mut link = Link::new(&opened.client);
    let link = &mut link;
    link.send_text(COMPARE, "BEGIN").await?;
    let Head {
        chain: head, view_seq, ..
    } = head::locked(link).await?;
    let epoch = facts::read(link, MetaKey::Epoch).await?.unwrap_or_default();
    let present = head.mark(epoch);
    let rule = judge(link, &present, &remembered).await?;
    let Some(rule) = rule else {
        link.send_text(COMPARE, "ROLLBACK").await?;
        link.settle().await?;
        return Ok(Compared {
            mark: present,
            restored: false,
        });
    };
    let finding = Finding {
        rule,
        remembered,
        by: "the controller's Lease",
    };
    let mut before = identity_of(link, present.epoch).await?;
    let made = shared.status.made.read().clone();
    before.made = made == before.epoch && matches!(rule, Rule::UnknownEpoch | Rule::UnreadableMark);
    let links = begin_anew(link, &head, &before, &finding, shared).await?;
    let begun = stands_now(link, view_seq, shared).await?;
    link.send_text(COMPARE, "COMMIT").await?;
    link.settle().await?;
    told(&finding, &links, shared);
    stand_by(begun, shared).await;
    Ok(Compared {
        mark: shared.status.mark(),
        restored: true,
    })
}

/// Begins an epoch for a person.
pub(crate) async fn begun_epoch(opened: &Opened, shared: &Arc<Shared>, event: EventDraft) -> Result<StoreMark> {
    const BEGIN_EPOCH: &str = "begin_epoch";
    let mut link = Link::new(&opened.client);
    let link = &mut link;
    link.send_text(BEGIN_EPOCH, "BEGIN").await?;
    let Head {
        chain: head, view_seq, ..
    } = head::locked(link).await?;
    let epoch = facts::read(link, MetaKey::Epoch).await?.unwrap_or_default();
    let before = identity_of(link, epoch).await?;
    let links = begin_by_person(link, &head, &before, event, shared).await?;
    let begun = stands_now(link, view_seq, shared).await?;
    link.send_text(BEGIN_EPOCH, "COMMIT").await?;
    link.settle().await?;
    shared.observer.audited(&links.event_types());
    tracing::warn!(target: "STORE", component = "Epoch", epoch = begun.found.identity.epoch,
        "a person began a new epoch: all tokens of before are refused");
    stand_by(begun, shared).await;
    Ok(shared.status.mark())
}

/// The store as a transaction that begins an epoch leaves it.
struct Begun<'s> {
    found: Snapshot<'s>,
    as_of: Duration,
}

/// Tells other replicas of the epoch, with the commit, and reads what is to be loaded of it.
async fn stands_now<'s>(link: &mut Link<'_>, view_seq: i64, shared: &'s Shared) -> Result<Begun<'s>> {
    let as_of = shared.clock.monotonic();
    append_epoch(link, view_seq, shared.clock.unix_millis()).await?;
    Ok(Begun {
        found: snapshot(link, shared).await?,
        as_of,
    })
}

/// Tells everybody here of the epoch that has begun.
async fn stand_by(begun: Begun<'_>, shared: &Arc<Shared>) {
    shared.view.load(shared, begun.found, begun.as_of);
    keep_mark(shared).await;
}

/// Keeps the high-water mark, and signs what no checkpoint covers, so that the next start knows where the trail ended.
pub(crate) async fn sign_off(opened: &Opened, shared: &Shared) -> Result<()> {
    const SIGN_OFF: &str = "sign_off";
    let mut link = Link::new(&opened.client);
    let link = &mut link;
    link.send_text(SIGN_OFF, "BEGIN").await?;
    let mut head = head::locked(link).await?.chain;
    facts::keep_high_water(link, shared.judging.observe().mark).await?;
    let mut signed = None;
    if head.unsigned() {
        let statement = head.statement(shared.clock.now(), shared.signer.as_ref())?;
        head.signed = statement.sequence;
        head::remember(link, &statement).await?;
        head::save(link, &head).await?;
        signed = Some(statement);
    }
    link.send_text(SIGN_OFF, "COMMIT").await?;
    link.settle().await?;
    if let Some(statement) = signed {
        log_checkpoint(&statement);
    }
    Ok(())
}
