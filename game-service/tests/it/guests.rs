//! Guests: their games are played and kept like any other, and count on no leaderboard.

use base::ids::UserId;
use proto::game::v1::{GameState, GetHeadToHeadRequest, Mark, Opponent};
use testing::{TestDatabase, on_both_backends};

use crate::{
    model::has_no_drift,
    support::{Player, START, Server},
};

const X_WINS: &[i32] = &[0, 3, 1, 4, 2];

/// Creates a player with these roles.
fn with_roles(server: &Server, id: UserId, login: &str, roles: &[&str]) -> Player {
    Player::with_roles(&server.mint, (id, login), roles, START, server.grpc)
}

fn guest(server: &Server) -> Player {
    with_roles(server, UserId::generate(), "guest-2345678923456789", &["guest"])
}

/// Runs statements on the database, as a replica of the previous version would.
async fn run(server: &Server, statements: &[&str]) {
    for sql in statements {
        let ran: db::Result<usize> = db::write_tx!(server.database.db(), |tx| {
            db::query!(tx, |c| diesel_async::RunQueryDsl::execute(diesel::sql_query(*sql), c)
                .await)
        });
        ran.unwrap_or_else(|error| panic!("{error}: {sql}"));
    }
}

/// Writes the results of all games anew, as a replica of the previous version writes them: it knows
/// neither whether a game is ranked nor whether a result counts, and counts all of them.
async fn count_as_the_previous_version(server: &Server) {
    run(
        server,
        &[
            "UPDATE games SET is_ranked = (1 = 1)",
            "CREATE TABLE copies AS SELECT user_id, game_id, result, opponent_id, finish_time, end_reason \
             FROM game_results",
            "DELETE FROM game_results",
            "DELETE FROM player_stats",
            "INSERT INTO player_stats (user_id, wins, losses, draws, last_finish_time) \
             SELECT user_id, sum(CASE result WHEN 'won' THEN 1 ELSE 0 END), \
             sum(CASE result WHEN 'lost' THEN 1 ELSE 0 END), 0, max(finish_time) FROM copies GROUP BY user_id",
            "INSERT INTO game_results (user_id, game_id, result, opponent_id, finish_time, end_reason) \
             SELECT * FROM copies",
        ],
    )
    .await;
}

#[on_both_backends]
async fn games_of_guests_are_kept_and_count_for_nobody(database: TestDatabase) {
    let server = Server::start(database).await;
    let (ann, bob, guest) = (server.player("ann"), server.player("bob"), guest(&server));
    // A guest loses as the one who joins, and as the one who has created the game.
    let joined = server.play(&ann, &guest, X_WINS).await;
    assert!(!joined.is_ranked && joined.state() == GameState::Won);
    let created = guest.create(Opponent::Player, Mark::O).await.expect("created");
    assert!(!created.is_ranked);
    let mut game = ann.join(&created.game_id).await.expect("joined");
    for (player, cell) in [&ann, &guest].into_iter().cycle().zip(X_WINS) {
        game = player.make_move(&game, *cell).await.expect("a legal move");
    }
    assert_eq!((game.state(), game.is_ranked), (GameState::Won, false));
    let computer = guest.create(Opponent::Computer, Mark::X).await.expect("created");
    let moved = guest.make_move(&computer, 4).await.expect("a legal move");
    guest.resign(&moved.game_id).await.expect("resigned");
    assert!(server.standings(&ann).await.is_empty());
    // Everybody has them in the history.
    let history = ann.finished_games(0, "").await.expect("a page").games;
    assert_eq!(history.len(), 2);
    assert!(history.iter().all(|game| !game.is_ranked));
    assert_eq!(guest.finished_games(0, "").await.expect("a page").games.len(), 3);
    let request = ann.ask(GetHeadToHeadRequest {
        opponent_user_id: guest.id(),
        ..GetHeadToHeadRequest::default()
    });
    let record = ann
        .histories()
        .get_head_to_head(request)
        .await
        .expect("a record")
        .into_inner();
    assert_eq!((record.wins, record.losses), (2, 0));
    assert_eq!(ann.rank("").await.expect("a rank").games_needed, 1);
    // Games of others count as ever.
    let ranked = server.play(&ann, &bob, X_WINS).await;
    assert!(ranked.is_ranked);
    assert_eq!(
        server.standings(&ann).await,
        [("ann".to_owned(), 1, 0), ("bob".to_owned(), 0, 1)]
    );
}

#[on_both_backends]
async fn a_guest_who_upgrades_in_a_game_does_not_make_it_count(database: TestDatabase) {
    let server = Server::start(database).await;
    let (ann, guest) = (server.player("ann"), guest(&server));
    let game = server.start_game(&ann, &guest).await;
    let upgraded = with_roles(&server, guest.id, "carl", &["player"]);
    let mut game = ann.make_move(&game, 0).await.expect("a legal move");
    for (player, cell) in [&upgraded, &ann].into_iter().cycle().zip([3, 1, 4, 2]) {
        game = player.make_move(&game, cell).await.expect("a legal move");
    }
    assert_eq!((game.state(), game.is_ranked), (GameState::Won, false));
    assert!(server.standings(&ann).await.is_empty());
    // The next game does.
    assert!(server.play(&upgraded, &ann, X_WINS).await.is_ranked);
    assert_eq!(server.standings(&ann).await.len(), 2);
}

#[on_both_backends]
async fn groups_of_games_that_end_at_once_count_like_single_ones(database: TestDatabase) {
    let server = Server::start(database).await;
    let mut games = Vec::new();
    for number in 0..10 {
        let x = server.player(&format!("x{number}"));
        let o = if number % 2 == 0 {
            guest(&server)
        } else {
            server.player(&format!("o{number}"))
        };
        let game = server.play(&x, &o, &X_WINS[..4]).await;
        games.push((x, game));
    }
    let ends = games.iter().map(|(x, game)| x.make_move(game, 2));
    let ended = futures_util::future::join_all(ends).await;
    for (number, game) in ended.into_iter().enumerate() {
        let game = game.expect("a legal move");
        assert_eq!((game.state(), game.is_ranked), (GameState::Won, number % 2 == 1));
    }
    let standings = server.standings(&games[0].0).await;
    assert_eq!(standings.len(), 10);
    assert_eq!(standings.iter().filter(|(_, wins, _)| *wins == 1).count(), 5);
    assert!(standings.iter().all(|(login, ..)| !login.starts_with("guest-")));
}

#[on_both_backends]
async fn games_of_guests_that_the_version_before_has_counted_are_taken_back(database: TestDatabase) {
    let server = Server::start(database).await;
    let (ann, bob) = (server.player("ann"), server.player("bob"));
    server.play(&ann, &bob, X_WINS).await;
    let guest = guest(&server);
    server.play(&ann, &guest, X_WINS).await;
    server.play(&ann, &bob, X_WINS).await;
    count_as_the_previous_version(&server).await;
    let expected = [("ann".to_owned(), 2, 0), ("bob".to_owned(), 0, 2)];
    let settled = async { while server.standings(&ann).await != expected {} };
    tokio::time::timeout(std::time::Duration::from_secs(30), settled)
        .await
        .expect("taken back");
    let history = ann.finished_games(0, "").await.expect("a page").games;
    let ranked: Vec<bool> = history.iter().map(|game| game.is_ranked).collect();
    assert_eq!(ranked, [true, false, true]);
}

#[on_both_backends]
async fn games_of_guests_that_are_still_to_be_taken_back_are_no_drift(database: TestDatabase) {
    let server = Server::start(database).await;
    let ann = server.player("ann");
    server.play(&ann, &server.player("bob"), X_WINS).await;
    server.play(&ann, &guest(&server), X_WINS).await;
    // Without a service, no job takes them back.
    server.running.stop().await.expect("stopped");
    count_as_the_previous_version(&server).await;
    has_no_drift(server.database.url());
}
