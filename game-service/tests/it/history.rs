use std::time::Duration;

use base::ids::UserId;
use proto::game::v1::{
    EndReason, Game, GameResult, GameState, GetHeadToHeadRequest, GetHeadToHeadResponse, ListFinishedGamesRequest,
    Mark, Opponent,
};
use testing::{TestDatabase, on_both_backends, rpc::bad_fields};
use tonic::{Code, Status};

use crate::support::{Player, START, Server, is, kind};

const X_WINS: &[i32] = &[0, 3, 1, 4, 2];
const O_WINS: &[i32] = &[0, 4, 1, 2, 3, 6];
const DRAW: &[i32] = &[0, 4, 8, 2, 6, 3, 5, 7, 1];

/// Lists all games that pass the filter, in small pages.
async fn all(player: &Player, filter: &ListFinishedGamesRequest) -> Vec<Game> {
    let (mut games, mut page_token) = (Vec::new(), String::new());
    loop {
        let request = ListFinishedGamesRequest {
            page_size: 4,
            page_token,
            ..filter.clone()
        };
        let page = player.history(request).await.expect("a page");
        games.extend(page.games);
        page_token = page.next_page_token;
        if page_token.is_empty() {
            return games;
        }
    }
}

async fn head_to_head(player: &Player, user_id: &str, opponent: &str) -> Result<GetHeadToHeadResponse, Status> {
    let request = GetHeadToHeadRequest {
        user_id: user_id.to_owned(),
        opponent_user_id: opponent.to_owned(),
    };
    let answer = player.histories().get_head_to_head(player.ask(request)).await?;
    Ok(answer.into_inner())
}

/// Returns the time this many seconds after the start.
fn at(seconds: i64) -> prost_types::Timestamp {
    let mut time = prost_types::Timestamp::from(START);
    time.seconds += seconds;
    time
}

#[on_both_backends]
async fn finished_games_are_kept_newest_first_with_their_moves(database: TestDatabase) {
    let server = Server::start(database).await;
    let (ann, bob, eve) = (server.player("ann"), server.player("bob"), server.player("eve"));
    let mut finished = Vec::new();
    for cells in [X_WINS, O_WINS, DRAW] {
        server.clock.advance(Duration::from_secs(60));
        finished.push(server.play(&ann, &bob, cells).await);
    }
    // Neither a running game nor a waiting one is listed.
    server.start_game(&ann, &bob).await;
    ann.create(Opponent::Player, Mark::X).await.expect("created");
    finished.reverse();
    for player in [&ann, &bob] {
        let listed = player.finished_games(0, "").await.expect("a page");
        assert_eq!((listed.games, listed.next_page_token.as_str()), (finished.clone(), ""));
    }
    assert!(eve.finished_games(0, "").await.expect("a page").games.is_empty());
}

#[on_both_backends]
async fn pages_stay_consistent_while_games_finish(database: TestDatabase) {
    let server = Server::start(database).await;
    let (ann, bob) = (server.player("ann"), server.player("bob"));
    let mut finished = Vec::new();
    for _ in 0..5 {
        // All finish at the same time, so the id breaks the tie.
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
    let listed: Vec<_> = [first, second, third]
        .into_iter()
        .flat_map(|page| page.games)
        .map(|game| game.game_id)
        .collect();
    assert_eq!(listed, finished);
}

#[on_both_backends]
async fn games_against_the_computer_are_kept(database: TestDatabase) {
    let server = Server::start(database).await;
    let ann = server.player("ann");
    let mut game = ann.create(Opponent::Computer, Mark::X).await.expect("created");
    while game.state() == GameState::Turn {
        let cell = game.board.find('.').expect("an empty cell");
        game = ann
            .make_move(&game, i32::try_from(cell).expect("small"))
            .await
            .expect("a legal move");
    }
    assert_eq!(ann.finished_games(0, "").await.expect("a page").games, [game]);
}

#[on_both_backends]
async fn a_page_token_is_valid_only_for_its_owner(database: TestDatabase) {
    let server = Server::start(database).await;
    let (ann, bob) = (server.player("ann"), server.player("bob"));
    for _ in 0..2 {
        server.play(&ann, &bob, X_WINS).await;
    }
    let token = ann.finished_games(1, "").await.expect("a page").next_page_token;
    assert_eq!(
        bad_fields(&bob.finished_games(1, &token).await.expect_err("refused")),
        ["page_token"]
    );
    assert_eq!(ann.finished_games(1, &token).await.expect("a page").games.len(), 1);
}

#[on_both_backends]
async fn each_filter_selects_the_games_it_describes(database: TestDatabase) {
    let server = Server::start(database).await;
    let [ann, bob, cy] = ["ann", "bob", "cy"].map(|login| server.player(login));
    // One game every ten seconds.
    let (mut games, mut seconds) = (Vec::new(), 0);
    for round in 0..3 {
        for (x, o, cells) in [
            (&ann, &bob, X_WINS),
            (&bob, &ann, X_WINS),
            (&ann, &cy, DRAW),
            (&cy, &ann, O_WINS),
        ] {
            server.clock.advance(Duration::from_secs(10));
            seconds += 10;
            games.push((seconds, server.play(x, o, cells).await));
        }
        server.clock.advance(Duration::from_secs(10));
        seconds += 10;
        let game = server.play(&ann, &bob, &[0, 1]).await;
        let loser = if round == 1 { &bob } else { &ann };
        games.push((seconds, loser.resign(&game.game_id).await.expect("resigned")));
        server.clock.advance(Duration::from_secs(10));
        seconds += 10;
        let game = ann.create(Opponent::Computer, Mark::X).await.expect("created");
        let game = ann.make_move(&game, 4).await.expect("a legal move");
        games.push((seconds, ann.resign(&game.game_id).await.expect("resigned")));
    }
    games.reverse();
    let result = |game: &Game| match game.state() {
        GameState::Draw => GameResult::Drawn,
        _ if game.winner_user_id == ann.id() => GameResult::Won,
        _ => GameResult::Lost,
    };
    let against = |game: &Game| {
        if game.x_user_id == ann.id() {
            game.o_user_id.clone()
        } else {
            game.x_user_id.clone()
        }
    };
    let stranger = UserId::generate().to_string();
    let mut seen = 0;
    for wanted in [
        GameResult::Unspecified,
        GameResult::Won,
        GameResult::Lost,
        GameResult::Drawn,
    ] {
        for opponent in [Opponent::Unspecified, Opponent::Computer, Opponent::Player] {
            for opponent_user_id in [String::new(), bob.id(), stranger.clone()] {
                for end_reason in [
                    EndReason::Unspecified,
                    EndReason::Line,
                    EndReason::FullBoard,
                    EndReason::Resignation,
                    EndReason::Timeout,
                ] {
                    for (start, end) in [(None, None), (Some(50), None), (Some(30), Some(120))] {
                        let filter = ListFinishedGamesRequest {
                            result: wanted.into(),
                            opponent: opponent.into(),
                            opponent_user_id: opponent_user_id.clone(),
                            end_reason: end_reason.into(),
                            start_time: start.map(at),
                            end_time: end.map(at),
                            ..ListFinishedGamesRequest::default()
                        };
                        let passes = |time: i64, game: &Game| {
                            (wanted == GameResult::Unspecified || result(game) == wanted)
                                && (opponent == Opponent::Unspecified || game.opponent() == opponent)
                                && (opponent_user_id.is_empty() || against(game) == opponent_user_id)
                                && (end_reason == EndReason::Unspecified || game.end_reason() == end_reason)
                                && start.is_none_or(|start| time >= start)
                                && end.is_none_or(|end| time < end)
                        };
                        let expected: Vec<&Game> = games
                            .iter()
                            .filter(|(time, game)| passes(*time, game))
                            .map(|(_, game)| game)
                            .collect();
                        let listed = all(&ann, &filter).await;
                        assert_eq!(listed.iter().collect::<Vec<_>>(), expected, "{filter:?}");
                        seen += listed.len();
                    }
                }
            }
        }
    }
    assert!(seen > 100);
}

#[on_both_backends]
async fn a_page_token_is_valid_only_for_its_filters(database: TestDatabase) {
    let server = Server::start(database).await;
    let (ann, bob) = (server.player("ann"), server.player("bob"));
    for _ in 0..2 {
        server.play(&ann, &bob, X_WINS).await;
    }
    let won = ListFinishedGamesRequest {
        page_size: 1,
        result: GameResult::Won.into(),
        ..ListFinishedGamesRequest::default()
    };
    let page_token = ann.history(won.clone()).await.expect("a page").next_page_token;
    let other = ListFinishedGamesRequest {
        page_token: page_token.clone(),
        page_size: 1,
        ..ListFinishedGamesRequest::default()
    };
    assert_eq!(
        bad_fields(&ann.history(other).await.expect_err("another list")),
        ["page_token"]
    );
    assert_eq!(
        ann.history(ListFinishedGamesRequest { page_token, ..won })
            .await
            .expect("a page")
            .games
            .len(),
        1
    );
}

#[on_both_backends]
async fn every_bad_filter_is_named(database: TestDatabase) {
    let server = Server::start(database).await;
    let ann = server.player("ann");
    let bad = ListFinishedGamesRequest {
        page_size: -1,
        page_token: "x".to_owned(),
        user_id: "me".to_owned(),
        result: 17,
        opponent: -1,
        opponent_user_id: "bob".to_owned(),
        end_reason: EndReason::Expiry.into(),
        start_time: Some(prost_types::Timestamp { seconds: 1, nanos: -1 }),
        end_time: Some(prost_types::Timestamp {
            seconds: i64::MAX,
            nanos: 0,
        }),
    };
    let mut named = bad_fields(&ann.history(bad).await.expect_err("refused"));
    named.sort();
    let expected = [
        "end_reason",
        "end_time",
        "opponent",
        "opponent_user_id",
        "page_size",
        "page_token",
        "result",
        "start_time",
        "user_id",
    ];
    assert_eq!(named, expected);
    let backwards = ListFinishedGamesRequest {
        start_time: Some(at(1)),
        end_time: Some(at(0)),
        ..ListFinishedGamesRequest::default()
    };
    assert_eq!(
        bad_fields(&ann.history(backwards).await.expect_err("refused")),
        ["end_time"]
    );
    assert_eq!(
        bad_fields(&head_to_head(&ann, "x", "").await.expect_err("refused")),
        ["user_id", "opponent_user_id"]
    );
    assert_eq!(
        bad_fields(&head_to_head(&ann, "", &ann.id()).await.expect_err("refused")),
        ["opponent_user_id"]
    );
}

#[on_both_backends]
async fn games_against_one_opponent_add_up(database: TestDatabase) {
    let server = Server::start(database).await;
    let [ann, bob, cy] = ["ann", "bob", "cy"].map(|login| server.player(login));
    for (x, o, cells) in [
        (&ann, &bob, X_WINS),
        (&bob, &ann, O_WINS),
        (&ann, &bob, DRAW),
        (&bob, &ann, X_WINS),
        (&ann, &cy, X_WINS),
    ] {
        server.clock.advance(Duration::from_secs(10));
        server.play(x, o, cells).await;
    }
    let sum = head_to_head(&ann, "", &bob.id()).await.expect("a sum");
    assert_eq!(
        sum,
        GetHeadToHeadResponse {
            wins: 2,
            losses: 1,
            draws: 1,
            last_finish_time: Some(at(40))
        }
    );
    let other_way = head_to_head(&bob, &bob.id(), &ann.id()).await.expect("a sum");
    assert_eq!(
        other_way,
        GetHeadToHeadResponse {
            wins: 1,
            losses: 2,
            draws: 1,
            last_finish_time: Some(at(40))
        }
    );
    assert_eq!(
        head_to_head(&bob, "", &cy.id()).await.expect("a sum"),
        GetHeadToHeadResponse::default()
    );
}

#[on_both_backends]
async fn another_players_history_needs_the_permission(database: TestDatabase) {
    let server = Server::start(database).await;
    let [ann, bob, mut eve] = ["ann", "bob", "eve"].map(|login| server.player(login));
    let game = server.play(&ann, &bob, X_WINS).await;
    let of = |user_id: &str| ListFinishedGamesRequest {
        user_id: user_id.to_owned(),
        ..ListFinishedGamesRequest::default()
    };
    let unknown = UserId::generate().to_string();
    let not_found = is(Code::NotFound, "USER_NOT_FOUND");
    // The reply is the same as for a user who does not exist, and comes before any other field is
    // checked.
    for id in [ann.id(), unknown.clone()] {
        assert_eq!(kind(eve.history(of(&id)).await), not_found);
        assert_eq!(
            kind(eve.history(ListFinishedGamesRequest { result: 17, ..of(&id) }).await),
            not_found
        );
        assert_eq!(kind(head_to_head(&eve, &id, &bob.id()).await), not_found);
    }
    assert_eq!(
        ann.history(of(&ann.id())).await.expect("one's own").games,
        std::slice::from_ref(&game)
    );
    let mut claims = server.mint.claims_for(eve.id, "eve", &["player"], START);
    claims.permissions = vec!["history:read_all".to_owned()];
    eve.token = server.mint.sign(&claims);
    assert_eq!(eve.history(of(&ann.id())).await.expect("allowed").games, [game]);
    assert_eq!(head_to_head(&eve, &ann.id(), &bob.id()).await.expect("allowed").wins, 1);
    assert_eq!(kind(eve.history(of(&unknown)).await), not_found);
}
