//! The HTTP/1.1 listener of AgentWrit's programs.
//!
//! hyper reads and writes; this crate decides how long a connection may take for each thing it does ([`Times`]), how
//! much memory all of them may take together ([`Budget`]), and which connection is closed when that is not enough:
//! never one of a source ([`Source`]) that holds less than its fair share. [`Turns`] does the same for work that only a
//! few may do at once.

mod bind;
mod body;
mod connection;
mod deadline_stream;
mod deadlines;
mod descriptors;
mod limits;
mod listener;
pub mod memory;
#[cfg(feature = "metrics")]
mod metrics;
mod pool;
mod service;
mod source;
pub mod tls;
mod turns;

pub use bind::bind;
pub use body::{BodyError, read_body};
pub use descriptors::raise_limit;
pub use limits::{Budget, SOCKET_BUFFER, Settings, Times};
pub use listener::{Listener, TlsSource, Usage};
#[cfg(feature = "metrics")]
pub use metrics::ListenerMetrics;
pub use pool::Occupancy;
pub use service::{Connection, Service};
pub use source::Source;
pub use turns::{Crowded, Turn, Turns};
