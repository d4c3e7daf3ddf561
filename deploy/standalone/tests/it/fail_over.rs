//! Both programs under load, while the primary database is killed and its hot standby is promoted.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use proto::{
    auth::v1::{RefreshAccessTokenRequest, RotateTokensRequest, TokenPair, auth_service_client::AuthServiceClient},
    game::v1::{
        CreateGameRequest, Game, GameState, GetGameRequest, MakeMoveRequest, Mark, Opponent,
        game_service_client::GameServiceClient,
    },
};
use testing::{
    block_on,
    postgres::Cluster,
    program::serving,
    rpc::{channel, reason, request_id, with_token},
};
use tokio::time::{sleep, timeout};
use tonic::{Code, Status, transport::Channel};

use crate::access_feed::ServiceFiles;

/// Timeout that only a failing test reaches.
const PATIENCE: Duration = Duration::from_secs(60);
const PLAYERS: usize = 6;
/// Results that are acknowledged before the primary is killed, and again after the standby is
/// promoted.
const MOVES: usize = 300;
/// Age up to which an asynchronous standby may lose a commit.
const LAG: Duration = Duration::from_secs(2);
/// Delay before a call that was not acknowledged is retried.
const PAUSE: Duration = Duration::from_millis(10);

/// A version of a game that was acknowledged to the player.
struct Acknowledged {
    player: usize,
    game: Game,
    at: Instant,
}

/// Acknowledged results of all players.
#[derive(Default)]
struct Record {
    acknowledged: Mutex<Vec<Acknowledged>>,
    count: AtomicUsize,
    is_over: AtomicBool,
}

impl Record {
    fn note(&self, player: usize, game: &Game) {
        let acknowledged = Acknowledged {
            player,
            game: game.clone(),
            at: Instant::now(),
        };
        self.acknowledged.lock().push(acknowledged);
        self.count.fetch_add(1, Ordering::SeqCst);
    }

    async fn reaches(&self, count: usize) {
        let reached = async {
            while self.count.load(Ordering::SeqCst) < count {
                sleep(Duration::from_millis(1)).await;
            }
        };
        timeout(PATIENCE, reached).await.expect("they play");
    }
}

/// Plays one game after the other against the computer. Gives up a game if one of its calls fails.
async fn play(mut client: GameServiceClient<Channel>, token: String, player: usize, record: Arc<Record>) {
    while !record.is_over.load(Ordering::SeqCst) {
        let request = CreateGameRequest {
            opponent: Opponent::Computer.into(),
            mark: Mark::X.into(),
            ..CreateGameRequest::default()
        };
        let created = client.create_game(with_token(request, &token)).await;
        let mut game = created.map(|answer| answer.into_inner().game.expect("a game"));
        while let Ok(now) = &game {
            record.note(player, now);
            if now.state() != GameState::Turn {
                break;
            }
            let request = MakeMoveRequest {
                game_id: now.game_id.clone(),
                cell: now.board.find('.').and_then(|cell| i32::try_from(cell).ok()),
                expected_version: now.version,
            };
            let moved = client.make_move(with_token(request, &token)).await;
            game = moved.map(|answer| answer.into_inner().game.expect("a game"));
        }
        if let Err(status) = game {
            is_outage(&status);
            sleep(PAUSE).await;
        }
    }
}

fn is_outage(status: &Status) {
    assert!(
        matches!(status.code(), Code::Unavailable | Code::DeadlineExceeded),
        "{}: {status}",
        reason(status)
    );
}

/// Rotates one session again and again, as a careful client does: a call without an answer is
/// repeated with the same request id.
async fn rotate(mut client: AuthServiceClient<Channel>, mut tokens: TokenPair, record: Arc<Record>) -> TokenPair {
    while !record.is_over.load(Ordering::SeqCst) {
        let request = RotateTokensRequest {
            refresh_token: tokens.refresh_token.clone(),
            request_id: request_id(),
            ..RotateTokensRequest::default()
        };
        tokens = loop {
            match client.rotate_tokens(request.clone()).await {
                Ok(answer) => break answer.into_inner().tokens.expect("tokens"),
                Err(status) => {
                    is_outage(&status);
                    sleep(PAUSE).await;
                }
            }
        };
        sleep(PAUSE).await;
    }
    tokens
}

async fn fails_over_under_load(is_synchronous: bool) {
    let (primary, standby) = Cluster::start_with_standby();
    for name in ["auth", "game"] {
        primary.create_database(name).await;
    }
    if is_synchronous {
        primary.make_synchronous();
    }
    let hosts = format!("{},{}", primary.address(), standby.address());
    let databases = ["auth", "game"].map(|name| format!("postgres://postgres@{hosts}/{name}"));
    let folder = tempfile::tempdir().expect("a temporary directory");
    let files = ServiceFiles::on(folder, databases).await;
    let _auth = files.auth_service().await;
    let (_game, at) = files.game_service().await;
    serving(at).await;

    let record = Arc::<Record>::default();
    let (mut playing, mut rotating, mut people) = (Vec::new(), Vec::new(), Vec::new());
    for player in 0..PLAYERS {
        let tokens = files.registered(&format!("ann{player}")).await.tokens.expect("tokens");
        let client = GameServiceClient::new(channel(at));
        playing.push(tokio::spawn(play(
            client,
            tokens.access_token.clone(),
            player,
            Arc::clone(&record),
        )));
        people.push(tokens);
        if is_synchronous {
            let tokens = files.registered(&format!("bob{player}")).await.tokens.expect("tokens");
            let client = AuthServiceClient::new(channel(files.auth));
            rotating.push(tokio::spawn(rotate(client, tokens, Arc::clone(&record))));
        }
    }
    record.reaches(MOVES).await;
    primary.kill();
    let killed = Instant::now();
    standby.promote();
    let promoted = Instant::now();
    let before = record.count.load(Ordering::SeqCst);
    record.reaches(before + 1).await;
    let first = promoted.elapsed();
    record.reaches(before + MOVES).await;
    record.is_over.store(true, Ordering::SeqCst);
    for player in playing {
        player.await.expect("no call failed but by the outage");
    }

    let acknowledged = std::mem::take(&mut *record.acknowledged.lock());
    let mut client = GameServiceClient::new(channel(at));
    let mut lost = 0;
    for told in &acknowledged {
        let request = GetGameRequest {
            game_id: told.game.game_id.clone(),
        };
        let found = client
            .get_game(with_token(request, &people[told.player].access_token))
            .await;
        let is_there = match found.map(|answer| answer.into_inner().game.expect("a game")) {
            Ok(game) => game.version >= told.game.version && game.moves.starts_with(&told.game.moves),
            Err(status) if status.code() == Code::NotFound => false,
            Err(status) => panic!("{status}"),
        };
        if !is_there {
            lost += 1;
            assert!(!is_synchronous, "{:?} is lost", told.game);
            let is_young = told.at < promoted && told.at + LAG > killed;
            assert!(
                is_young,
                "{:?}, acknowledged {:?} before the end, is lost",
                told.game,
                killed - told.at
            );
        }
    }
    let count = acknowledged.len();
    #[expect(
        clippy::print_stderr,
        reason = "the figures, for whoever asks for them with --nocapture"
    )]
    {
        eprintln!(
            "{count} answers, {lost} of them lost; the first {} ms after the promotion",
            first.as_millis()
        );
    }
    assert!(first < Duration::from_secs(5), "{first:?}");

    // Existing sessions go on, including those that were rotated during the outage.
    for session in rotating {
        people.push(session.await.expect("no rotation failed but by the outage"));
    }
    let mut client = AuthServiceClient::new(channel(files.auth));
    for tokens in people {
        let refresh_token = tokens.refresh_token;
        let refreshed = client
            .refresh_access_token(RefreshAccessTokenRequest {
                refresh_token,
                ..RefreshAccessTokenRequest::default()
            })
            .await;
        refreshed.expect("the session lives");
    }
}

#[test]
fn a_synchronous_standby_loses_nothing_that_was_acknowledged() {
    block_on(fails_over_under_load(true));
}

#[test]
fn an_asynchronous_standby_loses_only_the_last_moments() {
    block_on(fails_over_under_load(false));
}
