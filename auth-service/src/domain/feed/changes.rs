//! Changes that verifiers of access tokens must learn of. They are published in the transaction of
//! the change, as its last step.

use std::time::Duration;

use ::proto::auth::v1 as proto;
use access::{
    token::{Jwks, LEEWAY},
    view::Epoch,
};
use base::{
    clock::Timestamp,
    ids::{SessionId, UserId},
};
use db::Conn;
use prost::Message as _;

use crate::{
    domain::rbac::lock::lock_policies,
    model::{FeedHead, FeedKind},
    store::{self, FeedRow},
};

/// Notification channel that is signalled after every commit that publishes changes.
pub(crate) const CHANNEL: &str = "access_feed";

/// How long a revocation is kept beyond the lifetime and the leeway of the tokens that it refuses.
const MARGIN: Duration = Duration::from_mins(5);

/// Returns how long a revocation is kept. By then, every token that it refuses has expired.
pub(in crate::domain) fn revocation_life(head: &FeedHead) -> Duration {
    Duration::from_secs(u64::try_from(head.max_access_token_seconds).unwrap_or(0)) + LEEWAY + MARGIN
}

/// A change to publish. It replaces what was published before about the same session, user or role,
/// or about the keys.
#[derive(Clone, Debug)]
pub(crate) enum Change {
    /// A session ended: its access tokens are refused.
    SessionRevoked(SessionId),
    /// The user's access tokens with a lower version are refused.
    UserTokensRevoked { user_id: UserId, min_version: i64 },
    /// A role holds exactly these permissions, sorted.
    RoleChanged {
        code_name: String,
        permissions: Vec<String>,
    },
    /// A role was deleted.
    RoleDeleted { code_name: String },
    /// The login of a user changed.
    UserRenamed { user_id: UserId, login: String },
    /// A user was deleted.
    UserDeleted(UserId),
    /// Exactly these keys verify access tokens.
    KeysChanged(Jwks),
}

/// Creates the feed if there is none, and records the longest lifetime of access tokens. The caller
/// holds the migration lock.
pub(crate) async fn prepare(tx: &mut Conn, access_token_life: Duration) -> db::Result<()> {
    let seconds = i64::try_from(access_token_life.as_secs()).unwrap_or(i64::MAX);
    match store::feed_head(tx).await? {
        None => store::feed_head_insert(tx, Epoch::generate(), seconds).await,
        // A shorter lifetime is not recorded, because tokens with the longer one may still be in
        // use.
        Some(head) if head.max_access_token_seconds < seconds => {
            store::feed_head_set_max_access_token_seconds(tx, seconds).await
        }
        Some(_) => Ok(()),
    }
}

/// Keeps other transactions from changing roles and from publishing until this one ends. So
/// [`sync`] publishes what is current, and not a state that another replica has just replaced.
pub(crate) async fn hold(tx: &mut Conn) -> db::Result<()> {
    lock_policies(tx).await?;
    store::feed_head_lock(tx).await.map(|_| ())
}

/// Publishes the roles and the keys for which the feed is out of date. This is called at the start
/// and after a restore, to publish what was changed by other means, such as a migration. The caller
/// [holds](hold) the feed.
pub(crate) async fn sync(tx: &mut Conn, keys: &Jwks, now: Timestamp) -> db::Result<()> {
    let mut changes = vec![Change::KeysChanged(keys.clone())];
    for code_name in store::role_code_names(tx).await? {
        let permissions = store::role_permission_names(tx, &code_name).await?;
        changes.push(Change::RoleChanged { code_name, permissions });
    }
    let mut missing = Vec::new();
    for change in changes {
        let (kind, subject, event) = change.clone().into_parts();
        let stored = store::feed_event(tx, kind, &subject).await?;
        let stored = stored.and_then(|event| proto::AccessEvent::decode(event.as_slice()).ok());
        if stored.and_then(|stored| stored.event) != Some(event) {
            missing.push(change);
        }
    }
    publish(tx, missing, now).await
}

/// Returns whether the feed has an event of the same kind about the same subject.
pub(crate) async fn is_published(tx: &mut Conn, change: &Change) -> db::Result<bool> {
    let (kind, subject, _) = change.clone().into_parts();
    Ok(store::feed_event(tx, kind, &subject).await?.is_some())
}

/// Publishes the changes, in this order, when the transaction commits. This is the last step of a
/// transaction. From here on, other transactions that publish wait for this one to end, so that
/// sequence numbers follow the order of the commits.
pub(crate) async fn publish(tx: &mut Conn, changes: Vec<Change>, now: Timestamp) -> db::Result<()> {
    if changes.is_empty() {
        return Ok(());
    }
    let count = i64::try_from(changes.len()).unwrap_or(i64::MAX);
    let head = store::feed_head_advance(tx, count).await?;
    let dead = now.plus(revocation_life(&head));
    for (sequence, change) in (head.sequence - count + 1..).zip(changes) {
        let expire_time = change.expires().then_some(dead);
        let (kind, subject, event) = change.into_parts();
        let event = proto::AccessEvent {
            sequence: 0,
            expire_time: expire_time.map(Into::into),
            event: Some(event),
        };
        let row = FeedRow {
            sequence,
            kind: kind.as_str().to_owned(),
            subject,
            event: event.encode_to_vec(),
            expire_time,
        };
        store::feed_upsert(tx, &row).await?;
    }
    db::notify(tx, CHANNEL, head.sequence).await
}

/// Makes the commit wait until this process has applied all that was published so far. For a
/// transaction that finds its change already made: another one may have made it a moment ago, and
/// the caller may take the answer for its acknowledgement.
pub(crate) async fn settle(tx: &mut Conn) -> db::Result<()> {
    if let Some(head) = store::feed_head(tx).await? {
        db::settle(tx, CHANNEL, head.sequence);
    }
    Ok(())
}

impl Change {
    /// Returns whether the change is irrelevant once every token from before has expired.
    const fn expires(&self) -> bool {
        matches!(self, Self::SessionRevoked(_) | Self::UserTokensRevoked { .. })
    }

    /// Returns the kind, the subject and the message of the change.
    fn into_parts(self) -> (FeedKind, String, proto::access_event::Event) {
        use proto::access_event::Event;
        match self {
            Self::SessionRevoked(id) => {
                let session_id = id.to_string();
                let event = proto::SessionRevoked {
                    session_id: session_id.clone(),
                };
                (FeedKind::SessionRevoked, session_id, Event::SessionRevoked(event))
            }
            Self::UserTokensRevoked { user_id, min_version } => {
                let user_id = user_id.to_string();
                let event = proto::UserTokensRevoked {
                    user_id: user_id.clone(),
                    min_version,
                };
                (FeedKind::UserTokensRevoked, user_id, Event::UserTokensRevoked(event))
            }
            Self::RoleChanged { code_name, permissions } => {
                let event = proto::RoleChanged {
                    code_name: code_name.clone(),
                    permissions,
                    is_deleted: false,
                };
                (FeedKind::RoleChanged, code_name, Event::RoleChanged(event))
            }
            Self::RoleDeleted { code_name } => {
                let event = proto::RoleChanged {
                    code_name: code_name.clone(),
                    permissions: Vec::new(),
                    is_deleted: true,
                };
                (FeedKind::RoleChanged, code_name, Event::RoleChanged(event))
            }
            Self::UserRenamed { user_id, login } => {
                let user_id = user_id.to_string();
                let event = proto::UserRenamed {
                    user_id: user_id.clone(),
                    login,
                };
                (FeedKind::UserChanged, user_id, Event::UserRenamed(event))
            }
            Self::UserDeleted(user_id) => {
                let user_id = user_id.to_string();
                let event = proto::UserDeleted {
                    user_id: user_id.clone(),
                };
                (FeedKind::UserChanged, user_id, Event::UserDeleted(event))
            }
            Self::KeysChanged(keys) => {
                let keys = proto::GetJwksResponse::from(&keys).keys;
                (
                    FeedKind::KeysChanged,
                    String::new(),
                    Event::KeysChanged(proto::KeysChanged { keys }),
                )
            }
        }
    }
}
