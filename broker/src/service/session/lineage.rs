//! The stored nodes that a token's claims name, from its session to itself.

use agentwrit_protocol::claims::Claims;
use agentwrit_protocol::session::Lineage;

use agentwrit_store::{Draft, Foreseen, Result, Session, Tx};

/// A node and those above it.
pub(crate) struct StoredLineage {
    ancestors: Vec<Session>,
    pub(crate) node: Session,
}

impl StoredLineage {
    /// Reads what the claims name; `None` when any of it is not there.
    pub(crate) async fn of(tx: &mut dyn Tx, claims: &Claims) -> Result<Option<Self>> {
        if claims.sid.is_empty() {
            return Ok(None);
        }
        let mut ancestors = Vec::new();
        let mut below = &claims.sid;
        for next in &claims.delegation_nodes {
            let Some(session) = tx.session(below).await? else {
                return Ok(None);
            };
            ancestors.push(session);
            below = next;
        }
        let node = tx.session(below).await?;
        Ok(node.map(|node| Self { ancestors, node }))
    }

    /// What it will ask for.
    pub(crate) fn foreseen(claims: &Claims) -> Vec<Foreseen> {
        let nodes = std::iter::once(&claims.sid).chain(&claims.delegation_nodes);
        nodes.cloned().map(Foreseen::Session).collect()
    }

    pub(crate) fn root(&self) -> &Session {
        self.ancestors.first().unwrap_or(&self.node)
    }

    /// As the rules see it.
    pub(crate) fn rules(&self) -> Lineage<'_> {
        Lineage::new(self.ancestors.iter().map(Session::node).collect(), self.node.node())
    }

    /// Sets the node's ids and its session's extra fields.
    pub(crate) fn enrich<K>(&self, event: Draft<K>) -> Draft<K> {
        event.of_session(&self.node).within_session(self.root())
    }
}

/// Sets the ids of a bearer, and the extra fields of its session when there is one.
pub(crate) fn enrich<K>(event: Draft<K>, bearer: &Claims, lineage: Option<&StoredLineage>) -> Draft<K> {
    match lineage {
        Some(lineage) => lineage.enrich(event),
        None => event
            .agent(&bearer.sub)
            .task(&bearer.task_id)
            .orchestration(&bearer.orch_id),
    }
}

/// The session that a delegation hangs under; the delegation itself when that is no longer kept.
pub(crate) async fn root(tx: &mut dyn Tx, node: &Session) -> Result<Session> {
    let root = match &node.delegated {
        Some(delegated) => tx.session(&delegated.root).await?,
        None => None,
    };
    Ok(root.unwrap_or_else(|| node.clone()))
}
