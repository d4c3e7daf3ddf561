//! Games as clients see them: with the logins of the players.

use std::collections::{BTreeSet, HashMap};

use access::policy::is_guest_login;
use base::ids::UserId;
use db::Conn;

use super::{Error, Game};
use crate::store::{self, GameRow, PlayedRows};

/// A game and the logins of its players.
#[derive(Clone, Debug)]
pub(crate) struct GameView {
    pub(crate) game: Game,
    /// Login of X. Empty while the side is free, if the computer plays it, or if the user was
    /// deleted.
    pub(crate) x_login: String,
    /// Login of O. Empty while the side is free, if the computer plays it, or if the user was
    /// deleted.
    pub(crate) o_login: String,
}

impl GameView {
    fn new(x_login: String, o_login: String, mut game: Game) -> Self {
        // A replica of the previous version does not record in the game that a guest plays.
        if is_guest_login(&x_login) || is_guest_login(&o_login) {
            game.unrank();
        }
        Self { game, x_login, o_login }
    }

    /// Adds the logins of the players to these games, in the same order.
    pub(super) async fn of_games(conn: &mut Conn, games: Vec<Game>) -> Result<Vec<Self>, Error> {
        let players: BTreeSet<UserId> = games.iter().flat_map(|game| [game.x, game.o]).flatten().collect();
        let players: Vec<UserId> = players.into_iter().collect();
        let logins: HashMap<UserId, String> = store::players_by_ids(conn, &players).await?.into_iter().collect();
        let login = |player: Option<UserId>| player.and_then(|id| logins.get(&id).cloned()).unwrap_or_default();
        let view = |game: Game| Self::new(login(game.x), login(game.o), game);
        Ok(games.into_iter().map(view).collect())
    }

    /// Builds the view of a game from its rows.
    pub(super) fn of_played(rows: PlayedRows) -> Result<Self, Error> {
        Ok(Self::new(rows.x_login, rows.o_login, Game::from_row(&rows.game)?))
    }

    /// Returns the views of the games in these rows, in the same order.
    pub(super) async fn of_rows(conn: &mut Conn, rows: Vec<GameRow>) -> Result<Vec<Self>, Error> {
        let games: Result<Vec<Game>, Error> = rows.iter().map(Game::from_row).collect();
        Self::of_games(conn, games?).await
    }
}
