//! The process entry point: parse arguments, load the configuration, serve, drain.

use std::ffi::OsString;
use std::io::Write;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use agentwrit_logging::{Log, log_panics};
use agentwrit_protocol::status_list::Bounds;
use agentwrit_protocol::system::{SystemClock, SystemEntropy};
use agentwrit_protocol::timestamp::rfc3339_seconds;
use agentwrit_protocol::wire::WIRE_VERSION;
use agentwrit_protocol::{Clock, Ttl, UnixSeconds};
use agentwrit_server::raise_limit;
use agentwrit_server::tls::Tls;
use agentwrit_store::{Declared, PutBack, StoreError, StoreLocation};
use tokio::signal::unix::{SignalKind, signal};

use super::arguments::{self, BackupTask, Task};
use super::assemble::{StartError, Surroundings, assemble};
use super::backup;
use super::listeners::{Ended, ListenError, Server};
use super::migrate;
use super::migrate::arguments::MigrateTask;
use super::reload::follow_level;
use super::seed::{SeedError, seed};
use crate::config::{Config, StorePlace};
use crate::system::BlockEntropy;

/// How long threads that read files or compare secrets may go on after the end.
const LAST_THREADS: Duration = Duration::from_secs(1);

/// How far the clock may be ahead by which a person names a time.
const CLOCKS_DIFFER: Ttl = Ttl::seconds(60);

const NOTHING_RESTORED: &str =
    "--restored says that the store's file was put back from a copy, but AA_DB_PATH is empty: there is no file";

const NOTHING_ADOPTED: &str =
    "--adopt-installation says that the store has moved here, but AA_DB_PATH is empty: there is none";

/// Why the broker ended without a signal.
#[derive(Debug, thiserror::Error)]
enum Fatal {
    #[error(transparent)]
    Start(#[from] StartError),
    #[error("{}", .0.join("; "))]
    Files(Vec<String>),
    #[error(transparent)]
    Listen(#[from] ListenError),
    #[error("seed tokens: {0}")]
    Seed(#[from] SeedError),
    #[error("close database: {0}")]
    Close(#[source] StoreError),
    #[error(
        "a second signal ended it before all was done: connections were cut, and what had no answer yet may have \
         happened or not; what was answered is in the store"
    )]
    Hurried,
    #[error("{0}")]
    System(#[from] std::io::Error),
}

fn say(mut stream: impl Write, line: &str) {
    // Nowhere to complain when the stream is closed.
    let _ = writeln!(stream, "{line}");
}

fn fatal(failures: &[String]) -> ExitCode {
    for failure in failures {
        say(std::io::stderr(), &format!("FATAL: {failure}"));
    }
    ExitCode::from(1)
}

/// A variable that isn't UTF-8 is there all the same: taken for absent, `AA_TLS_MODE` would mean plain HTTP.
fn environment(name: &str) -> Option<String> {
    std::env::var_os(name).map(|value| value.to_string_lossy().into_owned())
}

/// The whole program.
pub fn main(arguments: impl Iterator<Item = OsString>) -> ExitCode {
    match arguments::parse(arguments) {
        Ok(Task::Serve(declared)) => serve(declared),
        Ok(Task::Backup(task)) => copy(&task),
        Ok(Task::Migrate(task)) => move_store(&task),
        Ok(Task::Say(text)) => {
            say(std::io::stdout(), &text);
            ExitCode::SUCCESS
        }
        Err(text) => {
            say(std::io::stderr(), &text);
            ExitCode::from(2)
        }
    }
}

/// Why a time at which the store was put back can't be it. Until then every start would begin an epoch.
fn is_ahead(declared: &Declared, now: UnixSeconds) -> Option<String> {
    match declared.restored {
        PutBack::At(time) if time > now + CLOCKS_DIFFER => Some(format!(
            "--restored={} is later than now, {}: it must be the time at which the store was put back",
            rfc3339_seconds(time),
            rfc3339_seconds(now)
        )),
        _ => None,
    }
}

fn serve(declared: Declared) -> ExitCode {
    if let Some(failure) = is_ahead(&declared, SystemClock.unix_seconds()) {
        return fatal(&[failure]);
    }
    match Config::load(&environment) {
        Ok(config) if matches!(config.store, StorePlace::Embedded(StoreLocation::Memory)) => {
            let nothing = [
                declared.restored.is_said().then_some(NOTHING_RESTORED),
                declared.adopt_installation.then_some(NOTHING_ADOPTED),
            ];
            let failures: Vec<String> = nothing.into_iter().flatten().map(str::to_owned).collect();
            if failures.is_empty() {
                logged(config.declared(declared))
            } else {
                fatal(&failures)
            }
        }
        Ok(config) => logged(config.declared(declared)),
        Err(failures) => fatal(&failures),
    }
}

fn copy(task: &BackupTask) -> ExitCode {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let done = Config::store_alone(&environment)
        .and_then(|store| backup::run(task, store, &clock).map_err(|error| vec![error.to_string()]));
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(failures) => fatal(&failures),
    }
}

fn move_store(task: &MigrateTask) -> ExitCode {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    match migrate::run(task, &environment, &clock) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failed) => fatal(&[failed.to_string()]),
    }
}

/// From the start of the log to its last line.
fn logged(config: Config) -> ExitCode {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let log = match Log::start(config.log_level, config.log_format, &clock) {
        Ok(log) => Arc::new(log),
        Err(error) => return fatal(&[format!("log: {error}")]),
    };
    log_panics();
    let ended = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(Fatal::from)
        .and_then(|runtime| {
            let ended = runtime.block_on(run(config, clock, Arc::clone(&log)));
            // A thread that a disk holds up would hold up the end too.
            let wait = if matches!(ended, Err(Fatal::Hurried)) {
                Duration::ZERO
            } else {
                LAST_THREADS
            };
            runtime.shutdown_timeout(wait);
            ended
        });
    log.close();
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(Fatal::Files(failures)) => fatal(&failures),
        Err(error) => fatal(&[error.to_string()]),
    }
}

#[allow(
    clippy::async_yields_async,
    reason = "what ends the drain at once is waited for by who drains"
)]
async fn run(config: Config, clock: Arc<dyn Clock>, log: Arc<Log>) -> Result<(), Fatal> {
    // Before the sockets: a signal during the start must not be lost.
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let (level_hangup, tls_hangup) = (signal(SignalKind::hangup())?, signal(SignalKind::hangup())?);
    for warning in &config.warnings {
        tracing::warn!(target: "CFG", component = "Load", "{warning}");
    }
    tracing::info!(target: "BROKER", component = "main", addr = %config.listen, version = WIRE_VERSION, "starting broker");
    raise_limit();
    let (tls, failures) = check_files(&config);
    if !failures.is_empty() {
        return Err(Fatal::Files(failures));
    }
    let suffix = if config.tls.is_none() { "" } else { " (TLS)" };
    let surroundings = Surroundings {
        clock,
        entropy: Arc::new(BlockEntropy::new(SystemEntropy)),
        attestor: None,
        status_lists: Bounds::default(),
        dates_by_database: true,
    };
    let broker = assemble(config, surroundings).await?;
    let server = Server::bind(Arc::clone(&broker), tls)?.reload_on(tls_hangup);
    if broker.config.seed_tokens {
        let (launch, admin) = seed(&broker).await?;
        log.say(&format!("SEED_LAUNCH_TOKEN={}", launch.expose()));
        log.say(&format!("SEED_ADMIN_TOKEN={}", admin.expose()));
    }
    broker
        .metrics
        .register(Box::new(log.lost()))
        .map_err(StartError::from)?;
    tokio::spawn(follow_level(
        Arc::clone(&log),
        broker.config.level_source.clone(),
        level_hangup,
    ));
    let address = server.address()?;
    log.say(&format!(
        "AgentWrit broker v{WIRE_VERSION} listening on {address}{suffix}"
    ));
    let ended = server
        .serve(async move {
            let name = tokio::select! {
                _ = terminate.recv() => "terminated",
                _ = interrupt.recv() => "interrupt",
            };
            log.say(&format!("Shutting down gracefully (signal: {name})"));
            async move {
                let name = tokio::select! {
                    _ = terminate.recv() => "terminated",
                    _ = interrupt.recv() => "interrupt",
                };
                log.say(&format!("Ending at once (second signal: {name})"));
            }
        })
        .await
        .map_err(Fatal::Close)?;
    match ended {
        Ended::InOrder => Ok(()),
        Ended::AtOnce => Err(Fatal::Hurried),
    }
}

/// Reads the files that the settings name, so that one run shows all that is wrong with them.
fn check_files(config: &Config) -> (Option<Tls>, Vec<String>) {
    let mut failures = Vec::new();
    let tls = config.tls.clone().map(Tls::load).transpose().unwrap_or_else(|error| {
        failures.push(error.to_string());
        None
    });
    if let Err(error) = config.signing_keys.load(config.signing_key_required) {
        failures.push(error.to_string());
    }
    (tls, failures)
}
