//! Registrations and changes of apps as asked for, checked in the contract's order (`docs/wire-contract.md` §12.2).

use agentwrit_protocol::apps::{
    AppName, AppNameError, LONGEST_TTL, RegisterAppRequest, SHORTEST_TTL, UpdateAppRequest,
};
use agentwrit_protocol::{ErrorCode, ScopeSet, Ttl};

use crate::service::scope_limits::{CeilingError, ScopeLimits};

/// What is wrong with a request.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum AppInputError {
    #[error("name is required")]
    NameMissing,
    #[error(transparent)]
    Name(#[from] AppNameError),
    #[error("scopes must not be empty")]
    ScopesEmpty,
    #[error(transparent)]
    Scopes(#[from] CeilingError),
    #[error("token_ttl {0} must be from {SHORTEST_TTL} to {LONGEST_TTL} seconds")]
    Ttl(i64),
    #[error("scopes or token_ttl is required")]
    NothingToChange,
}

impl AppInputError {
    /// The code on the wire.
    pub(crate) const fn code(&self) -> ErrorCode {
        match self {
            Self::NameMissing | Self::Name(_) | Self::ScopesEmpty | Self::NothingToChange => ErrorCode::InvalidRequest,
            Self::Scopes(error) => error.code(),
            Self::Ttl(_) => ErrorCode::InvalidTtl,
        }
    }
}

/// An app to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct NewApp {
    pub(crate) name: AppName,
    /// Its ceiling, not empty.
    pub(crate) scopes: ScopeSet,
    /// Life of its tokens.
    pub(crate) token_ttl: Ttl,
}

impl NewApp {
    /// Checks a registration; `default_ttl` is taken when it names no life of tokens.
    pub(crate) fn check(
        request: RegisterAppRequest,
        default_ttl: Ttl,
        limits: ScopeLimits,
    ) -> Result<Self, AppInputError> {
        let name = request.name.filter(|name| !name.is_empty());
        let name = name.ok_or(AppInputError::NameMissing)?;
        let scopes = request.scopes.filter(|scopes| !scopes.is_empty());
        let scopes = scopes.ok_or(AppInputError::ScopesEmpty)?;
        if let Some(ttl) = request.token_ttl.filter(|ttl| *ttl <= 0) {
            return Err(AppInputError::Ttl(ttl));
        }
        Ok(Self {
            name: name.parse()?,
            scopes: limits.ceiling("scopes", &scopes)?,
            token_ttl: request.token_ttl.map_or(Ok(default_ttl), in_range)?,
        })
    }
}

/// What is to be changed: at least one of the two.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct AppChange {
    /// The new ceiling, not empty.
    pub(crate) scopes: Option<ScopeSet>,
    /// The new life of tokens.
    pub(crate) token_ttl: Option<Ttl>,
}

impl AppChange {
    /// Checks a change as a whole: all of it will be done, or nothing.
    pub(crate) fn check(request: UpdateAppRequest, limits: ScopeLimits) -> Result<Self, AppInputError> {
        let scopes = request.scopes.filter(|scopes| !scopes.is_empty());
        if scopes.is_none() && request.token_ttl.is_none() {
            return Err(AppInputError::NothingToChange);
        }
        Ok(Self {
            scopes: scopes
                .as_deref()
                .map(|scopes| limits.ceiling("scopes", scopes))
                .transpose()?,
            token_ttl: request.token_ttl.map(in_range).transpose()?,
        })
    }
}

fn in_range(seconds: i64) -> Result<Ttl, AppInputError> {
    let ttl = Ttl::seconds(seconds);
    if (SHORTEST_TTL..=LONGEST_TTL).contains(&ttl) {
        Ok(ttl)
    } else {
        Err(AppInputError::Ttl(seconds))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::service::scope_limits::MAX_SCOPE_LIST_BYTES;

    fn request(name: &str, scopes: &[&str], token_ttl: Option<i64>) -> RegisterAppRequest {
        RegisterAppRequest {
            name: Some(name.to_owned()),
            scopes: Some(scopes.iter().map(|scope| (*scope).to_owned()).collect()),
            token_ttl,
        }
    }

    fn code(request: RegisterAppRequest) -> String {
        let error = NewApp::check(request, Ttl::seconds(1800), ScopeLimits::ATTESTED).unwrap_err();
        format!("{} {error}", error.code())
    }

    #[test]
    fn each_check_comes_before_those_after_it() {
        let long = "x".repeat(MAX_SCOPE_LIST_BYTES);
        let table = [
            (RegisterAppRequest::default(), "invalid_request name is required"),
            (request("", &[], Some(0)), "invalid_request name is required"),
            (request("A", &[], Some(0)), "invalid_request scopes must not be empty"),
            (request("A", &["x"], Some(0)), "invalid_ttl token_ttl 0 must be"),
            (request("A", &["x"], Some(-1)), "invalid_ttl token_ttl -1 must be"),
            (request("A", &["x"], Some(59)), "invalid_request name \"A\" must be"),
            (request("ab", &["x"], Some(59)), "invalid_scope_format scope \"x\""),
            (
                request("ab", &["read:data:x", "admin:a:b"], Some(59)),
                "forbidden scope \"admin:a:b\"",
            ),
            (request("ab", &["app:a:b"], None), "forbidden scope \"app:a:b\""),
            (
                request("ab", &["read:data:x"], Some(59)),
                "invalid_ttl token_ttl 59 must be",
            ),
            (
                request("ab", &["read:data:x"], Some(86_401)),
                "invalid_ttl token_ttl 86401 must be",
            ),
            (
                request("ab", &[&long], None),
                "invalid_request scopes must be at most 32768",
            ),
            (
                request("ab", &["read:data:x"; 65], None),
                "invalid_scope_format scopes has 65 items",
            ),
            (
                request("ab", &["read:data:x", &format!("read:data:{}", &long[..247])], None),
                "invalid_scope_format scopes[1] is 257 bytes",
            ),
        ];
        for (request, wanted) in table {
            let given = code(request.clone());
            assert!(given.starts_with(wanted), "{request:?}: {given}");
        }
        let good = NewApp::check(
            request("ab", &["read:data:*"], None),
            Ttl::seconds(1800),
            ScopeLimits::ATTESTED,
        )
        .unwrap();
        assert_eq!((good.name.as_str(), good.token_ttl), ("ab", Ttl::seconds(1800)));
    }

    #[test]
    fn a_change_is_checked_as_a_whole() {
        let change = |scopes: Option<&[&str]>, token_ttl| {
            AppChange::check(
                UpdateAppRequest {
                    scopes: scopes.map(|scopes| scopes.iter().map(|scope| (*scope).to_owned()).collect()),
                    token_ttl,
                },
                ScopeLimits::ATTESTED,
            )
        };
        assert_eq!(change(None, None), Err(AppInputError::NothingToChange));
        assert_eq!(change(Some(&[]), None), Err(AppInputError::NothingToChange));
        assert_eq!(change(Some(&[]), Some(60)).unwrap().scopes, None);
        for bad in [i64::MIN, -1, 0, 59, 86_401, i64::MAX] {
            assert_eq!(change(Some(&["read:data:*"]), Some(bad)), Err(AppInputError::Ttl(bad)));
        }
        assert!(matches!(
            change(Some(&["read:data"]), Some(0)),
            Err(AppInputError::Scopes(CeilingError::Scope(_)))
        ));
        assert!(matches!(
            change(Some(&["admin:x:y"]), Some(60)),
            Err(AppInputError::Scopes(CeilingError::Reserved(_)))
        ));
    }
}
