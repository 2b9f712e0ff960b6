//! What an operator changes while the broker runs: files that are looked at again, and the log level in one of them.

use std::fmt::Display;
use std::sync::Arc;
use std::time::Duration;

use agentwrit_logging::Log;
use tokio::signal::unix::Signal;
use tokio::time::MissedTickBehavior;

use crate::config::{LevelSource, LogLevel};

pub(crate) const CHECK_EVERY: Duration = Duration::from_secs(10);

/// Runs `check` for ever: every 10 s, and at once on a hangup signal. `found` gets what it returns; a problem is reported
/// once, and again after a signal.
pub(crate) async fn check_regularly<T, E: Display>(
    mut hangup: Option<Signal>,
    mut check: impl FnMut() -> Result<T, E>,
    mut found: impl FnMut(T),
    mut report: impl FnMut(&str),
) {
    let mut timer = tokio::time::interval(CHECK_EVERY);
    timer.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut reported = None;
    loop {
        tokio::select! {
            _ = timer.tick() => {}
            () = received(hangup.as_mut()) => reported = None,
        }
        match check() {
            Ok(value) => {
                reported = None;
                found(value);
            }
            Err(error) => {
                let problem = error.to_string();
                // Once, not every ten seconds.
                if reported.as_ref() != Some(&problem) {
                    report(&problem);
                    reported = Some(problem);
                }
            }
        }
    }
}

/// The next signal; never returns without one.
async fn received(signal: Option<&mut Signal>) {
    let received = match signal {
        Some(signal) => signal.recv().await,
        None => None,
    };
    if received.is_none() {
        std::future::pending::<()>().await;
    }
}

/// Follows the level of the config file, for ever.
pub(crate) async fn follow_level(log: Arc<Log>, source: LevelSource, hangup: Signal) {
    follow(source, hangup, |level| change(&log, level)).await;
}

/// Opens the file again each time: the kubelet changes a mounted `ConfigMap` by swapping a symbolic link above it, which
/// a watch on the file would never see.
async fn follow(source: LevelSource, hangup: Signal, apply: impl FnMut(LogLevel)) {
    let report = |problem: &str| {
        tracing::warn!(target: "CFG", component = "LogLevel", problem = %problem, "keeping the log level");
    };
    check_regularly(Some(hangup), || source.current(), apply, report).await;
}

fn change(log: &Log, level: LogLevel) {
    let before = log.level();
    if before == level {
        return;
    }
    let report = || {
        tracing::info!(target: "CFG", component = "LogLevel", from = before.as_str(), to = level.as_str(), "log level changed");
    };
    if level == LogLevel::Quiet {
        // Afterwards it would not be logged.
        report();
        log.set_level(level);
    } else {
        log.set_level(level);
        report();
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;
    use std::path::Path;

    use tokio::signal::unix::{SignalKind, signal};
    use tokio::sync::mpsc::unbounded_channel;
    use tokio::time::Instant;

    use super::*;
    use crate::config::Config;

    /// What the kubelet does to a mounted `ConfigMap` (`AtomicWriter`): `config` leads over `..data` into a folder of a
    /// version; a new version is complete before one rename makes it the current one, then the old one goes.
    fn publish(mount: &Path, version: &str, content: &str) {
        let data = mount.join("..data");
        let old = std::fs::read_link(&data).ok();
        std::fs::create_dir(mount.join(version)).unwrap();
        std::fs::write(mount.join(version).join("config"), content).unwrap();
        symlink(version, mount.join("..data_tmp")).unwrap();
        std::fs::rename(mount.join("..data_tmp"), &data).unwrap();
        match old {
            Some(old) => std::fs::remove_dir_all(mount.join(old)).unwrap(),
            None => symlink("..data/config", mount.join("config")).unwrap(),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_mounted_config_map_is_followed_within_ten_seconds() {
        let folder = tempfile::tempdir().unwrap();
        publish(folder.path(), "..2026_11_21_1", "MODE=production\nLOG_LEVEL=standard\n");
        let path = folder.path().join("config").display().to_string();
        let config = Config::load(&|name| match name {
            "AA_CONFIG_PATH" => Some(path.clone()),
            "AA_ADMIN_AUTH" => Some("off".to_owned()),
            _ => None,
        });
        let source = config.unwrap().level_source;
        let hangup = signal(SignalKind::hangup()).unwrap();
        let (report, mut reported) = unbounded_channel();
        let follower = tokio::spawn(follow(source, hangup, move |level| report.send(level).unwrap()));
        assert_eq!(reported.recv().await, Some(LogLevel::Verbose));
        for (version, word, wanted) in [
            ("..2026_11_21_2", "trace", LogLevel::Trace),
            ("..2026_11_21_3", "quiet", LogLevel::Quiet),
        ] {
            publish(folder.path(), version, &format!("MODE=production\nLOG_LEVEL={word}\n"));
            let swapped = Instant::now();
            assert_eq!(reported.recv().await, Some(wanted));
            assert!(
                swapped.elapsed() <= CHECK_EVERY + Duration::from_millis(1),
                "{:?}",
                swapped.elapsed()
            );
        }
        follower.abort();
    }
}
