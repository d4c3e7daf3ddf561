//! The leaderboard.

use shared::db::Db;

use super::Error;
use crate::store::{self, RankedRow};

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
    /// From 1; players equal in ratio and wins share one (1, 1, 3).
    pub(crate) rank: i64,
    pub(crate) player: RankedRow,
}

impl Leaderboard {
    /// The best players.
    pub(crate) async fn top(&self, limit: i64) -> Result<Vec<RankedPlayer>, Error> {
        let conn = &mut self.db.read().await?;
        Ok(ranked(store::leaderboard_top(conn, self.min_games, limit).await?))
    }
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
    /// Whether the two share a rank.
    fn equals(&self, other: &Self) -> bool {
        // Equal ratios are the same double: they are quotients of whole numbers, rounded correctly.
        self.win_ratio.to_bits() == other.win_ratio.to_bits() && self.wins == other.wins
    }
}

#[cfg(test)]
mod tests {
    use shared::ids::UserId;

    use super::*;

    #[test]
    fn equals_share_a_rank_and_leave_a_gap() {
        let row = |win_ratio: f64, wins| RankedRow {
            user_id: UserId::generate(),
            login: String::new(),
            wins,
            losses: 0,
            draws: 0,
            win_ratio,
        };
        let rows = vec![
            row(2.0, 4),
            row(2.0, 4),
            row(2.0, 2),
            row(1.0, 2),
            row(1.0, 2),
            row(0.0, 0),
        ];
        let ranks: Vec<i64> = ranked(rows).iter().map(|ranked| ranked.rank).collect();
        assert_eq!(ranks, [1, 1, 3, 4, 4, 6]);
    }
}
