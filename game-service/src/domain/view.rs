//! A game as its players see it: with their logins.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use base::ids::UserId;
use db::Conn;

use super::{Error, Game};
use crate::{
    ids::GameId,
    store::{self, GameRow, MoveRow, PlayedRows},
};

/// A game and the logins of its players.
#[derive(Clone, Debug)]
pub(crate) struct GameView {
    pub(crate) game: Game,
    /// Empty where nobody plays X yet, and for the computer.
    pub(crate) x_login: String,
    /// Empty where nobody plays O yet, and for the computer.
    pub(crate) o_login: String,
}

impl GameView {
    /// These games as they are seen, in the same order.
    pub(super) async fn of_games(conn: &mut Conn, games: Vec<Game>) -> Result<Vec<Self>, Error> {
        let players: BTreeSet<UserId> = games.iter().flat_map(|game| [game.x, game.o]).flatten().collect();
        let players: Vec<UserId> = players.into_iter().collect();
        let logins: HashMap<UserId, String> = store::players_by_ids(conn, &players).await?.into_iter().collect();
        let login = |player: Option<UserId>| player.and_then(|id| logins.get(&id).cloned()).unwrap_or_default();
        let view = |game: Game| Self {
            x_login: login(game.x),
            o_login: login(game.o),
            game,
        };
        Ok(games.into_iter().map(view).collect())
    }

    /// The game in these rows as it is seen.
    pub(super) fn of_played(rows: PlayedRows) -> Result<Self, Error> {
        Ok(Self {
            game: Game::from_rows(&rows.game, &rows.moves)?,
            x_login: rows.x_login,
            o_login: rows.o_login,
        })
    }

    /// The games in these rows, in the same order, read in two queries however many they are.
    pub(super) async fn of_rows(conn: &mut Conn, rows: Vec<GameRow>) -> Result<Vec<Self>, Error> {
        let ids: Vec<GameId> = rows.iter().map(|row| row.id).collect();
        let mut moves: BTreeMap<GameId, Vec<MoveRow>> = BTreeMap::new();
        for made in store::moves_by_games(conn, &ids).await? {
            moves.entry(made.game_id).or_default().push(made);
        }
        let games = rows.into_iter().map(|row| {
            let moves = moves.remove(&row.id).unwrap_or_default();
            Game::from_rows(&row, &moves)
        });
        Self::of_games(conn, games.collect::<Result<_, _>>()?).await
    }
}
