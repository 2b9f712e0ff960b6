//! What breaks, a file each.

pub(crate) mod clock;
pub(crate) mod cut;
pub(crate) mod disk_full;
pub(crate) mod kill_broker;
pub(crate) mod kill_postgres;
pub(crate) mod proof;
pub(crate) mod races;
pub(crate) mod restore;
pub(crate) mod revoke_delay;
pub(crate) mod rolling;
pub(crate) mod rotation;
pub(crate) mod upgrade;

use agentwrit_crash::check::Which;
use agentwrit_store_postgres::testing::{Durability, Server};

use crate::world::blocking;

/// Of the last round all is looked at, of the others what was touched.
fn which(round: u32, rounds: u32) -> Which {
    if round == rounds { Which::All } else { Which::Touched }
}

/// A server on a real disk that makes what it commits last.
fn server() -> Server {
    blocking(|| Server::start(Durability::Kept))
}

/// How brokers reach a server by its socket.
fn by_socket(server: &Server, database: &str) -> String {
    server.url("owner", database)
}
