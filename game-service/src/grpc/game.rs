//! `game.v1.GameService`.

use shared::{
    authz,
    page::PageRequest,
    proto::game::v1::{
        self as proto, CreateGameRequest, CreateGameResponse, GetGameRequest, GetGameResponse, JoinGameRequest,
        JoinGameResponse, ListOpenGamesRequest, ListOpenGamesResponse, MakeMoveRequest, MakeMoveResponse,
        game_service_server::GameService,
    },
    validate::{Fields, InvalidFields},
};
use tonic::{Request, Response, Status};

use super::convert;
use crate::{
    domain::{Error, Games, Opponent},
    ids::{GameId, GameKind},
    rules::{Cell, Mark},
};

/// Serves `game.v1.GameService`.
#[derive(Clone, Debug)]
pub(crate) struct GameRpc {
    pub(crate) games: Games,
}

#[tonic::async_trait]
impl GameService for GameRpc {
    async fn create_game(&self, request: Request<CreateGameRequest>) -> Result<Response<CreateGameResponse>, Status> {
        let principal = authz::principal(&request)?;
        let (opponent, mark) = new_game(request.into_inner()).map_err(Error::from)?;
        let game = self.games.create(&convert::player(&principal), opponent, mark).await?;
        Ok(Response::new(CreateGameResponse {
            game: Some(convert::game(game)),
        }))
    }

    async fn get_game(&self, request: Request<GetGameRequest>) -> Result<Response<GetGameResponse>, Status> {
        let principal = authz::principal(&request)?;
        let id = game_id(&request.get_ref().game_id).map_err(Error::from)?;
        let game = self.games.get(principal.user_id(), id).await?;
        Ok(Response::new(GetGameResponse {
            game: Some(convert::game(game)),
        }))
    }

    async fn list_open_games(
        &self,
        request: Request<ListOpenGamesRequest>,
    ) -> Result<Response<ListOpenGamesResponse>, Status> {
        let page = page(request.get_ref()).map_err(Error::from)?;
        let (games, next_page_token) = self.games.list_open(&page).await?;
        let games = games.into_iter().map(convert::game).collect();
        Ok(Response::new(ListOpenGamesResponse { games, next_page_token }))
    }

    async fn join_game(&self, request: Request<JoinGameRequest>) -> Result<Response<JoinGameResponse>, Status> {
        let principal = authz::principal(&request)?;
        let id = game_id(&request.get_ref().game_id).map_err(Error::from)?;
        let game = self.games.join(&convert::player(&principal), id).await?;
        Ok(Response::new(JoinGameResponse {
            game: Some(convert::game(game)),
        }))
    }

    async fn make_move(&self, request: Request<MakeMoveRequest>) -> Result<Response<MakeMoveResponse>, Status> {
        let principal = authz::principal(&request)?;
        let (id, cell, version) = game_move(request.get_ref()).map_err(Error::from)?;
        let game = self.games.make_move(principal.user_id(), id, cell, version).await?;
        Ok(Response::new(MakeMoveResponse {
            game: Some(convert::game(game)),
        }))
    }
}

fn new_game(request: CreateGameRequest) -> Result<(Opponent, Option<Mark>), InvalidFields> {
    let mut fields = Fields::new();
    let opponent = match proto::Opponent::try_from(request.opponent) {
        Ok(proto::Opponent::Computer) => Ok(Opponent::Computer),
        Ok(proto::Opponent::Player) => Ok(Opponent::Player),
        Ok(proto::Opponent::Unspecified) | Err(_) => Err("must be OPPONENT_COMPUTER or OPPONENT_PLAYER"),
    };
    let opponent = fields.check("opponent", opponent);
    let mark = match proto::Mark::try_from(request.mark) {
        Ok(proto::Mark::Unspecified) => Ok(None),
        Ok(proto::Mark::X) => Ok(Some(Mark::X)),
        Ok(proto::Mark::O) => Ok(Some(Mark::O)),
        Err(_) => Err("must be MARK_X, MARK_O or MARK_UNSPECIFIED"),
    };
    let mark = fields.check("mark", mark);
    fields.finish(|| Some((opponent?, mark?)))
}

fn game_id(text: &str) -> Result<GameId, InvalidFields> {
    let mut fields = Fields::new();
    let id = fields.id("game_id", text);
    fields.finish(|| id)
}

fn page(request: &ListOpenGamesRequest) -> Result<PageRequest<GameKind>, InvalidFields> {
    let mut fields = Fields::new();
    let page = PageRequest::parse(
        &mut fields,
        request.page_size,
        &request.page_token,
        Games::open_games_query(),
    );
    fields.finish(|| page)
}

fn game_move(request: &MakeMoveRequest) -> Result<(GameId, Cell, i64), InvalidFields> {
    let mut fields = Fields::new();
    let id = fields.id("game_id", &request.game_id);
    let cell = match request.cell {
        None => Err("is required"),
        Some(number) => Cell::new(number).ok_or("must be 0 to 8"),
    };
    let cell = fields.check("cell", cell);
    let version = match request.expected_version {
        0 => Err("is required"),
        version if version < 0 => Err("must be at least 1"),
        version => Ok(version),
    };
    let version = fields.check("expected_version", version);
    fields.finish(|| Some((id?, cell?, version?)))
}
