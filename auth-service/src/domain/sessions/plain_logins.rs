//! Plain logins: they begin a session, and nothing else happens. On PostgreSQL, those that come at
//! the same time are written together.
//!
//! Alone, a login takes eight statements, with BEGIN and COMMIT. A group takes seven, however many
//! logins it holds. Most groups are of guests: a password takes longer to hash than a transaction
//! takes, so that logins with one seldom meet.
//!
//! A login that also ends a session, stores a hash or writes a mail is done by its caller, in a
//! transaction of its own. So is one that must be refused, or whose user's row is locked.
//!
//! Locks are taken in one order: users' rows by id, which are skipped if others have them, and then
//! the counters of attempts by key.

use std::collections::{BTreeMap, HashMap};

use base::{
    clock::{Clock, Timestamp},
    ids::UserId,
};
use db::{Conn, Db, GroupOutcome, GroupWriter, write_tx};
use secrecy::ExposeSecret as _;
use uuid::Uuid;

use crate::{
    domain::{
        audit::event::AuditEvent,
        error::Error,
        request_context::RequestContext,
        sessions::{known_devices::MAX_ENDED, lifetimes::SessionLifetimes},
    },
    ids::DeviceId,
    model::{AuthMethods, Authentication, TokenHoldings, User},
    store::{self, NewSession, SessionRoom},
};

/// A login whose credentials were verified.
#[derive(Debug)]
pub(crate) struct PlainLogin {
    /// The user as read when the credentials were verified.
    pub(in crate::domain) verified: User,
    pub(in crate::domain) context: RequestContext,
    pub(in crate::domain) device: DeviceId,
    /// How the user has proved who they are.
    pub(in crate::domain) methods: AuthMethods,
    /// Event for the audit log, without the session.
    pub(in crate::domain) event: AuditEvent,
    /// Number of failures to take back under each key of the attempt. Zero clears the key.
    pub(in crate::domain) settled: BTreeMap<Vec<u8>, i64>,
}

/// A session that a plain login has begun.
#[derive(Debug)]
pub(crate) struct Begun {
    pub(super) user: User,
    pub(super) holdings: TokenHoldings,
    pub(super) session: NewSession,
    pub(super) authentication: Authentication,
}

/// Writes plain logins. The outcome is `None` if the caller must do the login in a transaction of
/// its own.
#[derive(Debug)]
pub(crate) struct PlainLoginWriter {
    pub(crate) db: Db,
    pub(crate) clock: Clock,
    pub(crate) lifetimes: SessionLifetimes,
    /// Maximum number of live sessions of a user.
    pub(crate) max_per_user: usize,
}

impl GroupWriter for PlainLoginWriter {
    type Write = PlainLogin;
    type Output = Option<Begun>;
    type Error = Error;

    fn rows(&self, login: &PlainLogin) -> Vec<Uuid> {
        vec![*login.verified.id.as_uuid()]
    }

    /// Leaves the login to its caller, whose transaction does what any login may need.
    async fn write_alone(&self, _: &PlainLogin) -> Result<Option<Begun>, Error> {
        Ok(None)
    }

    async fn write_together(&self, logins: &[PlainLogin]) -> db::Result<Vec<Option<GroupOutcome<Self>>>> {
        let begun: db::Result<_> = write_tx!(self.db, |tx| self.begin_all(tx, logins).await);
        let mut begun: HashMap<UserId, Begun> = begun?;
        let mut outcome = |login: &PlainLogin| begun.remove(&login.verified.id).map(|begun| Ok(Some(begun)));
        Ok(logins.iter().map(&mut outcome).collect())
    }
}

impl PlainLoginWriter {
    /// Begins a session for each of these users who can have one without further ado.
    async fn begin_all(&self, tx: &mut Conn, logins: &[PlainLogin]) -> db::Result<HashMap<UserId, Begun>> {
        let ids: Vec<UserId> = logins.iter().map(|login| login.verified.id).collect();
        let locked = store::users_lock_together(tx, &ids).await?;
        let of_user: HashMap<UserId, &PlainLogin> = logins.iter().map(|login| (login.verified.id, login)).collect();
        let ready: Vec<&PlainLogin> = locked
            .iter()
            .filter_map(|user| {
                of_user
                    .get(&user.id)
                    .copied()
                    .filter(|login| login.is_still_plain(user))
            })
            .collect();
        if ready.is_empty() {
            return Ok(HashMap::new());
        }
        // Read once the rows are locked, like the time of any login.
        let now = self.clock.now();
        let ids: Vec<UserId> = ready.iter().map(|login| login.verified.id).collect();
        let devices: Vec<DeviceId> = ready.iter().map(|login| login.device).collect();
        let room = SessionRoom {
            max_unended: i64::try_from(self.max_per_user).unwrap_or(i64::MAX),
            max_ended: MAX_ENDED,
            devices: &devices,
        };
        let recorded = store::users_record_logins(tx, &ids, room, now).await?;
        let begun: Vec<Begun> = recorded
            .into_iter()
            .filter_map(|(user, holdings)| Some(self.begin(of_user.get(&user.id)?, user, holdings, now)))
            .collect();
        if begun.is_empty() {
            return Ok(HashMap::new());
        }
        let sessions: Vec<&NewSession> = begun.iter().map(|begun| &begun.session).collect();
        store::sessions_insert_together(tx, &sessions).await?;
        let mut settled: BTreeMap<Vec<u8>, i64> = BTreeMap::new();
        let mut entries = Vec::new();
        for session in sessions {
            let login = of_user[&session.user_id];
            for (key, taken_back) in &login.settled {
                *settled.entry(key.clone()).or_default() += taken_back;
            }
            let event = login.event.clone().detail("session_id", session.id);
            entries.push(event.entry(&login.context, now));
        }
        store::audit_insert_together(tx, &entries).await?;
        // Last, because many logins from one network share a counter.
        if !settled.is_empty() {
            store::throttles_record_successes(tx, &settled).await?;
        }
        Ok(begun.into_iter().map(|begun| (begun.user.id, begun)).collect())
    }

    fn begin(&self, login: &PlainLogin, user: User, holdings: TokenHoldings, now: Timestamp) -> Begun {
        let authentication = Authentication::new(now, login.methods.clone());
        let session = self
            .lifetimes
            .begin(user.id, login.device, &login.context.origin, &authentication);
        Begun {
            user,
            holdings,
            session,
            authentication,
        }
    }
}

impl PlainLogin {
    /// Returns whether nothing has changed by which the login would have to be refused, to ask for
    /// a second factor, or to write a mail. `user` is the locked user. A role that requires a
    /// second factor comes with a new token version.
    fn is_still_plain(&self, user: &User) -> bool {
        let verified = &self.verified;
        let is_same_hash = user.password_hash.expose_secret() == verified.password_hash.expose_secret();
        user.is_active
            && !user.has_second_factor
            && is_same_hash
            && user.token_version == verified.token_version
            && user.update_time == verified.update_time
    }
}
