//! Service accounts.

mod accounts;
