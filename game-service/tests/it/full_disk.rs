//! A full disk: writes are refused as a whole, reads still work, and the service recovers by itself
//! once there is room.

use db::Backend;
use proto::game::v1::{EndReason, Mark, Opponent};
use testing::{TestDatabase, block_on, rpc::reason};
use tonic::Code;
use tonic_types::StatusExt as _;

use crate::support::Server;

#[test]
fn nothing_is_half_written_on_a_full_disk() {
    block_on(async {
        let database = TestDatabase::create(Backend::Sqlite, &game_service::MIGRATIONS).await;
        let server = Server::start_with(database, &["--max-running-games", "2000"]).await;
        let (ann, bob) = (server.player("ann"), server.player("bob"));
        let begun = server.start_game(&ann, &bob).await;
        server.play(&ann, &bob, &[0, 3, 1, 4, 2]).await;
        server.database.fill_up().await;

        let mut made = Vec::new();
        let refused = loop {
            match ann.create(Opponent::Computer, Mark::X).await {
                Ok(game) => made.push(game),
                Err(status) => break status,
            }
            assert!(made.len() < 1000, "the disk is never full");
        };
        assert_eq!(
            (refused.code(), reason(&refused).as_str()),
            (Code::Unavailable, "DATABASE_UNAVAILABLE"),
            "{refused:?}"
        );
        assert!(refused.get_details_retry_info().is_some());
        assert_eq!(ann.get(&begun.game_id).await.expect("read").version, begun.version);
        assert_eq!(
            server.standings(&ann).await,
            [("ann".to_owned(), 1, 0), ("bob".to_owned(), 0, 1)]
        );

        server.database.make_room().await;
        let mut listed = 0;
        let mut page_token = String::new();
        loop {
            let page = ann.my_games(100, &page_token).await.expect("read");
            listed += page.games.len();
            page_token = page.next_page_token;
            if page_token.is_empty() {
                break;
            }
        }
        assert_eq!(listed, made.len() + 1, "what was acknowledged, and nothing else");
        let ended = ann.resign(&begun.game_id).await.expect("resigned");
        assert_eq!(ended.end_reason(), EndReason::Resignation, "it goes on where it was");
    });
}
