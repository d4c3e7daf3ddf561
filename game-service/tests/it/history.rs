use std::time::Duration;

use shared::{
    proto::game::v1::{GameState, Mark, Opponent},
    testing::{TestDatabase, on_both_backends, rpc::bad_fields},
};

use crate::support::Server;

const X_WINS: &[i32] = &[0, 3, 1, 4, 2];
const O_WINS: &[i32] = &[0, 4, 1, 2, 3, 6];
const DRAW: &[i32] = &[0, 4, 8, 2, 6, 3, 5, 7, 1];

on_both_backends! {
    migrations = game_service::MIGRATIONS;

    async fn finished_games_are_kept_newest_first_with_their_moves(database: TestDatabase) {
        let server = Server::start(database).await;
        let (ann, bob, eve) = (server.player("ann"), server.player("bob"), server.player("eve"));
        let mut finished = Vec::new();
        for cells in [X_WINS, O_WINS, DRAW] {
            server.clock.advance(Duration::from_secs(60));
            finished.push(server.play(&ann, &bob, cells).await);
        }
        // Neither a running game nor one of others.
        server.start_game(&ann, &bob).await;
        ann.create(Opponent::Player, Mark::X).await.expect("created");
        finished.reverse();
        for player in [&ann, &bob] {
            let listed = player.finished_games(0, "").await.expect("a page");
            assert_eq!((listed.games, listed.next_page_token.as_str()), (finished.clone(), ""));
        }
        assert!(eve.finished_games(0, "").await.expect("a page").games.is_empty());
    }

    async fn pages_stay_right_while_games_finish(database: TestDatabase) {
        let server = Server::start(database).await;
        let (ann, bob) = (server.player("ann"), server.player("bob"));
        let mut finished = Vec::new();
        for _ in 0..5 {
            // All at one moment: the id breaks the tie.
            finished.push(server.play(&ann, &bob, X_WINS).await.game_id);
        }
        finished.sort();
        finished.reverse();
        let first = ann.finished_games(2, "").await.expect("a page");
        server.clock.advance(Duration::from_secs(1));
        server.play(&ann, &bob, DRAW).await;
        let second = ann.finished_games(2, &first.next_page_token).await.expect("a page");
        let third = ann.finished_games(2, &second.next_page_token).await.expect("a page");
        assert_eq!(third.next_page_token, "");
        let listed: Vec<_> = [first, second, third].into_iter().flat_map(|page| page.games).map(|game| game.game_id).collect();
        assert_eq!(listed, finished);
    }

    async fn games_against_the_computer_are_kept(database: TestDatabase) {
        let server = Server::start(database).await;
        let ann = server.player("ann");
        let mut game = ann.create(Opponent::Computer, Mark::X).await.expect("created");
        while game.state() == GameState::Turn {
            let cell = game.board.find('.').expect("an empty cell");
            game = ann.make_move(&game, i32::try_from(cell).expect("small")).await.expect("a legal move");
        }
        assert_eq!(ann.finished_games(0, "").await.expect("a page").games, [game]);
    }

    async fn a_page_token_is_good_for_its_owner_alone(database: TestDatabase) {
        let server = Server::start(database).await;
        let (ann, bob) = (server.player("ann"), server.player("bob"));
        for _ in 0..2 {
            server.play(&ann, &bob, X_WINS).await;
        }
        let token = ann.finished_games(1, "").await.expect("a page").next_page_token;
        assert_eq!(bad_fields(&bob.finished_games(1, &token).await.expect_err("refused")), ["page_token"]);
        assert_eq!(ann.finished_games(1, &token).await.expect("a page").games.len(), 1);
    }
}
