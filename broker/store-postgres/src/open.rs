//! Opening: connection, schema, identity of the store, chain, revocation view.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use agentwrit_protocol::{Clock, StoreMark, UnixMillis, UnixSeconds};
use agentwrit_store::{DatabaseFailure, MetaKey, Remembered, Result, StoreError};
use agentwrit_trail::{ChainHead, Finding, Rule};
use deadpool_postgres::ClientWrapper;

use crate::advice;
use crate::audit::head::{self, Head};
use crate::connector::connect;
use crate::error::{Operation, advised, hung, trouble};
use crate::facts;
use crate::feed::{append_epoch, snapshot};
use crate::identity::{claim, read_or_begin_epoch};
use crate::indexes::Indexes;
use crate::link::Link;
use crate::restored::{begin_anew, judge, told};
use crate::rows::signing_keys;
use crate::schema::migrate;
use crate::shared::Shared;
use crate::value::values;

const OPEN: &str = "open";
/// Whoever has sent something meanwhile waits for an opening, which is tried each second: so it waits less for the lock.
const BEGIN: &str = "BEGIN; SET LOCAL lock_timeout = '2s'";
/// The oldest server whose functions the schema uses.
const OLDEST_SERVER: i64 = 130_000;

/// How long a migration may take, and what is read at an opening; the server ends a statement before.
const LONGEST_MIGRATION: Duration = Duration::from_mins(12);
const LONGEST_OPENING: Duration = Duration::from_mins(1);

/// An open store.
pub(crate) struct Opened {
    pub(crate) client: ClientWrapper,
    /// When the high-water mark was last kept, monotonic.
    pub(crate) mark_kept: Option<Duration>,
    /// The last event of the last signed statement, when that names a key which isn't ours.
    pub(crate) foreign: Option<i64>,
}

/// Whether it is a server, and a database, that the store can live on; its time.
pub(crate) async fn check(client: &ClientWrapper) -> Result<UnixMillis> {
    let sql = "SELECT current_setting('server_version_num')::bigint, current_setting('server_version'), \
               current_setting('server_encoding'), pg_is_in_recovery(), \
               (extract(epoch FROM clock_timestamp()) * 1000)::bigint";
    let row = client.query_one(sql, &[]).await.during(OPEN)?;
    let number: i64 = row.try_get(0).during(OPEN)?;
    if number < OLDEST_SERVER {
        let version: String = row.try_get(1).during(OPEN)?;
        let text = format!("the server is PostgreSQL {version}");
        return Err(advised(trouble(OPEN, DatabaseFailure::Other, text), advice::VERSION));
    }
    let encoding: String = row.try_get(2).during(OPEN)?;
    if encoding != "UTF8" {
        let text = format!("the database's encoding is {encoding}");
        return Err(advised(trouble(OPEN, DatabaseFailure::Other, text), advice::ENCODING));
    }
    if row.try_get(3).during(OPEN)? {
        let text = "the server is a standby, which takes no writes";
        return Err(advised(trouble(OPEN, DatabaseFailure::ReadOnly, text), advice::PRIMARY));
    }
    row.try_get(4).map(UnixMillis::new).during(OPEN)
}

/// Notes the last batch of a committer.
pub(crate) async fn note_batch(link: &mut Link<'_>, committer: &str, batch: i64) -> Result<()> {
    let sql = "INSERT INTO committers AS c (id, batch) VALUES ($1, $2) \
               ON CONFLICT (id) DO UPDATE SET batch = greatest(c.batch, excluded.batch), seen = now()";
    link.send("note_batch", sql, values![committer, batch]).await
}

/// The last batch of a committer that was committed.
pub(crate) async fn last_batch(client: &ClientWrapper, committer: &str) -> Result<i64> {
    let sql = "SELECT batch FROM committers WHERE id = $1";
    let found = Link::new(client)
        .first("read_batch", sql, values![committer], |row| row.whole("batch"))
        .await?;
    Ok(found.unwrap_or(0))
}

/// Opens the store and loads the view from it. When it returns, no transaction of this committer that began before is
/// still under way: it has held the lock of the chain's head.
pub(crate) async fn open(shared: &Arc<Shared>, committer: &str) -> Result<Opened> {
    let client = connect(&shared.settings).await?;
    let asked = shared.clock.monotonic();
    let time = check(&client).await?;
    shared.hear_time(time, asked);
    let migrating = tokio::time::timeout(LONGEST_MIGRATION, migrate(&client));
    migrating.await.unwrap_or_else(|_| Err(hung(OPEN)))?;
    let opening = tokio::time::timeout(LONGEST_OPENING, opened(&client, shared, committer));
    let foreign = opening.await.unwrap_or_else(|_| Err(hung(OPEN)))?;
    Ok(Opened {
        client,
        mark_kept: None,
        foreign,
    })
}

/// A failure ends the connection, and with it the transaction.
async fn opened(client: &ClientWrapper, shared: &Arc<Shared>, committer: &str) -> Result<Option<i64>> {
    let mut link = Link::new(client);
    let link = &mut link;
    link.send_text(OPEN, BEGIN).await?;
    head::make(link).await?;
    let Head {
        chain: mut head,
        counts,
        view_seq,
        ..
    } = head::locked(link).await?;
    let claim = claim(link, shared).await?;
    let mut indexes = Indexes::new(counts, shared.status_lists, 0);
    shared.judging.load(facts::high_water(link).await?);
    shared.signer.learn(&signing_keys::all(link).await?);
    let keys = |kid: &str, message: &str, signature: &str| shared.signer.check(kid, message, signature);
    head.foreign = head::verify_tail(link, &head, &keys).await?;
    // Before a new epoch may begin for another reason: the mark would then be of a former one, and say nothing.
    let known = facts::read(link, MetaKey::Epoch).await?;
    let mut found = None;
    if let Some(epoch) = &known {
        found = finding(link, &head.mark(epoch.clone()), view_seq, shared).await?;
    }
    // Events of an accepted clock, or of an adopted store.
    let (identity, accepted) = read_or_begin_epoch(link, &head, &claim, shared).await?;
    if let Some(links) = &accepted {
        head = links.head.clone();
        indexes.count(link, shared.judging.observe().passed()).await?;
        indexes.save(link).await?;
    }
    if known.is_none() {
        found = finding(link, &head.mark(identity.epoch.clone()), view_seq, shared).await?;
    }
    let made = identity.made.then(|| identity.epoch.clone());
    let mut anew = None;
    if let Some(finding) = &found {
        let links = begin_anew(link, &head, &identity, finding, shared).await?;
        head = links.head.clone();
        anew = Some(links);
    }
    if accepted.is_some() || anew.is_some() {
        append_epoch(link, view_seq, shared.clock.unix_millis()).await?;
    }
    // Also the proof that it takes a write.
    note_batch(link, committer, 0).await?;
    link.send_text(OPEN, "COMMIT").await?;
    link.settle().await?;
    if let Some(links) = &accepted {
        shared.observer.audited(&links.event_types());
    }
    if let (Some(finding), Some(links)) = (&found, &anew) {
        told(finding, links, shared);
    }
    if let Some(made) = made {
        shared.first.store(false, Ordering::SeqCst);
        *shared.status.made.write() = made;
    }
    claim.tell();
    shared.adopts.store(false, Ordering::SeqCst);
    shared.accept_clock.store(false, Ordering::SeqCst);
    shared.restored.store(false, Ordering::SeqCst);
    shared.matches.clear();
    load_view(client, shared).await?;
    shared.status.opened();
    indexes.tell(shared);
    shared.held.outdated();
    shared.observer.trail_takes(head.kept.bytes(), head.kept.segments);
    keep_mark(shared).await;
    Ok(foreign_of(&head))
}

/// Loads the view, in a transaction of one moment for which no other replica waits.
async fn load_view(client: &ClientWrapper, shared: &Shared) -> Result<()> {
    loop {
        let as_of = shared.clock.monotonic();
        let mut link = Link::begin_read(client).await?;
        let found = snapshot(&mut link, shared).await?;
        link.end_read().await?;
        // The feed may have been faster, with a change of another replica.
        if shared.view.load(shared, found, as_of) {
            return Ok(());
        }
    }
}

/// See [`Opened::foreign`].
fn foreign_of(head: &ChainHead) -> Option<i64> {
    head.foreign.then_some(head.signed)
}

/// Writes the mark of the store into the file outside it.
pub(crate) async fn keep_mark(shared: &Arc<Shared>) {
    let keeping = Arc::clone(shared);
    let keep = move || keeping.mark.keep(|| keeping.status.mark());
    if let Err(error) = tokio::task::spawn_blocking(keep).await {
        tracing::debug!(target: "STORE", component = "Mark", error = %error, "the mark was not kept");
    }
}

/// Whether a person says that the store was put back, and no epoch has begun since: of replicas that are told so together
/// the first begins one.
async fn is_declared(link: &mut Link<'_>, shared: &Shared) -> Result<bool> {
    if !shared.restored.load(Ordering::SeqCst) {
        return Ok(false);
    }
    let min_iat = facts::read(link, MetaKey::MinIat).await?;
    let min_iat = min_iat.and_then(|text| text.parse().ok()).unwrap_or_default();
    Ok(shared.put_back.is_news(UnixSeconds::new(min_iat)))
}

/// What makes the store a restored one: a person's word, or the file outside it.
async fn finding(
    link: &mut Link<'_>,
    present: &StoreMark,
    view_seq: i64,
    shared: &Arc<Shared>,
) -> Result<Option<Finding>> {
    let is_declared = is_declared(link, shared).await?;
    let reading = Arc::clone(shared);
    let read = tokio::task::spawn_blocking(move || reading.mark.read()).await;
    let remembered = match read.map_err(|_| StoreError::NotOpen)? {
        // A person's word needs no mark.
        Err(StoreError::Mark { source, .. }) if is_declared => Remembered::Unreadable(source.to_string()),
        remembered => remembered?,
    };
    if let Remembered::Unreadable(why) = &remembered {
        tracing::warn!(target: "STORE", component = "Mark", why, "the store's mark can't be read");
    }
    let (rule, by) = if is_declared {
        (Some(Rule::Declared), "--restored")
    } else {
        (judge(link, present, &remembered).await?, "AA_STORE_MARK")
    };
    // What this process has seen itself may be newer than the file: a standby took over that lacks the last commits.
    let seen = shared.status.mark();
    if rule.is_none() && !seen.epoch.is_empty() {
        let is_behind = seen.epoch == present.epoch && shared.view.seq().is_some_and(|known| known > view_seq);
        let remembered = Remembered::Mark(seen);
        let rule = judge(link, present, &remembered).await?;
        let rule = rule.or(is_behind.then_some(Rule::LowerSequence));
        let by = "the running broker";
        return Ok(rule.map(|rule| Finding { rule, remembered, by }));
    }
    Ok(rule.map(|rule| Finding { rule, remembered, by }))
}
