//! A broker for unit tests: in memory, at a time of the test's choice.

use std::sync::Arc;

use agentwrit_protocol::clock::ManualClock;
use agentwrit_protocol::status_list::Bounds;
use agentwrit_protocol::system::SystemEntropy;
use agentwrit_store_sqlite::SqliteStore;

use crate::broker::{AppState, Broker};
use crate::config::Config;
use crate::process::assemble::{Surroundings, assemble};

/// A broker that has nothing to do with files but for its key, which is gone when this returns.
pub(crate) async fn broker() -> AppState {
    let folder = tempfile::tempdir().unwrap();
    let key = folder.path().join("signing.key").display().to_string();
    let settings = [
        ("AA_ADMIN_AUTH", "off"),
        ("AA_DB_PATH", ""),
        ("AA_SIGNING_KEY_PATH", &key),
    ];
    let config = Config::load(&|name| {
        let found = settings.iter().find(|(key, _)| *key == name);
        found.map(|(_, value)| (*value).to_owned())
    });
    let surroundings = Surroundings {
        clock: Arc::new(ManualClock::at(1_800_000_000)),
        entropy: Arc::new(SystemEntropy),
        attestor: None,
        status_lists: Bounds::default(),
        dates_by_database: false,
    };
    assemble(config.unwrap(), surroundings).await.unwrap()
}

/// Has the store act as if its disk had so many bytes left.
pub(crate) fn set_free(broker: &Broker, bytes: u64) {
    broker.store.backend::<SqliteStore>().unwrap().set_free(bytes);
}
