//! Signing keys.

mod ring;
