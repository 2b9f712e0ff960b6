//! How many scopes a list may have, how long each may be, and how long the whole list.

use agentwrit_protocol::excerpt::excerpt;
use agentwrit_protocol::k8s::ORCH_PREFIX;
use agentwrit_protocol::scope::{MAX_SCOPE_BYTES, MAX_SCOPES};
use agentwrit_protocol::{ErrorCode, ScopeError, ScopeSet, go_json};

use crate::config::Config;

/// Longest list of scopes as JSON, bytes: with it, a token stays well below the longest that is looked at.
pub(super) const MAX_SCOPE_LIST_BYTES: usize = 32 * 1024;

/// Whether a list of scopes is longer than [`MAX_SCOPE_LIST_BYTES`]. One that is far longer is not written to be
/// measured.
pub(super) fn is_too_long(scopes: &[String]) -> bool {
    // Two quotes and a comma or bracket each, and the first bracket.
    let least = scopes.iter().fold(1, |least, scope| least + scope.len() + 3);
    least > MAX_SCOPE_LIST_BYTES || go_json::to_vec(scopes).map_or(0, |json| json.len()) > MAX_SCOPE_LIST_BYTES
}

/// Checks that a ceiling is at most [`MAX_SCOPE_LIST_BYTES`] long.
pub(super) fn check_length(member: &'static str, scopes: &[String]) -> Result<(), CeilingError> {
    if is_too_long(scopes) {
        return Err(CeilingError::Length(member));
    }
    Ok(())
}

/// The bounds of one list of scopes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ScopeLimits {
    items: usize,
    bytes: usize,
}

/// A list that is beyond its bounds.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum TooManyScopes {
    #[error("{member} has {count} items: at most {most} are allowed")]
    Items {
        /// Member of the request.
        member: &'static str,
        /// How many there are.
        count: usize,
        /// How many may be there.
        most: usize,
    },
    #[error("{member}[{index}] is {bytes} bytes long: at most {most} are allowed")]
    Bytes {
        /// Member of the request.
        member: &'static str,
        /// Place of the item, from 0.
        index: usize,
        /// How long it is.
        bytes: usize,
        /// How long it may be.
        most: usize,
    },
}

/// What is wrong with a list of scopes that is to be the ceiling of an app or of a launch token.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum CeilingError {
    /// The list is too long as JSON; the member of the request.
    #[error("{0} must be at most {MAX_SCOPE_LIST_BYTES} bytes of JSON")]
    Length(&'static str),
    #[error(transparent)]
    Limits(#[from] TooManyScopes),
    #[error(transparent)]
    Scope(#[from] ScopeError),
    #[error("scope {0:?} is reserved: agents can't hold admin: and app: scopes")]
    Reserved(String),
}

impl CeilingError {
    /// The code on the wire.
    pub(crate) const fn code(&self) -> ErrorCode {
        match self {
            Self::Length(_) => ErrorCode::InvalidRequest,
            Self::Limits(_) | Self::Scope(_) => ErrorCode::InvalidScopeFormat,
            Self::Reserved(_) => ErrorCode::Forbidden,
        }
    }

    /// The word in the audit trail.
    pub(crate) const fn kind(&self) -> &'static str {
        match self {
            Self::Length(_) => "scope_length",
            Self::Limits(_) => "scope_limits",
            Self::Scope(_) => "invalid_scope_format",
            Self::Reserved(_) => "reserved_scope",
        }
    }
}

impl ScopeLimits {
    /// Reads the ceiling of an app or of a launch token.
    pub(crate) fn ceiling(self, member: &'static str, scopes: &[String]) -> Result<ScopeSet, CeilingError> {
        check_length(member, scopes)?;
        self.admit(member, scopes, ScopeSet::parse(scopes))
    }

    /// Takes a list of allowed length as a ceiling; `parsed` is what parsing it gave.
    pub(super) fn admit(
        self,
        member: &'static str,
        scopes: &[String],
        parsed: Result<ScopeSet, ScopeError>,
    ) -> Result<ScopeSet, CeilingError> {
        let ceiling = parsed?;
        self.check(member, scopes)?;
        match ceiling.first_reserved() {
            Some(scope) => Err(CeilingError::Reserved(excerpt(scope.as_str()))),
            None => Ok(ceiling),
        }
    }

    /// For attested agents and all that descends from them: those of the custom resources.
    pub(crate) const ATTESTED: Self = Self {
        items: MAX_SCOPES,
        bytes: MAX_SCOPE_BYTES,
    };

    /// As configured, for all but attested agents.
    pub(crate) fn of(config: &Config) -> Self {
        Self {
            items: config.max_scopes,
            bytes: config.max_scope_bytes,
        }
    }

    /// Those of a session, by its orchestration: the prefix of attested agents can't be claimed by others.
    #[must_use]
    pub(crate) fn of_orchestration(self, orch_id: &str) -> Self {
        if orch_id.starts_with(ORCH_PREFIX) {
            Self::ATTESTED
        } else {
            self
        }
    }

    /// Checks one list, without copying it.
    pub(crate) fn check(self, member: &'static str, scopes: &[String]) -> Result<(), TooManyScopes> {
        if scopes.len() > self.items {
            return Err(TooManyScopes::Items {
                member,
                count: scopes.len(),
                most: self.items,
            });
        }
        match scopes.iter().enumerate().find(|(_, scope)| scope.len() > self.bytes) {
            None => Ok(()),
            Some((index, scope)) => Err(TooManyScopes::Bytes {
                member,
                index,
                bytes: scope.len(),
                most: self.bytes,
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_at_its_bounds_passes_and_beyond_is_named() {
        let scope = |bytes: usize| format!("a:b:{}", "é".repeat((bytes - 4) / 2));
        let limits = ScopeLimits { items: 3, bytes: 10 };
        let check = |scopes: &[String]| limits.check("scope", scopes).map_err(|error| error.to_string());
        assert_eq!(check(&[]), Ok(()));
        assert_eq!(check(&vec![scope(10); 3]), Ok(()));
        let items = "scope has 4 items: at most 3 are allowed";
        assert_eq!(check(&vec![scope(12); 4]), Err(items.to_owned()));
        let bytes = "scope[1] is 12 bytes long: at most 10 are allowed";
        assert_eq!(check(&[scope(10), scope(12)]), Err(bytes.to_owned()));
    }
}
