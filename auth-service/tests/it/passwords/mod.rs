//! Password changes, and limits on guessing.

mod attempts;
mod changes;
mod counters;
mod temporary;
