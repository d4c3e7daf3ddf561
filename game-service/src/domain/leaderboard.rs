//! The leaderboard.
//!
//! A rank is one more than the number of players above. Players of equal ratio and wins share it, so it is a sum over groups of players, and over
//! bands of groups (`rank_groups`, `rank_bands`).

use shared::{
    clock::Timestamp,
    db::{Db, MigrationLock, write_tx},
    ids::UserId,
};

use super::{Error, Player};
use crate::store::{self, RankedRow, Side};

/// The use cases of the leaderboard.
#[derive(Clone, Debug)]
pub(crate) struct Leaderboard {
    pub(crate) db: Db,
    /// Finished games that a player needs to be ranked.
    pub(crate) min_games: i64,
}

/// A player and their rank.
#[derive(Clone, Debug)]
pub(crate) struct RankedPlayer {
    /// From 1; players equal in ratio and wins share one (1, 1, 3). 0 where the player is not ranked.
    pub(crate) rank: i64,
    pub(crate) player: RankedRow,
}

/// Whose place on the leaderboard.
#[derive(Clone, Debug)]
pub(crate) enum Whose {
    /// The caller's, who need not have played.
    Own(Player),
    /// Another user's.
    Of(UserId),
}

impl Leaderboard {
    /// Looks for the index by which it is read, and with `may_change` makes it, in the place of one for another number of games.
    pub(crate) async fn prepare(&self, lock: &mut MigrationLock, may_change: bool) -> Result<(), Error> {
        let wanted = store::leaderboard_index(self.min_games);
        let there = store::leaderboard_indexes(&mut self.db.read().await?).await?;
        if let Some(name) = wanted.as_ref().filter(|name| !there.contains(name)) {
            if !may_change {
                tracing::warn!(
                    index = name,
                    "the leaderboard is slow without this index, which a start with --migrate makes"
                );
                return Ok(());
            }
            store::leaderboard_index_create(lock, name, self.min_games).await?;
        }
        for other in there.iter().filter(|name| may_change && Some(*name) != wanted.as_ref()) {
            store::leaderboard_index_drop(lock, other).await?;
        }
        Ok(())
    }

    /// Forgets the groups that nobody is in any more.
    pub(crate) async fn clean(&self) -> Result<(), Error> {
        write_tx!(self.db, |tx| Ok(store::groups_clean(tx).await.map(drop)?))
    }

    /// The best players.
    pub(crate) async fn top(&self, limit: i64) -> Result<Vec<RankedPlayer>, Error> {
        let conn = &mut self.db.read().await?;
        Ok(ranked(store::leaderboard_top(conn, self.min_games, limit).await?))
    }

    /// A player's place, and how many games they have to finish until they have one.
    pub(crate) async fn place(&self, whose: Whose) -> Result<(RankedPlayer, i64), Error> {
        let conn = &mut self.db.read().await?;
        let found = store::leaderboard_place(conn, whose.user(), self.min_games).await?;
        let Some((player, above)) = found else {
            let player = match whose {
                Whose::Own(player) => RankedRow::of_nobody(player),
                Whose::Of(user) => {
                    let mut known = store::players_by_ids(conn, &[user]).await?;
                    let (id, login) = known.pop().ok_or(Error::UserNotFound(user))?;
                    RankedRow::of_nobody(Player { id, login })
                }
            };
            return Ok((RankedPlayer { rank: 0, player }, self.min_games));
        };
        let needed = (self.min_games - player.games_played()).max(0);
        let rank = if needed == 0 { above + 1 } else { 0 };
        Ok((RankedPlayer { rank, player }, needed))
    }

    /// A player and their neighbours, so many in all. Nobody where the player is not ranked.
    pub(crate) async fn around(&self, whose: Whose, limit: usize) -> Result<Vec<RankedPlayer>, Error> {
        // Every query has to see the same leaderboard.
        let mut snapshot = self.db.snapshot().await?;
        let conn = snapshot.conn();
        let found = store::leaderboard_place(conn, whose.user(), self.min_games).await?;
        let Some((player, above)) = found else {
            if let Whose::Of(user) = whose
                && store::players_by_ids(conn, &[user]).await?.is_empty()
            {
                return Err(Error::UserNotFound(user));
            }
            return Ok(Vec::new());
        };
        if player.games_played() < self.min_games {
            return Ok(Vec::new());
        }
        let others = limit - 1;
        // On one side there may be too few, and then the other side has to make up for it.
        let most = i64::try_from(others).unwrap_or(i64::MAX);
        let mut better = store::leaderboard_next_to(conn, &player, Side::Above, self.min_games, most).await?;
        let mut worse = store::leaderboard_next_to(conn, &player, Side::Below, self.min_games, most).await?;
        better.truncate((others / 2).max(others.saturating_sub(worse.len())));
        worse.truncate(others - better.len());
        better.reverse();
        let place = better.len();
        let rows: Vec<RankedRow> = better.into_iter().chain([player]).chain(worse).collect();
        let (Some(best), Some(worst)) = (rows.first(), rows.last()) else {
            return Ok(Vec::new());
        };
        let sizes = store::group_sizes(conn, best, worst, self.min_games).await?;
        snapshot.end().await;
        Ok(ranked_around(rows, place, above + 1, &sizes))
    }
}

impl Whose {
    const fn user(&self) -> UserId {
        match self {
            Self::Own(player) => player.id,
            Self::Of(user) => *user,
        }
    }
}

/// Ranks a part of the leaderboard of which the rank at one place is known, and how many players there are of each ratio and wins.
fn ranked_around(rows: Vec<RankedRow>, place: usize, rank: i64, sizes: &[(f64, i64, i64)]) -> Vec<RankedPlayer> {
    let is_of = |row: &RankedRow, (ratio, wins, _): &(f64, i64, i64)| row.has(*ratio, *wins);
    let above_place = sizes.iter().take_while(|size| !is_of(&rows[place], size));
    let mut rank = rank - above_place.map(|(.., players)| players).sum::<i64>();
    let mut sizes = sizes.iter();
    let mut group = sizes.next();
    let ranked = rows.into_iter().map(|player| {
        while let Some(size) = group
            && !is_of(&player, size)
        {
            rank += size.2;
            group = sizes.next();
        }
        RankedPlayer { rank, player }
    });
    ranked.collect()
}

/// Ranks rows that begin with the best player.
fn ranked(rows: Vec<RankedRow>) -> Vec<RankedPlayer> {
    let mut ranked: Vec<RankedPlayer> = Vec::with_capacity(rows.len());
    for (place, player) in (1..).zip(rows) {
        let rank = match ranked.last() {
            Some(before) if before.player.equals(&player) => before.rank,
            _ => place,
        };
        ranked.push(RankedPlayer { rank, player });
    }
    ranked
}

impl RankedRow {
    /// Of somebody who has finished nothing.
    fn of_nobody(player: Player) -> Self {
        Self {
            user_id: player.id,
            login: player.login,
            wins: 0,
            losses: 0,
            draws: 0,
            win_ratio: 0.0,
            last_finish_time: Timestamp::from_micros(0),
        }
    }

    const fn games_played(&self) -> i64 {
        self.wins + self.losses + self.draws
    }

    /// Whether the two share a rank.
    fn equals(&self, other: &Self) -> bool {
        self.has(other.win_ratio, other.wins)
    }

    /// Whether it is of this ratio and these wins.
    fn has(&self, win_ratio: f64, wins: i64) -> bool {
        // Equal ratios are the same double: they are quotients of whole numbers, rounded correctly.
        self.win_ratio.to_bits() == win_ratio.to_bits() && self.wins == wins
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(win_ratio: f64, wins: i64) -> RankedRow {
        RankedRow {
            wins,
            win_ratio,
            ..RankedRow::of_nobody(Player {
                id: UserId::generate(),
                login: String::new(),
            })
        }
    }

    fn ranks(ranked: &[RankedPlayer]) -> Vec<i64> {
        ranked.iter().map(|ranked| ranked.rank).collect()
    }

    #[test]
    fn equals_share_a_rank_and_leave_a_gap() {
        let rows = [(2.0, 4), (2.0, 4), (2.0, 2), (1.0, 2), (1.0, 2), (0.0, 0)];
        let rows = rows.map(|(ratio, wins)| row(ratio, wins));
        assert_eq!(ranks(&ranked(rows.to_vec())), [1, 1, 3, 4, 4, 6]);
        // The same from any place in the middle.
        let sizes = [(2.0, 4, 2), (2.0, 2, 1), (1.0, 2, 2), (0.0, 0, 1)];
        for (place, rank) in [1, 1, 3, 4, 4, 6].into_iter().enumerate() {
            assert_eq!(
                ranks(&ranked_around(rows.to_vec(), place, rank, &sizes)),
                [1, 1, 3, 4, 4, 6]
            );
        }
        // Of the first and the last group, a part alone is seen.
        let part = ranked_around(rows[1..4].to_vec(), 1, 3, &sizes[..3]);
        assert_eq!(ranks(&part), [1, 3, 4]);
    }
}
