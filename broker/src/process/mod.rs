//! The broker as a process: from the command line through assembly, listeners and housekeeping to the end.

pub mod assemble;
pub mod housekeeping;
pub mod listeners;
mod reload;
pub mod run;
mod tls_files;
