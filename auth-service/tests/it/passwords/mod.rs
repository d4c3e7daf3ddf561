//! Changes of passwords, and guessing.

mod attempts;
mod changes;
