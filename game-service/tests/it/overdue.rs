//! Games whose time runs out.

use std::time::Duration;

use shared::{
    proto::game::v1::{EndReason, GameState, Mark, Opponent},
    testing::{TestDatabase, on_both_backends},
};
use tonic::Code;

use crate::support::{Player, Server, is, kind};

const DAY: Duration = Duration::from_hours(24);
const SECOND: Duration = Duration::from_secs(1);

/// How the game ends that nobody touches meanwhile.
async fn end(player: &Player, game_id: &str) -> (GameState, EndReason) {
    let game = player.watch_to_the_end(game_id).await;
    (game.state(), game.end_reason())
}

on_both_backends! {
    migrations = game_service::MIGRATIONS;

    async fn nobody_joins_and_nobody_moves(database: TestDatabase) {
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
        server.clock.advance(DAY);
        assert_eq!(end(&ann, &waiting.game_id).await, (GameState::Cancelled, EndReason::Expiry));
        assert_eq!(end(&ann, &unmoved.game_id).await, (GameState::Cancelled, EndReason::Timeout));
        assert_eq!(end(&ann, &moved.game_id).await, (GameState::Won, EndReason::Timeout));
        assert_eq!(end(&ann, &computer.game_id).await, (GameState::Won, EndReason::Timeout));
        let over = bob.get(&moved.game_id).await.expect("one's own");
        assert_eq!((over.winner_user_id, over.expire_time), (bob.id(), None));
        // What counts is counted once, for both; what does not is not.
        assert_eq!(server.standings(&ann).await, [("bob".to_owned(), 1, 0), ("ann".to_owned(), 0, 2)]);
        assert_eq!(ann.finished_games(0, "").await.expect("a page").games.len(), 2);
    }

    async fn a_move_begins_the_time_anew(database: TestDatabase) {
        let server = Server::start_with(database, &["--turn-seconds", "60", "--open-game-seconds", "120"]).await;
        let (ann, bob) = (server.player("ann"), server.player("bob"));
        let mut game = ann.create(Opponent::Player, Mark::X).await.expect("created");
        server.clock.advance(119 * SECOND);
        game = bob.join(&game.game_id).await.expect("in time");
        for (player, cell) in [&ann, &bob].into_iter().cycle().zip([0, 1, 2, 3]) {
            server.clock.advance(59 * SECOND);
            game = player.make_move(&game, cell).await.expect("in time");
        }
        server.clock.advance(59 * SECOND);
        assert_eq!(ann.end_of(&game.game_id).await, (GameState::Turn, EndReason::Unspecified));
        server.clock.advance(SECOND);
        assert_eq!(end(&ann, &game.game_id).await, (GameState::Won, EndReason::Timeout));
    }

    async fn who_comes_too_late_is_told_so_at_once(database: TestDatabase) {
        let server = Server::start(database).await;
        let (ann, bob) = (server.player("ann"), server.player("bob"));
        // Many times, so that often nobody else has ended the game before.
        for _ in 0..5 {
            let waiting = ann.create(Opponent::Player, Mark::X).await.expect("created");
            let game = server.play(&ann, &bob, &[0, 1]).await;
            server.clock.advance(DAY);
            assert_eq!(kind(ann.make_move(&game, 2).await), is(Code::FailedPrecondition, "GAME_FINISHED"));
            assert_eq!(bob.end_of(&game.game_id).await, (GameState::Won, EndReason::Timeout));
            assert_eq!(kind(ann.resign(&game.game_id).await), is(Code::FailedPrecondition, "GAME_FINISHED"));
            assert_eq!(kind(bob.join(&waiting.game_id).await), is(Code::NotFound, "GAME_NOT_FOUND"));
            assert_eq!(ann.end_of(&waiting.game_id).await, (GameState::Cancelled, EndReason::Expiry));
            assert_eq!(bob.open_games(0, "").await.expect("a page").games, []);
        }
        assert_eq!(server.standings(&ann).await, [("bob".to_owned(), 5, 0), ("ann".to_owned(), 0, 5)]);
    }

    async fn a_move_made_in_time_is_the_same_when_it_is_sent_again_late(database: TestDatabase) {
        let server = Server::start(database).await;
        let (ann, bob) = (server.player("ann"), server.player("bob"));
        let game = server.play(&ann, &bob, &[0, 1]).await;
        let moved = ann.make_move(&game, 2).await.expect("in time");
        server.clock.advance(DAY);
        let again = ann.make_move(&game, 2).await.expect("the move was made");
        assert_eq!((again.end_reason(), again.moves), (EndReason::Timeout, moved.moves));
        assert_eq!(again.winner_user_id, ann.id());
    }

    async fn many_replicas_end_each_game_once(database: TestDatabase) {
        let server = Server::start(database).await;
        let replicas = [server.replica().await, server.replica().await];
        let (ann, bob) = (server.player("ann"), server.player("bob"));
        let mut games = Vec::new();
        for _ in 0..30 {
            games.push(server.play(&ann, &bob, &[0, 1]).await.game_id);
        }
        server.clock.advance(DAY);
        // The players, too, come at the same moment.
        let late = games.iter().enumerate().map(|(index, id)| {
            let (player, id) = (ann.at(&replicas[index % 2]), id.clone());
            tokio::spawn(async move { player.resign(&id).await })
        });
        for resigned in late.collect::<Vec<_>>() {
            assert_eq!(kind(resigned.await.expect("joined")), is(Code::FailedPrecondition, "GAME_FINISHED"));
        }
        for id in &games {
            assert_eq!(end(&ann, id).await, (GameState::Won, EndReason::Timeout));
        }
        assert_eq!(server.standings(&ann).await, [("bob".to_owned(), 30, 0), ("ann".to_owned(), 0, 30)]);
        for replica in replicas {
            replica.running.stop().await.expect("ended");
        }
    }
}
