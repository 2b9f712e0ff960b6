//! The suite that every implementation of the store has to pass, on a real server.

#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use common::Database;

agentwrit_store::store_suite!(Database::new());
agentwrit_store::lasting_store_suite!(Database::new());
