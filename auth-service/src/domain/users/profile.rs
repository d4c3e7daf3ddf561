//! Profiles of users, and how they change.

use base::{
    clock::Timestamp,
    error::BadField,
    ids::UserId,
    validate::{Fields, InvalidFields},
};
use db::{Conn, write_tx};

use crate::{
    domain::{
        audit::event::{AuditEvent, recording_refusals},
        error::Error,
        feed::{self, Change},
        mail::notices::Notice,
        passwords::{changes::ensure_still_verified, password::Password, unusable::has_password},
        rbac::authority,
        request_context::RequestContext,
        sessions::revocation,
        users::{
            accounts::Accounts,
            names::{self, Email, Login, PersonName},
            people::user_lock_person,
        },
    },
    mail::Locale,
    model::User,
    store::{self, ProfileValues},
};

/// Audit action of a profile change.
const UPDATE: &str = "user.update";

/// Changes to a profile; `None` leaves a field as it is.
#[derive(Clone, Debug, Default)]
pub(crate) struct ProfileChanges {
    pub(crate) login: Option<Login>,
    pub(crate) email: Option<Email>,
    pub(crate) first_name: Option<PersonName>,
    pub(crate) last_name: Option<PersonName>,
    pub(crate) middle_name: Option<PersonName>,
    /// Language of mails to the user.
    pub(crate) locale: Option<Locale>,
}

impl ProfileChanges {
    /// Returns the new login and the new address, each `None` if the user has it already.
    fn identifiers_other_than(&self, user: &User) -> (Option<&Login>, Option<&Email>) {
        (
            self.login.as_ref().filter(|login| login.as_str() != user.login),
            // A taken address is not the user's yet, and may be free by now.
            self.email
                .as_ref()
                .filter(|email| user.email_is_taken || email.as_str() != user.email),
        )
    }

    fn changes_identifier_of(&self, user: &User) -> bool {
        let (login, email) = self.identifiers_other_than(user);
        login.is_some() || email.is_some()
    }

    /// Refuses a new login or address that is the current password.
    fn ensure_unlike(&self, password: &Password, user: &User) -> Result<(), InvalidFields> {
        let (login, email) = self.identifiers_other_than(user);
        let mut fields = Fields::new();
        for (field, is_password) in [
            ("login", password.is_login_or_email(login, None)),
            ("email", password.is_login_or_email(None, email)),
        ] {
            if is_password {
                fields.reject(field, "must not be the password");
            }
        }
        fields.finish(|| Some(()))
    }
}

impl Accounts {
    /// Changes the actor's own profile. A new login or address requires the current password.
    pub(crate) async fn update_me(
        &self,
        context: &RequestContext,
        changes: ProfileChanges,
        password: Option<Password>,
    ) -> Result<User, Error> {
        let mut verified = None;
        if changes.login.is_some() || changes.email.is_some() {
            let id = context.user_id().ok_or(Error::UserNotFound)?;
            let present = store::user_by_id(&mut self.db.read().await?, id).await?;
            let present = present.filter(User::is_person).ok_or(Error::UserNotFound)?;
            if present.is_guest && changes.changes_identifier_of(&present) {
                return Err(Error::GuestAccount);
            }
            if changes.identifiers_other_than(&present).1.is_some() && self.mails.is_configured() {
                return Err(Error::EmailConfirmationRequired);
            }
            if changes.changes_identifier_of(&present) {
                if present.is_guest {
                    return Err(Error::GuestAccount);
                }
                if let Some(password) = &password {
                    changes.ensure_unlike(password, &present)?;
                } else if has_password(&present) {
                    return Err(Error::ReauthenticationRequired);
                }
                verified = Some(self.verify_actor_or_recent_login(context, password, UPDATE).await?);
                // Limited like a registration, because the answer also reveals whether a name is
                // taken.
                self.attempts.admit_registration(context)?;
            }
        }
        write_tx!(self.db, |tx| {
            let (user, _) = self.lock_actor(tx, context).await?;
            if changes.changes_identifier_of(&user) {
                let verified = verified.as_ref().ok_or(Error::ReauthenticationRequired)?;
                ensure_still_verified(&user, verified)?;
            }
            self.update(tx, context, user, &changes).await
        })
    }

    /// Changes another user's profile.
    pub(crate) async fn update_user(
        &self,
        context: &RequestContext,
        id: UserId,
        changes: ProfileChanges,
    ) -> Result<User, Error> {
        let event = AuditEvent::new(UPDATE).user(id);
        recording_refusals(self, context, event, async {
            write_tx!(self.db, |tx| {
                let user = user_lock_person(tx, id).await?;
                if context.user_id() == Some(id) && changes.changes_identifier_of(&user) {
                    // UpdateMe asks for the current password.
                    return Err(Error::OwnAccount);
                }
                authority::ensure_may_act_on(tx, context, id).await?;
                self.update(tx, context, user, &changes).await
            })
        })
        .await
    }

    /// Updates a locked user. Unchanged values are ignored.
    async fn update(
        &self,
        tx: &mut Conn,
        context: &RequestContext,
        user: User,
        changes: &ProfileChanges,
    ) -> Result<User, Error> {
        let mut fields = Vec::new();
        let (login, email) = changes.identifiers_other_than(&user);
        fields.extend(login.map(|_| "login"));
        fields.extend(email.map(|_| "email"));
        let mut name = |field: &'static str, given: &Option<PersonName>, present: &str| {
            let new = given.as_ref().map(PersonName::as_str).filter(|new| *new != present);
            fields.extend(new.map(|_| field));
            new.unwrap_or(present).to_owned()
        };
        let first_name = name("first_name", &changes.first_name, &user.first_name);
        let last_name = name("last_name", &changes.last_name, &user.last_name);
        let middle_name = name("middle_name", &changes.middle_name, &user.middle_name);
        let new_locale = changes.locale.as_ref().map(Locale::as_str);
        let new_locale = new_locale.filter(|locale| *locale != user.locale);
        fields.extend(new_locale.map(|_| "locale"));
        let locale = new_locale.unwrap_or(&user.locale).to_owned();
        if fields.is_empty() {
            return Ok(user);
        }
        if user.is_guest && (login.is_some() || email.is_some()) {
            return Err(Error::GuestAccount);
        }
        let mut reserved = Fields::new();
        names::ensure_not_reserved(&mut reserved, login, email);
        reserved.finish(|| Some(()))?;
        let login_folded = login.map_or_else(|| names::fold(&user.login), |login| login.folded().to_owned());
        ensure_free(tx, Some(user.id), login.map(Login::folded), email.map(Email::key)).await?;
        let now = self.clock.now();
        self.tell_of_changes(tx, context, &user, changes, now).await?;
        let search_folded = search_folded(
            &login_folded,
            email.map_or(&user.email, Email::as_str),
            [&first_name, &middle_name, &last_name],
        );
        // An address that does not change keeps its key, even if that is stale.
        let is_keyed = email.is_some() || user.key_time == Some(user.update_time);
        let values = ProfileValues {
            search_folded,
            login: login.map_or(user.login, |login| login.as_str().to_owned()),
            login_folded,
            email_folded: email.map(|email| email.key().to_owned()),
            email_is_taken: email.map(|_| false),
            email: email.map_or(user.email, |email| email.as_str().to_owned()),
            key_time: is_keyed.then_some(now),
            first_name,
            last_name,
            middle_name,
            locale,
            // Another address has not been verified yet.
            email_verify_time: email.map(|_| None),
            email_set_time: email.map(|_| now),
            update_time: now,
        };
        let mut user = store::user_set_profile(tx, user.id, &values).await.map_err(taken)?;
        if email.is_some() {
            // Codes for the former address must not be valid again if the user returns to it. And
            // an earlier address may be that of a thief, who must not get the account back.
            store::account_codes_delete(tx, user.id).await?;
            store::email_undos_delete(tx, user.id).await?;
        }
        let mut published = Vec::new();
        if login.is_some() {
            let (version, stale) = revocation::make_stale(tx, user.id).await?;
            user.token_version = version;
            let renamed = Change::UserRenamed {
                user_id: user.id,
                login: user.login.clone(),
            };
            published = vec![stale, renamed];
        }
        AuditEvent::new(UPDATE)
            .user(user.id)
            .detail("fields", fields.join(", "))
            .record(tx, context, now)
            .await?;
        feed::publish(tx, published, now).await?;
        Ok(user)
    }
}

impl Accounts {
    /// Tells a user, at the present address, that the login or the address is about to change.
    async fn tell_of_changes(
        &self,
        tx: &mut Conn,
        context: &RequestContext,
        user: &User,
        changes: &ProfileChanges,
        now: Timestamp,
    ) -> Result<(), Error> {
        let (login, email) = changes.identifiers_other_than(user);
        if email.is_some() {
            let notice = Notice::EmailChanged { undo: None };
            self.mails.post_notice(tx, context, user, notice, now).await?;
        }
        if let Some(new) = login {
            let notice = Notice::LoginChanged {
                old: &user.login,
                new: new.as_str(),
            };
            self.mails.post_notice(tx, context, user, notice, now).await?;
        }
        Ok(())
    }
}

/// Returns the text that user searches look through: login, address and names, folded, one per
/// line. No match spans two lines.
pub(in crate::domain) fn search_folded(login_folded: &str, email: &str, person_names: [&str; 3]) -> String {
    let given: Vec<&str> = person_names.into_iter().filter(|name| !name.is_empty()).collect();
    let email_forms = names::searched_forms(email).join("\n");
    format!("{login_folded}\n{email_forms}\n{}", names::fold(&given.join(" ")))
}

/// Returns the text that searches look through for a user with this address.
pub(in crate::domain) fn search_text(user: &User, email: &str) -> String {
    let names = [&user.first_name, &user.middle_name, &user.last_name].map(String::as_str);
    search_folded(&names::fold(&user.login), email, names)
}

/// Refuses a login or address that another user has, and says which of them is taken. An address
/// that another user can still get back is taken as well.
pub(in crate::domain) async fn ensure_free(
    tx: &mut Conn,
    owner: Option<UserId>,
    login_folded: Option<&str>,
    email_key: Option<&str>,
) -> Result<(), Error> {
    let mut fields = Vec::new();
    if let Some(folded) = login_folded {
        let found = store::user_by_login(tx, folded).await?;
        fields.extend(
            found
                .filter(|found| owner != Some(found.id))
                .map(|_| taken_field("login")),
        );
    }
    if let Some(key) = email_key {
        let found = store::user_by_email(tx, key).await?;
        // Read last: if that user has just changed the address, it is now a former address.
        let is_taken = found.is_some_and(|found| owner != Some(found.id))
            || store::email_undo_is_of_another(tx, key, owner).await?;
        fields.extend(is_taken.then(|| taken_field("email")));
    }
    if fields.is_empty() {
        Ok(())
    } else {
        Err(Error::UserAlreadyExists(fields))
    }
}

/// Converts the error of an update. If another transaction has taken a name since [`ensure_free`],
/// the violated constraint says which.
pub(in crate::domain) fn taken(error: db::Error) -> Error {
    if error.is_unique_violation_of("users", "login_folded") {
        Error::UserAlreadyExists(vec![taken_field("login")])
    } else if error.is_unique_violation_of("users", "email_folded") {
        Error::UserAlreadyExists(vec![taken_field("email")])
    } else {
        error.into()
    }
}

fn taken_field(field: &'static str) -> BadField {
    BadField {
        field: field.into(),
        description: "is taken".into(),
    }
}
