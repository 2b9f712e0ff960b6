//! Ids with their kind in the type: a token's id is never taken for a session's, nor a pod's UID for a policy's.
//!
//! An id says what a text is meant as, not that it has the form of one: what comes from outside is checked where it is
//! parsed. It is read as a `str`, and written as the bare text in JSON, in messages and in `Debug`.

use std::borrow::Borrow;
use std::fmt;
use std::ops::Deref;

use serde::{Deserialize, Serialize};

macro_rules! ids {
    ($($(#[$doc:meta])* $name:ident;)*) => {$(
        $(#[$doc])*
        #[derive(Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(String);

        impl $name {
            /// The text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl Deref for $name {
            type Target = str;

            fn deref(&self) -> &str {
                &self.0
            }
        }

        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }

        impl Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        impl From<String> for $name {
            fn from(text: String) -> Self {
                Self(text)
            }
        }

        impl From<&str> for $name {
            fn from(text: &str) -> Self {
                Self(text.to_owned())
            }
        }

        impl From<$name> for String {
            fn from(id: $name) -> Self {
                id.0
            }
        }

        impl PartialEq<str> for $name {
            fn eq(&self, other: &str) -> bool {
                self.0 == other
            }
        }

        impl PartialEq<&str> for $name {
            fn eq(&self, other: &&str) -> bool {
                self.0 == *other
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.0, f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(&self.0, f)
            }
        }
    )*};
}

ids! {
    /// Id of a token, the claim `jti`: 32 lower-hex characters.
    Jti;
    /// Id of a session, the claim `sid` (32 lower-hex characters), or of a delegation under one, in the claim
    /// `delegation_nodes` (48). The rules and the store know both as nodes.
    SessionId;
    /// `metadata.uid` of a pod.
    PodUid;
    /// `metadata.uid` of an AgentApp or a LaunchToken.
    PolicyUid;
    /// Orchestration of an agent, the second path segment of its SPIFFE id; `k8s.<namespace>.<app>` for attested ones.
    OrchId;
    /// Task of an agent, the third path segment of its SPIFFE id; the pod's UID for attested ones.
    TaskId;
}

impl From<&PodUid> for TaskId {
    /// The task of the agents of a pod.
    fn from(pod: &PodUid) -> Self {
        Self(pod.0.clone())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    #[test]
    fn an_id_is_the_bare_text_wherever_it_is_written() {
        let jti = Jti::from("0f\"");
        assert_eq!(
            (jti.to_string(), format!("{jti:>4}")),
            ("0f\"".to_owned(), " 0f\"".to_owned())
        );
        assert_eq!(format!("{jti:?}"), format!("{:?}", "0f\""));
        assert_eq!(serde_json::to_string(&jti).unwrap(), r#""0f\"""#);
        assert_eq!(serde_json::from_str::<Jti>(r#""0f\"""#).unwrap(), jti);
    }

    #[test]
    fn an_id_is_found_by_its_text() {
        let known = HashMap::from([(SessionId::from("s"), 1)]);
        assert_eq!((known.get("s"), known.get("t")), (Some(&1), None));
        assert_eq!(SessionId::from("s"), "s");
        assert_ne!(SessionId::from("s"), *"t");
    }

    #[test]
    fn the_task_of_a_pods_agents_is_its_uid() {
        assert_eq!(TaskId::from(&PodUid::from("uid-1")), "uid-1");
    }
}
