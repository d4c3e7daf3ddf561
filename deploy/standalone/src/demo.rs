//! `--demo`: a few players who have played each other, made by the same calls that any client makes.

use std::net::SocketAddr;

use shared::{
    config::StartError,
    proto::{
        auth::v1::{LoginRequest, RegisterRequest, auth_service_client::AuthServiceClient},
        game::v1::{
            CreateGameRequest, JoinGameRequest, MakeMoveRequest, Mark, Opponent, game_service_client::GameServiceClient,
        },
    },
};
use tonic::{Code, Request, Status, transport::Channel};

use crate::banner::Places;

/// The login of the known account.
pub(crate) const LOGIN: &str = "demo";
/// The password of every demo account.
pub(crate) const PASSWORD: &str = "demo-password";

const PLAYERS: [&str; 4] = [LOGIN, "ada", "grace", "edsger"];

/// Who plays X, who plays O, and the cells in the order in which they are taken: wins for either side, and draws.
const GAMES: [(usize, usize, &[i32]); 6] = [
    (0, 1, &[0, 3, 1, 4, 2]),
    (1, 2, &[0, 4, 8, 2, 6, 3, 5, 7, 1]),
    (2, 0, &[4, 0, 2, 6, 3, 5, 1, 7, 8]),
    (3, 1, &[0, 4, 1, 2, 3, 6]),
    (0, 3, &[4, 0, 2, 1, 6]),
    (2, 3, &[0, 1, 4, 2, 8]),
];

/// What the demo did.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Demo {
    /// It added this.
    Added { players: usize, games: usize },
    /// An earlier start had added it.
    ThereAlready,
}

/// Adds the demo's players and games, unless the known account can log in.
pub(crate) async fn play(places: &Places) -> Result<Demo, StartError> {
    let failed = |status: Status| StartError::Failed(format!("--demo: {}", status.message()));
    let auth = channel(places.auth_grpc)?;
    let game = channel(places.game_grpc)?;
    match AuthServiceClient::new(auth.clone())
        .login(LoginRequest {
            identifier: LOGIN.to_owned(),
            password: PASSWORD.to_owned(),
        })
        .await
    {
        Ok(_) => return Ok(Demo::ThereAlready),
        Err(status) if status.code() == Code::Unauthenticated => {}
        Err(status) => return Err(failed(status)),
    }
    add(auth, game).await.map_err(failed)
}

async fn add(auth: Channel, game: Channel) -> Result<Demo, Status> {
    let mut auth = AuthServiceClient::new(auth);
    let mut tokens = Vec::new();
    for login in PLAYERS {
        let request = RegisterRequest {
            email: format!("{login}@example.com"),
            login: login.to_owned(),
            password: PASSWORD.to_owned(),
            password_confirmation: PASSWORD.to_owned(),
            ..RegisterRequest::default()
        };
        let answer = auth.register(request).await?.into_inner();
        tokens.push(answer.tokens.unwrap_or_default().access_token);
    }
    let mut client = GameServiceClient::new(game);
    for (x, o, cells) in GAMES {
        let (x, o) = (&tokens[x], &tokens[o]);
        let create = CreateGameRequest {
            opponent: Opponent::Player.into(),
            mark: Mark::X.into(),
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

fn channel(address: SocketAddr) -> Result<Channel, StartError> {
    // A server that listens everywhere is reached on this machine.
    let host = if address.ip().is_unspecified() {
        [127, 0, 0, 1].into()
    } else {
        address.ip()
    };
    let endpoint = Channel::from_shared(format!("http://{}", SocketAddr::new(host, address.port())));
    Ok(endpoint.map_err(StartError::failed)?.connect_lazy())
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
