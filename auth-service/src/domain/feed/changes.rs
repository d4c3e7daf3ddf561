//! Changes that verifiers of access tokens have to know of: written in the transaction of the
//! change, as its last act.

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

/// Woken after every commit that has published something.
pub(crate) const CHANNEL: &str = "access_feed";

/// How long a revocation is kept beyond the life and the leeway of the tokens that it is about.
const MARGIN: Duration = Duration::from_mins(5);

/// How long a revocation is kept: by then every token that it refuses is dead.
pub(in crate::domain) fn revocation_life(head: &FeedHead) -> Duration {
    Duration::from_secs(u64::try_from(head.max_access_token_seconds).unwrap_or(0)) + LEEWAY + MARGIN
}

/// Something that changed. It replaces what was published before about the same session, user,
/// role, or the keys.
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
    /// A role is no more.
    RoleDeleted { code_name: String },
    /// A user has another login.
    UserRenamed { user_id: UserId, login: String },
    /// A user is no more.
    UserDeleted(UserId),
    /// Exactly these keys count.
    KeysChanged(Jwks),
}

/// Makes the feed where there is none, and notes how long access tokens live. Run under the
/// migration lock.
pub(crate) async fn prepare(tx: &mut Conn, access_token_life: Duration) -> db::Result<()> {
    let seconds = i64::try_from(access_token_life.as_secs()).unwrap_or(i64::MAX);
    match store::feed_head(tx).await? {
        None => store::feed_head_insert(tx, Epoch::generate(), seconds).await,
        // A shorter life does not shorten that of tokens which are out.
        Some(head) if head.max_access_token_seconds < seconds => {
            store::feed_head_set_max_access_token_seconds(tx, seconds).await
        }
        Some(_) => Ok(()),
    }
}

/// Keeps others from changing what roles hold, and from publishing anything, until this transaction
/// ends. So what it reads from here on is what [`sync`] publishes, and not something that a replica
/// has just withdrawn.
pub(crate) async fn hold(tx: &mut Conn) -> db::Result<()> {
    lock_policies(tx).await?;
    store::feed_head_lock(tx).await.map(|_| ())
}

/// Publishes every role and the keys where the feed does not have them as they are. At the start:
/// what was changed by other means, such as a migration, is made known. The caller [holds](hold)
/// the feed.
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

/// Whether the feed has an event of this kind about this subject.
pub(crate) async fn is_published(tx: &mut Conn, change: &Change) -> db::Result<bool> {
    let (kind, subject, _) = change.clone().into_parts();
    Ok(store::feed_event(tx, kind, &subject).await?.is_some())
}

/// Publishes the changes, in this order, when the transaction commits. It is the last that a
/// transaction does: from here on every other one that publishes waits for its end, which makes the
/// order of the numbers that of the commits.
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

impl Change {
    /// Whether it says nothing more once every token from before is dead.
    const fn expires(&self) -> bool {
        matches!(self, Self::SessionRevoked(_) | Self::UserTokensRevoked { .. })
    }

    /// Kind, subject and message. The kinds are stored.
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
