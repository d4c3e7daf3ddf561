//! Games whose time runs out.

use std::time::Duration;

use db::Backend;
use proto::game::v1::{EndReason, Game, GameState, Mark, Opponent};
use testing::{
    TestDatabase, on_both_backends,
    rpc::{reason, retry_after},
};
use tonic::Code;

use crate::support::{Player, START, Server, is, kind};

const DAY: Duration = Duration::from_hours(24);
const SECOND: Duration = Duration::from_secs(1);
/// Delay between the expiry time and the end of a game, since the clocks of processes may differ.
const ALLOWANCE: Duration = Duration::from_secs(30);

/// Watches a game that no request touches, and returns how it ends.
async fn end(player: &Player, game_id: &str) -> (GameState, EndReason) {
    let game = player.watch_to_the_end(game_id).await;
    (game.state(), game.end_reason())
}

#[on_both_backends]
async fn unjoined_and_unmoved_games_end_by_themselves(database: TestDatabase) {
    let server = Server::start(database).await;
    let (ann, bob) = (server.player("ann"), server.player("bob"));
    let waiting = ann.create(Opponent::Player, Mark::X).await.expect("created");
    let unmoved = server.play(&ann, &bob, &[4]).await;
    let moved = server.play(&ann, &bob, &[0, 1]).await;
    let computer = ann.create(Opponent::Computer, Mark::X).await.expect("created");
    let computer = ann.make_move(&computer, 4).await.expect("a legal move");
    for game in [&waiting, &unmoved, &moved, &computer] {
        let seconds = |time: &Option<prost_types::Timestamp>| time.as_ref().expect("a time").seconds;
        assert_eq!(seconds(&game.expire_time), seconds(&game.create_time) + 24 * 3600);
    }
    server.clock.advance(DAY + ALLOWANCE);
    assert_eq!(
        end(&ann, &waiting.game_id).await,
        (GameState::Cancelled, EndReason::Expiry)
    );
    assert_eq!(
        end(&ann, &unmoved.game_id).await,
        (GameState::Cancelled, EndReason::Timeout)
    );
    assert_eq!(end(&ann, &moved.game_id).await, (GameState::Won, EndReason::Timeout));
    assert_eq!(end(&ann, &computer.game_id).await, (GameState::Won, EndReason::Timeout));
    let over = bob.get(&moved.game_id).await.expect("one's own");
    assert_eq!((over.winner_user_id, over.expire_time), (bob.id(), None));
    // Games that count are counted once for each player. Cancelled games are not counted.
    assert_eq!(
        server.standings(&ann).await,
        [("bob".to_owned(), 1, 0), ("ann".to_owned(), 0, 2)]
    );
    assert_eq!(ann.finished_games(0, "").await.expect("a page").games.len(), 2);
}

#[on_both_backends]
async fn a_move_restarts_the_turn_timer(database: TestDatabase) {
    let server = Server::start_with(database, &["--turn-seconds", "60", "--open-game-seconds", "120"]).await;
    let (ann, bob) = (server.player("ann"), server.player("bob"));
    let mut game = ann.create(Opponent::Player, Mark::X).await.expect("created");
    server.clock.advance(119 * SECOND);
    game = bob.join(&game.game_id).await.expect("in time");
    for (player, cell) in [&ann, &bob].into_iter().cycle().zip([0, 1, 2, 3]) {
        server.clock.advance(59 * SECOND);
        game = player.make_move(&game, cell).await.expect("in time");
    }
    server.clock.advance(59 * SECOND + ALLOWANCE);
    assert_eq!(
        ann.end_of(&game.game_id).await,
        (GameState::Turn, EndReason::Unspecified)
    );
    server.clock.advance(SECOND);
    assert_eq!(end(&ann, &game.game_id).await, (GameState::Won, EndReason::Timeout));
}

#[on_both_backends]
async fn late_moves_are_refused_at_once(database: TestDatabase) {
    let server = Server::start(database).await;
    let (ann, bob) = (server.player("ann"), server.player("bob"));
    // Repeated, so that in some rounds the background job has not ended the game yet.
    for _ in 0..5 {
        let waiting = ann.create(Opponent::Player, Mark::X).await.expect("created");
        let game = server.play(&ann, &bob, &[0, 1]).await;
        server.clock.advance(DAY + ALLOWANCE);
        assert_eq!(
            kind(ann.make_move(&game, 2).await),
            is(Code::FailedPrecondition, "GAME_FINISHED")
        );
        assert_eq!(bob.end_of(&game.game_id).await, (GameState::Won, EndReason::Timeout));
        assert_eq!(
            kind(ann.resign(&game.game_id).await),
            is(Code::FailedPrecondition, "GAME_FINISHED")
        );
        assert_eq!(
            kind(bob.join(&waiting.game_id).await),
            is(Code::NotFound, "GAME_NOT_FOUND")
        );
        assert_eq!(
            ann.end_of(&waiting.game_id).await,
            (GameState::Cancelled, EndReason::Expiry)
        );
        assert_eq!(bob.open_games(0, "").await.expect("a page").games, []);
    }
    assert_eq!(
        server.standings(&ann).await,
        [("bob".to_owned(), 5, 0), ("ann".to_owned(), 0, 5)]
    );
}

#[on_both_backends]
async fn a_repeat_of_a_timely_move_succeeds_after_the_deadline(database: TestDatabase) {
    let server = Server::start(database).await;
    let (ann, bob) = (server.player("ann"), server.player("bob"));
    let game = server.play(&ann, &bob, &[0, 1]).await;
    let moved = ann.make_move(&game, 2).await.expect("in time");
    server.clock.advance(DAY + ALLOWANCE);
    let again = ann.make_move(&game, 2).await.expect("the move was made");
    assert_eq!((again.end_reason(), again.moves), (EndReason::Timeout, moved.moves));
    assert_eq!(again.winner_user_id, ann.id());
}

#[on_both_backends]
async fn many_replicas_end_each_game_once(database: TestDatabase) {
    let server = Server::start(database).await;
    let replicas = [server.replica().await, server.replica().await];
    let (ann, bob) = (server.player("ann"), server.player("bob"));
    let mut games = Vec::new();
    for _ in 0..30 {
        games.push(server.play(&ann, &bob, &[0, 1]).await.game_id);
    }
    server.clock.advance(DAY + ALLOWANCE);
    // The requests of the players come at the same moment as well.
    let late = games.iter().enumerate().map(|(index, id)| {
        let (player, id) = (ann.at(&replicas[index % 2]), id.clone());
        tokio::spawn(async move { player.resign(&id).await })
    });
    for resigned in late.collect::<Vec<_>>() {
        assert_eq!(
            kind(resigned.await.expect("joined")),
            is(Code::FailedPrecondition, "GAME_FINISHED")
        );
    }
    for id in &games {
        assert_eq!(end(&ann, id).await, (GameState::Won, EndReason::Timeout));
    }
    assert_eq!(
        server.standings(&ann).await,
        [("bob".to_owned(), 30, 0), ("ann".to_owned(), 0, 30)]
    );
    for replica in replicas {
        replica.running.stop().await.expect("ended");
    }
}

#[on_both_backends]
async fn a_clock_that_is_wrong_for_a_minute_ends_no_game(database: TestDatabase) {
    let server = Server::start(database).await;
    let (ann, bob) = (server.player("ann"), server.player("bob"));
    let waiting = ann.create(Opponent::Player, Mark::X).await.expect("created");
    let game = server.play(&ann, &bob, &[0, 1]).await;
    server.clock.set(START.plus(300 * DAY));
    // Refused requests succeed once the clock is right again.
    assert_eq!(
        kind(ann.make_move(&game, 2).await),
        is(Code::FailedPrecondition, "GAME_OVERDUE")
    );
    let refused = bob.resign(&game.game_id).await.expect_err("overdue");
    assert_eq!(reason(&refused), "GAME_OVERDUE");
    assert_eq!(retry_after(&refused), Some(Duration::from_mins(1)));
    assert_eq!(
        kind(bob.join(&waiting.game_id).await),
        is(Code::NotFound, "GAME_NOT_FOUND")
    );
    assert_eq!(bob.open_games(0, "").await.expect("a page").games, []);
    server.clock.advance(Duration::from_mins(1));
    server.clock.set(START.plus(Duration::from_mins(1)));
    assert_eq!(
        bob.open_games(0, "").await.expect("a page").games,
        std::slice::from_ref(&waiting)
    );
    bob.join(&waiting.game_id).await.expect("joined");
    ann.make_move(&game, 2).await.expect("in time");
    assert_eq!(server.standings(&ann).await, []);
}

#[on_both_backends]
async fn overdue_games_end_once_the_clock_has_settled_after_a_start(database: TestDatabase) {
    let server = Server::start_unsettled(database, &["--turn-seconds", "60"]).await;
    let (ann, bob) = (server.player("ann"), server.player("bob"));
    let game = server.play(&ann, &bob, &[0, 1]).await;
    server.clock.advance(Duration::from_mins(14));
    assert_eq!(
        kind(ann.make_move(&game, 2).await),
        is(Code::FailedPrecondition, "GAME_OVERDUE")
    );
    assert_eq!(
        ann.end_of(&game.game_id).await,
        (GameState::Turn, EndReason::Unspecified)
    );
    let mine = ann.my_games(0, "").await.expect("a page").games;
    assert_eq!(mine.iter().map(Game::state).collect::<Vec<_>>(), [GameState::Turn]);
    server.clock.advance(Duration::from_mins(1));
    assert_eq!(end(&ann, &game.game_id).await, (GameState::Won, EndReason::Timeout));
    assert_eq!(
        kind(ann.make_move(&game, 2).await),
        is(Code::FailedPrecondition, "GAME_FINISHED")
    );
}

#[on_both_backends]
async fn an_overdue_waiting_game_can_be_cancelled(database: TestDatabase) {
    let server = Server::start_unsettled(database, &["--open-game-seconds", "60"]).await;
    let ann = server.player("ann");
    let waiting = ann.create(Opponent::Player, Mark::X).await.expect("created");
    server.clock.advance(Duration::from_mins(2));
    let over = ann.cancel(&waiting.game_id).await.expect("cancelled");
    assert_eq!(
        (over.state(), over.end_reason()),
        (GameState::Cancelled, EndReason::Cancellation)
    );
}

#[on_both_backends]
async fn no_game_ends_while_the_database_server_clock_differs(database: TestDatabase) {
    let server = Server::start_with(database, &["--turn-seconds", "60"]).await;
    let (ann, bob) = (server.player("ann"), server.player("bob"));
    let game = server.play(&ann, &bob, &[0, 1]).await;
    server.clock.set_server_lead(-31);
    server.clock.advance(Duration::from_mins(2));
    if server.database.backend() == Backend::Postgres {
        assert_eq!(
            kind(ann.make_move(&game, 2).await),
            is(Code::FailedPrecondition, "GAME_OVERDUE")
        );
        server.clock.set_server_lead(-30);
    }
    assert_eq!(end(&ann, &game.game_id).await, (GameState::Won, EndReason::Timeout));
}
