//! Standings of all players, as the leaderboard reads them: once completely, and then only the
//! changes.
//!
//! Every change of `players` and `player_stats` carries a revision. A [`Horizon`] says up to which
//! revision the reader has seen the changes. This exists for speed. Each process keeps the
//! leaderboard in memory, and reading the changes takes a lookup in two indexes, however many
//! players there are (`cargo run --release -p bench -- leaderboard`).

mod changed;
mod scan;

use base::{clock::Timestamp, ids::UserId, sql_types};
use db::{Backend, prelude::*, prepared};
use diesel::{
    sql_query,
    sql_types::{BigInt, Nullable, Text},
};

use self::changed::{
    POSTGRES_CHANGED, POSTGRES_CHANGED_AND_LOGINS, POSTGRES_HORIZON, SQLITE_CHANGED, SQLITE_CHANGED_AND_LOGINS,
    SQLITE_HORIZON,
};
pub(crate) use self::scan::standings_scan;
use crate::ranks::Standing;

/// Point up to which the changes in a database are known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Horizon {
    /// Identity of the database, since another database may lack changes that this one has. On
    /// PostgreSQL, the start time of the server and the file of the table. Empty on SQLite, where
    /// one process serves the file.
    database: String,
    /// The last revision on SQLite, a snapshot on PostgreSQL.
    seen: String,
}

/// Changes since a horizon.
#[derive(Clone, Debug)]
pub(crate) struct Changes {
    /// The horizon that includes these changes.
    pub(crate) horizon: Horizon,
    /// Players whose statistics or login may have changed.
    pub(crate) players: Vec<ChangedPlayer>,
    /// Current logins of the requested players. Empty for a user who was deleted.
    pub(crate) logins: Vec<(UserId, String)>,
}

impl Changes {
    /// Returns whether nothing has changed, and no login was read.
    pub(crate) const fn is_empty(&self) -> bool {
        self.players.is_empty() && self.logins.is_empty()
    }
}

/// Current state of a player who may have changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ChangedPlayer {
    pub(crate) id: UserId,
    /// Empty if the user was deleted.
    pub(crate) login: String,
    pub(crate) standing: Standing,
}

#[cfg(test)]
impl Horizon {
    pub(super) fn of_another_database(self) -> Self {
        let database = "another".to_owned();
        Self { database, ..self }
    }
}

/// Row of a query for changes. A row without a horizon is a requested login. A row without a player
/// is a horizon since which nothing has changed.
#[derive(QueryableByName)]
struct ChangedRow {
    #[diesel(sql_type = Nullable<Text>)]
    database: Option<String>,
    #[diesel(sql_type = Nullable<Text>)]
    seen: Option<String>,
    #[diesel(sql_type = Nullable<sql_types::Uuid>)]
    user_id: Option<UserId>,
    #[diesel(sql_type = Nullable<Text>)]
    login: Option<String>,
    #[diesel(sql_type = Nullable<BigInt>)]
    wins: Option<i64>,
    #[diesel(sql_type = Nullable<BigInt>)]
    losses: Option<i64>,
    #[diesel(sql_type = Nullable<BigInt>)]
    draws: Option<i64>,
    #[diesel(sql_type = Nullable<sql_types::Timestamp>)]
    last_finish_time: Option<Timestamp>,
}

impl ChangedRow {
    /// Returns the results of the player. A player without statistics has not finished any game.
    fn standing(&self) -> Standing {
        let counts = [self.wins, self.losses, self.draws].map(|count| count.unwrap_or(0));
        standing(counts, self.last_finish_time.unwrap_or(Timestamp::from_micros(0)))
    }
}

/// Returns the current horizon. Everything that is read afterwards includes the changes up to it.
pub(crate) async fn standings_horizon(conn: &mut Conn) -> db::Result<Horizon> {
    let horizon = prepared::<(Text, Text)>(match conn.backend() {
        Backend::Sqlite => SQLITE_HORIZON,
        Backend::Postgres => POSTGRES_HORIZON,
    });
    let (database, seen) = query!(conn, |c| horizon.get_result(c).await)?;
    Ok(Horizon { database, seen })
}

/// Returns the players whose statistics or login changed since that horizon, and the logins of the
/// players in `wanted`.
///
/// Returns `None` if the horizon belongs to another database, or if `limit` players or more may
/// have changed. In both cases everything has to be read again.
pub(crate) async fn standings_changed(
    conn: &mut Conn,
    since: &Horizon,
    limit: i64,
    wanted: &[UserId],
) -> db::Result<Option<Changes>> {
    let rows: Vec<ChangedRow> = if wanted.is_empty() {
        let changed = sql_query(match conn.backend() {
            Backend::Sqlite => SQLITE_CHANGED,
            Backend::Postgres => POSTGRES_CHANGED,
        });
        let changed = changed.bind::<Text, _>(&since.seen).bind::<BigInt, _>(limit).cached();
        query!(conn, |c| changed.load(c).await)?
    } else {
        changed_and_logins(conn, since, limit, wanted).await?
    };
    let (mut horizon, mut players, mut logins) = (None, Vec::new(), Vec::new());
    for row in rows {
        let standing = row.standing();
        let player = row.user_id.zip(row.login);
        if let Some((database, seen)) = row.database.zip(row.seen) {
            horizon = Some(Horizon { database, seen });
            players.extend(player.map(|(id, login)| ChangedPlayer { id, login, standing }));
        } else {
            logins.extend(player);
        }
    }
    let is_complete = i64::try_from(players.len()).is_ok_and(|changed| changed < limit);
    let horizon = horizon.filter(|horizon| is_complete && horizon.database == since.database);
    Ok(horizon.map(|horizon| Changes {
        horizon,
        players,
        logins,
    }))
}

async fn changed_and_logins(
    conn: &mut Conn,
    since: &Horizon,
    limit: i64,
    wanted: &[UserId],
) -> db::Result<Vec<ChangedRow>> {
    let backend = conn.backend();
    let changed = sql_query(match backend {
        Backend::Sqlite => SQLITE_CHANGED_AND_LOGINS,
        Backend::Postgres => POSTGRES_CHANGED_AND_LOGINS,
    });
    let changed = changed
        .bind::<Text, _>(&since.seen)
        .bind::<BigInt, _>(limit)
        .bind::<Text, _>(list(backend, wanted))
        .cached();
    query!(conn, |c| changed.load(c).await)
}

/// Renews revisions that claim to come from future transactions, as after a restore from another
/// server's dump. Each such row would otherwise be read again and again until those transactions
/// come. Changes at most `limit` rows of each table and returns the number of changed rows.
pub(crate) async fn standings_renew_revisions(conn: &mut Conn, limit: i64) -> db::Result<usize> {
    if conn.backend() == Backend::Sqlite {
        return Ok(0);
    }
    let mut renewed = 0;
    for (table, id) in [("player_stats", "user_id"), ("players", "id")] {
        let renew = sql_query(format!(
            "UPDATE {table} SET revision = pg_current_xact_id() WHERE {id} = ANY (ARRAY( \
                SELECT {id} FROM {table} WHERE revision >= pg_snapshot_xmax(pg_current_snapshot()) \
                ORDER BY revision LIMIT $1))"
        ));
        let renew = renew.bind::<BigInt, _>(limit).cached();
        renewed += query!(conn, |c| renew.execute(c).await)?;
    }
    Ok(renewed)
}

/// Converts wins, losses and draws. Nobody finishes 2^32 games, so a larger count, which only an
/// edit of the database can cause, becomes the largest possible one.
fn standing([wins, losses, draws]: [i64; 3], last_finish_time: Timestamp) -> Standing {
    let count = |count: i64| u32::try_from(count.max(0)).unwrap_or(u32::MAX);
    Standing {
        wins: count(wins),
        losses: count(losses),
        draws: count(draws),
        last_finish_time,
    }
}

/// Writes ids as the text of an array, on SQLite in JSON.
fn list(backend: Backend, ids: &[UserId]) -> String {
    let (begin, quote, end) = match backend {
        Backend::Sqlite => ("[", "\"", "]"),
        Backend::Postgres => ("{", "", "}"),
    };
    let mut text = String::with_capacity(2 + 35 * ids.len());
    text.push_str(begin);
    for (number, id) in ids.iter().enumerate() {
        let mut buffer = uuid::Uuid::encode_buffer();
        text.push_str(if number > 0 { "," } else { "" });
        text.push_str(quote);
        text.push_str(id.as_uuid().simple().encode_lower(&mut buffer));
        text.push_str(quote);
    }
    text.push_str(end);
    text
}
