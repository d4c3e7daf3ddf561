//! The export of all that auth-service knows of a user, at the user's request.
//!
//! It comes in pages, because a user can have hundreds of sessions and any number of events. The
//! first page has everything else as well. The export contains no secret, nothing from which a
//! secret could be derived, and nothing that concerns only somebody else.

use std::collections::HashMap;

use base::{
    clock::Timestamp,
    ids::{SessionId, SessionKind, UserId},
    page::{PageRequest, Position},
};
use db::{Conn, write_tx};

use crate::{
    domain::{
        audit::event::AuditEvent,
        error::Error,
        request_context::RequestContext,
        users::accounts::{Accounts, Profile},
    },
    ids::{AuditEventKind, DeviceId},
    model::{AuditEntry, AuditFilter, EmailUndo, MailedCode, Session, TotpFactor, User, WaitingMail},
    store,
};

/// Maximum number of sessions and events on a page. A page is then at most about 64 KiB long, which
/// is what gateways buffer.
const MAX_ITEMS: i64 = 40;
/// Maximum number of waiting mails that are exported. Limits keep a user from having more.
const MAX_MAILS: i64 = 100;

/// The part of an export that a page begins with.
#[derive(Clone, Debug)]
pub(crate) enum ExportPart {
    /// Sessions, and on the first page the account. Events fill the page up.
    Sessions(PageRequest<SessionKind>),
    /// Events of the audit log.
    Events(PageRequest<AuditEventKind>),
}

/// The lists to which page tokens belong.
#[derive(Clone, Debug)]
pub(crate) struct ExportLists {
    pub(crate) sessions: String,
    pub(crate) events: String,
}

/// A page of an export.
#[derive(Debug)]
pub(crate) struct ExportPage {
    /// The account; only on the first page.
    pub(crate) account: Option<ExportedAccount>,
    /// Sessions with their devices, the most recently used first.
    pub(crate) sessions: Vec<(Session, Option<DeviceId>)>,
    /// Events by the user or about the user, newest first.
    pub(crate) events: Vec<AuditEntry>,
    /// Login of the user, for the events.
    pub(crate) logins: HashMap<UserId, String>,
    pub(crate) next_page_token: String,
}

/// Data of a user, beside sessions and events.
#[derive(Debug)]
pub(crate) struct ExportedAccount {
    pub(crate) profile: Profile,
    pub(crate) codes: Vec<MailedCode>,
    /// Former addresses to which the user can still return.
    pub(crate) former_emails: Vec<EmailUndo>,
    /// Time when the user was last reminded to verify the address.
    pub(crate) email_remind_time: Option<Timestamp>,
    pub(crate) mails: Vec<WaitingMail>,
    pub(crate) limits: Vec<LimitCount>,
    pub(crate) factors: Vec<TotpFactor>,
    /// Times of the recovery codes that are left.
    pub(crate) recovery_code_times: Vec<Timestamp>,
}

/// A count on which a limit depends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct LimitCount {
    /// Subject of the count, such as `failed_logins.login`.
    pub(crate) name: String,
    pub(crate) count: i64,
    /// Time from which nothing in the count counts any more, if that is one time.
    pub(crate) expire_time: Option<Timestamp>,
}

impl Accounts {
    /// Returns a page of all that is known of the actor. The first page is recorded in the audit
    /// log.
    pub(crate) async fn export(
        &self,
        context: &RequestContext,
        part: ExportPart,
        lists: &ExportLists,
    ) -> Result<ExportPage, Error> {
        let id = context.user_id().ok_or(Error::UserNotFound)?;
        let is_first = matches!(&part, ExportPart::Sessions(page) if page.after.is_none());
        self.export_limits.admit(id, is_first)?;
        let mut account = None;
        if is_first {
            let recorded: Result<(), Error> = write_tx!(self.db, |tx| {
                let (user, _) = self.lock_actor(tx, context).await?;
                let event = AuditEvent::new("user.export").user(user.id);
                Ok(event.record(tx, context, self.clock.now()).await?)
            });
            recorded?;
            account = Some(self.profile(id).await?);
        }
        self.mails.time.refresh().await?;
        let mut snapshot = self.db.long_snapshot().await?;
        let page = self.export_page(snapshot.conn(), id, account, part, lists).await;
        snapshot.end().await;
        page
    }

    async fn export_page(
        &self,
        conn: &mut Conn,
        id: UserId,
        profile: Option<Profile>,
        part: ExportPart,
        lists: &ExportLists,
    ) -> Result<ExportPage, Error> {
        let user = store::user_by_id(conn, id).await?;
        let user = user.filter(|user| user.is_person() && user.is_active);
        let user = user.ok_or(Error::UserNotFound)?;
        let account = match profile {
            Some(profile) => Some(ExportedAccount {
                profile,
                codes: store::mailed_codes_of_user(conn, id).await?,
                former_emails: store::email_undos(conn, id).await?,
                email_remind_time: store::email_reminder(conn, id).await?,
                mails: store::mails_of_user(conn, id, MAX_MAILS).await?,
                limits: self.limit_counts(conn, &user).await?,
                factors: store::totp_factors(conn, id).await?,
                recovery_code_times: store::recovery_code_times(conn, id).await?,
            }),
            None => None,
        };
        let mut sessions = Vec::new();
        let mut next_page_token = String::new();
        let mut room = MAX_ITEMS;
        let after = match part {
            ExportPart::Sessions(page) => {
                let page = PageRequest {
                    size: page.size.min(MAX_ITEMS),
                    ..page
                };
                (sessions, next_page_token) = sessions_page(conn, id, &page, &lists.sessions).await?;
                let taken = i64::try_from(sessions.len()).unwrap_or(page.size);
                room = (page.size - taken).max(1);
                None
            }
            ExportPart::Events(page) => {
                room = page.size.min(room);
                page.after
            }
        };
        let mut events = Vec::new();
        if next_page_token.is_empty() {
            let page = PageRequest { size: room, after };
            (events, next_page_token) = events_page(conn, id, &page, &lists.events).await?;
        }
        Ok(ExportPage {
            account,
            sessions,
            events,
            logins: HashMap::from([(id, user.login)]),
            next_page_token,
        })
    }

    async fn limit_counts(&self, conn: &mut Conn, user: &User) -> Result<Vec<LimitCount>, Error> {
        let mut counts = Vec::new();
        for (what, throttle) in self.attempts.counted(conn, user).await? {
            if throttle.failures == 0 {
                // The counter was cleared, by a login for example.
                continue;
            }
            counts.push(LimitCount {
                name: format!("failed_logins.{what}"),
                count: throttle.failures,
                expire_time: Some(throttle.expire_time),
            });
        }
        for (sort, count) in self.mails.counted(conn, user).await? {
            counts.push(LimitCount {
                name: format!("mails.{sort}"),
                count,
                expire_time: None,
            });
        }
        Ok(counts)
    }
}

async fn sessions_page(
    conn: &mut Conn,
    id: UserId,
    page: &PageRequest<SessionKind>,
    list: &str,
) -> Result<(Vec<(Session, Option<DeviceId>)>, String), Error> {
    let mut sessions = store::sessions_list(conn, id, None, page).await?;
    let next = page.cut(&mut sessions, list, |session| Position {
        time: session.last_use_time,
        id: session.id,
    });
    let ids: Vec<SessionId> = sessions.iter().map(|session| session.id).collect();
    let devices = store::devices_of_sessions(conn, &ids).await?;
    let devices: HashMap<SessionId, Option<DeviceId>> = devices.into_iter().collect();
    let with_device = |session: Session| {
        let device = devices.get(&session.id).copied().flatten();
        (session, device)
    };
    Ok((sessions.into_iter().map(with_device).collect(), next))
}

/// Reads events by the user and about the user. Each of the two lists has an index of its own.
async fn events_page(
    conn: &mut Conn,
    id: UserId,
    page: &PageRequest<AuditEventKind>,
    list: &str,
) -> Result<(Vec<AuditEntry>, String), Error> {
    let by_user = AuditFilter {
        actor_user_id: Some(id),
        ..AuditFilter::default()
    };
    let about_user = AuditFilter {
        subject_user_id: Some(id),
        ..AuditFilter::default()
    };
    let mut events = store::audit_list(conn, page, &by_user).await?;
    events.extend(store::audit_list(conn, page, &about_user).await?);
    events.sort_by_key(|event| std::cmp::Reverse((event.event_time, event.id)));
    events.dedup_by_key(|event| event.id);
    let next = page.cut(&mut events, list, |event| Position {
        time: event.event_time,
        id: event.id,
    });
    for event in &mut events {
        leave_out_others(event, id);
    }
    Ok((events, next))
}

/// Leaves out other people who acted on the user, and their addresses: those are their data.
fn leave_out_others(event: &mut AuditEntry, user: UserId) {
    if event.actor_user_id.is_some_and(|actor| actor != user) {
        event.actor_user_id = None;
        event.ip_address.clear();
        event.user_agent.clear();
        event.request_id.clear();
    }
    event.details.retain(|key, _| key != "owner_user_id");
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use prost::Message as _;
    use prost_types::{FieldDescriptorProto, FileDescriptorSet};

    /// Tables with data of users, and the fields of `ExportMeResponse` in which it is exported.
    const EXPORTED: &[(&str, &str)] = &[
        ("users", "user"),
        ("user_roles", "roles"),
        ("user_permissions", "permissions"),
        ("sessions", "sessions"),
        ("account_codes", "codes"),
        ("mail_outbox", "waiting_mails"),
        ("email_undos", "former_emails"),
        ("email_reminders", "email_remind_time"),
        ("audit_events", "audit_events"),
        ("totp_factors", "second_factors"),
        ("recovery_codes", "recovery_code_times"),
        // By the HMAC of the address, or of what failed.
        ("mail_quota", "limit_counts"),
        ("login_throttle", "limit_counts"),
    ];
    /// Tables that are not exported, and why.
    const NOT_EXPORTED: &[(&str, &str)] = &[
        ("service_accounts", "a service is not a person"),
        (
            "access_feed",
            "it repeats for a short time what users, sessions and audit_events say",
        ),
        (
            "mail_requests",
            "it is encrypted, answered within seconds, and names no user before that",
        ),
        (
            "guest_credentials",
            "it is an HMAC of a secret that only the guest's device has, and times that sessions show as well",
        ),
        (
            "imported_passwords",
            "it says only how the password was hashed elsewhere, until the next login",
        ),
        ("user_imports", "it is about no user"),
        (
            "login_challenges",
            "it lives for minutes, and holds nothing that the events of the audit log do not say",
        ),
        ("new_role_permissions", "it is about no user"),
        ("signing_keys", "it is about no user"),
        ("email_requirement", "it is about no user"),
        ("roles", "it is about no user"),
        ("resources", "it is about no user"),
        ("actions", "it is about no user"),
        ("permissions", "it is about no user"),
        ("role_permissions", "it is about no user"),
        ("feed_head", "it is about no user"),
    ];

    #[test]
    fn every_table_is_exported_or_has_a_reason_not_to_be() {
        let schema = include_str!("../../store/schema.rs");
        let tables: BTreeSet<&str> = schema
            .lines()
            .filter_map(|line| line.strip_prefix("    ")?.strip_suffix(") {")?.split_once(" ("))
            .map(|(table, _)| table)
            .collect();
        assert!(tables.len() > 15, "{tables:?}");
        let listed: BTreeSet<&str> = EXPORTED.iter().chain(NOT_EXPORTED).map(|(table, _)| *table).collect();
        assert_eq!(
            tables, listed,
            "a new table has to be exported, or named here with a reason"
        );
    }

    #[test]
    fn what_is_exported_has_its_field() {
        let descriptors = FileDescriptorSet::decode(proto::auth::v1::FILE_DESCRIPTOR_SET).expect("descriptors");
        let mut messages = descriptors.file.iter().flat_map(|file| &file.message_type);
        let response = messages.find(|message| message.name() == "ExportMeResponse");
        let fields: BTreeSet<&str> = response
            .expect("it")
            .field
            .iter()
            .map(FieldDescriptorProto::name)
            .collect();
        for (table, field) in EXPORTED {
            assert!(fields.contains(field), "{table}: {field}");
        }
    }
}
