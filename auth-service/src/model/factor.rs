//! Second factors of users, and logins that wait for one.

use std::fmt;

use base::{clock::Timestamp, ids::UserId};

use crate::ids::{ChallengeId, DeviceId, FactorId};

/// An authenticator app of a user.
#[derive(Clone, Debug)]
pub(crate) struct TotpFactor {
    pub(crate) id: FactorId,
    pub(crate) user_id: UserId,
    /// Name that the user gave it; may be empty.
    pub(crate) display_name: String,
    /// Secret that the app shares with us, encrypted.
    pub(crate) sealed_secret: Vec<u8>,
    /// Time step of the last code that was accepted.
    pub(crate) last_step: i64,
    /// Challenge of the login that adds the factor; `None` if a signed-in user does.
    pub(crate) challenge_id: Option<ChallengeId>,
    pub(crate) create_time: Timestamp,
    /// Time when a code showed that the app has the secret; `None` before that.
    pub(crate) confirm_time: Option<Timestamp>,
}

/// A code for a user who has lost the second factor.
#[derive(Clone, Debug)]
pub(crate) struct RecoveryCode {
    pub(crate) user_id: UserId,
    /// HMAC of the code.
    pub(crate) mac: Vec<u8>,
    pub(crate) create_time: Timestamp,
}

/// A login that has passed its first factor, and waits for the second.
#[derive(Clone)]
pub(crate) struct LoginChallenge {
    pub(crate) id: ChallengeId,
    pub(crate) user_id: UserId,
    /// Token version of the user at the first factor.
    pub(crate) token_version: i64,
    /// Whether the user has no second factor yet, and has to add one.
    pub(crate) is_enrolment: bool,
    /// Whether a mailed code must be entered before a factor can be added.
    pub(crate) needs_email_code: bool,
    /// Audience of the access token; empty for the deployment.
    pub(crate) audience: String,
    /// Device of the login, if the user is known to use it.
    pub(crate) device_id: Option<DeviceId>,
    /// Hash of the password that replaces the present one.
    pub(crate) new_password_hash: Option<String>,
    pub(crate) create_time: Timestamp,
    pub(crate) expire_time: Timestamp,
}

impl fmt::Debug for LoginChallenge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LoginChallenge")
            .field("id", &self.id)
            .field("user_id", &self.user_id)
            .finish_non_exhaustive()
    }
}
