//! Scopes: `action:resource:identifier`, and what covers what.

use std::collections::HashSet;
use std::fmt;
use std::str::FromStr;

use crate::excerpt::excerpt;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The longest scope that a custom resource may hold, in bytes.
pub const MAX_SCOPE_BYTES: usize = 256;

/// Most scopes in one list of a custom resource.
pub const MAX_SCOPES: usize = 64;

/// Families that only people and applications hold; never granted to an agent.
pub const RESERVED_ACTIONS: [&str; 2] = ["admin", "app"];

/// Why a text is not a scope.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ScopeError {
    /// Fewer than three parts, or an empty one.
    #[error("scope {0:?} is not of the form action:resource:identifier with three non-empty parts")]
    Format(String),
}

/// One scope, `action:resource:identifier`, split at the first two colons; the identifier may hold colons.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Scope {
    text: String,
    action_end: usize,
    resource_end: usize,
}

impl Scope {
    /// The part before the first colon, such as `read`.
    pub fn action(&self) -> &str {
        self.text.get(..self.action_end).unwrap_or_default()
    }

    /// The part between the first two colons, such as `orders`.
    pub fn resource(&self) -> &str {
        self.text
            .get(self.action_end + 1..self.resource_end)
            .unwrap_or_default()
    }

    /// Everything after the second colon; exactly `*` covers every identifier.
    pub fn identifier(&self) -> &str {
        self.text.get(self.resource_end + 1..).unwrap_or_default()
    }

    /// The scope as it was written.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Whether holding `self` allows `requested`: equal action and resource, and an equal or `*` identifier.
    pub fn covers(&self, requested: &Self) -> bool {
        self.action() == requested.action()
            && self.resource() == requested.resource()
            && (self.identifier() == "*" || self.identifier() == requested.identifier())
    }

    /// Whether the scope belongs to a family that agents can't hold (`admin:`, `app:`).
    pub fn is_reserved(&self) -> bool {
        RESERVED_ACTIONS.contains(&self.action())
    }
}

impl FromStr for Scope {
    type Err = ScopeError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let malformed = || ScopeError::Format(excerpt(text));
        let action_end = text.find(':').ok_or_else(malformed)?;
        let rest = text.get(action_end + 1..).ok_or_else(malformed)?;
        let resource_len = rest.find(':').ok_or_else(malformed)?;
        let resource_end = action_end + 1 + resource_len;
        if action_end == 0 || resource_len == 0 || resource_end + 1 == text.len() {
            return Err(malformed());
        }
        Ok(Self {
            text: text.to_owned(),
            action_end,
            resource_end,
        })
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Serialize for Scope {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.text)
    }
}

impl<'de> Deserialize<'de> for Scope {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?
            .parse()
            .map_err(serde::de::Error::custom)
    }
}

/// A list of scopes in the order given; the order is kept because tokens show it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ScopeSet(Vec<Scope>);

impl ScopeSet {
    /// Parses every item.
    ///
    /// # Errors
    /// Names the first item that is not a scope.
    pub fn parse<I, S>(items: I) -> Result<Self, ScopeError>
    where
        I: IntoIterator<Item = S>,
        S: AsRef<str>,
    {
        items
            .into_iter()
            .map(|item| item.as_ref().parse())
            .collect::<Result<_, _>>()
            .map(Self)
    }

    /// Whether some scope of the set covers `requested`.
    pub fn covers(&self, requested: &Scope) -> bool {
        self.0.iter().any(|allowed| allowed.covers(requested))
    }

    /// The scopes of `requested` that nothing here covers.
    pub fn uncovered<'a>(&self, requested: &'a Self) -> Vec<&'a Scope> {
        let index = self.index(requested);
        let covered = |scope: &&Scope| self.covers_by(index.as_ref(), scope);
        requested.0.iter().filter(|scope| !covered(scope)).collect()
    }

    /// Whether every scope of `requested` is covered; an empty request is.
    pub fn covers_all(&self, requested: &Self) -> bool {
        let index = self.index(requested);
        requested.0.iter().all(|scope| self.covers_by(index.as_ref(), scope))
    }

    /// The texts held, for lists so long that comparing each with each would take long.
    fn index(&self, requested: &Self) -> Option<HashSet<&str>> {
        const COMPARISONS: usize = 256;
        (self.len().saturating_mul(requested.len()) > COMPARISONS).then(|| self.0.iter().map(Scope::as_str).collect())
    }

    fn covers_by(&self, index: Option<&HashSet<&str>>, requested: &Scope) -> bool {
        let Some(held) = index else {
            return self.covers(requested);
        };
        held.contains(requested.as_str())
            || held.contains(format!("{}:{}:*", requested.action(), requested.resource()).as_str())
    }

    /// The first scope of a reserved family, if any.
    pub fn first_reserved(&self) -> Option<&Scope> {
        self.0.iter().find(|scope| scope.is_reserved())
    }

    /// The scopes in order.
    pub fn iter(&self) -> std::slice::Iter<'_, Scope> {
        self.0.iter()
    }

    /// The scopes as text, in order.
    pub fn to_strings(&self) -> Vec<String> {
        self.0.iter().map(|scope| scope.text.clone()).collect()
    }

    /// How many scopes there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl<'a> IntoIterator for &'a ScopeSet {
    type Item = &'a Scope;
    type IntoIter = std::slice::Iter<'a, Scope>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.iter()
    }
}

impl FromIterator<Scope> for ScopeSet {
    fn from_iter<I: IntoIterator<Item = Scope>>(iter: I) -> Self {
        Self(iter.into_iter().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn covered(requested: &str, allowed: &str) -> bool {
        match (requested.parse::<Scope>(), allowed.parse::<Scope>()) {
            (Ok(requested), Ok(allowed)) => allowed.covers(&requested),
            _ => false,
        }
    }

    #[test]
    fn covering_follows_the_contract_table() {
        let table = [
            ("read:data:x", "read:data:*", true),
            ("read:data:*", "read:data:*", true),
            ("read:data:*", "read:data:x", false),
            ("read:data:xyz", "read:data:x*", false),
            ("write:data:x", "read:data:*", false),
            ("read:orders:x", "read:data:*", false),
            ("read:data:x", "*:*:*", false),
            ("read:data:x", "*:data:x", false),
            ("read:data:x", "read:*:x", false),
            ("read:data:x", "*", false),
            ("*:*:*", "*:*:*", true),
            ("Read:data:x", "read:data:x", false),
            ("read:data", "read:data", false),
            ("read::x", "read::x", false),
            ("read:data:", "read:data:", false),
            ("", "", false),
            ("read:data:a:b", "read:data:*", true),
        ];
        for (requested, allowed, expected) in table {
            assert_eq!(covered(requested, allowed), expected, "{requested:?} by {allowed:?}");
        }
    }

    #[test]
    fn identifier_keeps_further_colons() {
        let scope: Scope = "read:data:a:b".parse().unwrap();
        assert_eq!(
            (scope.action(), scope.resource(), scope.identifier()),
            ("read", "data", "a:b")
        );
    }

    #[test]
    fn reserved_families_are_recognised_by_action_only() {
        let set = ScopeSet::parse(["read:admin:x", "app:launch-tokens:*"]).unwrap();
        assert_eq!(set.first_reserved().unwrap().as_str(), "app:launch-tokens:*");
        assert!(!"administer:x:y".parse::<Scope>().unwrap().is_reserved());
    }

    #[test]
    fn a_set_counts_its_scopes() {
        let set = ScopeSet::parse(["read:data:x", "read:data:y"]).unwrap();
        assert_eq!((set.len(), set.is_empty()), (2, false));
        assert_eq!((&set).into_iter().count(), 2);
        assert_eq!((ScopeSet::default().len(), ScopeSet::default().is_empty()), (0, true));
    }

    #[test]
    fn an_empty_request_is_covered() {
        assert!(ScopeSet::default().covers_all(&ScopeSet::default()));
    }

    proptest! {
        #[test]
        fn long_lists_are_compared_as_short_ones(
            held in proptest::collection::vec("[ab]:[ab]:([ab*:]{1,2})", 1..40),
            asked in proptest::collection::vec("[ab]:[ab]:([ab*:]{1,2})", 1..40),
        ) {
            let (held, asked) = (ScopeSet::parse(held).unwrap(), ScopeSet::parse(asked).unwrap());
            let one_by_one: Vec<&Scope> = asked.iter().filter(|scope| !held.covers(scope)).collect();
            prop_assert_eq!(held.covers_all(&asked), one_by_one.is_empty());
            prop_assert_eq!(held.uncovered(&asked), one_by_one);
        }

        #[test]
        fn whatever_parses_prints_back(text in "\\PC{0,40}") {
            if let Ok(scope) = text.parse::<Scope>() {
                prop_assert_eq!(scope.to_string(), text.clone());
                prop_assert_eq!(format!("{}:{}:{}", scope.action(), scope.resource(), scope.identifier()), text);
                prop_assert!(scope.covers(&scope));
            }
        }
    }
}
