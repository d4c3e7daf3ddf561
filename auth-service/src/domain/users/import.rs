//! Imports of users from another system, in batches. Each batch is one transaction, which also
//! records how many lines of the file are done. So an import that was interrupted goes on where it
//! stopped, and no line is imported twice.

use std::collections::{HashMap, HashSet};

use base::{
    clock::{Clock, Timestamp},
    error::BadField,
    ids::UserId,
};
use db::{Conn, Db, write_tx};
use secrecy::ExposeSecret as _;

use crate::{
    domain::{
        audit::event::AuditEvent,
        error::Error,
        passwords::{hashing::HashingPool, imported::CheckedHash},
        request_context::RequestContext,
        users::{
            names::{Email, Login, PersonName},
            profile::{search_folded, taken},
        },
    },
    ids::RoleId,
    mail::Locale,
    model::ImportProgress,
    store::{self, ImportedPasswordRow, ImportedUserRow, UserRoleRow},
};

const ACTION: &str = "user.import";

/// A user to import.
#[derive(Clone, Debug)]
pub(crate) struct ImportedUser {
    /// Number of the line in the file, from 1 on.
    pub(crate) line: u64,
    pub(crate) login: Login,
    pub(crate) email: Email,
    /// Whether the other system has verified the address.
    pub(crate) is_email_verified: bool,
    /// Hash of the password. Users without one choose a password with a code from a mail.
    pub(crate) password: Option<CheckedHash>,
    pub(crate) first_name: PersonName,
    pub(crate) last_name: PersonName,
    pub(crate) middle_name: PersonName,
    pub(crate) locale: Locale,
    /// Time when the account was created; `None` for the time of the import.
    pub(crate) create_time: Option<Timestamp>,
    pub(crate) is_active: bool,
    /// Code names of the roles, at least one.
    pub(crate) roles: Vec<String>,
}

/// A line that cannot be imported, and its bad fields.
#[derive(Clone, Debug)]
pub(crate) struct Rejected {
    pub(crate) line: u64,
    pub(crate) fields: Vec<BadField>,
}

/// Outcome of a batch.
#[derive(Debug)]
pub(crate) enum Imported {
    /// The batch was committed.
    Done(ImportProgress),
    /// Nothing was written, because these lines cannot be imported. If there are none, what stood
    /// in the way is gone, and another attempt may succeed.
    Rejected(Vec<Rejected>),
    /// Nothing was written, because another process has imported lines of the file meanwhile.
    Overtaken,
}

/// The import of one file.
#[derive(Debug)]
pub(crate) struct UserImport {
    pub(crate) db: Db,
    pub(crate) clock: Clock,
    pub(crate) hashing: HashingPool,
}

impl UserImport {
    /// Returns how far the import of the file with this SHA-256 has come, if it was begun.
    pub(crate) async fn progress(&self, file_digest: &[u8]) -> Result<Option<ImportProgress>, Error> {
        Ok(store::user_import(&mut self.db.read().await?, file_digest).await?)
    }

    /// Begins the import of a file with this SHA-256 and number of lines. Returns `None` if another
    /// process has just begun it.
    pub(crate) async fn begin(&self, file_digest: &[u8], lines: i64) -> Result<Option<ImportProgress>, Error> {
        write_tx!(self.db, |tx| {
            let now = self.clock.now();
            let progress = ImportProgress {
                file_digest: file_digest.to_vec(),
                lines,
                done_lines: 0,
                users: 0,
                start_time: now,
                update_time: now,
            };
            if !store::user_import_insert(tx, &progress).await? {
                return Ok(None);
            }
            record(tx, "began", &progress, now).await?;
            Ok(Some(progress))
        })
    }

    /// Returns the users among these who cannot be imported: whose login or address is taken, or
    /// one of whose roles does not exist.
    pub(crate) async fn rejected(&self, users: &[ImportedUser]) -> Result<Vec<Rejected>, Error> {
        let mut conn = self.db.read().await?;
        let roles = role_ids(&mut conn, users).await?;
        rejected(&mut conn, users, &roles).await
    }

    /// Imports these users, and records that the lines up to `done_lines` are done. `before` is the
    /// progress as it was returned last.
    pub(crate) async fn write(
        &self,
        before: &ImportProgress,
        done_lines: i64,
        users: &[ImportedUser],
    ) -> Result<Imported, Error> {
        let written: Result<ImportProgress, Undone> = write_tx!(self.db, |tx| {
            let now = self.clock.now();
            let after = ImportProgress {
                done_lines,
                users: before.users + i64::try_from(users.len()).unwrap_or(i64::MAX),
                update_time: now,
                ..before.clone()
            };
            // First, so that two processes with the same file wait for each other here.
            if !store::user_import_advance(tx, before, &after).await? {
                return Err(Undone::Overtaken);
            }
            let roles = role_ids(tx, users).await?;
            let rejected = rejected(tx, users, &roles).await?;
            if !rejected.is_empty() {
                return Err(Undone::Rejected);
            }
            self.insert(tx, users, &roles, now).await?;
            if after.is_finished() {
                record(tx, "finished", &after, now).await?;
            }
            Ok(after)
        });
        match written {
            Ok(after) => Ok(Imported::Done(after)),
            Err(Undone::Overtaken) => Ok(Imported::Overtaken),
            // If a name was taken since it was checked, the database names a column but not a line.
            Err(Undone::Rejected | Undone::Failed(Error::UserAlreadyExists(_))) => {
                Ok(Imported::Rejected(self.rejected(users).await?))
            }
            Err(Undone::Failed(error)) => Err(error),
        }
    }

    async fn insert(
        &self,
        tx: &mut Conn,
        users: &[ImportedUser],
        roles: &HashMap<String, RoleId>,
        now: Timestamp,
    ) -> Result<(), Error> {
        let (mut rows, mut role_rows, mut passwords) = (Vec::new(), Vec::new(), Vec::new());
        for user in users {
            let row = self.row(user, now)?;
            role_rows.extend(user.roles.iter().filter_map(|role| {
                Some(UserRoleRow {
                    user_id: row.id,
                    role_id: *roles.get(role)?,
                })
            }));
            passwords.extend(user.password.as_ref().map(|hash| ImportedPasswordRow {
                user_id: row.id,
                scheme: hash.cost.to_string(),
            }));
            rows.push(row);
        }
        store::imported_users_insert(tx, &rows).await.map_err(taken)?;
        store::user_roles_insert(tx, &role_rows).await?;
        store::imported_passwords_insert(tx, &passwords).await?;
        Ok(())
    }

    fn row(&self, user: &ImportedUser, now: Timestamp) -> Result<ImportedUserRow, Error> {
        let names = [&user.first_name, &user.middle_name, &user.last_name].map(PersonName::as_str);
        let [first_name, middle_name, last_name] = names.map(str::to_owned);
        let password = match &user.password {
            Some(hash) => hash.text.clone(),
            None => self.hashing.unusable()?,
        };
        Ok(ImportedUserRow {
            id: UserId::generate(),
            login: user.login.as_str().to_owned(),
            login_folded: user.login.folded().to_owned(),
            email: user.email.as_str().to_owned(),
            email_folded: user.email.key().to_owned(),
            password_hash: password.expose_secret().to_owned(),
            first_name,
            last_name,
            middle_name,
            is_active: user.is_active,
            token_version: 1,
            create_time: user.create_time.unwrap_or(now),
            update_time: now,
            search_folded: search_folded(user.login.folded(), user.email.as_str(), names),
            key_time: Some(now),
            locale: user.locale.as_str().to_owned(),
            // The operator vouches for what the other system has verified.
            email_verify_time: user.is_email_verified.then_some(now),
            import_time: Some(now),
        })
    }
}

/// Reason why the transaction of a batch was rolled back.
enum Undone {
    Overtaken,
    Rejected,
    Failed(Error),
}

impl From<Error> for Undone {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}

impl From<db::Error> for Undone {
    fn from(error: db::Error) -> Self {
        Self::Failed(error.into())
    }
}

/// Records in the audit log that an import has begun or finished.
async fn record(tx: &mut Conn, state: &str, progress: &ImportProgress, now: Timestamp) -> Result<(), Error> {
    let digest = progress.file_digest.iter().map(|byte| format!("{byte:02x}"));
    AuditEvent::new(ACTION)
        .detail("state", state)
        .detail("file_sha256", digest.collect::<String>())
        .detail("lines", progress.lines)
        .detail("users", progress.users)
        .record(tx, &RequestContext::command_line(), now)
        .await?;
    Ok(())
}

/// Returns the ids of the roles that these users have, by their code names.
async fn role_ids(conn: &mut Conn, users: &[ImportedUser]) -> Result<HashMap<String, RoleId>, Error> {
    let names: HashSet<&String> = users.iter().flat_map(|user| &user.roles).collect();
    let mut ids = HashMap::new();
    for name in names {
        if let Some(id) = store::role_id(conn, name).await? {
            ids.insert(name.clone(), id);
        }
    }
    Ok(ids)
}

async fn rejected(
    conn: &mut Conn,
    users: &[ImportedUser],
    roles: &HashMap<String, RoleId>,
) -> Result<Vec<Rejected>, Error> {
    let logins: Vec<&str> = users.iter().map(|user| user.login.folded()).collect();
    let emails: Vec<&str> = users.iter().map(|user| user.email.key()).collect();
    let logins: HashSet<String> = store::logins_taken(conn, &logins).await?.into_iter().collect();
    let emails: HashSet<String> = store::emails_taken(conn, &emails).await?.into_iter().collect();
    let mut rejected = Vec::new();
    for user in users {
        let mut fields = Vec::new();
        let bad = |field: &'static str, description: String| BadField {
            field: field.into(),
            description: description.into(),
        };
        if logins.contains(user.login.folded()) {
            fields.push(bad("login", "is taken".to_owned()));
        }
        if emails.contains(user.email.key()) {
            fields.push(bad("email", "is taken".to_owned()));
        }
        let unknown = user.roles.iter().filter(|role| !roles.contains_key(*role));
        fields.extend(unknown.map(|role| bad("roles", format!("names {role}, and there is no such role"))));
        if !fields.is_empty() {
            rejected.push(Rejected {
                line: user.line,
                fields,
            });
        }
    }
    Ok(rejected)
}
