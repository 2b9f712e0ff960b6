//! The removal of a policy, as its query string asks for it.

use agentwrit_protocol::PolicyUid;
use agentwrit_protocol::excerpt::excerpt;
use agentwrit_protocol::k8s::{RevokedResponse, WriteOrder};
use agentwrit_store::Store;
use agentwrit_store::policy::PolicyKey;

use super::input::{InputError, check_key, check_order, check_uid};
use super::write::RemovePolicy;
use crate::service::actor::Actor;
use crate::service::k8s::error::K8sError;

/// Removes a policy. `given` are the query's parameters; of those with one name the last counts.
pub(crate) async fn remove(
    store: &Store,
    key: PolicyKey,
    given: &[(&str, String)],
    actor: Actor,
) -> Result<RevokedResponse, K8sError> {
    Ok(store.commit(removal(key, given, actor)?).await??)
}

fn removal(key: PolicyKey, given: &[(&str, String)], actor: Actor) -> Result<RemovePolicy, InputError> {
    check_key(&key)?;
    let text = |name: &str| {
        let found = given
            .iter()
            .rev()
            .find(|(key, _)| *key == name)
            .map(|(_, value)| value.as_str());
        found.ok_or_else(|| InputError::new(format!("query parameter {name} is required")))
    };
    let number = |name: &str| {
        let value = text(name)?;
        value.parse::<i64>().map_err(|_| {
            InputError::new(format!(
                "query parameter {name} must be a whole number, not {:?}",
                excerpt(value)
            ))
        })
    };
    let uid = PolicyUid::from(text("uid")?);
    check_uid(&uid)?;
    let order = WriteOrder {
        lease_epoch: number("lease_epoch")?,
        sequence: number("sequence")?,
    };
    check_order(order)?;
    let revoke = match text("revoke")? {
        "true" => true,
        "false" => false,
        other => {
            return Err(InputError::new(format!(
                "query parameter revoke must be true or false, not {:?}",
                excerpt(other)
            )));
        }
    };
    Ok(RemovePolicy {
        key,
        uid,
        order,
        revoke,
        actor,
    })
}
