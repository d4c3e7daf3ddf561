use std::time::Duration;

use proto::game::v1::{CreateGameRequest, GameState, MakeMoveRequest, Mark, Move, Opponent};
use testing::{
    TestDatabase, on_both_backends,
    rpc::{bad_fields, reason},
};
use tonic::{Code, Status};
use tonic_types::StatusExt as _;
use uuid::Uuid;

use crate::support::Server;

fn refused<T: std::fmt::Debug>(outcome: Result<T, Status>) -> (Code, String) {
    let status = outcome.expect_err("refused");
    (status.code(), reason(&status))
}

fn failed(reason: &str) -> (Code, String) {
    (Code::FailedPrecondition, reason.to_owned())
}

#[on_both_backends]
async fn two_players_play_to_a_win(database: TestDatabase) {
    let server = Server::start(database).await;
    let (ann, bob) = (server.player("ann"), server.player("bob"));
    let waiting = ann.create(Opponent::Player, Mark::O).await.expect("created");
    assert_eq!(
        (waiting.state(), waiting.version, waiting.board.as_str()),
        (GameState::WaitingForPlayer, 1, ".........")
    );
    assert_eq!(
        (waiting.x_user_id.as_str(), waiting.o_user_id, waiting.o_login.as_str()),
        ("", ann.id(), "ann")
    );

    let mut game = bob.join(&waiting.game_id).await.expect("joined");
    assert_eq!((game.state(), game.version), (GameState::Turn, 2));
    assert_eq!(
        (&game.turn_user_id, &game.x_user_id, game.x_login.as_str()),
        (&bob.id(), &bob.id(), "bob")
    );
    for (player, cell) in [(&bob, 0), (&ann, 3), (&bob, 1), (&ann, 4)] {
        game = player.make_move(&game, cell).await.expect("a legal move");
    }
    server.clock.advance(Duration::from_secs(1));
    let won = bob.make_move(&game, 2).await.expect("the winning move");
    assert_eq!(
        (won.state(), won.version, won.board.as_str()),
        (GameState::Won, 7, "XXXOO....")
    );
    assert_eq!(
        (&won.winner_user_id, won.winner_mark(), won.turn_user_id.as_str()),
        (&bob.id(), Mark::X, "")
    );
    assert_eq!(won.moves.iter().map(Move::cell).collect::<Vec<_>>(), [0, 3, 1, 4, 2]);
    assert_eq!(
        won.finish_time.map(|time| time.seconds),
        won.create_time.map(|time| time.seconds + 1)
    );
    assert_eq!(ann.get(&won.game_id).await.expect("the loser's"), won);
    assert_eq!(refused(ann.make_move(&won, 8).await), failed("GAME_FINISHED"));
    assert_eq!(refused(ann.make_move(&game, 8).await), failed("GAME_FINISHED"));
}

#[on_both_backends]
async fn two_players_play_to_a_draw(database: TestDatabase) {
    let server = Server::start(database).await;
    let game = server
        .play(
            &server.player("ann"),
            &server.player("bob"),
            &[0, 4, 8, 2, 6, 3, 5, 7, 1],
        )
        .await;
    assert_eq!(
        (game.state(), game.winner_user_id.as_str(), game.winner_mark()),
        (GameState::Draw, "", Mark::Unspecified)
    );
    assert!(game.finish_time.is_some());
}

#[on_both_backends]
async fn the_computer_answers_and_wins_against_a_careless_player(database: TestDatabase) {
    let server = Server::start(database).await;
    let ann = server.player("ann");
    let mut game = ann.create(Opponent::Computer, Mark::O).await.expect("created");
    assert_eq!((game.moves.len(), game.version, &game.turn_user_id), (1, 2, &ann.id()));
    while game.state() == GameState::Turn {
        // Ann always takes the last empty cell.
        let cell = game.board.rfind('.').expect("an empty cell");
        game = ann
            .make_move(&game, i32::try_from(cell).expect("small"))
            .await
            .expect("a legal move");
    }
    assert_eq!(
        (game.state(), game.winner_mark(), game.winner_user_id.as_str()),
        (GameState::Won, Mark::X, "")
    );
    assert_eq!(
        (game.x_user_id.as_str(), game.x_login.as_str(), game.opponent()),
        ("", "", Opponent::Computer)
    );
}

#[on_both_backends]
async fn the_mark_is_random_if_none_is_chosen(database: TestDatabase) {
    let server = Server::start(database).await;
    let ann = server.player("ann");
    let mut as_x = 0;
    for _ in 0..40 {
        let game = ann.create(Opponent::Player, Mark::Unspecified).await.expect("created");
        assert!(game.x_user_id.is_empty() != game.o_user_id.is_empty());
        as_x += usize::from(game.x_user_id == ann.id());
    }
    assert!((1..40).contains(&as_x), "{as_x} of 40");
}

#[on_both_backends]
async fn illegal_moves_are_refused_with_their_reason(database: TestDatabase) {
    let server = Server::start(database).await;
    let (ann, bob) = (server.player("ann"), server.player("bob"));
    let waiting = ann.create(Opponent::Player, Mark::X).await.expect("created");
    assert_eq!(refused(ann.make_move(&waiting, 0).await), failed("GAME_NOT_STARTED"));
    assert_eq!(refused(ann.join(&waiting.game_id).await), failed("GAME_IS_OWN"));
    let game = bob.join(&waiting.game_id).await.expect("joined");
    assert_eq!(refused(bob.make_move(&game, 0).await), failed("NOT_YOUR_TURN"));
    let moved = ann.make_move(&game, 0).await.expect("a legal move");
    assert_eq!(refused(ann.make_move(&moved, 1).await), failed("NOT_YOUR_TURN"));
    assert_eq!(refused(bob.make_move(&moved, 0).await), failed("CELL_TAKEN"));
    let stale = bob.make_move(&game, 1).await.expect_err("stale");
    assert_eq!(
        (stale.code(), reason(&stale).as_str()),
        (Code::Aborted, "VERSION_MISMATCH")
    );
    assert_eq!(
        stale.get_details_error_info().expect("ErrorInfo").metadata["version"],
        "3"
    );
    assert_eq!(ann.get(&game.game_id).await.expect("the game"), moved);
}

#[on_both_backends]
async fn every_bad_field_is_named(database: TestDatabase) {
    let server = Server::start(database).await;
    let ann = server.player("ann");
    let nothing = ann
        .games()
        .make_move(ann.ask(MakeMoveRequest::default()))
        .await
        .expect_err("refused");
    assert_eq!(
        (nothing.code(), bad_fields(&nothing)),
        (
            Code::InvalidArgument,
            ["game_id", "cell", "expected_version"].map(str::to_owned).to_vec()
        )
    );
    for (cell, version, bad) in [
        (9, 1, "cell"),
        (-1, 1, "cell"),
        (i32::MAX, 1, "cell"),
        (0, -1, "expected_version"),
        (0, 0, "expected_version"),
    ] {
        let refused = ann
            .move_at(&Uuid::new_v4().to_string(), cell, version)
            .await
            .expect_err("refused");
        assert_eq!(bad_fields(&refused), [bad]);
    }
    for bad in [
        "",
        "x",
        "0190b6e49f6d7c3a8d2e5b1f0c9a7e42",
        "{0190b6e4-9f6d-7c3a-8d2e-5b1f0c9a7e42}",
    ] {
        for refused in [ann.get(bad).await, ann.join(bad).await] {
            assert_eq!(bad_fields(&refused.expect_err("refused")), ["game_id"], "{bad}");
        }
    }
    for (opponent, mark, bad) in [
        (0, 1, vec!["opponent"]),
        (3, 9, vec!["opponent", "mark"]),
        (1, -1, vec!["mark"]),
    ] {
        let request = CreateGameRequest {
            opponent,
            mark,
            ..CreateGameRequest::default()
        };
        let refused = ann.games().create_game(ann.ask(request)).await.expect_err("refused");
        assert_eq!(bad_fields(&refused), bad);
    }
}

#[on_both_backends]
async fn a_repeated_request_gets_the_same_game(database: TestDatabase) {
    let server = Server::start(database).await;
    let (ann, bob) = (server.player("ann"), server.player("bob"));
    let game = server.start_game(&ann, &bob).await;
    assert_eq!(bob.join(&game.game_id).await.expect("joined before"), game);
    let moved = ann.make_move(&game, 4).await.expect("a legal move");
    assert_eq!(ann.make_move(&game, 4).await.expect("the same again"), moved);
    // The same holds against the computer, whose reply is not made twice either.
    let created = ann.create(Opponent::Computer, Mark::X).await.expect("created");
    let answered = ann.make_move(&created, 0).await.expect("a legal move");
    assert_eq!(ann.make_move(&created, 0).await.expect("the same again"), answered);
    assert_eq!(answered.moves.len(), 2);
}

#[on_both_backends]
async fn another_players_game_looks_like_a_missing_one(database: TestDatabase) {
    let server = Server::start(database).await;
    let (ann, bob, eve) = (server.player("ann"), server.player("bob"), server.player("eve"));
    let waiting = ann.create(Opponent::Player, Mark::X).await.expect("created");
    assert_eq!(eve.get(&waiting.game_id).await.expect("open to all"), waiting);
    // A user who can see a game still cannot play it.
    assert_eq!(refused(eve.make_move(&waiting, 0).await), failed("GAME_NOT_STARTED"));
    let mine = [
        bob.join(&waiting.game_id).await.expect("joined"),
        ann.create(Opponent::Computer, Mark::X).await.expect("created"),
        server.play(&ann, &bob, &[0, 3, 1, 4, 2]).await,
    ];
    for game in mine {
        let nothing = Uuid::now_v7().to_string();
        for (theirs, none) in [
            (eve.get(&game.game_id).await, eve.get(&nothing).await),
            (eve.join(&game.game_id).await, eve.join(&nothing).await),
            (
                eve.move_at(&game.game_id, 8, game.version).await,
                eve.move_at(&nothing, 8, game.version).await,
            ),
        ] {
            let words = |status: &Status, id: &str| {
                let details = format!("{:?}", status.get_error_details().resource_info()).replace(id, "ID");
                (status.code(), status.message().to_owned(), reason(status), details)
            };
            let (theirs, none) = (theirs.expect_err("hidden"), none.expect_err("missing"));
            assert_eq!(words(&theirs, &game.game_id), words(&none, &nothing));
            assert_eq!(
                (none.code(), reason(&none).as_str()),
                (Code::NotFound, "GAME_NOT_FOUND")
            );
        }
    }
}

#[on_both_backends]
async fn a_changed_login_is_shown(database: TestDatabase) {
    let server = Server::start(database).await;
    let ann = server.player("ann");
    let game = ann.create(Opponent::Player, Mark::X).await.expect("created");
    assert_eq!(game.x_login, "ann");
    let mut renamed = ann.clone();
    renamed.token = server.mint.sign(
        &server
            .mint
            .claims_for(ann.id, "anna", &["player"], crate::support::START),
    );
    renamed.create(Opponent::Player, Mark::X).await.expect("created");
    assert_eq!(ann.get(&game.game_id).await.expect("the game").x_login, "anna");
}
