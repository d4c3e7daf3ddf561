//! Invitations of users, and resets that administrators start. The administrator neither knows nor
//! chooses a password: the user does, with a code from a mail.

use base::ids::UserId;
use db::write_tx;

use crate::{
    domain::{
        audit::event::{AuditEvent, recording_refusals},
        error::Error,
        feed,
        mail::administration::PasswordLink,
        rbac::{authority, grants::ensure_not_of_guests},
        request_context::RequestContext,
        sessions::revocation,
        users::{
            accounts::Accounts,
            administration::{UserWithRoles, assign_roles, ensure_may_give_roles, or_player},
            people::user_lock_person,
            registration::{NewPassword, NewPerson, user_create},
        },
    },
    model::SessionEnd,
    store,
};

/// A user to invite.
#[derive(Debug)]
pub(crate) struct Invitation {
    pub(crate) person: NewPerson,
    /// Code names of the roles. If there are none, the user gets the role `player`.
    pub(crate) roles: Vec<String>,
}

impl Accounts {
    /// Creates a user without a password, and invites them by mail to choose one.
    pub(crate) async fn invite_user(
        &self,
        context: &RequestContext,
        invitation: Invitation,
    ) -> Result<UserWithRoles, Error> {
        let event = AuditEvent::new("user.invite").target("user", "");
        recording_refusals(self, context, event, async {
            self.mails.ensure_reaches(invitation.person.email.as_str(), "email")?;
            let roles = or_player(&invitation.roles);
            for role in &roles {
                ensure_not_of_guests(role)?;
            }
            let mut conn = self.db.read().await?;
            ensure_may_give_roles(&mut conn, context, &roles).await?;
            drop(conn);
            let hash = self.hashing.unusable()?;
            self.mails.time.refresh().await?;
            write_tx!(self.db, |tx| {
                let now = self.clock.now();
                let password = NewPassword {
                    hash: &hash,
                    is_temporary: false,
                    min_expire_time: None,
                };
                let created = user_create(tx, &invitation.person, password, now).await?;
                let roles = assign_roles(tx, context, created.id, &roles).await?;
                let user = store::user_set_invite_time(tx, created.id, now).await?;
                self.mails
                    .post_password_link(tx, &user, PasswordLink::Invitation)
                    .await?;
                AuditEvent::new("user.invite")
                    .user(user.id)
                    .detail("roles", roles.join(", "))
                    .record(tx, context, now)
                    .await?;
                Ok(UserWithRoles { user, roles })
            })
        })
        .await
    }

    /// Mails a user a code with which they choose another password. Users who were invited and have
    /// no password yet are invited again. With `invalidate`, the present password stops working at
    /// once, and every session ends.
    pub(crate) async fn send_password_reset(
        &self,
        context: &RequestContext,
        id: UserId,
        invalidate: bool,
    ) -> Result<(), Error> {
        let event = AuditEvent::new("user.send_password_reset").user(id);
        recording_refusals(self, context, event.clone(), async {
            if invalidate && context.user_id() == Some(id) {
                return Err(Error::OwnAccount);
            }
            let hash = self.hashing.unusable()?;
            self.mails.time.refresh().await?;
            write_tx!(self.db, |tx| {
                let user = user_lock_person(tx, id).await?;
                authority::ensure_may_act_on(tx, context, id).await?;
                if user.is_guest {
                    return Err(Error::GuestAccount);
                }
                self.mails.ensure_reaches(&user.email, "user_id")?;
                if !user.is_active {
                    return Err(Error::UserDeactivated);
                }
                let now = self.clock.now();
                let mut published = Vec::new();
                if invalidate {
                    // Also done for an invited user: a replica of an older version may have set a
                    // password, and does not know of invitations.
                    let end = SessionEnd::PasswordChanged;
                    let revoked = revocation::log_out_everywhere(tx, id, None, end, now).await?;
                    published.push(revoked.change);
                    store::user_set_password(tx, id, &hash, false).await?;
                }
                let link = if user.invite_time.is_some() {
                    store::user_set_invite_time(tx, id, now).await?;
                    PasswordLink::Invitation
                } else {
                    PasswordLink::Reset {
                        is_invalidated: invalidate,
                    }
                };
                self.mails.post_password_link(tx, &user, link).await?;
                event
                    .detail("invalidated", !published.is_empty())
                    .record(tx, context, now)
                    .await?;
                feed::publish(tx, published, now).await?;
                Ok(())
            })
        })
        .await
    }
}
