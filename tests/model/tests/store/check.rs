//! What a store, and each replica, says after a step: what the model says.

use std::collections::{BTreeMap, BTreeSet};

use agentwrit_model::rows::{Moment, Opened, at, numbers};
use agentwrit_protocol::{SessionId, UnixMillis};
use agentwrit_store::{Result, Session, Store, Tx};

use crate::attempt::{launch_hash, lease_epoch};
use crate::known::Known;
use crate::reference::{LAUNCHES, NODES, RULES, Reference};
use crate::replica::Replica;

/// What the rows say.
struct Found {
    sessions: Vec<Session>,
    usable: Vec<bool>,
    lease: i64,
}

async fn find(tx: &mut dyn Tx, sids: Vec<SessionId>) -> Result<Found> {
    let mut sessions = Vec::new();
    for sid in sids {
        sessions.push(tx.session(&sid).await?.unwrap());
    }
    let judged = tx.times().judged;
    let mut usable = Vec::new();
    for launch in 0..LAUNCHES {
        let found = tx.launch_token(&launch_hash(launch)).await?.unwrap();
        usable.push(found.consumed_at.is_none() && found.expires_at > judged);
    }
    let lease = lease_epoch(tx).await?;
    Ok(Found {
        sessions,
        usable,
        lease,
    })
}

/// Compares the rows, as this replica reads them.
pub(crate) fn rows(replica: &Replica, known: &[Known], reference: &Reference) {
    let rows = &reference.rows;
    assert_eq!(known.len(), rows.opened());
    let sids = known.iter().map(Known::sid).collect();
    let found = replica
        .ask(|store| store.query(move |tx| Box::pin(find(tx, sids))))
        .unwrap();
    let bits = replica.ask(|store| store.query(|tx| tx.status_bits())).unwrap();
    let bits: BTreeMap<_, _> = bits.into_iter().map(|bit| (bit.index, bit.from)).collect();
    let now = replica.judging.times().judged;
    let mut held = BTreeSet::new();
    for ((node, known), session) in numbers::<NODES>().zip(known).zip(&found.sessions) {
        let row = &rows.nodes[at(node)];
        assert_ne!(row.opened, Opened::Not);
        assert_eq!(session.status, Some(known.index), "{node}: its index stays");
        assert!(
            !row.holds_index() || held.insert(known.index),
            "{node}: its index is another's, too: {known:?}"
        );
        assert_eq!(
            session.exp.end() > now,
            RULES.is_unexpired(row),
            "{node}: expiry of {session:?}"
        );
        if !RULES.is_unexpired(row) {
            continue;
        }
        assert_eq!(session.jti, known.tokens[at(row.token)].jti, "{node}: current token");
        assert_eq!(
            session.ended(now).is_some(),
            row.is_over(),
            "{node}: end of {session:?}"
        );
        let bit = bits.get(&known.index);
        assert_eq!(
            moment(bit.copied(), now),
            pending(row.bit),
            "{node}: its bit from {bit:?}"
        );
    }
    let wanted: Vec<bool> = (0..LAUNCHES).map(|launch| rows.used & (1 << launch) == 0).collect();
    assert_eq!((found.usable, found.lease), (wanted, i64::from(rows.lease)));
}

/// Compares what a replica knows once it has asked for what it lacks.
pub(crate) fn view(number: usize, replica: &Replica, known: &[Known], reference: &Reference) {
    replica.ask(Store::newest_view).unwrap();
    for (node, known) in numbers::<NODES>().zip(known) {
        let row = &reference.rows.nodes[at(node)];
        if !RULES.is_unexpired(row) {
            continue;
        }
        for (token, issued) in (0..=row.token).zip(&known.tokens) {
            assert_eq!(
                replica.stands(&known.claims(issued)),
                reference.rows.stands(RULES, node, token),
                "{node}: token {token} in the view of replica {number}"
            );
        }
    }
}

/// Whether a bit is set, or will be.
fn moment(from: Option<UnixMillis>, now: UnixMillis) -> Moment {
    match from {
        None => Moment::Never,
        Some(from) if from <= now => Moment::Come,
        Some(_) => Moment::In(1),
    }
}

/// However many ticks there are to it.
const fn pending(moment: Moment) -> Moment {
    match moment {
        Moment::In(_) => Moment::In(1),
        other => other,
    }
}
