//! The broker's benchmark: every operation with few and many clients, beside what the machine could do at best.
#![deny(missing_docs)]

pub mod bare;
pub mod baseline;
pub mod database;
pub mod fill;
pub mod goals;
pub mod measure;
pub mod operations;
pub mod prepare;
pub mod report;
pub mod run;
