//! Many sidecars in simulated time, and what arrives at their broker.
//!
//! The pods are [`agentwrit_sidecar::Agent`]s, the very decisions of the sidecar; the broker is a model that answers,
//! is away, or says that it is busy. Moments are milliseconds since the begin of a run. The same seed gives the same
//! run. See `docs/performance.md`, "After an outage".
#![deny(missing_docs)]

mod arrivals;
mod broker;
mod figures;
mod pod;
mod queue;
mod random;
mod report;
mod scenario;
mod simulation;

pub use arrivals::{Arrivals, Second};
pub use figures::{Figures, GOAL};
pub use report::{json, text};
pub use scenario::Scenario;
pub use simulation::{Run, run};
