//! The RPCs of `game.v1.GameService`.

use std::pin::Pin;

use ::proto::game::v1::{
    self as proto, CancelGameRequest, CancelGameResponse, CreateGameRequest, CreateGameResponse, GetGameRequest,
    GetGameResponse, JoinGameRequest, JoinGameResponse, ListMyGamesRequest, ListMyGamesResponse, ListOpenGamesRequest,
    ListOpenGamesResponse, MakeMoveRequest, MakeMoveResponse, ResignGameRequest, ResignGameResponse, WatchGameRequest,
    WatchGameResponse, game_service_server::GameService,
};
use access::authz;
use base::{
    page::PageRequest,
    validate::{Fields, InvalidFields},
};
use futures_util::{Stream, stream};
use tonic::{Request, Response, Status};

use super::convert;
use crate::{
    domain::{GameWatch, Games, Opponent},
    ids::{GameId, GameKind, RequestId},
    rules::{Cell, Mark},
};

/// Serves `game.v1.GameService`.
#[derive(Clone, Debug)]
pub(crate) struct GameRpc {
    pub(crate) games: Games,
}

#[tonic::async_trait]
impl GameService for GameRpc {
    type WatchGameStream = Pin<Box<dyn Stream<Item = Result<WatchGameResponse, Status>> + Send>>;

    async fn create_game(&self, request: Request<CreateGameRequest>) -> Result<Response<CreateGameResponse>, Status> {
        let principal = authz::principal(&request)?;
        let (opponent, mark, request) = new_game(request.get_ref())?;
        let player = convert::player(&principal);
        let game = self.games.create(&player, opponent, mark, request).await?;
        Ok(Response::new(CreateGameResponse {
            game: Some(convert::game(game)),
        }))
    }

    async fn get_game(&self, request: Request<GetGameRequest>) -> Result<Response<GetGameResponse>, Status> {
        let principal = authz::principal(&request)?;
        let id = game_id(&request.get_ref().game_id)?;
        let game = self.games.get(principal.user_id(), id).await?;
        Ok(Response::new(GetGameResponse {
            game: Some(convert::game(game)),
        }))
    }

    async fn list_open_games(
        &self,
        request: Request<ListOpenGamesRequest>,
    ) -> Result<Response<ListOpenGamesResponse>, Status> {
        let request = request.into_inner();
        let query = Games::open_games_query();
        let page = page(request.page_size, &request.page_token, query)?;
        let (games, next_page_token) = self.games.list_open(&page).await?;
        let games = games.into_iter().map(convert::game).collect();
        Ok(Response::new(ListOpenGamesResponse { games, next_page_token }))
    }

    async fn join_game(&self, request: Request<JoinGameRequest>) -> Result<Response<JoinGameResponse>, Status> {
        let principal = authz::principal(&request)?;
        let id = game_id(&request.get_ref().game_id)?;
        let game = self.games.join(&convert::player(&principal), id).await?;
        Ok(Response::new(JoinGameResponse {
            game: Some(convert::game(game)),
        }))
    }

    async fn list_my_games(
        &self,
        request: Request<ListMyGamesRequest>,
    ) -> Result<Response<ListMyGamesResponse>, Status> {
        let user = authz::principal(&request)?.user_id();
        let request = request.into_inner();
        let query = Games::my_games_query(user);
        let page = page(request.page_size, &request.page_token, &query)?;
        let (games, next_page_token) = self.games.list_mine(user, &page).await?;
        let games = games.into_iter().map(convert::game).collect();
        Ok(Response::new(ListMyGamesResponse { games, next_page_token }))
    }

    async fn resign_game(&self, request: Request<ResignGameRequest>) -> Result<Response<ResignGameResponse>, Status> {
        let principal = authz::principal(&request)?;
        let id = game_id(&request.get_ref().game_id)?;
        let game = self.games.resign(principal.user_id(), id).await?;
        Ok(Response::new(ResignGameResponse {
            game: Some(convert::game(game)),
        }))
    }

    async fn cancel_game(&self, request: Request<CancelGameRequest>) -> Result<Response<CancelGameResponse>, Status> {
        let principal = authz::principal(&request)?;
        let id = game_id(&request.get_ref().game_id)?;
        let game = self.games.cancel(principal.user_id(), id).await?;
        Ok(Response::new(CancelGameResponse {
            game: Some(convert::game(game)),
        }))
    }

    async fn make_move(&self, request: Request<MakeMoveRequest>) -> Result<Response<MakeMoveResponse>, Status> {
        let principal = authz::principal(&request)?;
        let (id, cell, version) = game_move(request.get_ref())?;
        let game = self.games.make_move(principal.user_id(), id, cell, version).await?;
        Ok(Response::new(MakeMoveResponse {
            game: Some(convert::game(game)),
        }))
    }

    async fn watch_game(&self, request: Request<WatchGameRequest>) -> Result<Response<Self::WatchGameStream>, Status> {
        let principal = authz::principal(&request)?;
        let id = game_id(&request.get_ref().game_id)?;
        let watch = self.games.watch(principal.user_id(), id).await?;
        Ok(Response::new(Box::pin(states(watch))))
    }
}

fn states(watch: GameWatch) -> impl Stream<Item = Result<WatchGameResponse, Status>> + Send {
    stream::unfold(watch, |mut watch| async {
        let next = watch.next().await?;
        let message = next.map(|view| WatchGameResponse {
            game: Some(convert::game(view)),
        });
        Some((message.map_err(Status::from), watch))
    })
}

fn new_game(request: &CreateGameRequest) -> Result<(Opponent, Option<Mark>, Option<RequestId>), InvalidFields> {
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
    let request = match request.request_id.as_str() {
        "" => Some(None),
        id => fields.check("request_id", id.parse()).map(Some),
    };
    fields.finish(|| Some((opponent?, mark?, request?)))
}

fn game_id(text: &str) -> Result<GameId, InvalidFields> {
    let mut fields = Fields::new();
    let id = fields.id("game_id", text);
    fields.finish(|| id)
}

fn page(size: i32, token: &str, query: &str) -> Result<PageRequest<GameKind>, InvalidFields> {
    let mut fields = Fields::new();
    let page = PageRequest::parse(&mut fields, size, token, query);
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
