//! The process: arguments, environment and streams go to the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    agentwrit_cli::run(
        std::env::args_os(),
        &|name| std::env::var(name).ok(),
        &mut std::io::stdout(),
        &mut std::io::stderr(),
    )
}
