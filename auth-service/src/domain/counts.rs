//! Metrics for operators. Sessions are counted when they are written. A session counts even if its
//! transaction fails afterwards.

use base::telemetry::metrics::InFlight;
use metrics::{Unit, counter, describe_counter, describe_gauge, describe_histogram, gauge};

use crate::{
    domain::error::Error,
    model::{MailKind, SessionEnd},
};

const LOGINS: &str = "auth_logins_total";
const REFRESHES: &str = "auth_refreshes_total";
const SESSIONS_BEGUN: &str = "auth_sessions_begun_total";
const SESSIONS_ENDED: &str = "auth_sessions_ended_total";
const SESSIONS: &str = "auth_sessions";
const HASHES_WAITING: &str = "auth_hashes_waiting";
const HASHES_RUNNING: &str = "auth_hashes_running";
const HASHES_REFUSED: &str = "auth_hashes_refused_total";
/// Time from entering the queue to the finished hash.
pub(super) const HASH_DURATION: &str = "auth_hash_duration_seconds";
const MAILS: &str = "auth_mails_total";
const MAIL_REQUESTS: &str = "auth_mail_requests_total";
const MAILS_WAITING: &str = "auth_mails_waiting";
const GUESTS: &str = "auth_guests_total";
const FEED_HEAD: &str = "access_feed_head";
const FEED_FOLLOWERS: &str = "access_feed_followers";

/// Describes the metrics. Metrics whose first change matters are created with the value zero.
pub(crate) fn describe() {
    describe_counter!(
        LOGINS,
        "Number of attempts to log in with a password, by `outcome`: ok, or why it failed."
    );
    describe_counter!(
        REFRESHES,
        "Number of uses of refresh tokens, by `rpc` and `outcome`: ok, repeated, or why it failed."
    );
    describe_counter!(SESSIONS_BEGUN, "Number of sessions that began.");
    describe_counter!(SESSIONS_ENDED, "Number of sessions that ended, by `reason`.");
    describe_gauge!(
        SESSIONS,
        "Number of sessions in the database that have not ended. On PostgreSQL, an estimate beyond 1000."
    );
    describe_gauge!(HASHES_WAITING, "Number of passwords that are waiting to be hashed.");
    describe_gauge!(HASHES_RUNNING, "Number of passwords that are being hashed.");
    describe_counter!(
        HASHES_REFUSED,
        "Number of passwords that were not hashed because the queue was full."
    );
    describe_histogram!(
        HASH_DURATION,
        Unit::Seconds,
        "Time in seconds from queueing a password until its hash is computed."
    );
    describe_counter!(
        MAILS,
        "Number of attempts to send a mail, by `kind` and `outcome`: sent, failed (another attempt follows), \
         expired (its code, before it could be sent) or given_up (after 24 hours)."
    );
    describe_counter!(
        MAIL_REQUESTS,
        "Number of requests for a mail by callers who are not signed in, by `outcome`: answered, unknown_user, \
         too_many (to this address), unreachable or unreadable."
    );
    describe_gauge!(
        MAILS_WAITING,
        "Number of mails that wait to be sent, counted up to 100,000."
    );
    describe_counter!(
        GUESTS,
        "Number of guests, by `event`: registered, logged_in, refused (a wrong credential), upgraded or deleted_idle."
    );
    describe_gauge!(FEED_HEAD, "Sequence number of the last event of the access feed.");
    describe_gauge!(
        FEED_FOLLOWERS,
        "Number of streams of the access feed that this process serves."
    );
    counter!(HASHES_REFUSED).increment(0);
    gauge!(FEED_FOLLOWERS).increment(0.0);
    gauge!(HASHES_WAITING).increment(0.0);
    gauge!(HASHES_RUNNING).increment(0.0);
    gauge!(MAILS_WAITING).increment(0.0);
    for event in ["registered", "logged_in", "refused", "upgraded", "deleted_idle"] {
        counter!(GUESTS, "event" => event).increment(0);
    }
    for kind in MailKind::ALL {
        for outcome in ["sent", "failed", "expired", "given_up"] {
            counter!(MAILS, "kind" => kind.as_str(), "outcome" => outcome).increment(0);
        }
    }
    for outcome in ["ok", outcome(&Error::CredentialsInvalid)] {
        counter!(LOGINS, "outcome" => outcome).increment(0);
    }
    for rpc in ["RotateTokens", "RefreshAccessToken"] {
        counter!(REFRESHES, "rpc" => rpc, "outcome" => outcome(&Error::RefreshTokenReused)).increment(0);
    }
}

pub(super) fn login<T>(result: &Result<T, Error>) {
    counter!(LOGINS, "outcome" => result.as_ref().map_or_else(outcome, |_| "ok")).increment(1);
}

/// Counts a use of a refresh token. `ok` is the outcome that is recorded for a success.
pub(super) fn refresh<T>(rpc: &'static str, ok: &'static str, result: &Result<T, Error>) {
    counter!(REFRESHES, "rpc" => rpc, "outcome" => result.as_ref().map_or_else(outcome, |_| ok)).increment(1);
}

pub(super) fn session_begun() {
    counter!(SESSIONS_BEGUN).increment(1);
}

pub(super) fn sessions_ended(end: SessionEnd, count: usize) {
    counter!(SESSIONS_ENDED, "reason" => end.as_str()).increment(u64::try_from(count).unwrap_or(u64::MAX));
}

pub(super) fn sessions(count: i64) {
    gauge!(SESSIONS).set(number(count));
}

/// Counts an attempt to send a mail.
pub(super) fn mail(kind: MailKind, outcome: &'static str) {
    counter!(MAILS, "kind" => kind.as_str(), "outcome" => outcome).increment(1);
}

/// Counts a request for a mail by a caller who is not signed in.
pub(super) fn mail_request(outcome: &'static str) {
    counter!(MAIL_REQUESTS, "outcome" => outcome).increment(1);
}

/// Counts an event in the life of a guest.
pub(super) fn guest(event: &'static str) {
    counter!(GUESTS, "event" => event).increment(1);
}

pub(super) fn mails_waiting(count: i64) {
    gauge!(MAILS_WAITING).set(number(count));
}

pub(super) fn hash_waiting() -> InFlight {
    InFlight::new(gauge!(HASHES_WAITING))
}

pub(super) fn hash_running() -> InFlight {
    InFlight::new(gauge!(HASHES_RUNNING))
}

pub(super) fn hash_refused() {
    counter!(HASHES_REFUSED).increment(1);
}

pub(super) fn feed_head(sequence: i64) {
    gauge!(FEED_HEAD).set(number(sequence));
}

/// Counts a follower of the access feed until the returned value is dropped.
pub(crate) fn feed_follower() -> InFlight {
    InFlight::new(gauge!(FEED_FOLLOWERS))
}

#[expect(clippy::cast_precision_loss, reason = "a gauge is an f64, exact up to 2^53")]
const fn number(count: i64) -> f64 {
    count as f64
}

/// Returns the name of an error as an outcome. The set of names is bounded.
const fn outcome(error: &Error) -> &'static str {
    match error {
        Error::CredentialsInvalid => "credentials_invalid",
        Error::TooManyAttempts(_) => "too_many_attempts",
        Error::HashingQueueFull(_) => "hashing_queue_full",
        Error::PasswordChangeRequired => "password_change_required",
        Error::PasswordExpired => "password_expired",
        Error::SecondFactorWrong => "second_factor_wrong",
        Error::ChallengeInvalid => "challenge_invalid",
        Error::RefreshTokenInvalid => "invalid",
        Error::RefreshTokenExpired => "expired",
        Error::RefreshTokenReused => "reused",
        Error::RotationOverlap => "overlap",
        Error::RotationRequired => "rotation_required",
        Error::SessionEnded => "session_ended",
        Error::Fields(_) => "invalid_argument",
        Error::Database(_) => "database",
        _ => "other",
    }
}
