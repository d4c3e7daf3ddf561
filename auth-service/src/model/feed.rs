//! The access feed.

use access::view::Epoch;
use db::text_enum;

/// The last event of the access feed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct FeedHead {
    pub(crate) epoch: Epoch,
    pub(crate) sequence: i64,
    /// Longest life of an access token, of all that serve this database.
    pub(crate) max_access_token_seconds: i64,
}

text_enum! {
    /// The kind of an event. An event replaces the earlier one of its kind about the same subject.
    pub(crate) enum FeedKind {
        /// A session ended.
        SessionRevoked = "session_revoked",
        /// Older access tokens of a user are refused.
        UserTokensRevoked = "user_tokens_revoked",
        /// A role holds other permissions, or was deleted.
        RoleChanged = "role_changed",
        /// A user has another login, or was deleted.
        UserChanged = "user_changed",
        /// Other keys verify tokens.
        KeysChanged = "keys_changed",
    }
}
