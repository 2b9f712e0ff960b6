//! Delegation: an agent passes on part of its authority to another agent, for a while (`docs/wire-contract.md` §10).
//! Here is what comes before and after the transaction, in `delegate_command` what it decides.

use std::sync::Arc;

use agentwrit_limits::Limits;
use agentwrit_protocol::claims::{Claims, DelegationRecord};
use agentwrit_protocol::session::{NodeBinding, chain};
use agentwrit_protocol::spiffe::MAX_ID_BYTES;
use agentwrit_protocol::timestamp::rfc3339_nanos;
use agentwrit_protocol::{Clock, EntropyError, Ttl, go_json};
use agentwrit_store::session::id_prefix;
use agentwrit_store::{Store, StoreError};

use super::delegate_command::{Delegate, DelegationDenial, Prepared, RequestedDelegation, refused_by_claims};
use super::token::{Issued, SignError, TokenIssuer};
use crate::config::ScopeCeilings;
use crate::ids::IdGenerator;
use crate::service::error::{Internal, from_internal};
use crate::service::origin::AuditOrigin;
use crate::service::scope_limits::{MAX_SCOPE_LIST_BYTES, ScopeLimits, TooManyScopes, is_too_long};

/// Longest chain as JSON, bytes: a token is sent in a header, and looked at up to 64 KiB.
const MAX_CHAIN_BYTES: usize = 32 * 1024;

/// A delegated token and its chain.
#[derive(Debug)]
pub(crate) struct DelegatedToken {
    pub(crate) issued: Issued,
    /// Root first.
    pub(crate) chain: Vec<DelegationRecord>,
}

/// Why nothing is delegated.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DelegateError {
    /// The token would be too long to send.
    #[error("scope and delegation chain must be at most {MAX_CHAIN_BYTES} bytes of JSON each: ask for fewer scopes")]
    TooLong,
    #[error(transparent)]
    ScopeLimits(#[from] TooManyScopes),
    #[error(transparent)]
    Denied(#[from] DelegationDenial),
    #[error(transparent)]
    Internal(#[from] Internal),
}

from_internal!(DelegateError: StoreError, EntropyError, SignError);

/// Passes on part of the authority of an agent to another.
pub(crate) struct Delegator<'a> {
    pub(crate) store: &'a Store,
    pub(crate) clock: &'a dyn Clock,
    pub(crate) ids: &'a IdGenerator,
    pub(crate) tokens: &'a TokenIssuer,
    pub(crate) limits: &'a Arc<Limits>,
    pub(crate) scope_limits: ScopeLimits,
    pub(crate) max_ttl: Ttl,
    pub(crate) ceilings: &'a Arc<ScopeCeilings>,
}

impl Delegator<'_> {
    pub(crate) async fn delegate(
        &self,
        claims: &Claims,
        wanted: RequestedDelegation,
        origin: AuditOrigin<'_>,
    ) -> Result<DelegatedToken, DelegateError> {
        // Looked at first: comparing the scopes copies them.
        if is_too_long(&wanted.scope) {
            return Err(DelegateError::TooLong);
        }
        let scope_limits = self.scope_limits.of_orchestration(&claims.orch_id);
        scope_limits.check("scope", &wanted.scope)?;
        // No agent has an id that long, so nothing is prepared.
        let may_exist = wanted.delegate_to.len() <= MAX_ID_BYTES;
        let prepared = if may_exist && refused_by_claims(claims, &wanted).is_none() {
            Some(self.prepare(claims, &wanted)?)
        } else {
            None
        };
        let command = Delegate {
            bearer: claims.clone(),
            wanted,
            prepared,
            max_ttl: self.max_ttl,
            ceilings: Arc::clone(self.ceilings),
            view: Arc::clone(&self.tokens.view),
            limits: Arc::clone(self.limits),
            path: origin.resource.to_owned(),
            source: origin.source.to_string(),
        };
        let claims = self.store.commit(command).await??;
        let issued = self.tokens.sign(&claims)?;
        Ok(DelegatedToken {
            issued,
            chain: claims.delegation_chain,
        })
    }

    fn prepare(&self, claims: &Claims, wanted: &RequestedDelegation) -> Result<Prepared, DelegateError> {
        let delegated_at = rfc3339_nanos(self.clock.now());
        let text = chain::signing_text(&claims.sub, &claims.scope, &delegated_at);
        let binding = NodeBinding {
            parent: claims.delegation_nodes.last().unwrap_or(&claims.sid),
            delegator: &claims.sub,
            delegate: &wanted.delegate_to,
            scope: &wanted.scope,
            delegated_at: &delegated_at,
        };
        let node = binding
            .node_id(&self.ids.new_id_prefix(None)?)
            .map_err(SignError::from)?;
        let mut records = claims.delegation_chain.clone();
        records.push(DelegationRecord {
            agent: claims.sub.clone(),
            scope: claims.scope.clone(),
            signature: self.tokens.keys.sign_text(&text).map_err(SignError::from)?,
            delegated_at,
        });
        let length = |json: Result<Vec<u8>, _>| json.map(|json| json.len()).map_err(SignError::from);
        if length(go_json::to_vec(&records))? > MAX_CHAIN_BYTES
            || length(go_json::to_vec(&wanted.scope))? > MAX_SCOPE_LIST_BYTES
        {
            return Err(DelegateError::TooLong);
        }
        Ok(Prepared {
            jti: self.ids.random_id(id_prefix(&node))?,
            node,
            chain_hash: chain::chain_hash(&records).map_err(SignError::from)?,
            chain: records,
        })
    }
}
