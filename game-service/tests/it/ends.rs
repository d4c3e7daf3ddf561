//! Games that end by resignation or cancellation, the list of a player's unfinished games, and
//! repeated requests to create a game.

use std::time::Duration;

use proto::game::v1::{EndReason, GameState, Mark, Opponent};
use testing::{TestDatabase, on_both_backends, rpc::bad_fields};
use tonic::Code;
use uuid::Uuid;

use crate::support::{Server, is, kind};

const SECOND: Duration = Duration::from_secs(1);

#[on_both_backends]
async fn a_player_who_resigns_loses(database: TestDatabase) {
    let server = Server::start(database).await;
    let (ann, bob, cy) = (server.player("ann"), server.player("bob"), server.player("cy"));
    let game = server.play(&ann, &bob, &[0, 1]).await;
    server.clock.advance(SECOND);
    // Bob resigns although it is not his turn.
    let over = bob.resign(&game.game_id).await.expect("resigned");
    assert_eq!(
        (over.state(), over.end_reason(), over.winner_user_id.as_str()),
        (GameState::Won, EndReason::Resignation, ann.id().as_str())
    );
    let seconds = |time: Option<prost_types::Timestamp>| time.expect("a time").seconds;
    assert_eq!(seconds(over.finish_time), seconds(over.last_move_time) + 1);
    assert_eq!(over.version, game.version + 1);
    assert_eq!(bob.resign(&game.game_id).await.expect("once more"), over);
    assert_eq!(
        kind(ann.resign(&game.game_id).await),
        is(Code::FailedPrecondition, "GAME_FINISHED")
    );
    assert_eq!(
        kind(cy.resign(&game.game_id).await),
        is(Code::NotFound, "GAME_NOT_FOUND")
    );
    for player in [&ann, &bob] {
        assert_eq!(
            player.finished_games(0, "").await.expect("a page").games,
            std::slice::from_ref(&over)
        );
    }
    assert_eq!(
        server.standings(&ann).await,
        [("ann".to_owned(), 1, 0), ("bob".to_owned(), 0, 1)]
    );
    // The same holds against the computer.
    let game = ann.create(Opponent::Computer, Mark::X).await.expect("created");
    let game = ann.make_move(&game, 0).await.expect("moved");
    let over = ann.resign(&game.game_id).await.expect("resigned");
    assert_eq!((over.state(), over.winner_mark()), (GameState::Won, Mark::O));
    assert_eq!(
        server.standings(&ann).await,
        [("ann".to_owned(), 1, 1), ("bob".to_owned(), 0, 1)]
    );
}

#[on_both_backends]
async fn a_game_that_ends_before_both_have_moved_does_not_count(database: TestDatabase) {
    let server = Server::start(database).await;
    let (ann, bob) = (server.player("ann"), server.player("bob"));
    for cells in [&[][..], &[4]] {
        let game = server.play(&ann, &bob, cells).await;
        let over = ann.resign(&game.game_id).await.expect("resigned");
        assert_eq!(
            (over.state(), over.end_reason()),
            (GameState::Cancelled, EndReason::Resignation)
        );
        assert_eq!(ann.resign(&game.game_id).await.expect("once more"), over);
    }
    assert_eq!(ann.finished_games(0, "").await.expect("a page").games, []);
    assert_eq!(server.standings(&ann).await, []);
}

#[on_both_backends]
async fn only_its_creator_can_cancel_a_waiting_game(database: TestDatabase) {
    let server = Server::start(database).await;
    let (ann, bob) = (server.player("ann"), server.player("bob"));
    let game = ann.create(Opponent::Player, Mark::X).await.expect("created");
    assert_eq!(
        kind(bob.cancel(&game.game_id).await),
        is(Code::PermissionDenied, "GAME_NOT_OWN")
    );
    assert_eq!(
        kind(ann.resign(&game.game_id).await),
        is(Code::FailedPrecondition, "GAME_NOT_STARTED")
    );
    assert_eq!(
        kind(bob.resign(&game.game_id).await),
        is(Code::NotFound, "GAME_NOT_FOUND")
    );
    let over = ann.cancel(&game.game_id).await.expect("cancelled");
    assert_eq!(
        (over.state(), over.end_reason()),
        (GameState::Cancelled, EndReason::Cancellation)
    );
    assert_eq!(ann.cancel(&game.game_id).await.expect("once more"), over);
    assert_eq!(
        kind(bob.join(&game.game_id).await),
        is(Code::NotFound, "GAME_NOT_FOUND")
    );
    assert_eq!(
        kind(bob.cancel(&game.game_id).await),
        is(Code::NotFound, "GAME_NOT_FOUND")
    );
    assert_eq!(bob.open_games(0, "").await.expect("a page").games, []);
    let started = server.start_game(&ann, &bob).await;
    assert_eq!(
        kind(ann.cancel(&started.game_id).await),
        is(Code::FailedPrecondition, "GAME_STARTED")
    );
    assert_eq!(bad_fields(&ann.cancel("x").await.expect_err("bad")), ["game_id"]);
    assert_eq!(bad_fields(&ann.resign("").await.expect_err("bad")), ["game_id"]);
}

#[on_both_backends]
async fn a_concurrent_join_and_cancellation_have_one_winner(database: TestDatabase) {
    let server = Server::start(database).await;
    let (ann, bob) = (server.player("ann"), server.player("bob"));
    for _ in 0..10 {
        let game = ann.create(Opponent::Player, Mark::X).await.expect("created");
        let (joined, cancelled) = tokio::join!(bob.join(&game.game_id), ann.cancel(&game.game_id));
        assert_ne!(joined.is_ok(), cancelled.is_ok(), "{joined:?} {cancelled:?}");
        let seen = ann.get(&game.game_id).await.expect("one's own");
        let expected = if joined.is_ok() {
            GameState::Turn
        } else {
            GameState::Cancelled
        };
        assert_eq!(seen.state(), expected);
    }
}

#[on_both_backends]
async fn my_games_are_the_unfinished_ones(database: TestDatabase) {
    let server = Server::start(database).await;
    let (ann, bob) = (server.player("ann"), server.player("bob"));
    let mut expected = Vec::new();
    for index in 0..7 {
        server.clock.advance(SECOND);
        let game = match index % 3 {
            0 => ann.create(Opponent::Player, Mark::O).await.expect("created"),
            1 => server.start_game(&bob, &ann).await,
            _ => ann.create(Opponent::Computer, Mark::X).await.expect("created"),
        };
        expected.insert(0, game.game_id);
    }
    server.clock.advance(SECOND);
    bob.create(Opponent::Player, Mark::X).await.expect("not ann's");
    let over = server.play(&ann, &bob, &[0, 3, 1, 4, 2]).await;
    assert_eq!(over.state(), GameState::Won);
    for page_size in [1, 2, 3, 100] {
        let (mut listed, mut token) = (Vec::new(), String::new());
        loop {
            let page = ann.my_games(page_size, &token).await.expect("a page");
            assert!(page.games.len() <= usize::try_from(page_size).expect("positive"));
            listed.extend(page.games.into_iter().map(|game| game.game_id));
            token = page.next_page_token;
            if token.is_empty() {
                break;
            }
        }
        assert_eq!(listed, expected, "{page_size}");
    }
    let token = ann.my_games(1, "").await.expect("a page").next_page_token;
    assert_eq!(
        bad_fields(&bob.my_games(1, &token).await.expect_err("ann's")),
        ["page_token"]
    );
}

#[on_both_backends]
async fn a_request_id_creates_one_game(database: TestDatabase) {
    let server = Server::start(database).await;
    let (ann, bob) = (server.player("ann"), server.player("bob"));
    let id = Uuid::new_v4().to_string();
    let at_once = (0..10).map(|_| {
        let (ann, id) = (ann.clone(), id.clone());
        tokio::spawn(async move { ann.create_once(Opponent::Player, Mark::Unspecified, &id).await })
    });
    let mut made = Vec::new();
    for game in at_once.collect::<Vec<_>>() {
        made.push(game.await.expect("joined").expect("created"));
    }
    assert!(made.iter().all(|game| *game == made[0]), "{made:?}");
    // A repeat shows what has happened to the game since. The same id from another user is a
    // different request.
    let joined = bob.join(&made[0].game_id).await.expect("joined");
    assert_eq!(
        ann.create_once(Opponent::Player, Mark::Unspecified, &id)
            .await
            .expect("the same"),
        joined
    );
    assert_ne!(
        bob.create_once(Opponent::Player, Mark::X, &id)
            .await
            .expect("bob's own")
            .game_id,
        joined.game_id
    );
    assert_eq!(
        kind(ann.create_once(Opponent::Computer, Mark::X, &id).await),
        is(Code::AlreadyExists, "REQUEST_ID_REUSED")
    );
    assert_eq!(
        bad_fields(&ann.create_once(Opponent::Player, Mark::X, "x").await.expect_err("bad")),
        ["request_id"]
    );
}
