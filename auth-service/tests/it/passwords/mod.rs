//! Password changes, and limits on guessing.

mod attempts;
mod breached;
mod changes;
mod counters;
mod temporary;
