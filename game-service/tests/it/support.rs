//! A running game-service with its own database and ports, and players who call it.

use std::{net::SocketAddr, time::Duration};

use access::{
    token::{AcceptedAudiences, DEFAULT_AUDIENCE, DEFAULT_ISSUER, KeySource},
    view::SilenceRule,
};
use base::{
    clock::{Clock, ClockHand, Timestamp},
    ids::UserId,
    running::Running,
};
use clap::Parser;
use db::Db;
use game_service::{GameService, VerificationKeys, config::GameSettings};
use proto::game::v1::{
    CancelGameRequest, CreateGameRequest, Game, GetGameRequest, GetLeaderboardRequest, GetPlayerRankRequest,
    GetPlayerRankResponse, JoinGameRequest, LeaderboardEntry, ListAroundPlayerRequest, ListFinishedGamesRequest,
    ListFinishedGamesResponse, ListMyGamesRequest, ListMyGamesResponse, ListOpenGamesRequest, ListOpenGamesResponse,
    MakeMoveRequest, Mark, Opponent, ResignGameRequest, WatchGameRequest, WatchGameResponse,
    game_service_client::GameServiceClient, history_service_client::HistoryServiceClient,
    leaderboard_service_client::LeaderboardServiceClient,
};
use server::ServerSettings;
use testing::{
    TestDatabase, contract,
    feed::FakeAuth,
    rpc::{channel, listener, reason, with_token},
    tokens::TokenMint,
};
use tokio_util::sync::CancellationToken;
use tonic::{Code, Status, Streaming, transport::Channel};

/// 2026-11-21T00:00:00Z
pub(crate) const START: Timestamp = Timestamp::from_micros(1_795_219_200_000_000);

/// A running game-service, and the mint whose tokens it accepts.
pub(crate) struct Server {
    pub(crate) database: TestDatabase,
    pub(crate) running: Running,
    pub(crate) clock: ClockHand,
    pub(crate) grpc: SocketAddr,
    pub(crate) mint: TokenMint,
    arguments: Vec<String>,
}

/// Another server on the same database.
pub(crate) struct Replica {
    pub(crate) running: Running,
    pub(crate) grpc: SocketAddr,
}

/// A player with a token, and a channel to a server.
#[derive(Clone)]
pub(crate) struct Player {
    pub(crate) id: UserId,
    pub(crate) token: String,
    channel: Channel,
}

#[derive(Parser)]
struct Cli {
    #[command(flatten)]
    settings: GameSettings,
}

impl Server {
    pub(crate) async fn start(database: TestDatabase) -> Self {
        Self::start_with(database, &[]).await
    }

    pub(crate) async fn start_with(database: TestDatabase, arguments: &[&str]) -> Self {
        let server = Self::start_unsettled(database, arguments).await;
        server.clock.settle();
        server
    }

    /// Starts a server that does not rely on its clock yet, as after every start.
    pub(crate) async fn start_unsettled(database: TestDatabase, arguments: &[&str]) -> Self {
        let mint = TokenMint::random();
        let folder = tempfile::tempdir().expect("a temporary directory");
        let public_key = folder.path().join("public.pem");
        std::fs::write(&public_key, mint.public_pem()).expect("write a file");
        let keys = VerificationKeys::From(KeySource::File(public_key), Duration::from_hours(1));
        let server = Self::spawn(database, arguments, keys, mint).await;
        contract::serving(server.grpc).await;
        server
    }

    /// Starts a server that follows the access feed, from which it gets the mint's key and the
    /// roles. Returns before the server is ready.
    pub(crate) async fn following(database: TestDatabase, auth: &FakeAuth, mint: TokenMint, rule: SilenceRule) -> Self {
        let keys = VerificationKeys::Follow(Box::new(auth.follower()), rule);
        Self::spawn(database, &[], keys, mint).await
    }

    /// Starts another server on the same database. It has the same settings, uses the same clock
    /// and accepts the same tokens. On PostgreSQL it has connections of its own, as another process
    /// does. On SQLite, where one process serves the file, it shares the connections.
    pub(crate) async fn replica(&self) -> Replica {
        let folder = tempfile::tempdir().expect("a temporary directory");
        let public_key = folder.path().join("public.pem");
        std::fs::write(&public_key, self.mint.public_pem()).expect("write a file");
        let keys = VerificationKeys::From(KeySource::File(public_key), Duration::from_hours(1));
        let db = self.database.replica().await;
        let arguments: Vec<&str> = self.arguments.iter().map(String::as_str).collect();
        let (running, grpc) = serve(db, self.clock.clock(), &arguments, keys).await;
        contract::serving(grpc).await;
        Replica { running, grpc }
    }

    /// Stops the server and returns its database and its mint.
    pub(crate) async fn stop(self) -> (TestDatabase, TokenMint) {
        self.running.stop().await.expect("ended");
        (self.database, self.mint)
    }

    /// Starts a server and returns before it is ready. The health service says when it is.
    async fn spawn(database: TestDatabase, arguments: &[&str], keys: VerificationKeys, mint: TokenMint) -> Self {
        let (clock, hand) = Clock::manual(START);
        let (running, grpc) = serve(database.db().clone(), clock, arguments, keys).await;
        Self {
            database,
            running,
            clock: hand,
            grpc,
            mint,
            arguments: arguments.iter().map(|argument| (*argument).to_owned()).collect(),
        }
    }

    /// Creates a player with this login.
    pub(crate) fn player(&self, login: &str) -> Player {
        Player::new(&self.mint, login, START, self.grpc)
    }

    /// Returns login, wins and losses of the players at the top of the leaderboard.
    pub(crate) async fn standings(&self, player: &Player) -> Vec<(String, i64, i64)> {
        let request = player.ask(GetLeaderboardRequest { limit: 0 });
        let board = player
            .leaderboards()
            .get_leaderboard(request)
            .await
            .expect("the leaderboard");
        let entries = board.into_inner().entries.into_iter();
        entries.map(|entry| (entry.login, entry.wins, entry.losses)).collect()
    }

    /// Starts a game between two players and plays these moves, X first.
    pub(crate) async fn play(&self, x: &Player, o: &Player, cells: &[i32]) -> Game {
        let mut game = self.start_game(x, o).await;
        for (player, cell) in [x, o].into_iter().cycle().zip(cells) {
            game = player.make_move(&game, *cell).await.expect("a legal move");
        }
        game
    }

    /// Starts a game between two players, in which X is to move.
    pub(crate) async fn start_game(&self, x: &Player, o: &Player) -> Game {
        let game = x.create(Opponent::Player, Mark::X).await.expect("created");
        o.join(&game.game_id).await.expect("joined")
    }
}

/// Starts a service and returns before it is ready. The health service says when it is.
async fn serve(db: Db, clock: Clock, arguments: &[&str], keys: VerificationKeys) -> (Running, SocketAddr) {
    let settings = Cli::try_parse_from(["test"].iter().chain(arguments))
        .expect("good arguments")
        .settings;
    let (grpc, http) = (listener().await, listener().await);
    let address = grpc.address();
    let running = Running::new(CancellationToken::new(), Duration::from_secs(5));
    let tasks = running.clone();
    tokio::spawn(async move {
        let service = GameService {
            settings: &settings,
            server: &ServerSettings::default(),
            token_issuer: DEFAULT_ISSUER,
            token_audiences: AcceptedAudiences::deployment(DEFAULT_AUDIENCE).or_service("game-service"),
            keys,
            db,
            clock,
            grpc,
            http,
        };
        service.spawn(true, &tasks).await.expect("started");
    });
    (running, address)
}

impl Player {
    /// Creates a player with a token of this mint, issued at `now`.
    pub(crate) fn new(mint: &TokenMint, login: &str, now: Timestamp, at: SocketAddr) -> Self {
        Self::with_roles(mint, (UserId::generate(), login), &["player"], now, at)
    }

    /// Creates a player with this id, login and these roles.
    pub(crate) fn with_roles(
        mint: &TokenMint,
        (id, login): (UserId, &str),
        roles: &[&str],
        now: Timestamp,
        at: SocketAddr,
    ) -> Self {
        let mut claims = mint.claims_for(id, login, roles, now);
        // Long-lived, since tests advance the clock by days.
        claims.exp += 365 * 24 * 3600;
        Self {
            id,
            token: mint.sign(&claims),
            channel: channel(at),
        }
    }

    /// Returns the same player, calling through this channel.
    pub(crate) fn through(&self, channel: Channel) -> Self {
        Self {
            channel,
            ..self.clone()
        }
    }

    /// Returns the same player, calling this address.
    pub(crate) fn calling(&self, at: SocketAddr) -> Self {
        Self {
            channel: channel(at),
            ..self.clone()
        }
    }

    /// Returns the same player, calling a server that was started again.
    pub(crate) fn anew(&self, server: &Server) -> Self {
        self.calling(server.grpc)
    }

    /// Returns the same player, calling this replica.
    pub(crate) fn at(&self, replica: &Replica) -> Self {
        self.calling(replica.grpc)
    }

    pub(crate) fn id(&self) -> String {
        self.id.to_string()
    }

    pub(crate) fn games(&self) -> GameServiceClient<Channel> {
        GameServiceClient::new(self.channel.clone())
    }

    pub(crate) fn histories(&self) -> HistoryServiceClient<Channel> {
        HistoryServiceClient::new(self.channel.clone())
    }

    pub(crate) fn leaderboards(&self) -> LeaderboardServiceClient<Channel> {
        LeaderboardServiceClient::new(self.channel.clone())
    }

    /// Creates a request with the player's token.
    pub(crate) fn ask<T>(&self, message: T) -> tonic::Request<T> {
        with_token(message, &self.token)
    }

    pub(crate) async fn create(&self, opponent: Opponent, mark: Mark) -> Result<Game, Status> {
        self.create_once(opponent, mark, "").await
    }

    /// Creates a game, at most once per request id.
    pub(crate) async fn create_once(&self, opponent: Opponent, mark: Mark, request_id: &str) -> Result<Game, Status> {
        let request = CreateGameRequest {
            opponent: opponent.into(),
            mark: mark.into(),
            request_id: request_id.to_owned(),
        };
        Ok(self
            .games()
            .create_game(self.ask(request))
            .await?
            .into_inner()
            .game
            .expect("a game"))
    }

    pub(crate) async fn get(&self, game_id: &str) -> Result<Game, Status> {
        let request = GetGameRequest {
            game_id: game_id.to_owned(),
        };
        Ok(self
            .games()
            .get_game(self.ask(request))
            .await?
            .into_inner()
            .game
            .expect("a game"))
    }

    pub(crate) async fn join(&self, game_id: &str) -> Result<Game, Status> {
        let request = JoinGameRequest {
            game_id: game_id.to_owned(),
        };
        Ok(self
            .games()
            .join_game(self.ask(request))
            .await?
            .into_inner()
            .game
            .expect("a game"))
    }

    pub(crate) async fn resign(&self, game_id: &str) -> Result<Game, Status> {
        let request = ResignGameRequest {
            game_id: game_id.to_owned(),
        };
        let answer = self.games().resign_game(self.ask(request)).await?;
        Ok(answer.into_inner().game.expect("a game"))
    }

    pub(crate) async fn cancel(&self, game_id: &str) -> Result<Game, Status> {
        let request = CancelGameRequest {
            game_id: game_id.to_owned(),
        };
        let answer = self.games().cancel_game(self.ask(request)).await?;
        Ok(answer.into_inner().game.expect("a game"))
    }

    pub(crate) async fn my_games(&self, page_size: i32, page_token: &str) -> Result<ListMyGamesResponse, Status> {
        let request = ListMyGamesRequest {
            page_size,
            page_token: page_token.to_owned(),
        };
        Ok(self.games().list_my_games(self.ask(request)).await?.into_inner())
    }

    /// Makes a move in the game as the player has seen it.
    pub(crate) async fn make_move(&self, seen: &Game, cell: i32) -> Result<Game, Status> {
        self.move_at(&seen.game_id, cell, seen.version).await
    }

    pub(crate) async fn move_at(&self, game_id: &str, cell: i32, expected_version: i64) -> Result<Game, Status> {
        let request = MakeMoveRequest {
            game_id: game_id.to_owned(),
            cell: Some(cell),
            expected_version,
        };
        Ok(self
            .games()
            .make_move(self.ask(request))
            .await?
            .into_inner()
            .game
            .expect("a game"))
    }

    pub(crate) async fn open_games(&self, page_size: i32, page_token: &str) -> Result<ListOpenGamesResponse, Status> {
        let request = ListOpenGamesRequest {
            page_size,
            page_token: page_token.to_owned(),
        };
        Ok(self.games().list_open_games(self.ask(request)).await?.into_inner())
    }

    /// Watches a game. Returns errors of the call itself. Later errors arrive in the stream.
    pub(crate) async fn watch(&self, game_id: &str) -> Result<Streaming<WatchGameResponse>, Status> {
        let request = WatchGameRequest {
            game_id: game_id.to_owned(),
        };
        Ok(self.games().watch_game(self.ask(request)).await?.into_inner())
    }

    /// Watches a game until it is over, and returns its final state. Panics after 30 seconds.
    pub(crate) async fn watch_to_the_end(&self, game_id: &str) -> Game {
        let watching = async {
            let (mut states, mut last) = (self.watch(game_id).await.expect("watched"), None);
            while let Some(state) = states.message().await.expect("a state") {
                last = state.game;
            }
            last.expect("a game")
        };
        tokio::time::timeout(Duration::from_secs(30), watching)
            .await
            .expect("it ends in time")
    }

    pub(crate) async fn history(&self, request: ListFinishedGamesRequest) -> Result<ListFinishedGamesResponse, Status> {
        Ok(self
            .histories()
            .list_finished_games(self.ask(request))
            .await?
            .into_inner())
    }

    pub(crate) async fn rank(&self, user_id: &str) -> Result<GetPlayerRankResponse, Status> {
        let request = GetPlayerRankRequest {
            user_id: user_id.to_owned(),
        };
        Ok(self
            .leaderboards()
            .get_player_rank(self.ask(request))
            .await?
            .into_inner())
    }

    pub(crate) async fn around(&self, user_id: &str, limit: i32) -> Result<Vec<LeaderboardEntry>, Status> {
        let request = ListAroundPlayerRequest {
            user_id: user_id.to_owned(),
            limit,
        };
        let answer = self.leaderboards().list_around_player(self.ask(request)).await?;
        Ok(answer.into_inner().entries)
    }

    pub(crate) async fn finished_games(
        &self,
        page_size: i32,
        page_token: &str,
    ) -> Result<ListFinishedGamesResponse, Status> {
        let request = ListFinishedGamesRequest {
            page_size,
            page_token: page_token.to_owned(),
            ..ListFinishedGamesRequest::default()
        };
        Ok(self
            .histories()
            .list_finished_games(self.ask(request))
            .await?
            .into_inner())
    }
}

/// Returns the code and the reason of a refused call.
pub(crate) fn kind<T: std::fmt::Debug>(result: Result<T, Status>) -> (Code, String) {
    let status = result.expect_err("refused");
    (status.code(), reason(&status))
}

/// Returns a value to compare the result of [`kind`] with.
pub(crate) fn is(code: Code, reason: &str) -> (Code, String) {
    (code, reason.to_owned())
}
