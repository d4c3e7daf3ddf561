//! Scheduled jobs, and wrong clocks.

mod clock_steps;
mod purges;
