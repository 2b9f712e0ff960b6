//! Panics in the log: where, and what when that is a literal. A formatted message may hold anything that a request
//! brought, so it is left out.

use std::panic::PanicHookInfo;

/// Has panics logged as FAIL; with the request id when one is being answered.
pub fn log_panics() {
    std::panic::set_hook(Box::new(|panic| {
        tracing::error!(
            target: "BROKER",
            component = "Panic",
            at = %panic.location().map(ToString::to_string).unwrap_or_default(),
            reason = reason(panic),
            "panicked"
        );
    }));
}

fn reason(panic: &PanicHookInfo<'_>) -> &'static str {
    panic
        .payload()
        .downcast_ref::<&'static str>()
        .copied()
        .unwrap_or("not shown")
}
