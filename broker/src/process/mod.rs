//! The broker as a process: its command line, assembly, listeners and housekeeping.

mod arguments;
pub mod assemble;
mod backup;
mod clock_watch;
pub mod housekeeping;
pub mod listeners;
mod migrate;
mod progress;
mod reload;
pub mod run;
pub mod seed;
mod store_surroundings;
mod sweeps;
mod tls_files;
