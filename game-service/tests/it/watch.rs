//! Watching a game.

use std::{net::SocketAddr, time::Duration};

use proto::game::v1::{EndReason, Game, GameState, Mark, Opponent, WatchGameResponse};
use testing::{
    TestDatabase, on_both_backends,
    rpc::{bad_fields, reason},
};
use tokio::time::timeout;
use tonic::{
    Code, Status, Streaming,
    transport::{Channel, Endpoint},
};

use crate::{
    access::{becomes, following},
    support::{Player, Server},
};

/// Longer than an announcement takes, and shorter than the interval of the periodic check.
const AT_ONCE: Duration = Duration::from_secs(4);

/// Returns the next state, which must arrive at once.
async fn next(states: &mut Streaming<WatchGameResponse>) -> Result<Option<Game>, Status> {
    let next = timeout(AT_ONCE, states.message()).await.expect("a message in time");
    Ok(next?.map(|message| message.game.expect("a game")))
}

async fn ended_with(states: &mut Streaming<WatchGameResponse>) -> (Code, String) {
    let status = next(states).await.expect_err("an end");
    (status.code(), reason(&status))
}

/// Watches until this version has arrived. Versions in between may be left out, but none may arrive
/// twice or out of order.
async fn until(states: &mut Streaming<WatchGameResponse>, version: i64) -> Game {
    let mut last = 0;
    loop {
        let game = next(states).await.expect("a state").expect("not over");
        assert!(game.version > last, "{} after {last}", game.version);
        last = game.version;
        if game.version >= version {
            return game;
        }
    }
}

/// Creates a connection that buffers little before the client reads.
fn narrow_channel(at: SocketAddr) -> Channel {
    let endpoint = Endpoint::from_shared(format!("http://{at}")).expect("a URL");
    endpoint.initial_stream_window_size(600).connect_lazy()
}

#[on_both_backends]
async fn both_players_and_every_replica_see_each_state_until_the_end(database: TestDatabase) {
    let server = Server::start(database).await;
    let replica = server.replica().await;
    let (ann, bob) = (server.player("ann"), server.player("bob"));
    let game = ann.create(Opponent::Player, Mark::X).await.expect("created");
    let mut here = ann.watch(&game.game_id).await.expect("watched");
    let mut there = ann.at(&replica).watch(&game.game_id).await.expect("watched");
    assert_eq!(next(&mut here).await.expect("a state"), Some(game.clone()));
    assert_eq!(next(&mut there).await.expect("a state"), Some(game.clone()));
    let mut latest = bob.join(&game.game_id).await.expect("joined");
    let mut of_bob = bob.at(&replica).watch(&game.game_id).await.expect("watched");
    assert_eq!(next(&mut of_bob).await.expect("a state"), Some(latest.clone()));
    for states in [&mut here, &mut there] {
        assert_eq!(until(states, latest.version).await, latest);
    }
    for (player, cell) in [&ann, &bob].into_iter().cycle().zip([0, 3, 1, 4, 2]) {
        // The moves go to the two replicas in turn.
        let player = if cell % 2 == 0 {
            player.clone()
        } else {
            player.at(&replica)
        };
        latest = player.make_move(&latest, cell).await.expect("a legal move");
        for states in [&mut here, &mut there, &mut of_bob] {
            assert_eq!(until(states, latest.version).await, latest);
        }
    }
    assert_eq!(latest.state(), GameState::Won);
    for states in [&mut here, &mut there, &mut of_bob] {
        assert_eq!(next(states).await.expect("the end"), None);
    }
    // A late watcher gets the final state, and then the end of the stream.
    let mut late = ann.watch(&game.game_id).await.expect("watched");
    assert_eq!(next(&mut late).await.expect("a state"), Some(latest));
    assert_eq!(next(&mut late).await.expect("the end"), None);
}

#[on_both_backends]
async fn a_slow_reader_skips_intermediate_states(database: TestDatabase) {
    let server = Server::start(database).await;
    let (ann, bob) = (server.player("ann"), server.player("bob"));
    let slow = ann.through(narrow_channel(server.grpc));
    let mut game = server.start_game(&ann, &bob).await;
    let mut states = slow.watch(&game.game_id).await.expect("watched");
    // The stream is not read while the game is played, and has room for a message or two.
    for (player, cell) in [&ann, &bob].into_iter().cycle().zip([0, 4, 8, 2, 6, 3, 5, 7, 1]) {
        game = player.make_move(&game, cell).await.expect("a legal move");
    }
    assert_eq!(game.state(), GameState::Draw);
    let mut seen = Vec::new();
    while let Some(state) = next(&mut states).await.expect("a state") {
        seen.push(state);
    }
    assert_eq!(seen.last(), Some(&game));
    assert!(seen.len() < 7, "{} states", seen.len());
}

#[on_both_backends]
async fn only_its_players_watch_a_game_that_has_started(database: TestDatabase) {
    let server = Server::start(database).await;
    let (ann, bob, eve) = (server.player("ann"), server.player("bob"), server.player("eve"));
    let game = ann.create(Opponent::Player, Mark::X).await.expect("created");
    // Anyone may watch a waiting game, but only its players see how it goes on.
    let mut of_eve = eve.watch(&game.game_id).await.expect("watched");
    assert_eq!(next(&mut of_eve).await.expect("a state"), Some(game.clone()));
    bob.join(&game.game_id).await.expect("joined");
    let gone = (Code::NotFound, "GAME_NOT_FOUND".to_owned());
    assert_eq!(ended_with(&mut of_eve).await, gone);
    for id in [game.game_id.as_str(), "01a1fc2d-0afd-7001-abc5-eae560e12287"] {
        let refused = eve.watch(id).await.expect_err("refused");
        assert_eq!((refused.code(), reason(&refused)), gone);
    }
    assert_eq!(bad_fields(&eve.watch("x").await.expect_err("refused")), ["game_id"]);
}

#[on_both_backends]
async fn a_user_watches_a_limited_number_of_games(database: TestDatabase) {
    let server = Server::start(database).await;
    let (ann, bob) = (server.player("ann"), server.player("bob"));
    let game = server.start_game(&ann, &bob).await;
    let mut open = Vec::new();
    for _ in 0..20 {
        open.push(ann.watch(&game.game_id).await.expect("watched"));
    }
    let refused = ann.watch(&game.game_id).await.expect_err("too many");
    assert_eq!(
        (refused.code(), reason(&refused).as_str()),
        (Code::ResourceExhausted, "TOO_MANY_GAMES_WATCHED")
    );
    bob.watch(&game.game_id).await.expect("another's");
    open.pop();
    let again = async { while ann.watch(&game.game_id).await.is_err() {} };
    timeout(Duration::from_secs(10), again)
        .await
        .expect("a closed stream frees its slot");
}

#[on_both_backends]
async fn a_lost_announcement_is_noticed_by_polling(database: TestDatabase) {
    let server = Server::start(database).await;
    let (ann, bob) = (server.player("ann"), server.player("bob"));
    let game = server.start_game(&ann, &bob).await;
    let mut states = ann.watch(&game.game_id).await.expect("watched");
    next(&mut states).await.expect("a state");
    // The game is changed without an announcement.
    let quietly = "UPDATE games SET version = version + 1";
    let done: db::Result<usize> = db::write_tx!(server.database.db(), |tx| db::query!(tx, |c| {
        diesel_async::RunQueryDsl::execute(diesel::sql_query(quietly), c).await
    }));
    assert_eq!(done.expect("done"), 1);
    let seen = timeout(Duration::from_secs(20), states.message())
        .await
        .expect("in time")
        .expect("a state");
    assert_eq!(seen.expect("not over").game.expect("a game").version, game.version + 1);
}

#[on_both_backends]
async fn a_stream_ends_with_the_session_and_with_the_server(database: TestDatabase) {
    let (auth, server) = following(database).await;
    let (ann, bob) = (server.player("ann"), server.player("bob"));
    let game = server.start_game(&ann, &bob).await;
    let mut of_ann = ann.watch(&game.game_id).await.expect("watched");
    let mut of_bob = bob.watch(&game.game_id).await.expect("watched");
    for states in [&mut of_ann, &mut of_bob] {
        assert_eq!(next(states).await.expect("a state"), Some(game.clone()));
    }
    auth.revoke_user(ann.id, 1_000_000);
    assert_eq!(
        ended_with(&mut of_ann).await,
        (Code::Unauthenticated, "TOKEN_STALE".to_owned())
    );
    becomes(Code::Unauthenticated, "TOKEN_STALE", async || {
        ann.get(&game.game_id).await.map(drop)
    })
    .await;
    server.running.stop().await.expect("ended");
    assert_eq!(
        ended_with(&mut of_bob).await,
        (Code::Unavailable, "SHUTTING_DOWN".to_owned())
    );
}

#[on_both_backends]
async fn watchers_see_a_game_end_by_timeout(database: TestDatabase) {
    let server = Server::start(database).await;
    let (ann, bob) = (server.player("ann"), server.player("bob"));
    let game = server.play(&ann, &bob, &[0, 1]).await;
    let mut states = bob.watch(&game.game_id).await.expect("watched");
    next(&mut states).await.expect("a state");
    server.clock.advance(Duration::from_hours(24) + Duration::from_secs(30));
    let over = next(&mut states).await.expect("a state").expect("a game");
    assert_eq!(
        (over.state(), over.end_reason(), over.winner_user_id),
        (GameState::Won, EndReason::Timeout, bob.id())
    );
    assert_eq!(next(&mut states).await.expect("the end"), None);
}

impl Player {
    /// Returns the state of the player's game, and the reason if it is over.
    pub(crate) async fn end_of(&self, game_id: &str) -> (GameState, EndReason) {
        let game = self.get(game_id).await.expect("one's own game");
        (game.state(), game.end_reason())
    }
}
