//! The client of an AgentApp, as policies come and go: whose tokens it has, and what takes them away.

use agentwrit_protocol::apps::LONGEST_TTL;
use agentwrit_protocol::audit::EventType;
use agentwrit_protocol::k8s::{AppClient, WriteOrder};
use agentwrit_protocol::timestamp::rfc3339_seconds;
use agentwrit_protocol::{PolicyUid, lower_hex};
use agentwrit_store::policy::{Accepted, Policy};
use agentwrit_store::{Result, Revocation, RevocationLevel, Tx};
use sha2::{Digest, Sha256};

use crate::service::actor::Actor;

/// Names the client of what is accepted: as before while there is one, anew when there was none, so that tokens of a
/// client that was removed don't come back to life with the next one.
pub(super) fn named(held: Option<&Policy>, accepted: Accepted, uid: &PolicyUid, order: WriteOrder) -> Accepted {
    let before = held.filter(|held| held.client().is_some());
    let before = before.and_then(|held| held.accepted.as_ref()?.client_instance.clone());
    let has_client = accepted.spec.app().is_some_and(|app| app.client.is_some());
    let client_instance = has_client.then(|| before.unwrap_or_else(|| instance(uid, order)));
    Accepted {
        client_instance,
        ..accepted
    }
}

/// No two writes of an object have the same order.
fn instance(uid: &PolicyUid, order: WriteOrder) -> String {
    let hash = lower_hex(Sha256::digest(
        format!("{uid} {} {}", order.lease_epoch, order.sequence).as_bytes(),
    ));
    hash.get(..12).unwrap_or(&hash).to_owned()
}

/// Whether some secret doesn't count any more, or not as long.
pub(super) fn narrows(before: Option<&AppClient>, after: Option<&AppClient>) -> bool {
    let (Some(before), Some(after)) = (before, after) else {
        return before.is_some();
    };
    after.token_ttl_seconds < before.token_ttl_seconds
        || before.secrets.iter().any(|secret| {
            let same = after.secrets.iter().find(|other| other.sha256 == secret.sha256);
            same.is_none_or(|same| !outlasts(same.until, secret.until))
        })
}

fn outlasts<T: Ord>(one: Option<T>, other: Option<T>) -> bool {
    match (one, other) {
        (None, _) => true,
        (Some(_), None) => false,
        (Some(one), Some(other)) => one >= other,
    }
}

/// Revokes the tokens of the client that a policy had, when `after` has another one or none.
pub(super) async fn revoke(tx: &mut dyn Tx, before: &Policy, after: Option<&Policy>, actor: &Actor) -> Result<()> {
    let (Some(subject), Some(client_id)) = (before.client_subject(), before.client_id()) else {
        return Ok(());
    };
    if after.and_then(Policy::client_subject).as_ref() == Some(&subject) {
        return Ok(());
    }
    // None of its tokens was issued for longer.
    let until = (tx.times().judged.second() + LONGEST_TTL).end();
    tx.add_revocation(&Revocation {
        level: RevocationLevel::Agent,
        target: subject,
        until: Some(until),
    })
    .await?;
    let event = match after {
        Some(_) => EventType::PolicyApplied,
        None => EventType::PolicyRemoved,
    };
    let detail = format!(
        "client {client_id} of {} is removed: its tokens are revoked",
        before.key
    );
    tx.audit(actor.event(event, detail).policy_uid(&before.uid));
    Ok(())
}

/// What an event says of the client of a policy that was written.
pub(super) fn description(policy: &Policy) -> String {
    let (Some(client), Some(client_id)) = (policy.client(), policy.client_id()) else {
        return String::new();
    };
    let previous = client.secrets.iter().find_map(|secret| secret.until);
    let previous = match previous {
        Some(until) => format!(", the secret before until {}", rfc3339_seconds(until)),
        None => String::new(),
    };
    // The hash of a random secret tells nothing; its beginning tells one secret from another.
    let current = client.current().and_then(|hash| hash.get(..8)).unwrap_or("none");
    format!(
        "; client {client_id}: tokens for at most {} s by secret {current}{previous}",
        client.token_ttl_seconds
    )
}

#[cfg(test)]
mod tests {
    use agentwrit_protocol::UnixSeconds;
    use agentwrit_protocol::k8s::ClientSecret;

    use super::*;

    fn client(secrets: &[(&str, Option<i64>)], token_ttl_seconds: i64) -> AppClient {
        let secrets = secrets.iter().map(|(sha256, until)| ClientSecret {
            sha256: (*sha256).to_owned(),
            until: until.map(UnixSeconds::new),
        });
        AppClient {
            token_ttl_seconds,
            secrets: secrets.collect(),
        }
    }

    #[test]
    fn what_counts_less_or_shorter_takes_away() {
        let before = client(&[("b", None), ("a", Some(100))], 600);
        let table = [
            (Some(&before), Some(before.clone()), false),
            (None, Some(before.clone()), false),
            (Some(&before), None, true),
            (None, None, false),
            (
                Some(&before),
                Some(client(&[("b", None), ("a", Some(101))], 600)),
                false,
            ),
            (Some(&before), Some(client(&[("b", None), ("a", Some(99))], 600)), true),
            (Some(&before), Some(client(&[("b", None)], 600)), true),
            (Some(&before), Some(client(&[("c", None), ("b", Some(100))], 600)), true),
            (Some(&before), Some(client(&[("b", None), ("a", Some(100))], 599)), true),
            (
                Some(&before),
                Some(client(&[("b", None), ("a", Some(100))], 601)),
                false,
            ),
        ];
        for (before, after, wanted) in table {
            assert_eq!(narrows(before, after.as_ref()), wanted, "{before:?} {after:?}");
        }
    }
}
