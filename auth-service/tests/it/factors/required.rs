//! Roles whose members must have a second factor.

use proto::auth::v1::{BeginEnrolmentRequest, LoginChallenge};
use testing::{TestDatabase, on_both_backends};
use tonic::{Code, Status};

use super::{App, complete, totp, try_login};
use crate::{
    support::{
        Server,
        callers::{is, refusal},
        settings,
    },
    users::calls::me,
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
    let server = Server::start_with(database, &settings(&["--require-second-factor", "player,admin"])).await;
    let session = server.register("ann").await.tokens.expect("the first session");
    let needed = try_login(&server, "ann").await.challenge.expect("a challenge");
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
    me(&server, &session.access_token).await.expect("admitted");
    assert!(!try_login(&server, "ann").await.challenge.expect("a challenge").enrol);
}
