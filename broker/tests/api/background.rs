//! What the broker does by itself, now and then.

use agentwrit_testkit::Harness;
use parking_lot::Mutex;
use std::fmt::{Debug, Write};
use std::sync::Arc;

use agentwrit_broker::process::housekeeping;
use serde_json::json;
use tracing::field::Field;
use tracing::{Event, Subscriber};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};

/// The log events of this thread, as `module name=value …`.
#[derive(Clone, Default)]
struct Told(Arc<Mutex<Vec<String>>>);

impl<S: Subscriber> Layer<S> for Told {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let mut line = event.metadata().target().to_owned();
        event.record(&mut |field: &Field, value: &dyn Debug| write!(line, " {field}={value:?}").unwrap());
        self.0.lock().push(line);
    }
}

#[tokio::test]
async fn pruned_rows_are_logged_with_their_number() {
    let harness = Harness::new().await;
    harness.launch(json!({"ttl": 1})).await;
    harness.launch(json!({"ttl": 1})).await;
    let told = Told::default();
    let _guard = tracing::subscriber::set_default(tracing_subscriber::registry().with(told.clone()));
    let lines = || -> Vec<String> {
        let all = told.0.lock();
        all.iter().filter(|line| line.contains("pruned")).cloned().collect()
    };
    housekeeping::prune(&harness.state).await;
    assert_eq!(lines(), Vec::<String>::new(), "nothing is no news");
    harness.clock.advance(7200);
    housekeeping::prune(&harness.state).await;
    assert_eq!(
        lines(),
        ["STORE message=pruned expired JTIs component=\"Prune\" count=2"]
    );
}
