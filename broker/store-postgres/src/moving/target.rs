//! Whether a database may be moved to.

use agentwrit_store::MetaKey;
use agentwrit_store::content::{Origin, TABLES};
use deadpool_postgres::ClientWrapper;

use super::error::{ArrivalError, Result};
use crate::audit::events::hash_at;
use crate::audit::head;
use crate::facts;
use crate::link::Link;
use crate::value::values;

const LOOK: &str = "look_into_target";

/// Fails unless the tables are those of the role that we are.
pub(super) async fn owned(client: &ClientWrapper) -> Result<()> {
    let sql = "SELECT pg_has_role(tableowner, 'USAGE') AS ours, current_user::text AS role FROM pg_tables \
               WHERE schemaname = 'agentwrit' AND tablename = 'chain_head'";
    let found = Link::new(client)
        .first(LOOK, sql, values![], |row| Ok((row.flag("ours")?, row.text("role")?)))
        .await?;
    match found {
        Some((false, role)) => Err(ArrivalError::NotOwner(role)),
        _ => Ok(()),
    }
}

/// What is there, for people; empty when nothing is.
pub(super) async fn holds(client: &ClientWrapper) -> Result<String> {
    let mut link = Link::new(client);
    let mut found = Vec::new();
    let tables = TABLES.iter().map(|table| table.name).filter(|name| *name != "meta");
    for name in std::iter::once("audit_events").chain(tables) {
        let sql = format!("SELECT count(*) AS found FROM {name}");
        let count = link.all_once(LOOK, &sql, values![], |row| row.whole("found")).await?;
        let count = count.into_iter().next().unwrap_or_default();
        if count > 0 {
            found.push(format!("{count} {}", name.replace('_', " ")));
        }
    }
    let sql = "SELECT count(*) AS found FROM meta";
    let facts = link.first(LOOK, sql, values![], |row| row.whole("found")).await?;
    if facts.unwrap_or_default() > 0 {
        found.push("the epoch of a broker that has started on it".to_owned());
    }
    Ok(found.join(", "))
}

/// Whether it is what this store became: of its epoch, and with the event that is its last in the same place.
pub(super) async fn has_all_of(client: &ClientWrapper, origin: &Origin) -> Result<bool> {
    let mut link = Link::new(client);
    let epoch = facts::read(&mut link, MetaKey::Epoch).await?;
    let former = facts::read(&mut link, MetaKey::FormerEpochs).await?;
    let former = agentwrit_trail::epochs_in(former.as_deref());
    let is_of_it = epoch.as_ref() == Some(&origin.epoch) || former.contains(&origin.epoch);
    let (last, first) = head::ends(&mut link).await?;
    if !is_of_it || last < origin.sequence {
        return Ok(false);
    }
    // Once that event was dropped, epoch and number have to do.
    Ok(origin.sequence < first || hash_at(&mut link, origin.sequence).await?.as_ref() == Some(&origin.hash))
}
