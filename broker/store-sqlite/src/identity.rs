//! Who a store is: its epoch, and the second before which no token of it is accepted.

use std::sync::atomic::Ordering;

use agentwrit_protocol::audit::EventType;
use agentwrit_protocol::{Clock, Times, Ttl, UnixSeconds};
use agentwrit_store::session::AT_ONCE;
use agentwrit_store::{EventDraft, MetaKey, Result};
use agentwrit_trail::{
    ChainHead, Claim, Identity, Links, Owner, UnusedSecond, accept_clock, epochs_in, longer_ttl, new_epoch, seal,
    unused_second, with_epoch,
};
use rusqlite::Connection;

use super::error::Operation;
use super::shared::Shared;
use super::statements::{Statements, begin, scalar};
use crate::audit::tail::append;
use crate::facts;

const OPEN: &str = "open";

/// What the store says of itself, one in use.
pub(super) fn identity_of(connection: &Connection, epoch: String) -> Result<Identity> {
    let text = facts::read(connection, MetaKey::MinIat)?;
    Identity::in_use(epoch, text.as_deref())
}

/// A second that no token was issued in yet.
pub(super) fn next_second(shared: &Shared) -> UnixSeconds {
    match unused_second(&shared.judging) {
        UnusedSecond::Now(second) => second,
        UnusedSecond::After(wait) => {
            std::thread::sleep(wait);
            shared.clock.unix_seconds()
        }
    }
}

/// Ends what a clock that ran ahead has dated after `min_iat`: `min_iat` doesn't hit it, and it would come to life when
/// the clock gets there.
fn end_the_future(connection: &Connection, times: Times, min_iat: UnixSeconds) -> Result<()> {
    const OPERATION: &str = "end_session";
    let sql = "UPDATE sessions SET ended_at = ?1, end_reason = 'revoked' WHERE iat >= ?2 OR ended_at > ?1";
    connection.change(OPERATION, sql, [times.wall.get(), min_iat.get()])?;
    // The tokens of all others are refused by `min_iat`: so is every index that anything holds.
    let sql = "UPDATE sessions SET status_set_at = ?1 WHERE status_set_at IS NULL OR status_set_at > ?1";
    connection.change(OPERATION, sql, [AT_ONCE.get()])?;
    let sql = "UPDATE launch_tokens SET expires_at = ?1 WHERE expires_at > ?1";
    connection.change(OPERATION, sql, [times.wall.get()])?;
    // A key that it has dated ahead would not sign until then.
    let sql = "UPDATE signing_keys SET published_at = ?1, signs_from = ?1 WHERE published_at > ?1";
    connection.change(OPERATION, sql, [times.wall.second().get()])?;
    let sql = "UPDATE sessions SET prev_over = ?1 WHERE prev_over > ?2";
    connection
        .change(OPERATION, sql, [AT_ONCE.get(), times.wall.get()])
        .map(drop)
}

/// Whose the store is, and whether that is us, before anything is changed in it.
///
/// # Errors
/// [`agentwrit_store::StoreError::OtherInstallation`] when it is another's.
pub(super) fn claim(connection: &Connection, shared: &Shared) -> Result<Claim> {
    let is_new = "SELECT NOT EXISTS (SELECT 1 FROM sqlite_schema WHERE name = 'meta')";
    let is_new: Option<bool> = connection.first(OPEN, is_new, [], scalar(OPEN))?;
    let owner = if is_new == Some(true) {
        Owner::default()
    } else {
        Owner {
            installation: facts::read(connection, MetaKey::Installation)?,
            trust_domain: facts::read(connection, MetaKey::TrustDomain)?,
        }
    };
    Claim::of(&owner, &shared.installation, shared.adopts.load(Ordering::SeqCst))
}

/// Reads epoch and `min_iat`, or begins an epoch: of a new store, or because a person accepts the wall clock. Takes the
/// store for its installation, too; the trail tells of either. What was revoked is not all in a `forgetful` store: it keeps its epoch, and `min_iat` is then now.
pub(super) fn read_or_begin_epoch(
    connection: &mut Connection,
    head: &mut ChainHead,
    shared: &Shared,
    claim: &Claim,
    forgetful: bool,
) -> Result<Identity> {
    let transaction = begin(connection, OPEN)?;
    let read = |key| facts::read(&transaction, key);
    let known = read(MetaKey::Epoch)?.zip(read(MetaKey::MinIat)?);
    let min_iat = known.as_ref().and_then(|(_, text)| text.parse().ok());
    let min_iat = min_iat.map(UnixSeconds::new).unwrap_or_default();
    let asked = shared.accept_clock.load(Ordering::SeqCst);
    let accepted = asked.then(|| accept_clock(&shared.judging, min_iat)).flatten();
    let mut events = Vec::new();
    for (key, value) in &claim.writes {
        facts::write(&transaction, *key, value)?;
    }
    if let Some(detail) = &claim.adopted {
        events.push(EventDraft::success(EventType::InstallationAdopted, detail.clone()));
    }
    let identity = if let Some(((old, _), times)) = known.as_ref().zip(accepted) {
        let (identity, event) = begin_epoch_of_accepted_clock(&transaction, shared, old, &times)?;
        events.push(event);
        identity
    } else if let Some((epoch, _)) = known.as_ref().filter(|_| forgetful) {
        let min_iat = next_second(shared);
        facts::write(&transaction, MetaKey::MinIat, &min_iat.to_string())?;
        Identity {
            epoch: epoch.clone(),
            min_iat,
            fresh: true,
            made: false,
        }
    } else if let Some((epoch, _)) = known {
        identity_of(&transaction, epoch)?
    } else {
        begin_first_epoch(&transaction, shared)?
    };
    keep_longest_ttl(&transaction, shared.max_ttl)?;
    let links = if events.is_empty() {
        None
    } else {
        Some(append_events(&transaction, head, shared, events)?)
    };
    transaction.commit().during(OPEN)?;
    claim.tell();
    if let Some(links) = links {
        shared.observer.audited(&links.event_types());
        *head = links.head;
    }
    shared.accept_clock.store(false, Ordering::SeqCst);
    shared.adopts.store(false, Ordering::SeqCst);
    Ok(identity)
}

fn begin_epoch_of_accepted_clock(
    connection: &Connection,
    shared: &Shared,
    old: &str,
    times: &str,
) -> Result<(Identity, EventDraft)> {
    let epoch = new_epoch(shared.entropy.as_ref())?;
    let min_iat = next_second(shared);
    remember_epoch(connection, old)?;
    facts::write(connection, MetaKey::Epoch, &epoch)?;
    facts::write(connection, MetaKey::MinIat, &min_iat.to_string())?;
    facts::keep_high_water(connection, shared.judging.observe().mark)?;
    end_the_future(connection, shared.judging.observe(), min_iat)?;
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

fn begin_first_epoch(connection: &Connection, shared: &Shared) -> Result<Identity> {
    let epoch = new_epoch(shared.entropy.as_ref())?;
    // A new store beside an existing key has forgotten what was revoked: older tokens are refused. A key that was
    // made with the store has signed nothing before it.
    let first = shared.first.swap(false, Ordering::SeqCst);
    let min_iat = if first {
        UnixSeconds::default()
    } else {
        next_second(shared)
    };
    facts::write(connection, MetaKey::Epoch, &epoch)?;
    facts::write(connection, MetaKey::MinIat, &min_iat.to_string())?;
    shared.status.made(epoch.clone());
    Ok(Identity {
        epoch,
        min_iat,
        fresh: !first,
        made: true,
    })
}

/// Notes the longest TTL that was ever in force.
fn keep_longest_ttl(connection: &Connection, max_ttl: Ttl) -> Result<()> {
    let known = facts::read(connection, MetaKey::LongestTtl)?;
    match longer_ttl(known.as_deref(), max_ttl) {
        Some(longest) => facts::write(connection, MetaKey::LongestTtl, &longest.to_string()),
        None => Ok(()),
    }
}

/// The epochs that the store had before, and those of marks that were taken note of.
pub(super) fn former_epochs(connection: &Connection) -> Result<Vec<String>> {
    Ok(epochs_in(facts::read(connection, MetaKey::FormerEpochs)?.as_deref()))
}

/// Notes an epoch that the store had, so that a mark of it is known.
pub(super) fn remember_epoch(connection: &Connection, epoch: &str) -> Result<()> {
    let known = facts::read(connection, MetaKey::FormerEpochs)?;
    match with_epoch(known.as_deref(), epoch) {
        Some(former) => facts::write(connection, MetaKey::FormerEpochs, &former),
        None => Ok(()),
    }
}

/// Seals and writes an event of the store's own.
pub(super) fn append_event(
    connection: &Connection,
    head: &ChainHead,
    shared: &Shared,
    event: EventDraft,
) -> Result<Links> {
    append_events(connection, head, shared, vec![event])
}

fn append_events(connection: &Connection, head: &ChainHead, shared: &Shared, events: Vec<EventDraft>) -> Result<Links> {
    let now = shared.clock.now();
    let events = events.into_iter().map(|event| (now, event)).collect();
    let links = seal(head, events, now, shared.terms())?;
    append(connection, links)
}
