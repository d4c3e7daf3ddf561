//! Renames and deletions of users, as received from the access feed.

use access::view::SilenceRule;
use base::ids::UserId;
use proto::{
    auth::v1::{UserDeleted, UserRenamed, access_event::Event},
    game::v1::{EndReason, GameState, Mark, Opponent},
};
use testing::{TestDatabase, contract, feed::FakeAuth, on_both_backends, rpc::reason};
use tonic::Code;

use crate::{
    access::following,
    support::{Player, Server},
};

pub(crate) fn rename(auth: &FakeAuth, user: UserId, login: &str) {
    auth.publish(Event::UserRenamed(UserRenamed {
        user_id: user.to_string(),
        login: login.to_owned(),
    }));
}

pub(crate) fn delete(auth: &FakeAuth, user: UserId) {
    auth.publish(Event::UserDeleted(UserDeleted {
        user_id: user.to_string(),
    }));
}

async fn login_of(asker: &Player, of: &Player) -> Option<String> {
    let rank = asker.rank(&of.id()).await.ok()?;
    Some(rank.entry.expect("an entry").login)
}

/// Waits until a player has this login. Nothing signals the arrival of a change from the feed.
pub(crate) async fn login_becomes(asker: &Player, of: &Player, login: &str) {
    let becomes = async {
        while login_of(asker, of).await.as_deref() != Some(login) {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(10), becomes)
        .await
        .unwrap_or_else(|_| panic!("never {login:?}"));
}

#[on_both_backends]
async fn a_renamed_player_has_the_new_name_everywhere(database: TestDatabase) {
    let (auth, server) = following(database).await;
    let (ann, bob) = (server.player("ann"), server.player("bob"));
    let over = server.play(&ann, &bob, &[0, 3, 1, 4, 2]).await;
    let running = server.start_game(&ann, &bob).await;
    rename(&auth, ann.id, "anna");
    login_becomes(&bob, &ann, "anna").await;
    assert_eq!(bob.get(&running.game_id).await.expect("a game").x_login, "anna");
    assert_eq!(
        bob.finished_games(0, "").await.expect("a page").games[0].game_id,
        over.game_id
    );
    assert_eq!(
        bob.finished_games(0, "").await.expect("a page").games[0].x_login,
        "anna"
    );
    assert_eq!(
        server.standings(&bob).await,
        [("anna".to_owned(), 1, 0), ("bob".to_owned(), 0, 1)]
    );
    // An older token, which is still valid here, does not bring the old name back.
    ann.create(Opponent::Computer, Mark::X).await.expect("created");
    assert_eq!(login_of(&bob, &ann).await.as_deref(), Some("anna"));
    // The same holds for a user who had not played before the rename.
    let cy = server.player("cy");
    rename(&auth, cy.id, "cyrus");
    login_becomes(&bob, &cy, "cyrus").await;
    server.play(&cy, &bob, &[0, 3, 1, 4, 2]).await;
    assert_eq!(login_of(&bob, &cy).await.as_deref(), Some("cyrus"));
}

#[on_both_backends]
async fn a_deleted_player_has_no_name_and_gives_up_every_game(database: TestDatabase) {
    let (auth, server) = following(database).await;
    let (ann, bob) = (server.player("ann"), server.player("bob"));
    let over = server.play(&ann, &bob, &[0, 3, 1, 4, 2]).await;
    let begun = server.start_game(&ann, &bob).await;
    let running = server.play(&bob, &ann, &[0, 1]).await;
    let waiting = ann.create(Opponent::Player, Mark::O).await.expect("created");
    delete(&auth, ann.id);
    login_becomes(&bob, &ann, "").await;
    bob.watch_to_the_end(&running.game_id).await;
    assert_eq!(
        bob.end_of(&running.game_id).await,
        (GameState::Won, EndReason::Resignation)
    );
    let game = bob.get(&running.game_id).await.expect("one's own");
    assert_eq!(
        (game.winner_user_id, game.o_login.as_str(), game.o_user_id),
        (bob.id(), "", ann.id())
    );
    bob.watch_to_the_end(&begun.game_id).await;
    assert_eq!(
        bob.end_of(&begun.game_id).await,
        (GameState::Cancelled, EndReason::Resignation)
    );
    let gone = async { while bob.get(&waiting.game_id).await.is_ok() {} };
    tokio::time::timeout(std::time::Duration::from_secs(10), gone)
        .await
        .expect("cancelled");
    // Finished games stay complete and still count.
    let history = bob.finished_games(0, "").await.expect("a page").games;
    assert_eq!(
        history.iter().map(|game| game.game_id.as_str()).collect::<Vec<_>>(),
        [&running.game_id, &over.game_id]
    );
    assert_eq!(
        (history[1].moves.as_slice(), history[1].x_login.as_str()),
        (over.moves.as_slice(), "")
    );
    // The two are tied, so their ids decide on the order.
    let mut standings = server.standings(&bob).await;
    standings.sort();
    assert_eq!(standings, [(String::new(), 1, 1), ("bob".to_owned(), 1, 1)]);
    // Neither a late rename nor an older token brings the user back.
    rename(&auth, ann.id, "ann");
    rename(&auth, bob.id, "bert");
    login_becomes(&bob, &bob, "bert").await;
    assert_eq!(login_of(&bob, &ann).await.as_deref(), Some(""));
    let refused = ann.create(Opponent::Player, Mark::X).await.expect_err("deleted");
    assert_eq!(
        (refused.code(), reason(&refused).as_str()),
        (Code::Unauthenticated, "USER_DELETED")
    );
    let waiting = bob.create(Opponent::Player, Mark::X).await.expect("created");
    assert_eq!(
        reason(&ann.join(&waiting.game_id).await.expect_err("deleted")),
        "USER_DELETED"
    );
}

#[on_both_backends]
async fn after_a_restart_only_new_changes_are_requested(database: TestDatabase) {
    let (auth, server) = following(database).await;
    let (ann, bob) = (server.player("ann"), server.player("bob"));
    server.play(&ann, &bob, &[0, 3, 1, 4, 2]).await;
    rename(&auth, bob.id, "bert");
    login_becomes(&ann, &bob, "bert").await;
    rename(&auth, ann.id, "anna");
    login_becomes(&bob, &ann, "anna").await;
    let (database, mint) = server.stop().await;
    // A rename while the service is down ...
    rename(&auth, ann.id, "annie");
    let known = auth.watches().len();
    let server = Server::following(database, &auth, mint, SilenceRule::default()).await;
    contract::serving(server.grpc).await;
    let request = &auth.watches()[known].request;
    assert_eq!(request.epoch, auth.epoch().to_string());
    assert!(request.after_sequence > 0, "{request:?}");
    let (ann, bob) = (ann.anew(&server), bob.anew(&server));
    login_becomes(&bob, &ann, "annie").await;
    assert_eq!(login_of(&ann, &bob).await.as_deref(), Some("bert"));
    // ... and one in a new epoch of the feed, whose sequence numbers start again.
    auth.begin_another_epoch();
    crate::access::publish(&auth, &server.mint);
    rename(&auth, ann.id, "ann2");
    login_becomes(&bob, &ann, "ann2").await;
}
