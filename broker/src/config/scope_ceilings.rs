//! What the agents of a namespace may have at most, as the platform's team says it in a file: whatever the custom resources
//! of the namespace ask for.

use std::collections::BTreeMap;
use std::fmt;
use std::io::Read;
use std::path::Path;
use std::sync::Arc;

use agentwrit_protocol::dns_label::{MAX_LABEL_BYTES, is_dns_label};
use agentwrit_protocol::excerpt::{excerpt, excerpt_list};
use agentwrit_protocol::k8s::app_of_orch_id;
use agentwrit_protocol::scope::MAX_SCOPE_BYTES;
use agentwrit_protocol::{ScopeSet, SpiffeId, lower_hex};
use serde::Deserialize;
use serde::de::{Deserializer, Error, MapAccess, Visitor};
use sha2::{Digest, Sha256};

/// Longest file, bytes: a ConfigMap has 1 MiB.
const MAX_FILE_BYTES: u64 = 1024 * 1024;
/// Most namespaces that are listed.
const MAX_NAMESPACES: usize = 4096;
/// Most scopes of one namespace.
const MAX_CEILING_SCOPES: usize = 256;
/// Bytes that a list in a sentence takes at most.
const MAX_NOTE_BYTES: usize = 512;

/// Why a file of ceilings can't be used; names the entry.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(crate) struct CeilingsError(String);

/// The ceilings of all namespaces.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ScopeCeilings {
    strict: bool,
    by_namespace: BTreeMap<String, Arc<ScopeSet>>,
    digest: String,
}

/// The ceiling of one namespace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Ceiling {
    /// None: it isn't listed, and needn't be.
    Open,
    Listed(Arc<ScopeSet>),
    /// It isn't listed and would have to be: it may have nothing.
    Unlisted,
}

#[derive(Deserialize, Clone, Copy, PartialEq)]
#[serde(rename_all = "lowercase")]
enum Tenancy {
    Open,
    Strict,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct File {
    tenancy: Tenancy,
    scope_ceilings: Entries,
}

/// In the order of the file: of two entries with one name neither may win silently.
struct Entries(Vec<(String, Vec<String>)>);

impl<'de> Deserialize<'de> for Entries {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reader;
        impl<'de> Visitor<'de> for Reader {
            type Value = Entries;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of namespaces, each with a list of scopes")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Entries, A::Error> {
                let mut entries = Vec::new();
                while let Some(name) = map.next_key::<String>()? {
                    let scopes = map
                        .next_value()
                        .map_err(|error| A::Error::custom(format!("scopeCeilings.{}: {error}", excerpt(&name))))?;
                    entries.push((name, scopes));
                }
                Ok(Entries(entries))
            }
        }
        deserializer.deserialize_map(Reader)
    }
}

impl ScopeCeilings {
    /// Reads a file.
    ///
    /// # Errors
    /// Names the entry, what is wrong with it, and what would be right.
    pub(super) fn read(path: &Path) -> Result<Self, CeilingsError> {
        let failed = |error: std::io::Error| CeilingsError(format!("can't be read: {error}"));
        let mut text = Vec::new();
        // One byte more tells a file that is too long.
        let file = std::fs::File::open(path).map_err(failed)?;
        file.take(MAX_FILE_BYTES + 1).read_to_end(&mut text).map_err(failed)?;
        Self::parse(&text)
    }

    /// Reads the text of a file.
    ///
    /// # Errors
    /// As [`Self::read`].
    pub(crate) fn parse(text: &[u8]) -> Result<Self, CeilingsError> {
        if u64::try_from(text.len()).is_ok_and(|bytes| bytes > MAX_FILE_BYTES) {
            return Err(CeilingsError(format!("must be at most {MAX_FILE_BYTES} bytes long")));
        }
        let file: File = serde_json::from_slice(text).map_err(|error| {
            CeilingsError(format!(
                "must be JSON such as {{\"tenancy\":\"open\",\"scopeCeilings\":{{\"shop\":[\"read:orders:*\"]}}}}: {error}"
            ))
        })?;
        let Entries(entries) = file.scope_ceilings;
        if entries.len() > MAX_NAMESPACES {
            return Err(CeilingsError(format!(
                "scopeCeilings has {} namespaces: at most {MAX_NAMESPACES} are allowed",
                entries.len()
            )));
        }
        let mut by_namespace = BTreeMap::new();
        for (namespace, scopes) in entries {
            let ceiling = check_entry(&namespace, &scopes)?;
            if by_namespace.insert(namespace.clone(), Arc::new(ceiling)).is_some() {
                return Err(CeilingsError(format!(
                    "scopeCeilings.{namespace} is there twice: it must be there once"
                )));
            }
        }
        let strict = file.tenancy == Tenancy::Strict;
        let digest = digest(strict, &by_namespace);
        Ok(Self {
            strict,
            by_namespace,
            digest,
        })
    }

    /// The ceiling of a namespace.
    pub(crate) fn of(&self, namespace: &str) -> Ceiling {
        match self.by_namespace.get(namespace) {
            Some(ceiling) => Ceiling::Listed(Arc::clone(ceiling)),
            None if self.strict => Ceiling::Unlisted,
            None => Ceiling::Open,
        }
    }

    /// The ceiling of the namespace of an agent; those that are of none have none.
    pub(crate) fn of_agent(&self, agent: &str) -> Ceiling {
        let agent = SpiffeId::parse(agent);
        let app = agent.as_ref().ok().and_then(|agent| app_of_orch_id(agent.orch_id()));
        app.map_or(Ceiling::Open, |(namespace, _)| self.of(namespace))
    }

    /// Equal for equal ceilings; empty when there are none.
    pub(crate) fn digest(&self) -> &str {
        &self.digest
    }
}

fn check_entry(namespace: &str, scopes: &[String]) -> Result<ScopeSet, CeilingsError> {
    let wrong = |what: String| CeilingsError(format!("scopeCeilings.{}{what}", excerpt(namespace)));
    if !is_dns_label(namespace, MAX_LABEL_BYTES) {
        let what = format!(" must be the name of a namespace: a DNS label of at most {MAX_LABEL_BYTES} characters");
        return Err(wrong(what));
    }
    if scopes.len() > MAX_CEILING_SCOPES {
        let count = scopes.len();
        return Err(wrong(format!(
            " has {count} scopes: at most {MAX_CEILING_SCOPES} are allowed"
        )));
    }
    for (index, scope) in scopes.iter().enumerate() {
        if scope.len() > MAX_SCOPE_BYTES {
            let bytes = scope.len();
            return Err(wrong(format!(
                "[{index}] is {bytes} bytes long: at most {MAX_SCOPE_BYTES} are allowed"
            )));
        }
    }
    let ceiling = ScopeSet::parse(scopes).map_err(|error| wrong(format!(": {error}")))?;
    match ceiling.first_reserved() {
        None => Ok(ceiling),
        Some(scope) => Err(wrong(format!(
            ": scope {:?} is reserved: agents can't hold admin: and app: scopes",
            excerpt(scope.as_str())
        ))),
    }
}

/// No two settings have one text: neither a namespace nor a scope holds a NUL, and no scope is empty.
fn digest(strict: bool, by_namespace: &BTreeMap<String, Arc<ScopeSet>>) -> String {
    if !strict && by_namespace.is_empty() {
        return String::new();
    }
    let mut hash = Sha256::new();
    hash.update([u8::from(strict)]);
    for (namespace, scopes) in by_namespace {
        hash.update(namespace);
        hash.update([0]);
        for scope in scopes.iter() {
            hash.update(scope.as_str());
            hash.update([0]);
        }
        hash.update([0]);
    }
    lower_hex(hash.finalize())
}

impl Ceiling {
    /// Whether the namespace may have nothing at all.
    pub(crate) fn forbids_all(&self) -> bool {
        match self {
            Self::Open => false,
            Self::Listed(ceiling) => ceiling.is_empty(),
            Self::Unlisted => true,
        }
    }

    /// Those of these scopes that the namespace may not have. A malformed one it may not.
    pub(crate) fn beyond<'a>(&self, scopes: &'a [String]) -> Vec<&'a str> {
        let beyond = |scope: &&String| match self {
            Self::Open => false,
            Self::Listed(ceiling) => !scope.parse().is_ok_and(|scope| ceiling.covers(&scope)),
            Self::Unlisted => true,
        };
        scopes.iter().filter(beyond).map(String::as_str).collect()
    }

    /// Whether the namespace may have all of these scopes.
    pub(crate) fn allows(&self, scopes: &[String]) -> bool {
        matches!(self, Self::Open) || (!self.forbids_all() && self.beyond(scopes).is_empty())
    }

    /// Why the namespace may not have all of these scopes, for people; `None` when it may.
    pub(crate) fn refusal(&self, namespace: &str, scopes: &[String]) -> Option<String> {
        (!self.allows(scopes)).then(|| self.sentence(namespace, &self.beyond(scopes)))
    }

    /// What these scopes are beyond: what the ceiling is, and what would be right.
    fn sentence(&self, namespace: &str, beyond: &[&str]) -> String {
        let beyond = excerpt_list(beyond, MAX_NOTE_BYTES);
        match self {
            Self::Listed(ceiling) => format!(
                "{beyond}: beyond the ceiling of namespace {namespace}, which is [{}]; take them out, or have the platform's \
                 team add them to the chart's value scopeCeilings.{namespace}",
                excerpt_list(&ceiling.to_strings(), MAX_NOTE_BYTES)
            ),
            Self::Open | Self::Unlisted => format!(
                "{beyond}: namespace {namespace} may have no scope, since the chart's value tenancy is strict and \
                 scopeCeilings doesn't list the namespace; have the platform's team add them to \
                 scopeCeilings.{namespace}"
            ),
        }
    }
}

#[cfg(test)]
mod tests;
