//! Concurrent clients, and random sequences of calls.

use std::time::Duration;

use proptest::{
    prelude::*,
    strategy::ValueTree,
    test_runner::{Config, RngAlgorithm, TestRng, TestRunner},
};
use proto::game::v1::{Game, GameState, GetLeaderboardRequest, Mark, Opponent};
use testing::{TestDatabase, on_both_backends, rpc::reason};
use tonic::{Code, Status};

use crate::support::{Player, START, Server};

fn is_too_many(refused: &Status) {
    assert_eq!(
        (refused.code(), reason(refused).as_str()),
        (Code::ResourceExhausted, "TOO_MANY_GAMES")
    );
}

#[on_both_backends]
async fn one_of_twenty_joiners_wins(database: TestDatabase) {
    let server = Server::start(database).await;
    let game = server
        .player("ann")
        .create(Opponent::Player, Mark::X)
        .await
        .expect("created");
    let joiners = (0..20).map(|index| {
        let (player, id) = (server.player(&format!("joiner{index}")), game.game_id.clone());
        tokio::spawn(async move { player.join(&id).await })
    });
    let mut joined = 0;
    for joiner in joiners.collect::<Vec<_>>() {
        match joiner.await.expect("joined") {
            Ok(_) => joined += 1,
            Err(lost) => assert!(matches!(lost.code(), Code::Aborted | Code::NotFound), "{lost}"),
        }
    }
    assert_eq!(joined, 1);
}

#[on_both_backends]
async fn fifty_concurrent_games_do_not_exceed_the_quota(database: TestDatabase) {
    let server = Server::start_with(database, &["--max-running-games", "10"]).await;
    let (ann, bob) = (server.player("ann"), server.player("bob"));
    let waiting = bob.create(Opponent::Player, Mark::X).await.expect("created");
    let creators = (0..50).map(|index| {
        let ann = ann.clone();
        let opponent = if index % 2 == 0 {
            Opponent::Player
        } else {
            Opponent::Computer
        };
        tokio::spawn(async move { ann.create(opponent, Mark::X).await })
    });
    let mut created = Vec::new();
    for creator in creators.collect::<Vec<_>>() {
        match creator.await.expect("joined") {
            Ok(game) => created.push(game),
            Err(refused) => is_too_many(&refused),
        }
    }
    assert_eq!(created.len(), 10);
    // A joined game counts towards the limit as well. A repeated request is answered even at the
    // limit.
    is_too_many(&ann.join(&waiting.game_id).await.expect_err("too many"));
    assert_eq!(ann.my_games(100, "").await.expect("a page").games.len(), 10);
    let request = uuid::Uuid::new_v4().to_string();
    let first = bob
        .create_once(Opponent::Computer, Mark::X, &request)
        .await
        .expect("created");
    for _ in 0..8 {
        bob.create(Opponent::Computer, Mark::X).await.expect("created");
    }
    is_too_many(&bob.create(Opponent::Computer, Mark::X).await.expect_err("too many"));
    let again = bob
        .create_once(Opponent::Computer, Mark::X, &request)
        .await
        .expect("the same game");
    assert_eq!(again.game_id, first.game_id);
    // A game that is over makes room for one more.
    let over = created
        .iter()
        .find(|game| game.state() == GameState::WaitingForPlayer)
        .expect("half of them");
    ann.cancel(&over.game_id).await.expect("cancelled");
    ann.join(&waiting.game_id).await.expect("joined");
    ann.join(&waiting.game_id).await.expect("the same game");
    is_too_many(&ann.create(Opponent::Player, Mark::O).await.expect_err("too many"));
}

#[on_both_backends]
async fn overdue_games_do_not_count_against_the_quota(database: TestDatabase) {
    let server = Server::start_with(database, &["--max-running-games", "1"]).await;
    let ann = server.player("ann");
    ann.create(Opponent::Player, Mark::X).await.expect("created");
    is_too_many(&ann.create(Opponent::Player, Mark::X).await.expect_err("too many"));
    // After a jump of the clock, no game is ended for 15 minutes, although an overdue game can no
    // longer be played.
    server.clock.set(START.plus(Duration::from_hours(25)));
    let ann = server.player("ann");
    ann.create(Opponent::Player, Mark::X).await.expect("created");
}

#[on_both_backends]
async fn twenty_concurrent_joins_do_not_exceed_the_quota(database: TestDatabase) {
    let server = Server::start_with(database, &["--max-running-games", "5"]).await;
    let mut open = Vec::new();
    for index in 0..20 {
        open.push(
            server
                .player(&format!("creator{index}"))
                .create(Opponent::Player, Mark::X)
                .await
                .expect("created"),
        );
    }
    let ann = server.player("ann");
    let joins = open.into_iter().map(|game| {
        let ann = ann.clone();
        tokio::spawn(async move { ann.join(&game.game_id).await })
    });
    let mut joined = 0;
    for join in joins.collect::<Vec<_>>() {
        match join.await.expect("ended") {
            Ok(_) => joined += 1,
            Err(refused) => is_too_many(&refused),
        }
    }
    assert_eq!(joined, 5);
}

#[on_both_backends]
async fn a_finishing_move_sent_twenty_times_counts_once(database: TestDatabase) {
    let server = Server::start(database).await;
    let (ann, bob) = (server.player("ann"), server.player("bob"));
    let game = server.play(&ann, &bob, &[0, 3, 1, 4]).await;
    let moves = (0..20).map(|_| {
        let (ann, game) = (ann.clone(), game.clone());
        tokio::spawn(async move { ann.make_move(&game, 2).await })
    });
    for made in moves.collect::<Vec<_>>() {
        let game = made.await.expect("joined").expect("the same answer for each");
        assert_eq!((game.state(), game.moves.len()), (GameState::Won, 5));
    }
    let board = ann
        .leaderboards()
        .get_leaderboard(ann.ask(GetLeaderboardRequest { limit: 0 }))
        .await;
    let entries = board.expect("the leaderboard").into_inner().entries;
    assert_eq!(
        entries
            .iter()
            .map(|entry| (entry.wins, entry.losses))
            .collect::<Vec<_>>(),
        [(1, 0), (0, 1)]
    );
    assert_eq!(ann.finished_games(0, "").await.expect("a page").games.len(), 1);
}

#[on_both_backends]
async fn one_of_two_concurrent_moves_is_made(database: TestDatabase) {
    let server = Server::start(database).await;
    let (ann, bob) = (server.player("ann"), server.player("bob"));
    for _ in 0..10 {
        let game = server.start_game(&ann, &bob).await;
        let (first, second) = tokio::join!(ann.make_move(&game, 0), ann.make_move(&game, 1));
        let lost = match (first, second) {
            (Ok(_), Err(lost)) | (Err(lost), Ok(_)) => lost,
            both => panic!("{both:?}"),
        };
        assert_eq!(
            (lost.code(), reason(&lost).as_str()),
            (Code::Aborted, "VERSION_MISMATCH")
        );
    }
}

#[on_both_backends]
async fn concurrent_reads_of_a_game_are_consistent(database: TestDatabase) {
    let server = Server::start(database).await;
    let (ann, bob) = (server.player("ann"), server.player("bob"));
    for _ in 0..10 {
        let game = server.start_game(&ann, &bob).await;
        let readers: Vec<_> = (0..4)
            .map(|_| {
                let (ann, id) = (ann.clone(), game.game_id.clone());
                tokio::spawn(async move {
                    loop {
                        let game = ann.get(&id).await.expect("one's own game");
                        let marks = game.board.chars().filter(|mark| *mark != '.').count();
                        assert_eq!(marks, game.moves.len(), "{game:?}");
                        if game.finish_time.is_some() {
                            break;
                        }
                    }
                })
            })
            .collect();
        let mut played = game;
        for (player, cell) in [&ann, &bob].into_iter().cycle().zip([0, 1, 2, 4, 3, 5, 7, 6, 8]) {
            played = player.make_move(&played, cell).await.expect("a legal move");
        }
        for reader in readers {
            reader.await.expect("every answer agrees with itself");
        }
    }
}

#[on_both_backends]
async fn games_of_the_same_players_finish_concurrently_without_a_deadlock(database: TestDatabase) {
    let server = Server::start(database).await;
    let (ann, bob) = (server.player("ann"), server.player("bob"));
    let mut last_moves = Vec::new();
    for index in 0..12 {
        let (x, o) = if index % 2 == 0 { (&ann, &bob) } else { (&bob, &ann) };
        let game = server.play(x, o, &[0, 3, 1, 4]).await;
        last_moves.push((x.clone(), game));
    }
    let made = last_moves
        .into_iter()
        .map(|(x, game)| tokio::spawn(async move { x.make_move(&game, 2).await }));
    for made in made.collect::<Vec<_>>() {
        made.await.expect("joined").expect("a legal move");
    }
    let board = ann
        .leaderboards()
        .get_leaderboard(ann.ask(GetLeaderboardRequest { limit: 0 }))
        .await;
    for entry in board.expect("the leaderboard").into_inner().entries {
        assert_eq!((entry.wins, entry.losses), (6, 6));
    }
}

#[on_both_backends]
async fn random_calls_keep_boards_histories_and_stats_consistent(database: TestDatabase) {
    let server = Server::start(database).await;
    let players = ["ann", "bob", "cy"].map(|login| server.player(login));
    let mut runner = TestRunner::new_with_rng(Config::default(), TestRng::deterministic_rng(RngAlgorithm::ChaCha));
    let steps = prop::collection::vec((0..3usize, 0..8u8, -1..10i32, -2..2i64), 120);
    let steps = steps.new_tree(&mut runner).expect("steps").current();
    let mut games: Vec<Game> = Vec::new();
    for (who, what, cell, off) in steps {
        let player = &players[who];
        let latest = games.last().cloned().unwrap_or_default();
        let outcome = match what {
            0 => player.create(Opponent::Player, Mark::Unspecified).await,
            1 | 2 => player.join(&latest.game_id).await,
            3 => player.make_move(&latest, cell).await,
            4 => player.move_at(&latest.game_id, cell, latest.version + off).await,
            // The player whose turn it is moves, so that games come to an end.
            _ => in_turn(&players, &latest, cell).await,
        };
        if let Ok(game) = outcome {
            games.retain(|known| known.game_id != game.game_id);
            games.push(game);
        } else if let Err(status) = outcome {
            let known = [
                Code::InvalidArgument,
                Code::NotFound,
                Code::FailedPrecondition,
                Code::Aborted,
            ];
            assert!(known.contains(&status.code()), "{status}");
        }
    }
    let mut finished = 0;
    for game in &games {
        let mut board = ['.'; 9];
        for (index, made) in game.moves.iter().enumerate() {
            let (mark, character) = if index % 2 == 0 { (Mark::X, 'X') } else { (Mark::O, 'O') };
            let cell = usize::try_from(made.cell()).expect("on the board");
            assert_eq!((made.mark(), board[cell]), (mark, '.'), "{game:?}");
            board[cell] = character;
        }
        assert_eq!(game.board, board.iter().collect::<String>());
        finished += usize::from(game.finish_time.is_some());
    }
    assert!(finished > 0, "no game came to an end");
    let mut counted = 0;
    for player in &players {
        counted += player.finished_games(100, "").await.expect("a page").games.len();
    }
    assert_eq!(counted, finished * 2);
    let board = players[0]
        .leaderboards()
        .get_leaderboard(players[0].ask(GetLeaderboardRequest { limit: 0 }))
        .await;
    let entries = board.expect("the leaderboard").into_inner().entries;
    let total: i64 = entries
        .iter()
        .map(|entry| entry.wins + entry.losses + entry.draws)
        .sum();
    assert_eq!(usize::try_from(total).expect("small"), counted);
    let (wins, losses) = entries
        .iter()
        .fold((0, 0), |(w, l), entry| (w + entry.wins, l + entry.losses));
    assert_eq!(wins, losses);
}

async fn in_turn(players: &[Player; 3], game: &Game, cell: i32) -> Result<Game, Status> {
    let player = players
        .iter()
        .find(|player| player.id() == game.turn_user_id)
        .unwrap_or(&players[0]);
    let free = game
        .board
        .match_indices('.')
        .map(|(index, _)| index)
        .cycle()
        .nth(cell.unsigned_abs() as usize);
    let cell = i32::try_from(free.unwrap_or(0)).expect("small");
    player.make_move(game, cell).await
}
