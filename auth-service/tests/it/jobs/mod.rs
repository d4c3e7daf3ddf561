//! Work that the clock starts, and clocks that are wrong.

mod clock_steps;
mod purges;
