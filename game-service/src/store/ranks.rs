//! `rank_groups` and `rank_bands`: how many players stand where.

use shared::db::{self, prelude::*};

use super::schema::{rank_bands, rank_groups};

/// All players with these stats: they share a rank, together with those of equal ratio and wins.
#[derive(Clone, Debug, PartialEq, Queryable, Selectable, Insertable)]
#[diesel(table_name = rank_groups)]
pub(crate) struct GroupRow {
    pub(crate) band: i32,
    pub(crate) win_ratio: f64,
    pub(crate) wins: i64,
    pub(crate) games_played: i64,
    pub(crate) players: i64,
}

/// All players in a range of ratios.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Queryable, Selectable, Insertable)]
#[diesel(table_name = rank_bands)]
pub(crate) struct BandRow {
    pub(crate) band: i32,
    pub(crate) players: i64,
}

/// How many of 512 games were won, 0 to 511, where the first loss or draw counts from the start. Who has the better ratio is in no lower band, and
/// equal ratios are in one: it grows with `wins / max(1, others)`, and is made of whole numbers.
pub(crate) fn band(wins: i64, others: i64) -> i32 {
    i32::try_from(512 * wins / (wins + others.max(1))).unwrap_or(0)
}

/// Adds players to a group, which may not be there yet.
pub(crate) async fn group_add(conn: &mut Conn, row: &GroupRow) -> db::Result<()> {
    query!(conn, |c| {
        diesel::insert_into(rank_groups::table)
            .values(row)
            .on_conflict((
                rank_groups::band,
                rank_groups::win_ratio,
                rank_groups::wins,
                rank_groups::games_played,
            ))
            .do_update()
            .set(rank_groups::players.eq(rank_groups::players + excluded(rank_groups::players)))
            .cached()
            .execute(c)
            .await
    })
    .map(|_| ())
}

/// Takes players out of a group. Says whether it had that many.
pub(crate) async fn group_take(conn: &mut Conn, row: &GroupRow) -> db::Result<bool> {
    let group = (row.band, row.win_ratio, row.wins, row.games_played);
    query!(conn, |c| {
        diesel::update(rank_groups::table.find(group))
            .filter(rank_groups::players.ge(row.players))
            .set(rank_groups::players.eq(rank_groups::players - row.players))
            .cached()
            .execute(c)
            .await
    })
    .map(|rows| rows == 1)
}

/// Forgets groups that nobody is in any more.
pub(crate) async fn groups_clean(conn: &mut Conn) -> db::Result<usize> {
    let empty = rank_groups::table.filter(rank_groups::players.eq(0));
    query!(conn, |c| diesel::delete(empty).execute(c).await)
}

/// Adds players to a band, which may not be there yet.
pub(crate) async fn band_add(conn: &mut Conn, row: BandRow) -> db::Result<()> {
    query!(conn, |c| {
        diesel::insert_into(rank_bands::table)
            .values(&row)
            .on_conflict(rank_bands::band)
            .do_update()
            .set(rank_bands::players.eq(rank_bands::players + excluded(rank_bands::players)))
            .cached()
            .execute(c)
            .await
    })
    .map(|_| ())
}

/// Takes players out of a band. Says whether it had that many.
pub(crate) async fn band_take(conn: &mut Conn, row: BandRow) -> db::Result<bool> {
    query!(conn, |c| {
        diesel::update(rank_bands::table.find(row.band))
            .filter(rank_bands::players.ge(row.players))
            .set(rank_bands::players.eq(rank_bands::players - row.players))
            .cached()
            .execute(c)
            .await
    })
    .map(|rows| rows == 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_has_the_better_ratio_is_in_no_lower_band() {
        let mut all: Vec<(i64, i64)> = (0..60)
            .flat_map(|wins| (0..60).map(move |others| (wins, others)))
            .collect();
        all.push((1 << 40, 0));
        all.push((0, 1 << 40));
        // By cross-multiplication, without rounding.
        all.sort_by(|(w1, o1), (w2, o2)| {
            (i128::from(*w1) * i128::from(*o2.max(&1))).cmp(&(i128::from(*w2) * i128::from(*o1.max(&1))))
        });
        for pair in all.windows(2) {
            let [(w1, o1), (w2, o2)] = pair else { continue };
            let is_equal = w1 * o2.max(&1) == w2 * o1.max(&1);
            let (lower, higher) = (band(*w1, *o1), band(*w2, *o2));
            assert!(if is_equal { lower == higher } else { lower <= higher }, "{pair:?}");
            assert!((0..512).contains(&lower));
        }
    }
}
