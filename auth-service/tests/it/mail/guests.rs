//! Guests and mail: a guest gets none, and an attacker cannot use one to prepare an account for a
//! victim.

use proto::auth::v1::RequestPasswordResetRequest;
use testing::{TestDatabase, on_both_backends};
use tonic::Code;

use super::{MailServer, NEW, login, request_reset, reset};
use crate::{
    guests::{guest, login_guest, upgrade, upgrade_to},
    support::{
        PASSWORD,
        callers::{is, refusal},
        credentials,
    },
    users::calls::{assert_refused, refresh},
};

#[on_both_backends]
async fn a_guest_gets_no_mail(database: TestDatabase) {
    let mails = MailServer::start(database).await;
    let server = &mails.server;
    let guest = guest(server).await;
    for identifier in [guest.login.clone(), format!("{}@guest.invalid", guest.user_id)] {
        request_reset(&mut server.auth(), &identifier).await.expect("asked");
        let by_device = RequestPasswordResetRequest {
            identifier,
            device_token: guest.device.clone(),
        };
        server.auth().request_password_reset(by_device).await.expect("asked");
    }
    assert!(mails.answered("marker", 0).await.is_empty());
    let refused = reset(&mut server.auth(), &guest.login, "2222-2222", NEW).await;
    assert_eq!(refusal(refused), is(Code::Unauthenticated, "CODE_INVALID"));
}

#[on_both_backends]
async fn an_account_that_a_guest_prepared_for_a_victim_is_the_victims_after_a_reset(database: TestDatabase) {
    let mails = MailServer::start(database).await;
    let server = &mails.server;
    // The attacker upgrades a guest to an account with the victim's address, and keeps everything.
    let guest = guest(server).await;
    let elsewhere = login_guest(server, &guest.credential).await.expect("logged in");
    let elsewhere = elsewhere.tokens.expect("tokens");
    let upgraded = upgrade(server, &guest.access, upgrade_to("victim"))
        .await
        .expect("upgraded");
    let upgraded = upgraded.tokens.expect("tokens");
    let by_password = login(server, "victim", PASSWORD).await.expect("logged in");
    let device = by_password.device_token.clone();
    let by_password = by_password.tokens.expect("tokens");
    // The victim finds an account there, and resets its password.
    // One mail has reported the login by password.
    let mail = mails.request("victim@example.test", 1).await;
    let own = reset(&mut server.auth(), "victim@example.test", &mail.code(), NEW).await;
    let own = own.expect("reset").tokens.expect("tokens");
    for token in [
        &guest.access,
        &elsewhere.access_token,
        &upgraded.access_token,
        &by_password.access_token,
    ] {
        assert_refused(server, token).await;
    }
    for token in [
        &guest.refresh,
        &elsewhere.refresh_token,
        &upgraded.refresh_token,
        &by_password.refresh_token,
    ] {
        assert_eq!(refusal(refresh(server, token).await).0, Code::Unauthenticated);
    }
    login_guest(server, &guest.credential)
        .await
        .expect_err("no guest any more");
    let with_device = proto::auth::v1::LoginRequest {
        device_token: device,
        ..credentials("victim", PASSWORD)
    };
    server.auth().login(with_device).await.expect_err("another password");
    let again = upgrade(server, &own.access_token, upgrade_to("attacker")).await;
    assert_eq!(refusal(again), is(Code::FailedPrecondition, "NOT_A_GUEST"));
    refresh(server, &own.refresh_token)
        .await
        .expect("the victim's own session");
}
