//! What commands that take a while have alike: progress now and then, an end by a signal, figures at the end.

use std::io::Write;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use agentwrit_protocol::Clock;
use parking_lot::Mutex;
use serde::Serialize;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// From when on, and how often, progress is told.
const TELL_EVERY: Duration = Duration::from_secs(2);

/// Hears how far something is, and says whether it goes on.
pub(super) type Watcher<S> = Arc<dyn Fn(S) -> ControlFlow<()> + Send + Sync>;

/// Tells how far it is, at first after [`TELL_EVERY`], until it is stopped.
pub(super) fn watcher<S: 'static>(
    clock: Arc<dyn Clock>,
    stopped: Arc<AtomicBool>,
    progress: impl Fn(S) -> String + Send + Sync + 'static,
    say: impl Fn(&str) + Send + Sync + 'static,
) -> Watcher<S> {
    let told = Mutex::new(clock.monotonic());
    Arc::new(move |stage| {
        if stopped.load(Ordering::SeqCst) {
            return ControlFlow::Break(());
        }
        let (now, mut told) = (clock.monotonic(), told.lock());
        if now.saturating_sub(*told) >= TELL_EVERY {
            *told = now;
            say(&progress(stage));
        }
        ControlFlow::Continue(())
    })
}

/// Says a line on standard error.
pub(super) fn tell(line: &str) {
    // Nobody to tell is no reason to stop.
    let _ = writeln!(std::io::stderr(), "{line}");
}

/// The signals that end a command.
pub(super) struct Ends {
    terminate: Signal,
    interrupt: Signal,
}

impl Ends {
    /// From now on none is lost.
    ///
    /// # Errors
    /// When the system takes no handler.
    pub(super) fn listen() -> std::io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    /// What comes of the work. A signal stops it: it ends what it has begun, and is waited for.
    pub(super) async fn stop<T>(mut self, stopped: &AtomicBool, mut work: impl Future<Output = T> + Unpin) -> T {
        tokio::select! {
            done = &mut work => return done,
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
        stopped.store(true, Ordering::SeqCst);
        work.await
    }
}

/// Seconds with three decimals.
pub(super) fn seconds(took: Duration) -> f64 {
    (took.as_secs_f64() * 1000.0).round() / 1000.0
}

/// Says what was done: one JSON object, or text.
///
/// # Errors
/// When standard output is closed.
pub(super) fn report<R: Serialize>(report: &R, json: bool, text: impl Fn(&R) -> String) -> std::io::Result<()> {
    let text = if json {
        serde_json::to_string(report)?
    } else {
        text(report)
    };
    writeln!(std::io::stdout(), "{text}")
}
