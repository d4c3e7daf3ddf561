//! Registration of guests.

use proto::auth::v1::{GetMeRequest, RegisterGuestRequest, RegisterRequest, UpdateMeRequest, User};
use server::ServerSettings;
use testing::{
    TestDatabase, on_both_backends,
    rpc::{bad_fields, reason, with_token},
};
use tonic::{Code, Request, Status};

use super::{Guest, guest, upgrade, upgrade_to};
use crate::{
    support::{
        PASSWORD, Server,
        callers::{is, refusal},
        count, credentials, dump, execute, mask, registration, settings,
    },
    users::calls::{administered, me, new_user, users},
};

fn from<T>(address: &str, message: T) -> Request<T> {
    let mut request = Request::new(message);
    request
        .metadata_mut()
        .insert("x-forwarded-for", address.parse().expect("ASCII"));
    request
}

async fn register_from(server: &Server, address: &str) -> Result<Guest, Status> {
    let request = from(address, RegisterGuestRequest::default());
    Ok(server.auth().register_guest(request).await?.into_inner().into())
}

#[on_both_backends]
async fn a_guest_is_logged_in_and_shown_as_one(database: TestDatabase) {
    let server = Server::start(database).await;
    let request = RegisterGuestRequest {
        locale: "pt-br".to_owned(),
        ..RegisterGuestRequest::default()
    };
    let answer = server
        .auth()
        .register_guest(request)
        .await
        .expect("a guest")
        .into_inner();
    let user = answer.user.clone().expect("a user");
    assert!(user.is_guest && user.is_active && user.last_login_time.is_some());
    assert_eq!((user.email.as_str(), user.locale.as_str()), ("", "pt-BR"));
    assert!(user.login.starts_with("guest-") && user.login.len() == 22, "{user:?}");
    let guest = Guest::from(answer);
    let answer = server
        .account()
        .get_me(with_token(GetMeRequest {}, &guest.access))
        .await;
    let answer = answer.expect("me").into_inner();
    assert_eq!(answer.roles, ["guest"]);
    assert_eq!(answer.user, Some(user.clone()));
    // The row is that of any user, with a hash that no password has.
    let row = format!(
        "users WHERE is_guest AND email = '{0}@guest.invalid' AND email_folded = email AND login_folded = login \
        AND password_hash LIKE '$argon2id$v=19$%'",
        guest.user_id
    );
    assert_eq!(count(server.database.db(), &row).await, 1);
    // A password login is refused as for an unknown user, by the login and by the address.
    for identifier in [user.login.clone(), format!("{}@guest.invalid", guest.user_id)] {
        let refused = server.auth().login(credentials(&identifier, PASSWORD)).await;
        let unknown = server.auth().login(credentials("nobody", PASSWORD)).await;
        let (refused, unknown) = (refused.expect_err("refused"), unknown.expect_err("refused"));
        assert_eq!((refused.code(), refused.message()), (unknown.code(), unknown.message()));
        assert_eq!(reason(&refused), "CREDENTIALS_INVALID");
    }
    // Neither the credential nor its random part is stored.
    let text = dump(&server.database).await;
    let (_, random) = guest.credential.rsplit_once('.').expect("three parts");
    assert!(!text.contains(random));
    assert_eq!(
        count(
            server.database.db(),
            "audit_events WHERE action = 'user.register_guest'"
        )
        .await,
        1
    );
}

#[on_both_backends]
async fn guests_by_the_thousand_from_one_prefix_are_refused(database: TestDatabase) {
    let proxy = ServerSettings {
        trusted_proxies: vec!["127.0.0.0/8".parse().expect("a network")],
        ..ServerSettings::default()
    };
    let server = Server::start_limited(database, &settings(&[]), &proxy).await;
    let mut admitted = 0;
    for _ in 0..1000 {
        match register_from(&server, "192.0.2.1").await {
            Ok(_) => admitted += 1,
            Err(refused) => assert_eq!(reason(&refused), "TOO_MANY_ATTEMPTS"),
        }
    }
    assert!((30..40).contains(&admitted), "{admitted}");
    // A network of IPv6 has a limit as well, however many addresses and subnetworks are used.
    let mut admitted = 0;
    for number in 0..1000 {
        let address = format!("2001:db8:1:{:x}::{number:x}", number % 256);
        match register_from(&server, &address).await {
            Ok(_) => admitted += 1,
            Err(refused) => assert_eq!(reason(&refused), "TOO_MANY_ATTEMPTS"),
        }
    }
    assert!(admitted < 600, "{admitted}");
    // Others get in, and so do users who register from the same address.
    register_from(&server, "192.0.2.2").await.expect("a guest");
    register_from(&server, "2001:db8:2::1").await.expect("a guest");
    let ann = server.auth().register(from("192.0.2.1", registration("ann"))).await;
    ann.expect("registered");
}

#[on_both_backends]
async fn guests_register_only_if_the_deployment_is_open_for_them(database: TestDatabase) {
    let server = Server::start(database).await;
    let earlier = guest(&server).await;
    for (closed, reason) in [
        (["--guests-open", "false"], "GUESTS_NOT_ADMITTED"),
        (["--registration-open", "false"], "REGISTRATION_CLOSED"),
    ] {
        let (running, mut client) = server.replica_ahead(0, &settings(&closed)).await;
        let refused = client.register_guest(RegisterGuestRequest::default()).await;
        assert_eq!(refusal(refused), is(Code::FailedPrecondition, reason));
        // Guests who exist go on.
        let request = proto::auth::v1::LoginGuestRequest {
            guest_credential: earlier.credential.clone(),
            ..proto::auth::v1::LoginGuestRequest::default()
        };
        client.login_guest(request).await.expect("logged in");
        running.stop_token().cancel();
    }
    let bad = RegisterGuestRequest {
        locale: "!".to_owned(),
        audience: "!".to_owned(),
    };
    let refused = server.auth().register_guest(bad).await.expect_err("refused");
    assert_eq!(bad_fields(&refused), ["audience", "locale"]);
}

#[on_both_backends]
async fn nobody_else_can_take_the_names_of_guests(database: TestDatabase) {
    let (server, admin) = administered(database).await;
    let reserved = ("GUEST-of-honour", "ann@Guest.Invalid");
    let request = RegisterRequest {
        login: reserved.0.to_owned(),
        email: reserved.1.to_owned(),
        ..registration("ann")
    };
    let refused = server.auth().register(request).await.expect_err("refused");
    assert_eq!(bad_fields(&refused), ["login", "email"]);
    let mut request = new_user("ann", &[]);
    (request.login, request.email) = (reserved.0.to_owned(), "ann@invalid".to_owned());
    let refused = users(&server).create_user(with_token(request, &admin)).await;
    let fields = bad_fields(&refused.expect_err("refused"));
    assert!(
        fields.contains(&"login".to_owned()) && fields.contains(&"email".to_owned()),
        "{fields:?}"
    );
    let mut request = upgrade_to("ann");
    (request.login, request.email) = (reserved.0.to_owned(), reserved.1.to_owned());
    let refused = upgrade(&server, &guest(&server).await.access, request)
        .await
        .expect_err("refused");
    assert_eq!(bad_fields(&refused), ["login", "email"]);
    let ann = server.register("ann").await.tokens.expect("tokens").access_token;
    let update = |login: &str, email: &str, first_name: &str| UpdateMeRequest {
        user: Some(User {
            login: login.to_owned(),
            email: email.to_owned(),
            first_name: first_name.to_owned(),
            ..User::default()
        }),
        update_mask: Some(mask(&["login", "email", "first_name"])),
        current_password: PASSWORD.to_owned(),
    };
    let refused = server
        .account()
        .update_me(with_token(update(reserved.0, reserved.1, ""), &ann))
        .await;
    assert_eq!(bad_fields(&refused.expect_err("refused")), ["login", "email"]);
    // A user from before there were guests keeps such names.
    let sql = "UPDATE users SET login = 'Guest-ann', login_folded = 'guest-ann', email = 'ann@x.invalid', \
        email_folded = 'ann@x.invalid' WHERE login = 'ann'";
    execute(&server, sql).await;
    let renamed = server
        .account()
        .update_me(with_token(update("Guest-ann", "ann@x.invalid", "Ann"), &ann))
        .await;
    assert_eq!(
        renamed.expect("changed").into_inner().user.expect("a user").first_name,
        "Ann"
    );
    server.login("guest-ann").await;
    assert!(!me(&server, &ann).await.expect("me").is_guest);
}
