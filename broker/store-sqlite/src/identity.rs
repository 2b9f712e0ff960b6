//! Who a store is: its epoch, and the second before which no token of it is accepted.

use std::sync::atomic::Ordering;
use std::time::Duration;

use agentwrit_protocol::audit::EventType;
use agentwrit_protocol::wall_clock::{both, disagreement, is_wrong};
use agentwrit_protocol::{Clock, Entropy, Times, Ttl, UnixSeconds, lower_hex};
use agentwrit_store::{EventDraft, MetaKey, Result, StoreError};
use rusqlite::Connection;

use super::error::Operation;
use super::shared::Shared;
use super::statements::{Statements, begin};
use crate::audit::chain::{ChainHead, Links, append, seal};
use crate::facts;
use crate::rows::session::AT_ONCE;

const OPEN: &str = "open";

/// What a store says of itself.
pub(super) struct Identity {
    pub(super) epoch: String,
    /// Older tokens are refused.
    pub(super) min_iat: UnixSeconds,
    /// Whether that is now, and nothing was issued since.
    pub(super) fresh: bool,
    /// Whether this process made the store: it is no copy, so that what it has issued stands.
    pub(super) made: bool,
}

impl Identity {
    /// That of a store in use.
    pub(super) fn of(connection: &Connection, epoch: String) -> Result<Self> {
        let text = facts::read(connection, MetaKey::MinIat)?.unwrap_or_default();
        let min_iat = text.parse().map(UnixSeconds::new).map_err(|_| StoreError::Corrupt {
            what: "min_iat",
            why: format!("{text:?} is no number"),
        })?;
        Ok(Self {
            epoch,
            min_iat,
            fresh: false,
            made: false,
        })
    }
}

/// A second that no token was issued in yet: tokens date themselves in whole ones.
pub(super) fn next_second(shared: &Shared) -> UnixSeconds {
    let times = shared.judging.observe();
    let next = times.judged.second() + Ttl::seconds(1);
    // A wall clock that is behind has issued tokens for seconds that it has yet to come to: nothing is issued until then.
    if times.judged.since(times.wall) >= Duration::from_secs(1) {
        return next;
    }
    std::thread::sleep(next.start().since(times.wall));
    shared.clock.unix_seconds()
}

pub(super) fn new_epoch(shared: &Shared) -> Result<String> {
    let mut bytes = [0_u8; 16];
    shared.entropy.fill(&mut bytes)?;
    Ok(lower_hex(bytes))
}

/// Takes the wall clock for right when the mark is too far ahead of it, and answers both times; otherwise there is
/// nothing to accept.
fn accept_clock(shared: &Shared, min_iat: UnixSeconds) -> Option<String> {
    let times = shared.judging.observe();
    if !is_wrong(times, min_iat) {
        tracing::warn!(target: "STORE", component = "Clock",
            "--accept-clock changes nothing: the wall clock is not behind the store's high-water mark");
        return None;
    }
    tracing::warn!(target: "STORE", component = "Clock", "{}", disagreement(times, min_iat));
    shared.judging.accept_wall();
    Some(both(times, min_iat))
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

/// Reads epoch and `min_iat`, or begins an epoch: of a new store, or because a person accepts the wall clock, of which
/// the trail tells. What was revoked is not all in a `forgetful` store: it keeps its epoch, and `min_iat` is then now.
pub(super) fn read_or_begin_epoch(
    connection: &mut Connection,
    head: &mut ChainHead,
    shared: &Shared,
    forgetful: bool,
) -> Result<Identity> {
    let transaction = begin(connection, OPEN)?;
    let read = |key| facts::read(&transaction, key);
    let known = read(MetaKey::Epoch)?.zip(read(MetaKey::MinIat)?);
    let min_iat = known.as_ref().and_then(|(_, text)| text.parse().ok());
    let min_iat = min_iat.map(UnixSeconds::new).unwrap_or_default();
    let asked = shared.accept_clock.load(Ordering::SeqCst);
    let accepted = asked.then(|| accept_clock(shared, min_iat)).flatten();
    let mut links = None;
    let identity = if let Some(((old, _), times)) = known.as_ref().zip(accepted) {
        let (identity, accepted) = begin_epoch_of_accepted_clock(&transaction, head, shared, old, &times)?;
        links = Some(accepted);
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
        Identity::of(&transaction, epoch)?
    } else {
        begin_first_epoch(&transaction, shared)?
    };
    keep_longest_ttl(&transaction, shared.max_ttl)?;
    transaction.commit().during(OPEN)?;
    if let Some(links) = links {
        shared.observer.audited(&links.event_types());
        *head = links.head;
    }
    shared.accept_clock.store(false, Ordering::SeqCst);
    Ok(identity)
}

fn begin_epoch_of_accepted_clock(
    connection: &Connection,
    head: &ChainHead,
    shared: &Shared,
    old: &str,
    times: &str,
) -> Result<(Identity, Links)> {
    let epoch = new_epoch(shared)?;
    let min_iat = next_second(shared);
    remember_epoch(connection, old)?;
    facts::write(connection, MetaKey::Epoch, &epoch)?;
    facts::write(connection, MetaKey::MinIat, &min_iat.to_string())?;
    facts::keep_high_water(connection, shared.judging.observe().mark)?;
    end_the_future(connection, shared.judging.observe(), min_iat)?;
    let detail = format!("the wall clock is accepted: {times}; old epoch={old}; new epoch={epoch}");
    let event = EventDraft::success(EventType::ClockAccepted, detail);
    let links = append_event(connection, head, shared, event)?;
    tracing::warn!(target: "STORE", component = "Clock", old_epoch = %old, epoch = %epoch,
        "the wall clock is accepted: a new epoch begins, and all tokens of before are refused");
    let identity = Identity {
        epoch,
        min_iat,
        fresh: true,
        made: false,
    };
    Ok((identity, links))
}

fn begin_first_epoch(connection: &Connection, shared: &Shared) -> Result<Identity> {
    let epoch = new_epoch(shared)?;
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

/// Notes the longest TTL that was ever in force; 0 is no bound.
fn keep_longest_ttl(connection: &Connection, max_ttl: Ttl) -> Result<()> {
    let known = facts::read(connection, MetaKey::LongestTtl)?.and_then(|text| text.parse().ok());
    let known = known.map(Ttl::seconds);
    let longest = match known {
        Some(known) if known == Ttl::ZERO || max_ttl == Ttl::ZERO => Ttl::ZERO,
        Some(known) => known.max(max_ttl),
        None => max_ttl,
    };
    if known != Some(longest) {
        facts::write(connection, MetaKey::LongestTtl, &longest.to_string())?;
    }
    Ok(())
}

/// The epochs that the store had before, and those of marks that were taken note of.
pub(super) fn former_epochs(connection: &Connection) -> Result<Vec<String>> {
    let text = facts::read(connection, MetaKey::FormerEpochs)?.unwrap_or_default();
    Ok(text.split_whitespace().map(str::to_owned).collect())
}

/// Notes an epoch that the store had, so that a mark of it is known.
pub(super) fn remember_epoch(connection: &Connection, epoch: &str) -> Result<()> {
    let mut former = former_epochs(connection)?;
    if former.iter().any(|known| known == epoch) {
        return Ok(());
    }
    former.push(epoch.to_owned());
    facts::write(connection, MetaKey::FormerEpochs, &former.join(" "))
}

/// Seals and writes an event of the store's own.
pub(super) fn append_event(
    connection: &Connection,
    head: &ChainHead,
    shared: &Shared,
    event: EventDraft,
) -> Result<Links> {
    let now = shared.clock.now();
    let links = seal(
        head,
        vec![(now, event)],
        now,
        shared.signer.as_ref(),
        shared.retention.cut(),
    )?;
    append(connection, links)
}
