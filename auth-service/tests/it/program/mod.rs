//! The program as an operator runs it: start, settings, databases, outages.

mod database;
mod fail_over;
mod full_disk;
mod processes;
pub(crate) mod start;
