//! Login of guests by their credential.

use std::time::{Duration, Instant};

use proto::auth::v1::{LoginGuestRequest, LoginGuestResponse, RegisterGuestRequest};
use secrecy::ExposeSecret as _;
use testing::{
    TestDatabase, on_both_backends,
    rpc::{bad_fields, reason, retry_after},
};
use tonic::Code;

use super::{delete_me, guest, login_guest};
use crate::{
    support::{
        Server,
        callers::{is, refusal},
        count, settings,
    },
    users::calls::{deactivate, me, reactivate, refresh},
};

const DAY: Duration = Duration::from_hours(24);

fn access(answer: LoginGuestResponse) -> String {
    answer.tokens.expect("tokens").access_token
}

#[on_both_backends]
async fn neither_a_lost_rotation_nor_90_days_end_a_guest(database: TestDatabase) {
    let server = Server::start(database).await;
    let guest = guest(&server).await;
    // The response to a rotation is lost, and the old token comes again later.
    server.rotate(&guest.refresh, "").await.expect("rotated, and lost");
    server.clock.advance(Duration::from_mins(2));
    let lost = server.rotate(&guest.refresh, "").await;
    assert_eq!(refusal(lost).0, Code::Unauthenticated);
    let answer = login_guest(&server, &guest.credential).await.expect("logged in");
    assert_eq!(answer.user.clone().expect("a user").user_id, guest.user_id);
    // Rotated every few days, a session ends after 90 days all the same.
    let mut refresh_token = answer.tokens.expect("tokens").refresh_token;
    let mut days = 0;
    while let Ok(pair) = server.rotate(&refresh_token, "").await {
        refresh_token = pair.refresh_token;
        server.clock.advance(5 * DAY);
        days += 5;
        assert!(days < 100, "the session goes on");
    }
    assert!(days >= 90, "{days}");
    let answer = login_guest(&server, &guest.credential).await.expect("logged in");
    let user = me(&server, &access(answer)).await.expect("me");
    assert_eq!((user.user_id, user.login), (guest.user_id, guest.login));
}

#[on_both_backends]
async fn every_wrong_credential_is_refused_in_the_same_way(database: TestDatabase) {
    let server = Server::start(database).await;
    let admin = server.superuser().await;
    let (ann, bob, gone) = (guest(&server).await, guest(&server).await, guest(&server).await);
    delete_me(&server, &gone.access, &gone.credential)
        .await
        .expect("deleted");
    deactivate(&server, &admin, &bob.user_id).await.expect("deactivated");
    let random = |credential: &str| credential.rsplit_once('.').expect("parts").1.to_owned();
    let of_another = format!("g1.{}.{}", ann.user_id, random(&bob.credential));
    let of_nobody = format!("g1.{}.{}", uuid::Uuid::now_v7(), random(&ann.credential));
    let user = server.register("user").await.user.expect("a user").user_id;
    let of_user = format!("g1.{user}.{}", random(&ann.credential));
    let wrong = [
        "x",
        "g1..",
        &of_another,
        &of_nobody,
        &of_user,
        &bob.credential,
        &gone.credential,
        &ann.refresh,
    ];
    for credential in wrong {
        let refused = login_guest(&server, credential).await.expect_err("refused");
        assert_eq!(
            (refused.code(), reason(&refused).as_str()),
            (Code::Unauthenticated, "CREDENTIALS_INVALID")
        );
    }
    let failures = "audit_events WHERE action = 'session.login' AND outcome = 'failure'";
    assert_eq!(count(server.database.db(), failures).await, 8);
    let deactivated = format!("{failures} AND reason = 'USER_DEACTIVATED'");
    assert_eq!(count(server.database.db(), &deactivated).await, 1);
    for credential in ["", &"x".repeat(129)] {
        let refused = login_guest(&server, credential).await.expect_err("refused");
        assert_eq!(bad_fields(&refused), ["guest_credential"]);
    }
    // The right ones still work, also after a reactivation.
    login_guest(&server, &ann.credential).await.expect("logged in");
    reactivate(&server, &admin, &bob.user_id).await.expect("reactivated");
    login_guest(&server, &bob.credential).await.expect("logged in");
}

#[on_both_backends]
async fn a_refused_login_takes_the_time_of_whole_steps(database: TestDatabase) {
    let server = Server::start(database).await;
    let guest = guest(&server).await;
    let random = guest.credential.rsplit_once('.').expect("parts").1;
    let of_nobody = format!("g1.{}.{random}", uuid::Uuid::now_v7());
    let wrong = format!("g1.{}.{}", guest.user_id, "A".repeat(43));
    for credential in [&of_nobody, &wrong] {
        let start = Instant::now();
        login_guest(&server, credential).await.expect_err("refused");
        assert!(start.elapsed() >= Duration::from_millis(10), "{:?}", start.elapsed());
    }
}

#[on_both_backends]
async fn logins_of_guests_are_limited_by_address(database: TestDatabase) {
    let limits = settings(&["--login-rate-per-minute", "1", "--login-burst", "3"]);
    let server = Server::start_with(database, &limits).await;
    let guest = guest(&server).await;
    for _ in 0..3 {
        login_guest(&server, "wrong").await.expect_err("refused");
    }
    let refused = login_guest(&server, &guest.credential).await.expect_err("refused");
    assert_eq!(
        (refused.code(), reason(&refused).as_str()),
        (Code::ResourceExhausted, "TOO_MANY_ATTEMPTS")
    );
    assert!(retry_after(&refused).is_some());
}

#[on_both_backends]
async fn a_login_with_the_device_token_replaces_the_session_of_the_device(database: TestDatabase) {
    let server = Server::start(database).await;
    let guest = guest(&server).await;
    let request = LoginGuestRequest {
        guest_credential: guest.credential.clone(),
        device_token: guest.device.clone(),
        ..LoginGuestRequest::default()
    };
    let answer = server
        .auth()
        .login_guest(request)
        .await
        .expect("logged in")
        .into_inner();
    assert_eq!(answer.device_token, guest.device);
    assert_eq!(
        refusal(refresh(&server, &guest.refresh).await),
        is(Code::Unauthenticated, "SESSION_ENDED")
    );
    me(&server, &access(answer)).await.expect("me");
    // Without it, both sessions go on.
    let second = login_guest(&server, &guest.credential).await.expect("logged in");
    me(&server, &access(second)).await.expect("me");
    assert_eq!(count(server.database.db(), "sessions WHERE end_time IS NULL").await, 2);
}

#[on_both_backends]
async fn a_credential_survives_the_replacement_of_the_server_secret(database: TestDatabase) {
    let server = Server::start(database).await;
    let guest = guest(&server).await;
    let new = auth_service::ServerSecrets::generate();
    let both = format!("{}{}", new.expose_secret(), server.secret);
    let request = LoginGuestRequest {
        guest_credential: guest.credential.clone(),
        ..LoginGuestRequest::default()
    };
    let (running, mut client) = server.replica_with(&both).await;
    client.login_guest(request.clone()).await.expect("logged in");
    client
        .register_guest(RegisterGuestRequest::default())
        .await
        .expect("a guest");
    running.stop_token().cancel();
    // The login has renewed what is stored, so the previous secret is no longer needed.
    let (running, mut client) = server.replica_with(new.expose_secret()).await;
    client.login_guest(request).await.expect("logged in");
    running.stop_token().cancel();
}
