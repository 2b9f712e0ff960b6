//! Time that goes by itself and can be set ahead: wall clock and tokio's clock of one process together.
//!
//! Tokio's clock is stopped, and moved on by as much as the system's has gone, so that a controller works as ever; what the
//! test adds on standard input comes on top of that.

use std::io::BufRead;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::Duration;

use agentwrit_protocol::Clock;
use agentwrit_protocol::system::SystemClock;
use time::OffsetDateTime;
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};

/// How finely the time goes.
const STEP: Duration = Duration::from_millis(10);

/// The system's clock, and how many seconds it was set ahead.
#[derive(Debug, Clone, Default)]
pub struct SetAhead(Arc<AtomicI64>);

impl Clock for SetAhead {
    fn now(&self) -> OffsetDateTime {
        SystemClock.now() + time::Duration::seconds(self.0.load(Ordering::SeqCst))
    }
}

/// Runs `program` in such a time; each line of standard input is a number of seconds by which it jumps. The process ends
/// with the input, so that none outlives its test.
pub fn run<F: Future<Output = ()>>(program: impl FnOnce(Arc<SetAhead>) -> F) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .start_paused(true)
        .build()
        .unwrap();
    let clock = Arc::new(SetAhead::default());
    let (jump, jumps) = channel();
    std::thread::spawn(move || read(&jump));
    runtime.block_on(async {
        let (step, mut steps) = unbounded_channel();
        let ahead = Arc::clone(&clock);
        // As long as a blocking task runs, tokio's clock doesn't jump to the next timer by itself.
        tokio::task::spawn_blocking(move || go(&jumps, &step, &ahead));
        tokio::spawn(async move {
            while let Some(by) = steps.recv().await {
                tokio::time::advance(by).await;
            }
        });
        program(clock).await;
    });
}

fn read(jump: &Sender<u32>) {
    for line in std::io::stdin().lock().lines() {
        jump.send(line.unwrap().parse().unwrap()).unwrap();
    }
    std::process::exit(0);
}

fn go(jumps: &Receiver<u32>, step: &UnboundedSender<Duration>, ahead: &SetAhead) {
    let mut before = SystemClock.monotonic();
    loop {
        let jumped = match jumps.recv_timeout(STEP) {
            Ok(seconds) => {
                ahead.0.fetch_add(i64::from(seconds), Ordering::SeqCst);
                Duration::from_secs(seconds.into())
            }
            Err(RecvTimeoutError::Timeout) => Duration::ZERO,
            Err(RecvTimeoutError::Disconnected) => return,
        };
        let now = SystemClock.monotonic();
        if step.send(now.saturating_sub(before) + jumped).is_err() {
            return;
        }
        before = now;
    }
}
