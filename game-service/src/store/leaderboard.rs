//! `player_stats`: the leaderboard.

use diesel::sql_types as types;
use shared::{
    clock::Timestamp,
    db::{self, Backend, MigrationLock, Prepared, Words, prelude::*, prepared, sql_types},
    ids::UserId,
};

use super::{
    ranks::band,
    schema::{player_stats, players, rank_groups},
};

/// What a player's results add up to.
#[derive(Clone, Debug, PartialEq, Queryable, Selectable, Insertable, AsChangeset)]
#[diesel(table_name = player_stats, treat_none_as_default_value = false)]
pub(crate) struct StatsRow {
    pub(crate) user_id: UserId,
    pub(crate) wins: i64,
    pub(crate) losses: i64,
    pub(crate) draws: i64,
    pub(crate) games_played: i64,
    pub(crate) win_ratio: f64,
    pub(crate) last_finish_time: Timestamp,
}

/// A player in the order of the leaderboard.
#[derive(Clone, Debug, PartialEq, Queryable)]
pub(crate) struct RankedRow {
    pub(crate) user_id: UserId,
    pub(crate) login: String,
    pub(crate) wins: i64,
    pub(crate) losses: i64,
    pub(crate) draws: i64,
    pub(crate) win_ratio: f64,
    pub(crate) last_finish_time: Timestamp,
}

/// What the names of indexes begin with that are for one number of games.
const INDEX: &str = "player_stats_rank_of_";

/// Which neighbours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    Above,
    Below,
}

/// The order of the leaderboard.
macro_rules! best_first {
    () => {
        (
            player_stats::win_ratio.desc(),
            player_stats::wins.desc(),
            player_stats::last_finish_time,
            player_stats::user_id,
        )
    };
}

/// The same, from its end.
macro_rules! worst_first {
    () => {
        (
            player_stats::win_ratio,
            player_stats::wins,
            player_stats::last_finish_time.desc(),
            player_stats::user_id.desc(),
        )
    };
}

/// The band of a player: [`band`] in SQL.
const BAND: &str = "512 * player_stats.wins / (player_stats.wins + CASE \
    WHEN player_stats.losses + player_stats.draws = 0 THEN 1 ELSE player_stats.losses + player_stats.draws END)";

/// The columns of a [`RankedRow`].
macro_rules! ranked_columns {
    () => {
        (
            player_stats::user_id,
            players::login,
            player_stats::wins,
            player_stats::losses,
            player_stats::draws,
            player_stats::win_ratio,
            player_stats::last_finish_time,
        )
    };
}

/// Adds what `row` holds to what the player has, who may have nothing yet. Gives the sum. The row stays locked until the transaction ends.
pub(crate) async fn stats_add(conn: &mut Conn, row: &StatsRow) -> db::Result<StatsRow> {
    let ratio = prepared::<types::Double>(
        "CAST(player_stats.wins + excluded.wins AS DOUBLE PRECISION) / CASE \
         WHEN player_stats.losses + player_stats.draws + excluded.losses + excluded.draws = 0 THEN 1 \
         ELSE player_stats.losses + player_stats.draws + excluded.losses + excluded.draws END",
    );
    let last = prepared::<sql_types::Timestamp>(
        "CASE WHEN player_stats.last_finish_time > excluded.last_finish_time \
         THEN player_stats.last_finish_time ELSE excluded.last_finish_time END",
    );
    query!(conn, |c| {
        diesel::insert_into(player_stats::table)
            .values(row)
            .on_conflict(player_stats::user_id)
            .do_update()
            .set((
                player_stats::wins.eq(player_stats::wins + excluded(player_stats::wins)),
                player_stats::losses.eq(player_stats::losses + excluded(player_stats::losses)),
                player_stats::draws.eq(player_stats::draws + excluded(player_stats::draws)),
                player_stats::games_played.eq(player_stats::games_played + excluded(player_stats::games_played)),
                player_stats::win_ratio.eq(ratio),
                player_stats::last_finish_time.eq(last),
            ))
            .returning(StatsRow::as_returning())
            .cached()
            .get_result(c)
            .await
    })
}

/// The index that the leaderboard is read by where a player needs more than one game; `None` where the one of all players does.
pub(crate) fn leaderboard_index(min_games: i64) -> Option<String> {
    (min_games > 1).then(|| format!("{INDEX}{min_games}_idx"))
}

/// Such indexes as are there.
pub(crate) async fn leaderboard_indexes(conn: &mut Conn) -> db::Result<Vec<String>> {
    #[derive(diesel::QueryableByName)]
    struct Index {
        #[diesel(sql_type = types::Text)]
        name: String,
    }
    let names = match conn.backend() {
        Backend::Sqlite => "SELECT name FROM sqlite_master WHERE type = 'index' AND tbl_name = 'player_stats'",
        Backend::Postgres => {
            "SELECT CAST(indexname AS text) AS name FROM pg_indexes \
             WHERE tablename = 'player_stats' AND schemaname = current_schema()"
        }
    };
    let found: Vec<Index> = query!(conn, |c| diesel::sql_query(names).load(c).await)?;
    let names = found.into_iter().map(|index| index.name);
    Ok(names.filter(|name| name.starts_with(INDEX)).collect())
}

/// Makes the index for this number of games. Games come to their end when it is there.
pub(crate) async fn leaderboard_index_create(lock: &mut MigrationLock, name: &str, min_games: i64) -> db::Result<()> {
    let index = format!(
        "CREATE INDEX {name} ON player_stats (win_ratio DESC, wins DESC, last_finish_time, user_id) \
         WHERE games_played >= {min_games}"
    );
    lock.execute(&index).await
}

pub(crate) async fn leaderboard_index_drop(lock: &mut MigrationLock, name: &str) -> db::Result<()> {
    lock.execute(&format!("DROP INDEX {name}")).await
}

/// The best players who have finished enough games.
pub(crate) async fn leaderboard_top(conn: &mut Conn, min_games: i64, limit: i64) -> db::Result<Vec<RankedRow>> {
    query!(conn, |c| {
        player_stats::table
            .inner_join(players::table)
            .filter(ranked(min_games))
            .order(best_first!())
            .limit(limit)
            .select(ranked_columns!())
            .load(c)
            .await
    })
}

/// A player's stats, and how many players with enough games are above, whether or not this one has. One statement, so that it is about one moment.
pub(crate) async fn leaderboard_place(
    conn: &mut Conn,
    user_id: UserId,
    min_games: i64,
) -> db::Result<Option<(RankedRow, i64)>> {
    let above = prepared::<types::BigInt>(
        "(SELECT CAST(COALESCE(SUM(rank_bands.players), 0) AS BIGINT) FROM rank_bands WHERE rank_bands.band > ",
    );
    let above = above.text(BAND).text(
        ") + (SELECT CAST(COALESCE(SUM(rank_groups.players), 0) AS BIGINT) FROM rank_groups \
         WHERE (rank_groups.win_ratio, rank_groups.wins) > (player_stats.win_ratio, player_stats.wins) \
         AND rank_groups.band = ",
    );
    // In the bands above are also those who are not ranked yet.
    let unranked = if min_games > 1 {
        format!(
            " AND rank_groups.games_played >= {min_games}) - \
             (SELECT CAST(COALESCE(SUM(rank_groups.players), 0) AS BIGINT) FROM rank_groups \
             WHERE rank_groups.games_played < {min_games} AND rank_groups.band > {BAND})"
        )
    } else {
        ")".to_owned()
    };
    query!(conn, |c| {
        player_stats::table
            .inner_join(players::table)
            .filter(player_stats::user_id.eq(user_id))
            .select((ranked_columns!(), above.text(BAND).text(unranked)))
            .first(c)
            .await
            .optional()
    })
}

/// The players next to this one, the nearest first.
pub(crate) async fn leaderboard_next_to(
    conn: &mut Conn,
    of: &RankedRow,
    side: Side,
    min_games: i64,
    limit: i64,
) -> db::Result<Vec<RankedRow>> {
    let sign = if side == Side::Above { "<" } else { ">" };
    // First who is equal in ratio and wins: an index finds the place among them.
    let mut next: Vec<RankedRow> = query!(conn, |c| {
        let equal = player_stats::table
            .inner_join(players::table)
            .filter(ranked(min_games))
            .filter(player_stats::win_ratio.eq(of.win_ratio))
            .filter(player_stats::wins.eq(of.wins))
            .filter(
                prepared::<types::Bool>("(player_stats.last_finish_time, player_stats.user_id) ")
                    .text(sign)
                    .text(" (")
                    .bind::<sql_types::Timestamp, _>(of.last_finish_time)
                    .text(", ")
                    .bind::<sql_types::Uuid, _>(of.user_id)
                    .text(")"),
            )
            .limit(limit)
            .select(ranked_columns!())
            .into_boxed();
        let equal = match side {
            Side::Above => equal.order(worst_first!()),
            Side::Below => equal.order(best_first!()),
        };
        equal.load(c).await
    })?;
    let missing = limit - i64::try_from(next.len()).unwrap_or(limit);
    if missing > 0 {
        let sign = if side == Side::Above { ">" } else { "<" };
        let further: Vec<RankedRow> = query!(conn, |c| {
            let further = player_stats::table
                .inner_join(players::table)
                .filter(ranked(min_games))
                .filter(
                    prepared::<types::Bool>("(player_stats.win_ratio, player_stats.wins) ")
                        .text(sign)
                        .text(" (")
                        .bind::<types::Double, _>(of.win_ratio)
                        .text(", ")
                        .bind::<types::BigInt, _>(of.wins)
                        .text(")"),
                )
                .limit(missing)
                .select(ranked_columns!())
                .into_boxed();
            let further = match side {
                Side::Above => further.order(worst_first!()),
                Side::Below => further.order(best_first!()),
            };
            further.load(c).await
        })?;
        next.extend(further);
    }
    Ok(next)
}

/// How many players with enough games there are of each ratio and wins between these two, best first.
pub(crate) async fn group_sizes(
    conn: &mut Conn,
    best: &RankedRow,
    worst: &RankedRow,
    min_games: i64,
) -> db::Result<Vec<(f64, i64, i64)>> {
    let [highest, lowest] = [best, worst].map(|row| band(row.wins, row.losses + row.draws));
    let place = |sign: &'static str, row: &RankedRow| {
        prepared::<types::Bool>("(rank_groups.win_ratio, rank_groups.wins) ")
            .text(sign)
            .text(" (")
            .bind::<types::Double, _>(row.win_ratio)
            .text(", ")
            .bind::<types::BigInt, _>(row.wins)
            .text(")")
    };
    query!(conn, |c| rank_groups::table
        .filter(rank_groups::games_played.ge(min_games))
        .filter(rank_groups::band.le(highest))
        .filter(rank_groups::band.ge(lowest))
        .filter(place("<=", best))
        .filter(place(">=", worst))
        .group_by((rank_groups::win_ratio, rank_groups::wins))
        .order((rank_groups::win_ratio.desc(), rank_groups::wins.desc()))
        .select((
            rank_groups::win_ratio,
            rank_groups::wins,
            prepared::<types::BigInt>("CAST(SUM(rank_groups.players) AS BIGINT)")
        ))
        .load(c)
        .await)
}

/// Who is ranked. A literal, so that the database sees which index it is about.
fn ranked(min_games: i64) -> Prepared<types::Bool, Words> {
    prepared(format!("player_stats.games_played >= {min_games}"))
}
