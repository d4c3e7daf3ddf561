//! The access feed.

use access::view::Epoch;
use db::text_enum;

/// End of the access feed: its epoch, and the number of its last event.
#[derive(Clone, Copy, Debug)]
pub(crate) struct FeedHead {
    pub(crate) epoch: Epoch,
    pub(crate) sequence: i64,
    /// Longest lifetime of access tokens among all services that have used this database, in
    /// seconds.
    pub(crate) max_access_token_seconds: i64,
}

text_enum! {
    /// Kind of an event. An event replaces the earlier event of the same kind about the same
    /// subject.
    pub(crate) enum FeedKind {
        /// A session ended.
        SessionRevoked = "session_revoked",
        /// Older access tokens of a user are refused.
        UserTokensRevoked = "user_tokens_revoked",
        /// The permissions of a role changed, or the role was deleted.
        RoleChanged = "role_changed",
        /// The login of a user changed, or the user was deleted.
        UserChanged = "user_changed",
        /// The set of keys that verify tokens changed.
        KeysChanged = "keys_changed",
    }
}
