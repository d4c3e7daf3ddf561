//! Queries on `users` that change or list them.

use base::{
    clock::Timestamp,
    ids::{UserId, UserKind},
    page::PageRequest,
    sql_types,
};
use db::{Backend, prelude::*, prepared};
use diesel::sql_types::{BigInt, Bool, Text};
use secrecy::{ExposeSecret as _, SecretString};

use super::schema::{roles, user_roles, users};
use crate::model::{User, UserFilter};

/// Character that makes the next wildcard of LIKE stand for itself.
const ESCAPE: char = '\\';

/// New values of all columns that belong to a profile.
#[derive(Clone, Debug, AsChangeset)]
#[diesel(table_name = users)]
pub(crate) struct ProfileValues {
    pub(crate) login: String,
    pub(crate) login_folded: String,
    pub(crate) email: String,
    /// Key of the address. `None` leaves the column as it is.
    pub(crate) email_folded: Option<String>,
    /// Whether another account has the key of the address. `None` leaves the column as it is.
    pub(crate) email_is_taken: Option<bool>,
    /// Equals `update_time` if the keys are current. `None` leaves the column as it is, so that the
    /// keys are recomputed soon.
    pub(crate) key_time: Option<Timestamp>,
    pub(crate) first_name: String,
    pub(crate) last_name: String,
    pub(crate) middle_name: String,
    pub(crate) search_folded: String,
    pub(crate) locale: String,
    /// Time when the address was verified. `Some(None)` if it no longer is, and `None` leaves the
    /// column as it is.
    #[expect(
        clippy::option_option,
        reason = "so a changeset tells a NULL from a column that stays"
    )]
    pub(crate) email_verify_time: Option<Option<Timestamp>>,
    /// Time when the user gets the address. `None` leaves the column as it is.
    pub(crate) email_set_time: Option<Timestamp>,
    pub(crate) update_time: Timestamp,
}

pub(crate) async fn user_set_profile(conn: &mut Conn, id: UserId, values: &ProfileValues) -> db::Result<User> {
    query!(conn, |c| diesel::update(users::table.find(id))
        .set(values)
        .returning(User::as_returning())
        .cached()
        .get_result(c)
        .await)
}

/// Stores another password. If `is_temporary` is set, the user must change it at the next login. An
/// invitation to choose a password is settled by it.
pub(crate) async fn user_set_password(
    conn: &mut Conn,
    id: UserId,
    hash: &SecretString,
    is_temporary: bool,
) -> db::Result<()> {
    let update = diesel::update(users::table.find(id)).set((
        users::password_hash.eq(hash.expose_secret()),
        users::must_change_password.eq(is_temporary),
        users::min_password_expire_time.eq(None::<Timestamp>),
        users::invite_time.eq(None::<Timestamp>),
    ));
    query!(conn, |c| update.cached().execute(c).await)?;
    super::imported_password_delete(conn, id).await
}

/// Turns a guest into a user with a password.
pub(crate) async fn user_upgrade(conn: &mut Conn, id: UserId, hash: &SecretString) -> db::Result<()> {
    let update = diesel::update(users::table.find(id)).set((
        users::password_hash.eq(hash.expose_secret()),
        users::must_change_password.eq(false),
        users::is_guest.eq(false),
    ));
    query!(conn, |c| update.cached().execute(c).await).map(|_| ())
}

pub(crate) async fn user_set_active(conn: &mut Conn, id: UserId, is_active: bool) -> db::Result<User> {
    query!(conn, |c| diesel::update(users::table.find(id))
        .set(users::is_active.eq(is_active))
        .returning(User::as_returning())
        .cached()
        .get_result(c)
        .await)
}

/// Lists a page of users, newest first. Deleted users and users that represent services are left
/// out.
pub(crate) async fn users_list(
    conn: &mut Conn,
    page: &PageRequest<UserKind>,
    filter: &UserFilter,
) -> db::Result<Vec<User>> {
    let pattern = contains(&filter.query);
    let search = Search::best_for(conn, &filter.query, &pattern).await?;
    query!(conn, |c| {
        let mut found = users::table
            .filter(users::is_service.eq(false))
            .filter(users::delete_time.is_null())
            .into_boxed();
        if !filter.show_inactive {
            found = found.filter(users::is_active.eq(true));
        }
        if filter.email_is_taken {
            found = found.filter(users::email_is_taken);
        }
        match &search {
            Search::None => {}
            Search::Plain => found = found.filter(users::search_folded.like(&pattern).escape(ESCAPE)),
            // No index serves this condition. PostgreSQL assumes that it matches often, so it scans
            // in list order and fills a page quickly.
            Search::ByTime => {
                let matches = prepared::<Bool>("strpos(users.search_folded, ")
                    .bind::<Text, _>(&filter.query)
                    .text(") > 0");
                found = found.filter(matches);
            }
            Search::ByText(ids) => found = found.filter(users::id.eq_any(ids)),
        }
        if !filter.role.is_empty() {
            let holders = user_roles::table
                .inner_join(roles::table)
                .filter(roles::code_name.eq(&filter.role))
                .select(user_roles::user_id);
            found = found.filter(users::id.eq_any(holders));
        }
        if let Some(after) = page.after {
            let tie = users::create_time.lt(after.time).or(users::id.lt(after.id));
            found = found.filter(users::create_time.le(after.time).and(tie));
        }
        found
            .order((users::create_time.desc(), users::id.desc()))
            .limit(page.limit())
            .select(User::as_select())
            .load(c)
            .await
    })
}

/// Ways to find the users whose text contains another.
#[derive(Debug)]
enum Search {
    /// Every user is listed.
    None,
    /// SQLite has only one way.
    Plain,
    /// Users are read newest first until a page is full, which is best if many of them match.
    ByTime,
    /// These are all the matches. They were found by the index of trigrams, which is best if there
    /// are few.
    ByText(Vec<UserId>),
}

/// Number of the newest users that [`Search::best_for`] looks at.
const SAMPLE: i64 = 1000;
/// Number of matches in the sample from which on a text counts as common. If it is, a page of 100
/// users is full after 20,000 of them.
const COMMON: i64 = 5;
/// Number of matches up to which they are found by the index of trigrams. Texts that only old users
/// have can have many more.
const MAX_MATCHES: i64 = 50_000;
/// Length from which on a text has a trigram, in characters.
const TRIGRAM: usize = 3;
/// Length from which on a text is looked up by halves, in characters.
const LONG: usize = 8;

impl Search {
    /// Chooses the way for this text. PostgreSQL cannot choose by itself: it knows nothing about
    /// how often texts occur within others.
    async fn best_for(conn: &mut Conn, query: &str, pattern: &str) -> db::Result<Self> {
        if query.is_empty() {
            return Ok(Self::None);
        }
        if conn.backend() == Backend::Sqlite {
            return Ok(Self::Plain);
        }
        if query.chars().count() < TRIGRAM {
            return Ok(Self::ByTime);
        }
        let matches = prepared::<BigInt>(
            "SELECT count(*) FROM (SELECT search_folded FROM users ORDER BY create_time DESC, id DESC LIMIT ",
        )
        .bind::<BigInt, _>(SAMPLE)
        .text(") AS newest WHERE search_folded LIKE ")
        .bind::<Text, _>(pattern);
        let matches: i64 = query_postgres!(conn, |c| matches.get_result(c).await)?;
        if matches >= COMMON {
            return Ok(Self::ByTime);
        }
        // The plan of a materialized query does not depend on the limit. It could otherwise lure
        // PostgreSQL into reading all users until there are as many matches.
        let [first, second] = halves(query);
        let found =
            prepared::<sql_types::Uuid>("WITH found AS MATERIALIZED (SELECT id FROM users WHERE search_folded LIKE ")
                .bind::<Text, _>(first)
                .text(" AND search_folded LIKE ")
                .bind::<Text, _>(second)
                .text(" AND strpos(search_folded, ")
                .bind::<Text, _>(query)
                .text(") > 0) SELECT id FROM found LIMIT ")
                .bind::<BigInt, _>(MAX_MATCHES + 1);
        let found: Vec<UserId> = query_postgres!(conn, |c| found.load(c).await)?;
        let is_all = i64::try_from(found.len()).is_ok_and(|found| found <= MAX_MATCHES);
        Ok(if is_all { Self::ByText(found) } else { Self::ByTime })
    }
}

/// Returns two LIKE patterns that match every text with this one in it, by which the index finds
/// the texts that may contain it.
///
/// The index reads a list of users for each trigram, and the lists get longer with their number. So
/// a long text is looked up by its halves. That leaves out the two trigrams in its middle, saves a
/// third of the pages, and lets hardly any other user through.
fn halves(text: &str) -> [String; 2] {
    let length = text.chars().count();
    let middle = text.char_indices().nth(length / 2);
    let (first, second) = match middle {
        Some((middle, _)) if length >= LONG => text.split_at(middle),
        _ => (text, text),
    };
    [contains(first), contains(second)]
}

/// Returns the LIKE pattern of texts that contain this one.
fn contains(text: &str) -> String {
    let mut pattern = String::with_capacity(text.len() + 2);
    pattern.push('%');
    for c in text.chars() {
        if matches!(c, '%' | '_' | ESCAPE) {
            pattern.push(ESCAPE);
        }
        pattern.push(c);
    }
    pattern.push('%');
    pattern
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wildcards_stand_for_themselves() {
        assert_eq!(contains(r"50%_\o"), r"%50\%\_\\o%");
    }

    #[test]
    fn long_texts_are_looked_up_by_halves() {
        assert_eq!(halves("ann lee"), ["%ann lee%", "%ann lee%"]);
        assert_eq!(halves("ann-lee."), ["%ann-%", "%lee.%"]);
        assert_eq!(halves("\u{e4}nne lee_x"), ["%\u{e4}nne %", r"%lee\_x%"]);
    }
}
