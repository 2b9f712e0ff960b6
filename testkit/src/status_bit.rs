//! The bit of a token in its status list, beside what its session's rows say.

use agentwrit_protocol::SessionId;
use agentwrit_store::Store;
use serde_json::Value;

use crate::keys::decoded;

/// Whether the bit of a token is set now; `None` when it has none: an admin's or an app's, one of a row that is gone or
/// never had an index, or when the store can't say.
///
/// # Panics
/// When the session or delegation, or one above it, has ended, the token has not expired, and the bit isn't set.
pub(crate) async fn of(store: &Store, token: &str) -> Option<bool> {
    let claims = decoded(token)?;
    let ids = std::iter::once(&claims["sid"]).chain(claims["delegation_nodes"].as_array().into_iter().flatten());
    let ids: Vec<SessionId> = ids.filter_map(Value::as_str).map(SessionId::from).collect();
    let question = store.query(move |tx| {
        Box::pin(async move {
            let judged = tx.times().judged;
            let (mut ended, mut node) = (false, None);
            for id in &ids {
                node = tx.session(id).await?;
                ended |= node.as_ref().is_some_and(|node| node.ended(judged).is_some());
            }
            let Some(node) = node else { return Ok(None) };
            let Some(index) = node.status else { return Ok(None) };
            let expired = node.last_exp < tx.times().passed().second();
            let bits = tx.status_bits().await?;
            let is_set = bits.iter().any(|bit| bit.index == index && bit.from <= judged);
            Ok(Some((ended && !expired, is_set)))
        })
    });
    let (ended, is_set) = question.await.ok()??;
    assert!(
        is_set || !ended,
        "the session of {claims} has ended, and its status bit isn't set"
    );
    Some(is_set)
}
