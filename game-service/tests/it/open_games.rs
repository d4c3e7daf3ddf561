use std::time::Duration;

use proto::game::v1::{Mark, Opponent};
use testing::{TestDatabase, on_both_backends, rpc::bad_fields};

use crate::support::Server;

#[on_both_backends]
async fn waiting_games_are_listed_oldest_first_in_pages(database: TestDatabase) {
    let server = Server::start(database).await;
    let (ann, bob) = (server.player("ann"), server.player("bob"));
    let mut created = Vec::new();
    for index in 0..5 {
        // Some games share a creation time, so that the id has to break ties.
        server.clock.advance(Duration::from_secs(index % 2));
        created.push(ann.create(Opponent::Player, Mark::X).await.expect("created"));
    }
    ann.create(Opponent::Computer, Mark::X).await.expect("not an open game");
    created.sort_by_key(|game| {
        (
            game.create_time.map(|time| (time.seconds, time.nanos)),
            game.game_id.clone(),
        )
    });

    let mut listed = Vec::new();
    let mut token = String::new();
    loop {
        let page = bob.open_games(2, &token).await.expect("a page");
        assert!(page.games.len() <= 2);
        listed.extend(page.games);
        if page.next_page_token.is_empty() {
            break;
        }
        token = page.next_page_token;
    }
    assert_eq!(listed, created);

    // A game that is joined between two pages disappears. No other game is skipped or repeated.
    let first = bob.open_games(2, "").await.expect("a page");
    bob.join(&created[1].game_id).await.expect("joined");
    let second = bob.open_games(2, &first.next_page_token).await.expect("a page");
    assert_eq!(second.games, created[2..4]);
    assert_eq!(bob.open_games(0, "").await.expect("all").games.len(), 4);
}

#[on_both_backends]
async fn bad_pages_are_refused(database: TestDatabase) {
    let server = Server::start(database).await;
    let ann = server.player("ann");
    for _ in 0..3 {
        ann.create(Opponent::Player, Mark::X).await.expect("created");
    }
    let token = ann.open_games(1, "").await.expect("a page").next_page_token;
    assert_eq!(
        bad_fields(&ann.open_games(-1, "x").await.expect_err("refused")),
        ["page_size", "page_token"]
    );
    for forged in ["x", &token[1..], &token.to_lowercase(), &format!("{token}{token}")] {
        assert_eq!(
            bad_fields(&ann.open_games(1, forged).await.expect_err("refused")),
            ["page_token"]
        );
    }
    // A token of another list is refused.
    assert_eq!(
        bad_fields(&ann.finished_games(1, &token).await.expect_err("refused")),
        ["page_token"]
    );
    assert_eq!(ann.open_games(i32::MAX, "").await.expect("bounded").games.len(), 3);
}
