//! The broker as a process: from the command line through assembly, listeners and housekeeping to the end.

pub mod assemble;
mod clock_watch;
pub mod housekeeping;
pub mod listeners;
mod reload;
pub mod run;
pub mod seed;
mod store_surroundings;
mod tls_files;
