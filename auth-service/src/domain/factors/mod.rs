//! Second factors: authenticator apps (TOTP) and recovery codes.
//!
//! A login with a password of a user who has a factor gives a challenge instead of tokens. The
//! challenge is a row in the database, and its client holds a token for it with a MAC. Whoever
//! presents the token and a code gets the session, once.

pub(super) mod challenge_token;
pub(super) mod challenges;
pub(super) mod codes;
pub(super) mod completion;
pub(super) mod enrolment;
pub(super) mod proof;
pub(super) mod removal;
pub(super) mod reseal;
pub(super) mod rules;
pub(super) mod totp;
