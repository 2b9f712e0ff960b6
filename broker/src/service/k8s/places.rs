//! How many pods may hold agents of one LaunchToken at a time: `maxActiveAgents`.

use agentwrit_protocol::PodUid;
use agentwrit_protocol::k8s::DenialKind;
use agentwrit_store::policy::Policy;
use agentwrit_store::{Result, Tx};

/// Refuses a pod for which the LaunchToken has no place: as many others hold agents of it as may. A pod that registers
/// again keeps its own place, and one whose agents have ended or expired has none.
///
/// Counting looks at every session of the LaunchToken, so it is done seldom: places that were found free stay so for as
/// many registrations. It is decided in the transaction of the registration, so no two of them take the same place.
pub(crate) async fn check(tx: &mut dyn Tx, token: &Policy, pod: &PodUid) -> Result<std::result::Result<(), Full>> {
    let spec = token
        .accepted
        .as_ref()
        .and_then(|accepted| accepted.spec.launch_token());
    let Some(most) = spec.and_then(|spec| spec.max_active_agents) else {
        return Ok(Ok(()));
    };
    if token.issued < token.room_until {
        return Ok(Ok(()));
    }
    let free = most.saturating_sub(tx.count_other_pods(&token.uid, pod, most).await?);
    if free <= 0 {
        return Ok(Err(Full { most }));
    }
    tx.set_room_until(&token.uid, token.issued.saturating_add(free)).await?;
    Ok(Ok(()))
}

/// There is no place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Full {
    most: i64,
}

impl Full {
    pub(crate) const KIND: DenialKind = DenialKind::MaxActiveAgents;

    /// What is special about this one.
    pub(crate) fn note(self) -> String {
        format!("The limit is {}", self.most)
    }
}
