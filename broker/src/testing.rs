//! A broker for unit tests: in memory, at a time of the test's choice.

use std::sync::Arc;

use agentwrit_protocol::Clock;
use agentwrit_protocol::clock::ManualClock;

use crate::broker::AppState;
use crate::config::Config;
use crate::startup::{Surroundings, assemble};
use crate::system::SystemEntropy;

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
    let clock: Arc<dyn Clock> = Arc::new(ManualClock::at(1_800_000_000));
    let surroundings = Surroundings {
        clock,
        entropy: Arc::new(SystemEntropy),
        attestor: None,
    };
    assemble(config.unwrap(), surroundings).await.unwrap()
}
