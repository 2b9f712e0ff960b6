//! Waiting with a bound: a state is looked at again and again, nothing is slept through.

use std::fmt::Display;
use std::time::Duration;

use tokio::time::Instant;

const PAUSE: Duration = Duration::from_millis(150);

/// What `look` finds, and how long that took; panics with its last words when it finds nothing within `limit`.
pub(crate) async fn eventually<T, E: Display>(
    what: &str,
    limit: Duration,
    mut look: impl AsyncFnMut() -> Result<T, E>,
) -> (T, Duration) {
    let begin = Instant::now();
    loop {
        match look().await {
            Ok(found) => return (found, begin.elapsed()),
            Err(error) if begin.elapsed() >= limit => panic!("{what}: not within {} s: {error}", limit.as_secs()),
            Err(_) => tokio::time::sleep(PAUSE).await,
        }
    }
}

/// Panics as soon as `look` fails; it must hold for the whole of `span`.
pub(crate) async fn always<E: Display>(what: &str, span: Duration, mut look: impl AsyncFnMut() -> Result<(), E>) {
    let begin = Instant::now();
    while begin.elapsed() < span {
        if let Err(error) = look().await {
            panic!(
                "{what}: no longer so after {:.1} s: {error}",
                begin.elapsed().as_secs_f32()
            );
        }
        tokio::time::sleep(PAUSE).await;
    }
}

pub(crate) const fn seconds(count: u64) -> Duration {
    Duration::from_secs(count)
}
