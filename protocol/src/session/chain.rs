//! The delegation chain of a token: records, hash, node ids, and their check at every use
//! (`docs/wire-contract.md` §10, §20 W3).

use sha2::{Digest, Sha256};

use crate::claims::{Claims, DelegationRecord};
use crate::go_json;
use crate::ids::SessionId;
use crate::lower_hex;
use crate::scope::ScopeSet;

/// Most delegations in one chain.
pub const MAX_DEPTH: usize = 5;
/// Length of the random part of a node id, lower-hex characters.
const RANDOM_LENGTH: usize = 16;
/// Bytes of the digest that a node id carries.
const BINDING_BYTES: usize = 16;
const LABEL: &str = "agentwrit delegation node v1";

/// Why a chain is not what the broker made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ChainError {
    /// Some of chain, chain hash and nodes are there without the others.
    #[error("delegation_chain, chain_hash and delegation_nodes don't go together")]
    Incomplete,
    /// More hops than there may be.
    #[error("the delegation chain is too long")]
    TooDeep,
    /// The hash is another chain's.
    #[error("chain_hash is not that of the chain")]
    Hash,
    /// A record is not signed by the broker.
    #[error("a delegation record has a bad signature")]
    Signature,
    /// A hop grants more than the delegator held.
    #[error("a delegation grants more than its delegator held")]
    Scope,
    /// A node id belongs to another hop.
    #[error("a delegation node is bound to another hop")]
    Node,
}

impl ChainError {
    /// A static word for the audit trail.
    pub const fn kind(self) -> &'static str {
        match self {
            Self::Incomplete => "chain_incomplete",
            Self::TooDeep => "chain_too_deep",
            Self::Hash => "chain_hash_mismatch",
            Self::Signature => "chain_bad_signature",
            Self::Scope => "chain_scope_widened",
            Self::Node => "chain_node_mismatch",
        }
    }
}

/// What a record's signature covers: `agent|scopes joined by ,|delegated_at`.
pub fn signing_text(agent: &str, scope: &[String], delegated_at: &str) -> String {
    format!("{agent}|{}|{delegated_at}", scope.join(","))
}

/// Lower-hex SHA-256 of the chain as it is serialised in the token.
///
/// # Errors
/// When the chain can't be written as JSON.
pub fn chain_hash(chain: &[DelegationRecord]) -> serde_json::Result<String> {
    Ok(lower_hex(Sha256::digest(go_json::to_vec(chain)?)))
}

/// What a delegation's node id is bound to. The record of the contract signs neither target nor granted scope nor the
/// hop before; the id of the node, which the token carries and the store knows, does.
#[derive(Debug, Clone, Copy)]
pub struct NodeBinding<'a> {
    /// Id of the delegating node: the session's `sid`, or another delegation's node.
    pub parent: &'a SessionId,
    /// Who delegates.
    pub delegator: &'a str,
    /// To whom.
    pub delegate: &'a str,
    /// What.
    pub scope: &'a [String],
    /// When, as in the record.
    pub delegated_at: &'a str,
}

impl NodeBinding<'_> {
    /// The node id with this random part (16 lower-hex characters): it and 32 of the binding's digest.
    ///
    /// # Errors
    /// When the scopes can't be written as JSON.
    pub fn node_id(&self, random: &str) -> serde_json::Result<SessionId> {
        let bound = (
            LABEL,
            self.parent,
            random,
            self.delegator,
            self.delegate,
            self.delegated_at,
            self.scope,
        );
        let digest = Sha256::digest(go_json::to_vec(&bound)?);
        let binding = digest.get(..BINDING_BYTES).unwrap_or_default();
        Ok(format!("{random}{}", lower_hex(binding)).into())
    }
}

/// Checks the chain of a token whose own signature is good; `verify` says whether a signature (lower hex) is the
/// broker's over a text.
///
/// # Errors
/// The first thing that is not as the broker makes it.
pub fn check(claims: &Claims, verify: impl Fn(&str, &str) -> bool) -> Result<(), ChainError> {
    let chain = &claims.delegation_chain;
    if chain.is_empty() && claims.chain_hash.is_empty() && claims.delegation_nodes.is_empty() {
        return Ok(());
    }
    if chain.is_empty()
        || chain.len() != claims.delegation_nodes.len()
        || claims.chain_hash.is_empty()
        || claims.sid.is_empty()
    {
        return Err(ChainError::Incomplete);
    }
    if chain.len() > MAX_DEPTH {
        return Err(ChainError::TooDeep);
    }
    if chain_hash(chain).ok().as_deref() != Some(claims.chain_hash.as_str()) {
        return Err(ChainError::Hash);
    }
    let granted = chain
        .iter()
        .skip(1)
        .map(|record| (record.agent.as_str(), record.scope.as_slice()))
        .chain(std::iter::once((claims.sub.as_str(), claims.scope.as_slice())));
    let mut parent = &claims.sid;
    for ((record, (delegate, scope)), node) in chain.iter().zip(granted).zip(&claims.delegation_nodes) {
        let text = signing_text(&record.agent, &record.scope, &record.delegated_at);
        if !verify(&text, &record.signature) {
            return Err(ChainError::Signature);
        }
        if !narrows(&record.scope, scope) {
            return Err(ChainError::Scope);
        }
        let binding = NodeBinding {
            parent,
            delegator: &record.agent,
            delegate,
            scope,
            delegated_at: &record.delegated_at,
        };
        let random = node.get(..RANDOM_LENGTH).ok_or(ChainError::Node)?;
        if binding.node_id(random).ok().as_ref() != Some(node) {
            return Err(ChainError::Node);
        }
        parent = node;
    }
    Ok(())
}

/// Whether everything granted is covered by what is held.
pub fn narrows(held: &[String], granted: &[String]) -> bool {
    match (ScopeSet::parse(held), ScopeSet::parse(granted)) {
        (Ok(held), Ok(granted)) => held.covers_all(&granted),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Stands in for Ed25519: the digest of the text.
    fn sign(text: &str) -> String {
        hex::encode(Sha256::digest(text.as_bytes()))
    }

    fn verifies(text: &str, signature: &str) -> bool {
        sign(text) == signature
    }

    fn strings(items: &[&str]) -> Vec<String> {
        items.iter().map(|item| (*item).to_owned()).collect()
    }

    /// A good token of `hops` delegations among agents a0, a1, …
    fn token(hops: usize) -> Claims {
        let scopes = strings(&["read:data:*", "write:data:<x>"]);
        let mut claims = Claims {
            sub: "a0".into(),
            sid: "session".into(),
            scope: scopes.clone(),
            ..Claims::default()
        };
        for hop in 0..hops {
            let delegated_at = format!("2026-01-02T03:04:0{hop}Z");
            let delegate = format!("a{}", hop + 1);
            let binding = NodeBinding {
                parent: claims.delegation_nodes.last().unwrap_or(&claims.sid),
                delegator: &claims.sub,
                delegate: &delegate,
                scope: &scopes,
                delegated_at: &delegated_at,
            };
            let node = binding.node_id("0123456789abcdef").unwrap();
            let record = DelegationRecord {
                agent: claims.sub.clone(),
                scope: claims.scope.clone(),
                signature: sign(&signing_text(&claims.sub, &claims.scope, &delegated_at)),
                delegated_at,
            };
            claims.delegation_chain.push(record);
            claims.delegation_nodes.push(node);
            claims.sub = delegate;
        }
        if hops > 0 {
            claims.chain_hash = chain_hash(&claims.delegation_chain).unwrap();
        }
        claims
    }

    #[test]
    fn good_chains_of_every_length_pass() {
        for hops in 0..=MAX_DEPTH {
            assert_eq!(check(&token(hops), verifies), Ok(()), "{hops} hops");
        }
        assert_eq!(check(&token(MAX_DEPTH + 1), verifies), Err(ChainError::TooDeep));
    }

    type Change = fn(&mut Claims);

    #[test]
    fn whatever_is_changed_in_a_chain_is_noticed() {
        let rehash = |claims: &mut Claims| claims.chain_hash = chain_hash(&claims.delegation_chain).unwrap();
        let table: [(&str, Change, ChainError); 11] = [
            ("no hash", |c| c.chain_hash.clear(), ChainError::Incomplete),
            ("no session", |c| c.sid = SessionId::default(), ChainError::Incomplete),
            ("no nodes", |c| c.delegation_nodes.clear(), ChainError::Incomplete),
            ("a hop less", |c| drop(c.delegation_chain.pop()), ChainError::Incomplete),
            (
                "another agent",
                |c| c.delegation_chain[0].agent = "x".into(),
                ChainError::Signature,
            ),
            (
                "another time",
                |c| c.delegation_chain[0].delegated_at = "now".into(),
                ChainError::Signature,
            ),
            ("another order", |c| c.delegation_chain.swap(0, 1), ChainError::Node),
            ("another delegate", |c| c.sub = "x".into(), ChainError::Node),
            ("less scope than granted", |c| drop(c.scope.pop()), ChainError::Node),
            (
                "more scope than held",
                |c| c.scope.push("read:other:*".into()),
                ChainError::Scope,
            ),
            ("another session", |c| c.sid = "x".into(), ChainError::Node),
        ];
        for (what, change, wanted) in table {
            let mut claims = token(3);
            change(&mut claims);
            if wanted != ChainError::Incomplete {
                rehash(&mut claims);
            }
            assert_eq!(check(&claims, verifies), Err(wanted), "{what}");
        }
        let mut claims = token(2);
        claims.chain_hash = "0".repeat(64);
        assert_eq!(check(&claims, verifies), Err(ChainError::Hash));
        let mut claims = token(2);
        claims.delegation_nodes[0] = "short".into();
        assert_eq!(check(&claims, verifies), Err(ChainError::Node));
    }

    #[test]
    fn what_is_left_of_a_chain_is_no_token_without_one() {
        assert_eq!(check(&token(0), verifies), Ok(()));
        let table: [Change; 2] = [
            |c| c.chain_hash = "0".repeat(64),
            |c| c.delegation_nodes.push("0".into()),
        ];
        for change in table {
            let mut claims = token(0);
            change(&mut claims);
            assert_eq!(check(&claims, verifies), Err(ChainError::Incomplete), "{claims:?}");
        }
    }

    #[test]
    fn the_hash_is_of_the_contracts_json() {
        let record = DelegationRecord {
            agent: "a".into(),
            scope: strings(&["read:data:<x>"]),
            delegated_at: "t".into(),
            signature: String::new(),
        };
        let json = r#"[{"agent":"a","scope":["read:data:\u003cx\u003e"],"delegated_at":"t"}]"#;
        assert_eq!(
            chain_hash(&[record]).unwrap(),
            hex::encode(Sha256::digest(json.as_bytes()))
        );
        assert_eq!(signing_text("a", &strings(&["x:y:z", "u:v:w"]), "t"), "a|x:y:z,u:v:w|t");
    }
}
