//! The program as its operator meets it: start, settings, databases, outages.

mod database;
mod fail_over;
mod full_disk;
mod processes;
pub(crate) mod start;
