//! Who a store is: its epoch, and the second before which no token of it is accepted. All of it under the lock of the
//! chain's head, so that of several replicas one begins an epoch and the others read it.

use std::sync::atomic::Ordering;

use agentwrit_protocol::audit::EventType;
use agentwrit_protocol::{Clock, Times, UnixSeconds};
use agentwrit_store::session::AT_ONCE;
use agentwrit_store::{EventDraft, MetaKey, Result};
use agentwrit_trail::{
    ChainHead, Claim, Identity, Links, Owner, UnusedSecond, accept_clock, epochs_in, longer_ttl, new_epoch, seal,
    unused_second, with_epoch,
};

use crate::audit::events::append;
use crate::facts;
use crate::link::Link;
use crate::shared::Shared;
use crate::value::values;

/// What a store in use says of itself.
pub(crate) async fn identity_of(link: &mut Link<'_>, epoch: String) -> Result<Identity> {
    let text = facts::read(link, MetaKey::MinIat).await?;
    Identity::in_use(epoch, text.as_deref())
}

/// A second that no token was issued in yet.
pub(crate) async fn next_second(shared: &Shared) -> UnixSeconds {
    match unused_second(&shared.judging) {
        UnusedSecond::Now(second) => second,
        UnusedSecond::After(wait) => {
            tokio::time::sleep(wait).await;
            shared.clock.unix_seconds()
        }
    }
}

/// Ends what a clock that ran ahead has dated after `min_iat`: `min_iat` doesn't hit it, and it would come to life when
/// the clock gets there.
async fn end_the_future(link: &mut Link<'_>, times: Times, min_iat: UnixSeconds) -> Result<()> {
    const OPERATION: &str = "end_session";
    let wall = times.wall.get();
    let sql =
        "UPDATE sessions SET ended_at = $1, end_reason = 'revoked', open_root = NULL WHERE iat >= $2 OR ended_at > $1";
    link.send(OPERATION, sql, values![wall, min_iat.get()]).await?;
    // The tokens of all others are refused by `min_iat`: so is every index that anything holds.
    let sql = "UPDATE sessions SET status_set_at = $1 WHERE status_set_at IS NULL OR status_set_at > $1";
    link.send(OPERATION, sql, values![AT_ONCE.get()]).await?;
    let sql = "UPDATE launch_tokens SET expires_at = $1 WHERE expires_at > $1";
    link.send(OPERATION, sql, values![wall]).await?;
    // A key that it has dated ahead would not sign until then.
    let sql = "UPDATE signing_keys SET published_at = $1, signs_from = $1 WHERE published_at > $1";
    link.send(OPERATION, sql, values![times.wall.second().get()]).await?;
    let sql = "UPDATE sessions SET prev_over = $1 WHERE prev_over > $2";
    link.send(OPERATION, sql, values![AT_ONCE.get(), wall]).await
}

/// Whose the store is, and whether that is us; under the lock of the chain's head, so that of two installations that open
/// an empty database at once one has it.
///
/// # Errors
/// [`agentwrit_store::StoreError::OtherInstallation`] when it is another's.
pub(crate) async fn claim(link: &mut Link<'_>, shared: &Shared) -> Result<Claim> {
    let owner = Owner {
        installation: facts::read(link, MetaKey::Installation).await?,
        trust_domain: facts::read(link, MetaKey::TrustDomain).await?,
    };
    Claim::of(&owner, &shared.installation, shared.adopts.load(Ordering::SeqCst))
}

/// Reads epoch and `min_iat`, or begins an epoch: of a new store, or because a person accepts the wall clock. Takes the
/// store for its installation, too; the trail tells of either.
pub(crate) async fn read_or_begin_epoch(
    link: &mut Link<'_>,
    head: &ChainHead,
    claim: &Claim,
    shared: &Shared,
) -> Result<(Identity, Option<Links>)> {
    let epoch = facts::read(link, MetaKey::Epoch).await?;
    let min_iat = facts::read(link, MetaKey::MinIat).await?;
    let known = epoch.zip(min_iat);
    let min_iat = known.as_ref().and_then(|(_, text)| text.parse().ok());
    let min_iat = min_iat.map(UnixSeconds::new).unwrap_or_default();
    let asked = shared.accept_clock.load(Ordering::SeqCst);
    let accepted = asked.then(|| accept_clock(&shared.judging, min_iat)).flatten();
    let mut events = Vec::new();
    for (key, value) in &claim.writes {
        facts::write(link, *key, value).await?;
    }
    if let Some(detail) = &claim.adopted {
        events.push(EventDraft::success(EventType::InstallationAdopted, detail.clone()));
    }
    let identity = match (known, accepted) {
        (Some((old, _)), Some(times)) => {
            let (identity, event) = begin_epoch_of_accepted_clock(link, shared, &old, &times).await?;
            events.push(event);
            identity
        }
        (Some((epoch, text)), None) => Identity::in_use(epoch, Some(&text))?,
        (None, _) => begin_first_epoch(link, shared).await?,
    };
    let longest = facts::read(link, MetaKey::LongestTtl).await?;
    if let Some(longest) = longer_ttl(longest.as_deref(), shared.max_ttl) {
        facts::write(link, MetaKey::LongestTtl, &longest.to_string()).await?;
    }
    let links = if events.is_empty() {
        None
    } else {
        Some(append_events(link, head, shared, events).await?)
    };
    Ok((identity, links))
}

async fn begin_epoch_of_accepted_clock(
    link: &mut Link<'_>,
    shared: &Shared,
    old: &str,
    times: &str,
) -> Result<(Identity, EventDraft)> {
    let epoch = new_epoch(shared.entropy.as_ref())?;
    let min_iat = next_second(shared).await;
    remember_epoch(link, old).await?;
    facts::write(link, MetaKey::Epoch, &epoch).await?;
    facts::write(link, MetaKey::MinIat, &min_iat.to_string()).await?;
    // Here alone it goes back.
    let now = shared.judging.observe();
    facts::write(link, MetaKey::HighWater, &now.mark.to_string()).await?;
    end_the_future(link, now, min_iat).await?;
    let detail = format!("the wall clock is accepted: {times}; old epoch={old}; new epoch={epoch}");
    let event = EventDraft::success(EventType::ClockAccepted, detail);
    tracing::warn!(target: "STORE", component = "Clock", old_epoch = %old, epoch = %epoch,
        "the wall clock is accepted: a new epoch begins, and all tokens of before are refused");
    let identity = Identity {
        epoch,
        min_iat,
        fresh: true,
        made: false,
    };
    Ok((identity, event))
}

async fn begin_first_epoch(link: &mut Link<'_>, shared: &Shared) -> Result<Identity> {
    let epoch = new_epoch(shared.entropy.as_ref())?;
    // A new store beside an existing key has forgotten what was revoked: older tokens are refused. A key that was
    // made with the store has signed nothing before it.
    let first = shared.first.load(Ordering::SeqCst);
    let min_iat = if first {
        UnixSeconds::default()
    } else {
        next_second(shared).await
    };
    facts::write(link, MetaKey::Epoch, &epoch).await?;
    facts::write(link, MetaKey::MinIat, &min_iat.to_string()).await?;
    Ok(Identity {
        epoch,
        min_iat,
        fresh: !first,
        made: true,
    })
}

/// The epochs that the store had before, and those of marks that were taken note of.
pub(crate) async fn former_epochs(link: &mut Link<'_>) -> Result<Vec<String>> {
    Ok(epochs_in(facts::read(link, MetaKey::FormerEpochs).await?.as_deref()))
}

/// Notes an epoch that the store had, so that a mark of it is known.
pub(crate) async fn remember_epoch(link: &mut Link<'_>, epoch: &str) -> Result<()> {
    let known = facts::read(link, MetaKey::FormerEpochs).await?;
    match with_epoch(known.as_deref(), epoch) {
        Some(former) => facts::write(link, MetaKey::FormerEpochs, &former).await,
        None => Ok(()),
    }
}

/// Seals and writes an event of the store's own.
pub(crate) async fn append_event(
    link: &mut Link<'_>,
    head: &ChainHead,
    shared: &Shared,
    event: EventDraft,
) -> Result<Links> {
    append_events(link, head, shared, vec![event]).await
}

async fn append_events(
    link: &mut Link<'_>,
    head: &ChainHead,
    shared: &Shared,
    events: Vec<EventDraft>,
) -> Result<Links> {
    let now = shared.clock.now();
    let events = events.into_iter().map(|event| (now, event)).collect();
    let links = seal(head, events, now, shared.terms())?;
    append(link, &links).await?;
    Ok(links)
}
