//! A rolling upgrade across migrations, with real processes of three versions on one PostgreSQL.
//!
//! There is one version of the source. So this program is the broker, too: with `--as-version N` it is the broker's own
//! program, which knows N migrations more. The shipped program is built without what makes that possible.

use std::ffi::OsString;
use std::io::Write;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use agentwrit_faults::{AS_VERSION, Fault, Options, break_it};
use agentwrit_store_postgres::testing::{Migration, know_further_migrations};

const NAME: &str = "versions_before_and_after_a_migration_run_side_by_side";

/// The migrations of the versions after this source. What they follow is theirs to know: the tests are of any source.
const EXPAND: &str = include_str!("expand.sql");
const CONTRACT: &str = include_str!("contract.sql");

fn say(text: &str) {
    // Nobody to tell is no reason to stop.
    let _ = writeln!(std::io::stdout(), "{text}");
}

fn main() -> ExitCode {
    let mut arguments = std::env::args_os().skip(1).peekable();
    if arguments.next_if(|first| first == AS_VERSION).is_some() {
        let version = arguments.next();
        return broker(version, arguments);
    }
    // As cargo and the usual harness have it: what is looked for, and whether only names are asked for.
    let texts: Vec<String> = arguments.filter_map(|text| text.into_string().ok()).collect();
    if texts.iter().any(|text| text == "--list") {
        say(&format!("{NAME}: test"));
        return ExitCode::SUCCESS;
    }
    let mut sought = texts.iter().filter(|text| !text.starts_with('-')).peekable();
    if sought.peek().is_some() && !sought.any(|text| NAME.contains(text.as_str())) {
        return ExitCode::SUCCESS;
    }
    test()
}

/// The broker, of a version.
fn broker(version: Option<OsString>, arguments: impl Iterator<Item = OsString>) -> ExitCode {
    let source = agentwrit_store_postgres::testing::migrations();
    let further = [
        Migration {
            sql: EXPAND,
            oldest_program: source,
        },
        Migration {
            sql: CONTRACT,
            oldest_program: source.saturating_add(1),
        },
    ];
    let version = version.and_then(|text| text.into_string().ok()?.parse().ok());
    let known = version.and_then(|version: usize| further.get(..version));
    let Some(known) = known else {
        say("--as-version takes 0, 1 or 2");
        return ExitCode::FAILURE;
    };
    know_further_migrations(known.to_vec());
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    agentwrit_broker::process::run::main(arguments)
}

fn test() -> ExitCode {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("upgrade");
    // Of a run that failed.
    let _ = std::fs::remove_dir_all(&folder);
    let program = match std::env::current_exe() {
        Ok(program) => program,
        Err(error) => {
            say(&format!("{NAME}: this program isn't known: {error}"));
            return ExitCode::FAILURE;
        }
    };
    let options = Options {
        program,
        arguments: vec![],
        folder: folder.clone(),
        clock: "unused".into(),
        rounds: None,
        cut: Duration::ZERO,
        short: true,
        seed: 1,
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build();
    let Ok(runtime) = runtime else {
        say(&format!("{NAME}: no threads"));
        return ExitCode::FAILURE;
    };
    let outcome = runtime.block_on(break_it(Fault::Upgrade, &options, &say));
    say(&outcome.line());
    for text in &outcome.findings.texts {
        say(&format!("  {text}"));
    }
    let is_good = outcome.is_good() && outcome.acknowledged > 0;
    say(&format!("test {NAME} ... {}", if is_good { "ok" } else { "FAILED" }));
    if !is_good {
        say(&format!("the brokers' folders: {}", folder.display()));
        return ExitCode::FAILURE;
    }
    let _ = std::fs::remove_dir_all(&folder);
    ExitCode::SUCCESS
}
