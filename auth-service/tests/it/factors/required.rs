//! Roles whose members must have a second factor.

use proto::auth::v1::{BeginEnrolmentRequest, LoginChallenge};
use testing::{TestDatabase, on_both_backends};
use tonic::{Code, Status};

use super::{App, REQUIRED, challenge, complete, make_guard, next_step, totp, try_login};
use crate::{
    guests::{guest, upgrade, upgrade_to},
    support::{
        Server,
        callers::{is, refusal},
        count, settings,
    },
    users::calls::{me, refresh},
};

pub(crate) async fn begin(server: &Server, challenge: &LoginChallenge, email_code: &str) -> Result<App, Status> {
    let request = BeginEnrolmentRequest {
        challenge_token: challenge.challenge_token.clone(),
        email_code: email_code.to_owned(),
    };
    let begun = server.auth().begin_enrolment(request).await?.into_inner();
    assert!(begun.otpauth_uri.contains(&begun.secret));
    Ok(App::with_secret(&begun.secret))
}

#[on_both_backends]
async fn a_member_adds_a_factor_at_the_next_login(database: TestDatabase) {
    let server = Server::start_with(database, &settings(&REQUIRED)).await;
    let registered = server.register("ann").await;
    let session = registered.tokens.expect("tokens");
    assert!(try_login(&server, "ann").await.tokens.is_some());
    make_guard(&server, &registered.user.expect("a user").user_id).await;
    let needed = challenge(&server, "ann").await;
    assert_eq!(needed.methods, ["totp"]);
    assert!(needed.enrol && !needed.email_code_required);
    let refused = complete(&mut server.auth(), &needed, totp("123456")).await;
    assert_eq!(refusal(refused), is(Code::PermissionDenied, "SECOND_FACTOR_WRONG"));
    let dropped = begin(&server, &needed, "").await.expect("begun");
    let app = begin(&server, &needed, "").await.expect("begun");
    let refused = complete(&mut server.auth(), &needed, totp(&dropped.code(&server))).await;
    assert_eq!(refusal(refused), is(Code::PermissionDenied, "SECOND_FACTOR_WRONG"));
    let completed = complete(&mut server.auth(), &needed, totp(&app.code(&server))).await;
    let completed = completed.expect("logged in");
    assert_eq!(completed.recovery_codes.len(), 10);
    me(&server, &completed.tokens.expect("tokens").access_token)
        .await
        .expect("admitted");
    // Sessions that had begun go on.
    refresh(&server, &session.refresh_token).await.expect("refreshed");
    assert!(!challenge(&server, "ann").await.enrol);
}

#[on_both_backends]
async fn someone_who_was_late_adds_no_factor_beside_the_first(database: TestDatabase) {
    let server = Server::start_with(database, &settings(&REQUIRED)).await;
    let ann = server.register("ann").await.user.expect("a user").user_id;
    make_guard(&server, &ann).await;
    let [late, first] = [challenge(&server, "ann").await, challenge(&server, "ann").await];
    let app = begin(&server, &first, "").await.expect("begun");
    complete(&mut server.auth(), &first, totp(&app.code(&server)))
        .await
        .expect("logged in");
    next_step(&server);
    let refused = begin(&server, &late, "").await.map(drop);
    assert_eq!(refusal(refused), is(Code::Unauthenticated, "LOGIN_CHALLENGE_INVALID"));
    let refused = complete(&mut server.auth(), &late, totp(&app.code(&server))).await;
    assert_eq!(refusal(refused), is(Code::Unauthenticated, "LOGIN_CHALLENGE_INVALID"));
}

#[on_both_backends]
async fn a_new_player_adds_a_factor_before_the_first_session(database: TestDatabase) {
    let server = Server::start_with(database, &settings(&["--require-second-factor", "player"])).await;
    let registered = server.register("ann").await;
    assert!(registered.tokens.is_none() && registered.device_token.is_empty());
    assert_eq!(registered.user.expect("a user").login, "ann");
    let needed = registered.challenge.expect("a challenge");
    assert!(needed.enrol && !needed.email_code_required);
    assert_eq!(count(server.database.db(), "sessions").await, 0);
    let app = begin(&server, &needed, "").await.expect("begun");
    let completed = complete(&mut server.auth(), &needed, totp(&app.code(&server))).await;
    let completed = completed.expect("logged in");
    assert!(completed.tokens.is_some() && completed.recovery_codes.len() == 10);

    // A guest needs none, but has no session once they are a player.
    let guest = guest(&server).await;
    let upgraded = upgrade(&server, &guest.access, upgrade_to("bob"))
        .await
        .expect("upgraded");
    assert!(upgraded.tokens.is_none());
    refresh(&server, &guest.refresh).await.expect_err("ended");
    assert!(challenge(&server, "bob").await.enrol);
}
