//! The broker's program.

use std::process::ExitCode;

fn main() -> ExitCode {
    // kube asks for a process-wide provider. A second installation can't happen here.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    agentwrit_broker::process::run::main(std::env::args_os().skip(1))
}
