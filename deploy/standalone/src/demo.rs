//! `--demo`: adds a few players and finished games between them, through the same RPCs that any
//! client calls.

use std::net::SocketAddr;

use proto::{
    auth::v1::{LoginRequest, RegisterRequest, auth_service_client::AuthServiceClient},
    game::v1::{
        CreateGameRequest, JoinGameRequest, ListFinishedGamesRequest, MakeMoveRequest, Mark, Opponent,
        game_service_client::GameServiceClient, history_service_client::HistoryServiceClient,
    },
};
use tonic::{Code, Request, Status, transport::Channel};

use crate::endpoints::Endpoints;

/// Login of the demo account that the banner shows.
pub(crate) const LOGIN: &str = "demo";
/// Password of every demo account.
pub(crate) const PASSWORD: &str = "demo-password";

const PLAYERS: [&str; 4] = [LOGIN, "ada", "grace", "edsger"];

/// Games: the index of the player of X, that of the player of O, and the cells in the order of the
/// moves. X wins some, O wins some, and some are draws.
const GAMES: [(usize, usize, &[i32]); 6] = [
    (0, 1, &[0, 3, 1, 4, 2]),
    (1, 2, &[0, 4, 8, 2, 6, 3, 5, 7, 1]),
    (2, 0, &[4, 0, 2, 6, 3, 5, 1, 7, 8]),
    (3, 1, &[0, 4, 1, 2, 3, 6]),
    (0, 3, &[4, 0, 2, 1, 6]),
    (2, 3, &[0, 1, 4, 2, 8]),
];

/// Outcome of adding the demo.
#[derive(Clone, Debug)]
pub(crate) enum Demo {
    /// Players and games were added.
    Added { players: usize, games: usize },
    /// The players and games were added by an earlier start.
    ThereAlready,
    /// Adding them failed, for this reason.
    Failed(String),
}

/// Adds the demo's players and games, unless they exist. The services keep running even if this
/// fails.
pub(crate) async fn play(places: &Endpoints) -> Demo {
    match add(places).await {
        Ok(demo) => demo,
        Err(status) => Demo::Failed(status.message().to_owned()),
    }
}

async fn add(places: &Endpoints) -> Result<Demo, Status> {
    let mut auth = AuthServiceClient::new(channel(places.auth_grpc)?);
    let mut tokens = Vec::new();
    for login in PLAYERS {
        tokens.push(sign_in(&mut auth, login).await?);
    }
    let mut client = GameServiceClient::new(channel(places.game_grpc)?);
    let mut histories = HistoryServiceClient::new(channel(places.game_grpc)?);
    // Games from an earlier start stay as they are.
    let known = histories
        .list_finished_games(with_token(ListFinishedGamesRequest::default(), &tokens[0])?)
        .await?;
    if !known.into_inner().games.is_empty() {
        return Ok(Demo::ThereAlready);
    }
    for (x, o, cells) in GAMES {
        let (x, o) = (&tokens[x], &tokens[o]);
        let create = CreateGameRequest {
            opponent: Opponent::Player.into(),
            mark: Mark::X.into(),
            ..CreateGameRequest::default()
        };
        let created = client
            .create_game(with_token(create, x)?)
            .await?
            .into_inner()
            .game
            .unwrap_or_default();
        let game_id = created.game_id;
        let joined = client
            .join_game(with_token(
                JoinGameRequest {
                    game_id: game_id.clone(),
                },
                o,
            )?)
            .await?;
        let mut version = joined.into_inner().game.unwrap_or_default().version;
        for (cell, token) in cells.iter().zip([x, o].into_iter().cycle()) {
            let request = MakeMoveRequest {
                game_id: game_id.clone(),
                cell: Some(*cell),
                expected_version: version,
            };
            let moved = client.make_move(with_token(request, token)?).await?.into_inner();
            version = moved.game.unwrap_or_default().version;
        }
    }
    Ok(Demo::Added {
        players: PLAYERS.len(),
        games: GAMES.len(),
    })
}

/// Returns an access token of a demo account. Registers the account if its login is refused.
async fn sign_in(auth: &mut AuthServiceClient<Channel>, login: &str) -> Result<String, Status> {
    let credentials = LoginRequest {
        identifier: login.to_owned(),
        password: PASSWORD.to_owned(),
        ..LoginRequest::default()
    };
    let tokens = match auth.login(credentials).await {
        Ok(answer) => answer.into_inner().tokens,
        Err(status) if status.code() == Code::Unauthenticated => {
            let request = RegisterRequest {
                email: format!("{login}@example.com"),
                login: login.to_owned(),
                password: PASSWORD.to_owned(),
                password_confirmation: PASSWORD.to_owned(),
                ..RegisterRequest::default()
            };
            auth.register(request).await?.into_inner().tokens
        }
        Err(status) => return Err(status),
    };
    Ok(tokens.unwrap_or_default().access_token)
}

fn channel(address: SocketAddr) -> Result<Channel, Status> {
    // A server that listens on all addresses is reached through the loopback address.
    let host = if address.ip().is_unspecified() {
        [127, 0, 0, 1].into()
    } else {
        address.ip()
    };
    let endpoint = Channel::from_shared(format!("http://{}", SocketAddr::new(host, address.port())));
    Ok(endpoint
        .map_err(|error| Status::internal(error.to_string()))?
        .connect_lazy())
}

fn with_token<T>(message: T, token: &str) -> Result<Request<T>, Status> {
    let value = format!("Bearer {token}").parse();
    let mut request = Request::new(message);
    request.metadata_mut().insert(
        "authorization",
        value.map_err(|_| Status::internal("a token is not ASCII"))?,
    );
    Ok(request)
}
