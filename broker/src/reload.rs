//! What an operator changes while the broker runs: the log level.

use std::sync::Arc;
use std::time::Duration;

use tokio::signal::unix::Signal;
use tokio::time::MissedTickBehavior;

use crate::config::{LevelSource, LogLevel};
use crate::logging::Log;

const LOOK_EVERY: Duration = Duration::from_secs(10);

/// Follows the level of the config file, for ever: every 10 s, and at once on a hangup signal.
pub(crate) async fn follow_level(log: Arc<Log>, source: LevelSource, mut hangup: Signal) {
    let mut timer = tokio::time::interval(LOOK_EVERY);
    timer.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut told = None;
    loop {
        tokio::select! {
            _ = timer.tick() => {}
            _ = hangup.recv() => told = None,
        }
        match source.current() {
            Ok(level) => {
                told = None;
                change(&log, level);
            }
            // Once, not every ten seconds.
            Err(problem) if told.as_ref() != Some(&problem) => {
                tracing::warn!(target: "CFG", component = "LogLevel", problem = %problem, "keeping the log level");
                told = Some(problem);
            }
            Err(_) => {}
        }
    }
}

fn change(log: &Log, level: LogLevel) {
    let before = log.level();
    if before == level {
        return;
    }
    let tell = || {
        tracing::info!(target: "CFG", component = "LogLevel", from = before.as_str(), to = level.as_str(), "log level changed");
    };
    if level == LogLevel::Quiet {
        // Afterwards nobody would hear it.
        tell();
        log.set_level(level);
    } else {
        log.set_level(level);
        tell();
    }
}
