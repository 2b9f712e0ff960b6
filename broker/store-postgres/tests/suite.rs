//! The suite that every implementation of the store has to pass, on a real server.

#![allow(clippy::unwrap_used, reason = "tests")]

use agentwrit_store_postgres::testing::Database;

agentwrit_store::store_suite!(Database::new());
agentwrit_store::lasting_store_suite!(Database::new());
