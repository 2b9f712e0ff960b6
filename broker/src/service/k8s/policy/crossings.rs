//! Delegation from one namespace into another: `delegation.allowedNamespaces` of an AgentApp.

use agentwrit_protocol::k8s::{PolicyKind, app_of_orch_id, orch_id};
use agentwrit_protocol::{OrchId, SpiffeId};
use agentwrit_store::policy::{Policy, PolicyKey};
use agentwrit_store::{EndReason, Result, Session, Tx};

/// Whether authority of the app `root` may be passed on by the agent `delegator` into a namespace: it is the own one of
/// both, or each one's AgentApp lists it. So what an app gave away goes no further than the app itself may give it.
pub(crate) async fn may_pass(tx: &mut dyn Tx, root: &OrchId, delegator: &str, namespace: &str) -> Result<bool> {
    if !lists(tx, root, namespace).await? {
        return Ok(false);
    }
    match SpiffeId::parse(delegator) {
        Ok(delegator) if delegator.orch_id() == root.as_str() => Ok(true),
        Ok(delegator) => lists(tx, delegator.orch_id(), namespace).await,
        Err(_) => Ok(false),
    }
}

async fn lists(tx: &mut dyn Tx, orch_id: &str, namespace: &str) -> Result<bool> {
    let Some((home, app)) = app_of_orch_id(orch_id) else {
        return Ok(false);
    };
    if home == namespace {
        return Ok(true);
    }
    let app = tx.policy(&PolicyKey::app(home, app)).await?;
    Ok(app.is_some_and(|app| listed(&app).iter().any(|listed| listed == namespace)))
}

fn listed(app: &Policy) -> &[String] {
    let accepted = app.accepted.as_ref().and_then(|accepted| accepted.spec.app());
    accepted.map_or(&[], |spec| &spec.delegation_namespaces)
}

/// The delegations that stand and that the AgentApp allowed before, but no longer: of its agents' authority, and by its
/// agents.
pub(super) async fn withdrawn(tx: &mut dyn Tx, before: &Policy, after: &Policy) -> Result<Vec<(Session, EndReason)>> {
    let mut left_out = listed(before).to_vec();
    left_out.retain(|namespace| !listed(after).contains(namespace));
    if after.key.kind != PolicyKind::App || left_out.is_empty() {
        return Ok(Vec::new());
    }
    let mut found = Vec::new();
    for session in tx
        .live_sessions_by_orch(&orch_id(&after.key.namespace, &after.key.name))
        .await?
    {
        let mut nodes = tx.standing_delegations_of(&session).await?;
        while let Some(node) = nodes.pop() {
            if leads_into(&node, &left_out) {
                found.push(node);
            } else {
                nodes.extend(tx.standing_delegations_of(&node).await?);
            }
        }
        let Some(bound) = &session.attested else { continue };
        for held in tx.standing_delegations_to_pod(&bound.pod_uid).await? {
            let passed_on = tx.standing_delegations_of(&held).await?;
            found.extend(passed_on.into_iter().filter(|node| leads_into(node, &left_out)));
        }
    }
    Ok(found.into_iter().map(|node| (node, EndReason::PolicyChanged)).collect())
}

/// Whether the agent that holds a delegation is of one of these namespaces.
fn leads_into(node: &Session, namespaces: &[String]) -> bool {
    let holder = SpiffeId::parse(&node.agent_id);
    let app = holder.as_ref().ok().and_then(|holder| app_of_orch_id(holder.orch_id()));
    app.is_some_and(|(namespace, _)| namespaces.iter().any(|left_out| left_out == namespace))
}
