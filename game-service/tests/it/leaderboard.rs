use std::time::Duration;

use shared::{
    proto::game::v1::{GameState, GetLeaderboardRequest, LeaderboardEntry, Mark, Opponent},
    testing::{TestDatabase, on_both_backends, rpc::bad_fields},
};

use crate::support::{Player, Server};

const X_WINS: &[i32] = &[0, 3, 1, 4, 2];
const DRAW: &[i32] = &[0, 4, 8, 2, 6, 3, 5, 7, 1];

async fn top(player: &Player, limit: i32) -> Vec<LeaderboardEntry> {
    let answer = player
        .leaderboards()
        .get_leaderboard(player.ask(GetLeaderboardRequest { limit }))
        .await;
    answer.expect("the leaderboard").into_inner().entries
}

fn lines(entries: &[LeaderboardEntry]) -> Vec<String> {
    let line = |e: &LeaderboardEntry| {
        format!(
            "{} {} {}-{}-{} {}",
            e.rank, e.login, e.wins, e.losses, e.draws, e.win_ratio
        )
    };
    entries.iter().map(line).collect()
}

on_both_backends! {
    migrations = game_service::MIGRATIONS;

    async fn players_are_ranked_by_ratio_then_wins_then_who_was_first(database: TestDatabase) {
        let server = Server::start(database).await;
        let [ann, bob, cy, dan, eve] = ["ann", "bob", "cy", "dan", "eve"].map(|login| server.player(login));
        assert!(top(&ann, 0).await.is_empty());
        for (x, o, cells) in [
            (&ann, &bob, X_WINS),
            (&cy, &bob, X_WINS),
            (&dan, &eve, X_WINS),
            (&dan, &eve, X_WINS),
            (&eve, &bob, DRAW),
        ] {
            server.clock.advance(Duration::from_secs(1));
            server.play(x, o, cells).await;
        }
        // A running game counts for nobody.
        server.start_game(&ann, &bob).await;
        let all = top(&eve, 0).await;
        assert_eq!(lines(&all), ["1 dan 2-0-0 2", "2 ann 1-0-0 1", "2 cy 1-0-0 1", "4 bob 0-2-1 0", "4 eve 0-2-1 0"]);
        assert_eq!(all[0].user_id, dan.id());
        assert_eq!(top(&eve, 2).await, all[..2]);
    }

    async fn the_computer_counts_for_the_human_and_is_not_ranked(database: TestDatabase) {
        let server = Server::start(database).await;
        let ann = server.player("ann");
        let mut game = ann.create(Opponent::Computer, Mark::O).await.expect("created");
        while game.state() == GameState::Turn {
            let cell = game.board.rfind('.').expect("an empty cell");
            game = ann.make_move(&game, i32::try_from(cell).expect("small")).await.expect("a legal move");
        }
        assert_eq!(lines(&top(&ann, 0).await), ["1 ann 0-1-0 0"]);
    }

    async fn a_player_is_ranked_after_enough_games(database: TestDatabase) {
        let server = Server::start_with(database, &["--leaderboard-min-games", "2"]).await;
        let [ann, bob, cy] = ["ann", "bob", "cy"].map(|login| server.player(login));
        server.play(&ann, &bob, X_WINS).await;
        assert!(top(&ann, 0).await.is_empty());
        server.play(&cy, &bob, X_WINS).await;
        assert_eq!(lines(&top(&ann, 0).await), ["1 bob 0-2-0 0"]);
    }

    async fn a_limit_is_one_to_a_thousand(database: TestDatabase) {
        let server = Server::start(database).await;
        let ann = server.player("ann");
        for limit in [-1, 1001, i32::MIN, i32::MAX] {
            let refused = ann.leaderboards().get_leaderboard(ann.ask(GetLeaderboardRequest { limit })).await;
            assert_eq!(bad_fields(&refused.expect_err("refused")), ["limit"]);
        }
        assert!(top(&ann, 1000).await.is_empty());
    }
}
