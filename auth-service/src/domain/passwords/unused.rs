//! Imported password hashes that are left, and the removal of those that nobody uses.
//!
//! While there is one, every refused login takes as long as the slowest of them. The first login of
//! a user replaces the hash, but some users never log in again.

use std::collections::HashMap;

use base::{
    clock::{Clock, Timestamp},
    ids::UserId,
};
use db::{Db, write_tx};
use secrecy::ExposeSecret as _;

use crate::{
    domain::{
        audit::event::AuditEvent,
        error::Error,
        passwords::{hashing::HashingPool, imported::is_imported},
        request_context::RequestContext,
    },
    model::User,
    store,
};

const ACTION: &str = "user.remove_imported_password";
/// Maximum number of hashes that are removed in one transaction.
const BATCH: i64 = 100;

/// Password hashes that were imported from another system.
#[derive(Debug)]
pub(crate) struct ImportedPasswords {
    pub(crate) db: Db,
    pub(crate) clock: Clock,
    pub(crate) hashing: HashingPool,
}

/// Number of imported hashes of one scheme.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SchemeCount {
    /// Scheme with its parameters.
    pub(crate) scheme: String,
    pub(crate) all: i64,
    /// Number of those that have not been used for some time.
    pub(crate) unused: i64,
}

/// Hashes that were removed in one transaction.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RemovedBatch {
    /// User with the highest id among those that were looked at.
    pub(crate) last: UserId,
    pub(crate) removed: u64,
}

impl ImportedPasswords {
    /// Counts the imported hashes of each scheme. Those are unused whose users were imported before
    /// `since` and have not logged in from then on. If it is not known when a user was imported,
    /// the hash counts as used.
    pub(crate) async fn counts(&self, since: Timestamp) -> Result<Vec<SchemeCount>, Error> {
        let mut conn = self.db.read().await?;
        let unused = store::imported_password_counts_unused(&mut conn, since).await?;
        let unused: HashMap<String, i64> = unused.into_iter().collect();
        let all = store::imported_password_counts(&mut conn).await?;
        let counts = all.into_iter().map(|(scheme, all)| SchemeCount {
            unused: unused.get(&scheme).copied().unwrap_or_default(),
            scheme,
            all,
        });
        Ok(counts.collect())
    }

    /// Removes some of the unused hashes, those of users with ids above `after`. These users need a
    /// new password. Returns `None` if there are none.
    pub(crate) async fn remove_unused(
        &self,
        since: Timestamp,
        after: Option<UserId>,
    ) -> Result<Option<RemovedBatch>, Error> {
        let ids = store::imported_passwords_unused(&mut self.db.read().await?, since, after, BATCH).await?;
        let Some(last) = ids.last().copied() else {
            return Ok(None);
        };
        let removed = self.remove(&ids, since).await?;
        Ok(Some(RemovedBatch { last, removed }))
    }

    /// Removes the hashes of these users, if they are still unused. Returns how many were removed.
    async fn remove(&self, ids: &[UserId], since: Timestamp) -> Result<u64, Error> {
        write_tx!(self.db, |tx| {
            let mut removed = 0;
            for id in ids {
                // The user may have logged in or got another password meanwhile.
                let user = store::user_lock(tx, *id).await?;
                let Some(user) = user.filter(|user| is_unused(user, since)) else {
                    continue;
                };
                store::imported_password_replace(tx, user.id, &self.hashing.unusable()?).await?;
                AuditEvent::new(ACTION)
                    .user(user.id)
                    .record(tx, &RequestContext::command_line(), self.clock.now())
                    .await?;
                removed += 1;
            }
            Ok(removed)
        })
    }
}

fn is_unused(user: &User, since: Timestamp) -> bool {
    is_imported(user.password_hash.expose_secret())
        && user.import_time.is_some_and(|time| time < since)
        && user.last_login_time.is_none_or(|time| time < since)
}

#[cfg(test)]
mod tests {
    use db::Db;
    use secrecy::SecretString;
    use testing::{TestDatabase, on_both_backends};

    use super::*;
    use crate::domain::passwords::hashing::HashingSettings;

    /// Bcrypt.
    const IMPORTED: &str = "$2y$10$JqUlAvNH0e8JiPCFpFAm4uJ98IZl6JhgZiEkvQBpEoztuyjWns5qm";
    const IMPORT: Timestamp = Timestamp::from_micros(1_790_000_000_000_000);
    const SINCE: Timestamp = Timestamp::from_micros(1_795_000_000_000_000);

    fn imported_passwords(database: &TestDatabase) -> ImportedPasswords {
        ImportedPasswords {
            db: database.db().clone(),
            clock: Clock::system(),
            hashing: HashingPool::new(HashingSettings::default()).expect("good settings"),
        }
    }

    /// Inserts a user with an imported hash.
    async fn insert(db: &Db, login: &str, import_time: Option<Timestamp>) -> User {
        let user = store::ImportedUserRow {
            id: UserId::generate(),
            login: login.to_owned(),
            login_folded: login.to_owned(),
            email: format!("{login}@example.test"),
            email_folded: format!("{login}@example.test"),
            password_hash: IMPORTED.to_owned(),
            first_name: String::new(),
            last_name: String::new(),
            middle_name: String::new(),
            is_active: true,
            token_version: 1,
            create_time: IMPORT,
            update_time: IMPORT,
            search_folded: login.to_owned(),
            key_time: Some(IMPORT),
            locale: String::new(),
            email_verify_time: None,
            import_time,
        };
        let (user_id, scheme) = (user.id, "bcrypt:10".to_owned());
        let inserted: db::Result<()> = write_tx!(db, |tx| {
            store::imported_users_insert(tx, std::slice::from_ref(&user)).await?;
            store::imported_passwords_insert(tx, &[store::ImportedPasswordRow { user_id, scheme }]).await
        });
        inserted.expect("inserted");
        read(db, user_id).await
    }

    async fn read(db: &Db, id: UserId) -> User {
        let mut conn = db.read().await.expect("a connection");
        store::user_by_id(&mut conn, id).await.expect("read").expect("a user")
    }

    /// Records a login of a user whose password was verified, and stores the new hash if there is
    /// one. Returns the hash that is stored afterwards.
    async fn log_in(db: &Db, verified: &User, rehash: Option<&SecretString>) -> String {
        let recorded: db::Result<bool> = write_tx!(db, |tx| {
            let recorded = store::user_record_login(tx, verified, SINCE).await?;
            if let Some(hash) = rehash {
                store::user_password_rehash(tx, verified, hash).await?;
            }
            Ok(recorded.is_some())
        });
        assert!(recorded.expect("recorded"));
        let user = read(db, verified.id).await;
        user.password_hash.expose_secret().to_owned()
    }

    /// Users may do so after they were listed and before their rows are locked.
    #[on_both_backends]
    async fn the_hash_of_a_user_who_logs_in_meanwhile_is_kept(database: TestDatabase) {
        let db = database.db();
        let passwords = imported_passwords(&database);
        let own = passwords.hashing.unusable().expect("a hash");
        let [used, replaced, unused] = [
            insert(db, "used", Some(IMPORT)).await,
            insert(db, "replaced", Some(IMPORT)).await,
            insert(db, "unused", Some(IMPORT)).await,
        ];
        let unknown = insert(db, "unknown", None).await;
        let counts = passwords.counts(SINCE).await.expect("counted");
        assert_eq!(
            counts.iter().map(|count| (count.all, count.unused)).collect::<Vec<_>>(),
            [(4, 3)]
        );
        assert_eq!(log_in(db, &used, None).await, IMPORTED);
        assert_eq!(log_in(db, &replaced, Some(&own)).await, own.expose_secret());
        let ids = [used.id, replaced.id, unused.id, unknown.id];
        assert_eq!(passwords.remove(&ids, SINCE).await.expect("removed"), 1);
        for (id, expected) in [
            (used.id, IMPORTED),
            (unknown.id, IMPORTED),
            (replaced.id, own.expose_secret()),
        ] {
            assert_eq!(read(db, id).await.password_hash.expose_secret(), expected);
        }
        assert!(!is_imported(read(db, unused.id).await.password_hash.expose_secret()));
    }

    #[on_both_backends]
    async fn a_login_that_was_verified_before_does_not_bring_a_removed_password_back(database: TestDatabase) {
        let db = database.db();
        let passwords = imported_passwords(&database);
        let [same, first, second] = [(); 3].map(|()| passwords.hashing.unusable().expect("a hash"));
        let verified = insert(db, "ann", Some(IMPORT)).await;
        let batch = passwords.remove_unused(SINCE, None).await.expect("removed");
        assert_eq!(batch.expect("a batch").removed, 1);
        let stored = log_in(db, &verified, Some(&same)).await;
        assert!(!is_imported(&stored) && stored != same.expose_secret(), "{stored}");
        // The first of two logins at once replaces the hash.
        let verified = insert(db, "bob", Some(IMPORT)).await;
        assert_eq!(log_in(db, &verified, Some(&first)).await, first.expose_secret());
        assert_eq!(log_in(db, &verified, Some(&second)).await, first.expose_secret());
        let mut conn = db.read().await.expect("a connection");
        let counts = store::imported_password_counts(&mut conn).await.expect("counted");
        assert!(counts.is_empty(), "{counts:?}");
    }
}
