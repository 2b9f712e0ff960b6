//! The AgentWrit domain, pure: no I/O, no runtime, no Kubernetes.
//!
//! Everything that more than one part of AgentWrit must agree on lives here: scope grammar, SPIFFE ids, token
//! claims, the audit chain, the problem vocabulary, wire types, and the names shared by webhook, sidecar and chart.
#![deny(missing_docs)]

pub mod apps;
pub mod audit;
pub mod claims;
pub mod clock;
pub mod dns_label;
pub mod ed25519_pkcs8;
mod error_chain;
pub mod excerpt;
pub mod file_names;
pub mod go_json;
pub mod ids;
pub mod inject;
pub mod judging;
pub mod k8s;
mod lower_hex;
pub mod one_line;
pub mod problem;
pub mod renewal_proof;
#[cfg(feature = "openapi")]
pub mod schema;
pub mod scope;
pub mod sensitive;
pub mod session;
pub mod signing_keys;
pub mod spiffe;
pub mod status_list;
pub mod steered_clock;
pub mod store_mark;
#[cfg(feature = "system")]
pub mod system;
pub mod time;
pub mod timestamp;
pub mod ttl;
pub mod wall_clock;
pub mod wire;

pub use self::time::{UnixMillis, UnixNanos, UnixSeconds};
pub use clock::{Clock, Entropy, EntropyError};
pub use error_chain::error_chain;
pub use ids::{Jti, OrchId, PodUid, PolicyUid, SessionId, TaskId};
pub use judging::{JudgingClock, Times};
pub use lower_hex::lower_hex;
pub use problem::{ErrorCode, Problem};
pub use scope::{Scope, ScopeError, ScopeSet};
pub use sensitive::Sensitive;
pub use session::revocation_change;
pub use spiffe::{SpiffeId, SpiffeIdError};
pub use steered_clock::SteeredClock;
pub use store_mark::StoreMark;
pub use ttl::Ttl;
