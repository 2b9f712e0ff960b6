//! The Secrets with our label, as the watch shows them, and what was found in those that were read.

use std::collections::{BTreeMap, HashSet};

use agentwrit_crds::AgentApp;
use agentwrit_protocol::dns_label::MAX_RESOURCE_NAME_BYTES;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use kube::core::PartialObjectMeta;
use kube::{Resource, ResourceExt};

use super::record::Record;

/// Bytes: a UUID.
const LONGEST_UID: usize = 36;

/// Namespace and name.
pub(super) type Place = (String, String);

/// The AgentApp that a Secret belongs to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Owner {
    pub(super) uid: String,
    pub(super) name: String,
}

/// One Secret: a few hundred bytes, whatever is in it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Known {
    uid: String,
    version: String,
    owner: Option<Owner>,
    /// What was read of this version, when it is as it should be.
    record: Option<Record>,
}

#[derive(Debug, Default)]
pub(super) struct Seen {
    secrets: BTreeMap<Place, Known>,
    /// The CA certificates that those which are as they should be have.
    bundle: String,
}

/// The AgentApp that controls an object, by its metadata. An owner with a longer uid or name than Kubernetes gives is none:
/// anybody may write such a reference, and it is kept in memory.
pub(super) fn owner(metadata: &ObjectMeta) -> Option<Owner> {
    let controls = |reference: &&OwnerReference| {
        let group = reference.api_version.split('/').next();
        reference.controller == Some(true)
            && reference.kind == AgentApp::kind(&())
            && group == Some(agentwrit_crds::GROUP)
            && reference.uid.len() <= LONGEST_UID
            && reference.name.len() <= MAX_RESOURCE_NAME_BYTES
    };
    let reference = metadata.owner_references.iter().flatten().find(controls)?;
    Some(Owner {
        uid: reference.uid.clone(),
        name: reference.name.clone(),
    })
}

fn place(secret: &PartialObjectMeta<Secret>) -> Place {
    (secret.namespace().unwrap_or_default(), secret.name_any())
}

impl Seen {
    /// These CA certificates are to stand in all of them. When others were until now, each has to be read again.
    pub(super) fn trust(&mut self, bundle: &str) {
        if self.bundle != bundle {
            bundle.clone_into(&mut self.bundle);
            for known in self.secrets.values_mut() {
                known.record = None;
            }
        }
    }

    /// Takes a Secret in; those who own it or did so before have to look at it.
    pub(super) fn apply(&mut self, secret: &PartialObjectMeta<Secret>) -> Vec<Owner> {
        let place = place(secret);
        let (uid, version) = (
            secret.uid().unwrap_or_default(),
            secret.resource_version().unwrap_or_default(),
        );
        let before = self.secrets.remove(&place);
        // What we wrote ourselves was read by that.
        let same = before
            .as_ref()
            .filter(|before| (&before.uid, &before.version) == (&uid, &version));
        let known = Known {
            record: same.and_then(|same| same.record.clone()),
            owner: owner(&secret.metadata),
            uid,
            version,
        };
        let owners = known
            .owner
            .iter()
            .chain(before.as_ref().and_then(|before| before.owner.as_ref()));
        let owners = owners.cloned().collect();
        self.secrets.insert(place, known);
        owners
    }

    /// Forgets a Secret; its owner has to look.
    pub(super) fn delete(&mut self, secret: &PartialObjectMeta<Secret>) -> Option<Owner> {
        self.secrets.remove(&place(secret))?.owner
    }

    /// Forgets those of this namespace, or of all, that are not among these.
    pub(super) fn keep(&mut self, namespace: Option<&str>, listed: &HashSet<Place>) {
        self.secrets
            .retain(|place, _| namespace.is_some_and(|namespace| namespace != place.0) || listed.contains(place));
    }

    /// What was found in this Secret of an AgentApp, unless it has changed since.
    pub(super) fn record(&self, place: &Place, app_uid: &str) -> Option<&Record> {
        let known = self.secrets.get(place)?;
        let is_owned = known.owner.as_ref().is_some_and(|owner| owner.uid == app_uid);
        known.record.as_ref().filter(|_| is_owned)
    }

    /// A Secret of an AgentApp was read or written, and is as it should be with these CA certificates. Counts until the
    /// watch shows another version, or others are trusted.
    pub(super) fn found(&mut self, place: Place, metadata: &ObjectMeta, (record, bundle): (Record, &str)) {
        let known = Known {
            uid: metadata.uid.clone().unwrap_or_default(),
            version: metadata.resource_version.clone().unwrap_or_default(),
            owner: owner(metadata),
            record: Some(record).filter(|_| bundle == self.bundle),
        };
        self.secrets.insert(place, known);
    }

    /// Name and UID of the other Secrets that an AgentApp has in its namespace.
    pub(super) fn others(&self, app_uid: &str, (namespace, name): (&str, Option<&str>)) -> Vec<(String, String)> {
        let there = self.secrets.range((namespace.to_owned(), String::new())..);
        let there = there.take_while(|(place, _)| place.0 == namespace);
        let theirs = there.filter(|(place, known)| {
            Some(place.1.as_str()) != name && known.owner.as_ref().is_some_and(|owner| owner.uid == app_uid)
        });
        theirs
            .map(|(place, known)| (place.1.clone(), known.uid.clone()))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use agentwrit_protocol::UnixSeconds;
    use serde_json::{Value, json};

    use super::*;

    fn secret(name: &str, version: &str, owner: &Value) -> PartialObjectMeta<Secret> {
        let metadata = json!({
            "namespace": "shop", "name": name, "uid": format!("uid-{name}"), "resourceVersion": version,
            "ownerReferences": owner,
        });
        serde_json::from_value(json!({"metadata": metadata})).unwrap()
    }

    fn owned() -> Value {
        json!([{"apiVersion": "agentwrit.io/v1alpha1", "kind": "AgentApp", "name": "orders", "uid": "app", "controller": true}])
    }

    fn record() -> Record {
        Record {
            sha256: "a".repeat(64),
            since: UnixSeconds::new(1),
            previous: None,
            asked: None,
        }
    }

    #[test]
    fn what_was_read_counts_until_the_secret_changes() {
        let mut seen = Seen::default();
        let place = ("shop".to_owned(), "one".to_owned());
        assert_eq!(seen.apply(&secret("one", "1", &owned())).len(), 1);
        assert_eq!(seen.record(&place, "app"), None, "not read yet");
        seen.found(place.clone(), &secret("one", "2", &owned()).metadata, (record(), ""));
        seen.apply(&secret("one", "2", &owned()));
        assert!(seen.record(&place, "app").is_some(), "as it was written");
        assert!(seen.record(&place, "another").is_none());
        seen.apply(&secret("one", "3", &owned()));
        assert!(seen.record(&place, "app").is_none());
    }

    #[test]
    fn what_was_read_counts_until_others_are_trusted() {
        let mut seen = Seen::default();
        let place = ("shop".to_owned(), "one".to_owned());
        let one = secret("one", "1", &owned()).metadata;
        seen.trust("a");
        seen.found(place.clone(), &one, (record(), "a"));
        seen.trust("a");
        assert!(seen.record(&place, "app").is_some());
        seen.trust("ab");
        assert!(seen.record(&place, "app").is_none(), "to be written again");
        seen.found(place.clone(), &one, (record(), "a"));
        assert!(seen.record(&place, "app").is_none(), "a run that began before");
        assert_eq!(seen.others("app", ("shop", None)).len(), 1, "it is there all the same");
    }

    #[test]
    fn only_an_app_that_controls_it_owns_a_secret() {
        assert!(owner(&secret("one", "1", &owned()).metadata).is_some());
        for (member, value) in [
            ("controller", json!(false)),
            ("kind", json!("LaunchToken")),
            ("apiVersion", json!("apps/v1")),
            ("uid", json!("x".repeat(37))),
            ("name", json!("x".repeat(53))),
        ] {
            let mut reference = owned();
            reference[0][member] = value;
            assert_eq!(owner(&secret("one", "1", &reference).metadata), None, "{member}");
        }
    }

    #[test]
    fn a_former_owner_looks_too_and_others_are_leftovers() {
        let mut seen = Seen::default();
        seen.apply(&secret("one", "1", &owned()));
        seen.apply(&secret("two", "1", &owned()));
        let names = |seen: &Seen, name| -> Vec<String> {
            let others = seen.others("app", ("shop", name)).into_iter();
            others.map(|other| other.0).collect()
        };
        assert_eq!(names(&seen, Some("two")), ["one"]);
        assert_eq!(names(&seen, None), ["one", "two"]);
        let owners = seen.apply(&secret("one", "2", &json!([])));
        assert_eq!(owners.len(), 1, "it lost it");
        assert_eq!(names(&seen, None), ["two"]);
        assert_eq!(seen.delete(&secret("two", "9", &json!([]))).unwrap().name, "orders");
        seen.keep(Some("other"), &HashSet::new());
        assert_eq!(seen.secrets.len(), 1, "of another namespace");
        seen.keep(Some("shop"), &HashSet::new());
        assert_eq!(seen.secrets.len(), 0);
    }
}
