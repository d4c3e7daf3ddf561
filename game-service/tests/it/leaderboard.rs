use std::time::Duration;

use proto::game::v1::{GameState, GetLeaderboardRequest, LeaderboardEntry, Mark, Opponent};
use testing::{
    TestDatabase, on_both_backends,
    rpc::{bad_fields, reason},
};
use uuid::Uuid;

use crate::{
    access::following,
    names::{delete, login_becomes, rename},
    support::{Player, START, Server},
};

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

#[on_both_backends]
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
    // A running game counts for neither player.
    server.start_game(&ann, &bob).await;
    let all = top(&eve, 0).await;
    assert_eq!(
        lines(&all),
        [
            "1 dan 2-0-0 2",
            "2 ann 1-0-0 1",
            "2 cy 1-0-0 1",
            "4 bob 0-2-1 0",
            "4 eve 0-2-1 0"
        ]
    );
    assert_eq!(all[0].user_id, dan.id());
    assert_eq!(top(&eve, 2).await, all[..2]);
}

#[on_both_backends]
async fn games_against_the_computer_count_for_the_human_only(database: TestDatabase) {
    let server = Server::start(database).await;
    let ann = server.player("ann");
    let mut game = ann.create(Opponent::Computer, Mark::O).await.expect("created");
    while game.state() == GameState::Turn {
        let cell = game.board.rfind('.').expect("an empty cell");
        game = ann
            .make_move(&game, i32::try_from(cell).expect("small"))
            .await
            .expect("a legal move");
    }
    assert_eq!(lines(&top(&ann, 0).await), ["1 ann 0-1-0 0"]);
}

#[on_both_backends]
async fn a_player_is_ranked_after_enough_games(database: TestDatabase) {
    let server = Server::start_with(database, &["--leaderboard-min-games", "2"]).await;
    let [ann, bob, cy] = ["ann", "bob", "cy"].map(|login| server.player(login));
    server.play(&ann, &bob, X_WINS).await;
    assert!(top(&ann, 0).await.is_empty());
    server.play(&cy, &bob, X_WINS).await;
    assert_eq!(lines(&top(&ann, 0).await), ["1 bob 0-2-0 0"]);
}

#[on_both_backends]
async fn a_limit_is_one_to_a_thousand(database: TestDatabase) {
    let server = Server::start(database).await;
    let ann = server.player("ann");
    for limit in [-1, 1001, i32::MIN, i32::MAX] {
        let refused = ann
            .leaderboards()
            .get_leaderboard(ann.ask(GetLeaderboardRequest { limit }))
            .await;
        assert_eq!(bad_fields(&refused.expect_err("refused")), ["limit"]);
    }
    assert!(top(&ann, 1000).await.is_empty());
}

#[on_both_backends]
async fn single_ranks_agree_with_the_whole_leaderboard(database: TestDatabase) {
    let server = Server::start_with(database, &["--leaderboard-min-games", "2"]).await;
    let players: Vec<Player> = (0..9).map(|index| server.player(&format!("player{index}"))).collect();
    // The results give ties in the middle and at both ends. The last player plays only one game and
    // is not ranked.
    for (x, o, cells) in [
        (0, 1, X_WINS),
        (0, 2, X_WINS),
        (3, 1, X_WINS),
        (3, 2, X_WINS),
        (4, 5, DRAW),
        (5, 6, DRAW),
        (6, 4, DRAW),
        (7, 4, X_WINS),
        (7, 5, X_WINS),
        (0, 6, X_WINS),
        (3, 6, X_WINS),
        (2, 8, X_WINS),
    ] {
        // Some games end at the same moment.
        if x % 2 == 0 {
            server.clock.advance(Duration::from_secs(1));
        }
        server.play(&players[x], &players[o], cells).await;
    }
    let all = top(&players[0], 1000).await;
    assert_eq!(all.len(), 8);
    assert!(all.windows(2).any(|pair| pair[0].rank == pair[1].rank));
    for (place, expected) in all.iter().enumerate() {
        let player = players
            .iter()
            .find(|player| player.id() == expected.user_id)
            .expect("a player");
        for asker in [player, &players[8]] {
            let id = if asker.id == player.id {
                String::new()
            } else {
                player.id()
            };
            let rank = asker.rank(&id).await.expect("a rank");
            assert_eq!((rank.entry.as_ref(), rank.games_needed), (Some(expected), 0));
            for limit in 1..=10_usize {
                // As many above as below. If one side has too few, the other side shows more.
                let others = limit - 1;
                let above = place.min((others / 2).max(others.saturating_sub(all.len() - place - 1)));
                let below = (all.len() - place - 1).min(others - above);
                let around = asker
                    .around(&id, i32::try_from(limit).expect("small"))
                    .await
                    .expect("a part");
                assert_eq!(around, all[place - above..=place + below], "{limit} around {place}");
            }
        }
    }
    // An unranked player has rank 0 and is told how many games are missing.
    let rank = players[8].rank("").await.expect("a rank");
    let entry = rank.entry.expect("an entry");
    assert_eq!(
        (entry.rank, entry.login.as_str(), entry.losses, rank.games_needed),
        (0, "player8", 1, 1)
    );
    assert_eq!(players[0].around(&players[8].id(), 5).await.expect("nobody"), []);
    let nobody = server.player("nobody");
    let rank = nobody.rank("").await.expect("a rank");
    let entry = rank.entry.expect("an entry");
    assert_eq!((entry.rank, entry.login.as_str(), rank.games_needed), (0, "nobody", 2));
    assert_eq!(nobody.around("", 0).await.expect("nobody"), []);
}

#[on_both_backends]
async fn an_unknown_player_is_not_found(database: TestDatabase) {
    let server = Server::start(database).await;
    let ann = server.player("ann");
    let unknown = Uuid::new_v4().to_string();
    assert_eq!(reason(&ann.rank(&unknown).await.expect_err("nobody")), "USER_NOT_FOUND");
    assert_eq!(
        reason(&ann.around(&unknown, 1).await.expect_err("nobody")),
        "USER_NOT_FOUND"
    );
    assert_eq!(bad_fields(&ann.rank("x").await.expect_err("bad")), ["user_id"]);
    for limit in [-1, 101] {
        assert_eq!(
            bad_fields(&ann.around("x", limit).await.expect_err("bad")),
            ["user_id", "limit"]
        );
    }
    // A user who waits for an opponent is known, but has no place yet.
    let bob = server.player("bob");
    bob.create(Opponent::Player, Mark::X).await.expect("created");
    let rank = ann.rank(&bob.id()).await.expect("a rank");
    assert_eq!(
        (rank.entry.expect("an entry").login.as_str(), rank.games_needed),
        ("bob", 1)
    );
    assert_eq!(ann.around(&bob.id(), 1).await.expect("nobody"), []);
}

/// Returns the login of a player, which each RPC of the leaderboard must show alike.
async fn shown_login(asker: &Player, of: &Player) -> String {
    let rank = asker.rank(&of.id()).await.expect("a rank").entry.expect("an entry");
    let around = asker.around(&of.id(), 2).await.expect("a part");
    for entries in [top(asker, 0).await, around] {
        assert!(entries.contains(&rank), "{rank:?} is not in {entries:?}");
    }
    rank.login
}

#[on_both_backends]
async fn a_rename_by_a_token_is_in_the_next_answer_of_every_replica(database: TestDatabase) {
    let server = Server::start(database).await;
    let replica = server.replica().await;
    let (ann, bob) = (server.player("ann"), server.player("bob"));
    server.play(&ann, &bob, X_WINS).await;
    let (here, there) = (bob.clone(), bob.at(&replica));
    for asker in [&here, &there] {
        assert_eq!(shown_login(asker, &ann).await, "ann");
    }
    for (login, at, then) in [
        ("anna", &here, &there),
        ("annie", &there, &here),
        ("ann", &here, &there),
    ] {
        // Creating a game takes over the login in the token.
        let mut claims = server.mint.claims_for(ann.id, login, &["player"], START);
        claims.exp += 24 * 3600;
        let mut renamed = at.clone();
        renamed.token = server.mint.sign(&claims);
        renamed.create(Opponent::Computer, Mark::X).await.expect("created");
        for asker in [then, at] {
            assert_eq!(shown_login(asker, &ann).await, login);
        }
    }
    replica.running.stop().await.expect("ended");
}

#[on_both_backends]
async fn a_rename_or_deletion_by_the_feed_is_in_the_next_answer_of_every_replica(database: TestDatabase) {
    let (auth, server) = following(database).await;
    let replica = server.replica().await;
    let (ann, bob) = (server.player("ann"), server.player("bob"));
    server.play(&ann, &bob, X_WINS).await;
    let there = bob.at(&replica);
    assert_eq!(shown_login(&there, &ann).await, "ann");
    for login in ["anna", "annie", ""] {
        if login.is_empty() {
            delete(&auth, ann.id);
        } else {
            rename(&auth, ann.id, login);
        }
        // Once the replica that follows the feed shows it, so does the other.
        login_becomes(&bob, &ann, login).await;
        assert_eq!(shown_login(&there, &ann).await, login);
    }
    replica.running.stop().await.expect("ended");
}
