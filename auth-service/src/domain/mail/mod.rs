//! Mails to users: the codes in them, the requests for them, and the outbox from which they are
//! sent.
//!
//! A use case writes a mail in its own transaction ([`outbox`]), so that the mail is sent if and
//! only if the change was made. A job sends it, and tries again until the mail server has accepted
//! it. A caller who is not signed in only leaves a request ([`requests`]). The job looks the user
//! up, so that neither the response nor its time reveals whether the user exists. Users are told of
//! changes to their account by [`notices`].

pub(super) mod administration;
pub(super) mod code_mails;
pub(super) mod codes;
mod contents;
pub(super) mod counted;
pub(super) mod letter;
pub(super) mod notices;
pub(super) mod outbox;
pub(super) mod purge;
pub(super) mod requests;
