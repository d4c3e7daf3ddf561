//! Logins of imported users, and what else accepts their passwords.

use std::time::Duration;

use db::Backend;
use proto::auth::v1::{DeleteMeRequest, LoginRequest, RegisterRequest, User, VerifyEmailRequest};
use serde_json::json;
use testing::{TestDatabase, on_both_backends, rpc::with_token};
use tonic::Code;

use super::{IMPORTED, Import, QUICK_HASH, user, with};
use crate::{
    support::{
        PASSWORD, Server,
        callers::{is, refusal, server_with_root},
        count, credentials, execute, registration,
    },
    users::calls::{NEW, change, login, me},
};

const DAY: Duration = Duration::from_hours(24);

/// Hashes of [`IMPORTED`] in every form; `imported/tests.rs` says which programs made them.
const HASHES: [(&str, &str); 10] = [
    (
        "django",
        "pbkdf2_sha256$1000000$R5e69DdP1AYixLTbwhJgpv$mF37vnIiMSTiymnp78I3RlOGITPtdDyIYwbz4tf/nRY=",
    ),
    (
        "django-bcrypt",
        "bcrypt_sha256$$2b$12$O78fX1qmrDrKtH2ABmo5zevCE3AGQnJOUm0cvrUbhjXKuskBuOwPe",
    ),
    (
        "django-scrypt",
        "scrypt$16384$5h06bS2jdxjcJNGTt59KBj$8$5$c63zfgryszaXoLhw8XaQ6ac4fBjaMv6psd83cUR2FLBJDqoD1THnbC3rveFvUl8KeA5\
            PWR301H4WEuUsUEWpxg==",
    ),
    (
        "django-argon2",
        "argon2$argon2id$v=19$m=102400,t=2,p=8$SFVZZEVFWGVHemdjVDBaWThibWphdA$MzQMwHNgbQ6l6WdksyPjxHLXgivm3G4nM9pvp6\
            DDmc0",
    ),
    ("php", "$2y$10$JqUlAvNH0e8JiPCFpFAm4uJ98IZl6JhgZiEkvQBpEoztuyjWns5qm"),
    (
        "bcrypt-a",
        "$2a$10$33exmVu9oEWBRcwb6NhL0ux5CBPbFmEN1zdlQu/TITbMi6qPtb.kK",
    ),
    (
        "passlib",
        "$pbkdf2-sha256$29000$inFO6V2rVerdey.l1Lq3dg$nHYR7T5TQjJjJ5OKSqbAlG28drSf..q1ulkNsHEzDuQ",
    ),
    (
        "phc-pbkdf2",
        "$pbkdf2-sha256$i=600000,l=32$AAECAwQFBgcICQoLDA0ODw$RuX0ZdkUBOBuQ96/QEbQz0tT9cOSWsujImqVsJms4Ms",
    ),
    (
        "phc-scrypt",
        "$scrypt$ln=14,r=8,p=1$0/p/j3Gu9f6/lxKidG6tdQ$EUIeYVcZrmOadRi4zAEdceNKhFzWz4/2j+e2qasvBAQ",
    ),
    (
        "phc-argon2",
        "$argon2id$v=19$m=65536,t=3,p=4$vNc6h/B+j5HSem9N6T3n/A$xNL/Vk7OMXr7MocR0hpTdmrhZo4Ya4OEnc+kLk4PSBE",
    ),
];

const OURS: &str = "users WHERE password_hash LIKE '$argon2id$v=19$m=8,t=1,p=1$%'";

#[on_both_backends]
async fn imported_users_log_in_with_their_password_and_get_a_hash_of_ours(database: TestDatabase) {
    let server = Server::start(database).await;
    let db = server.database.db();
    let lines = HASHES.map(|(login, hash)| user(login, hash));
    let raised = ["--max-argon2-memory-kib", "102400", "--max-argon2-lanes", "8"];
    Import::into(&server).succeed(&lines, &raised).await;
    assert_eq!(count(db, "imported_passwords").await, 10);
    assert_eq!(count(db, OURS).await, 0);
    for (name, _) in HASHES {
        let wrong = login(&server, name, "zażółć gęślą jaź").await;
        assert_eq!(
            refusal(wrong),
            is(Code::Unauthenticated, "CREDENTIALS_INVALID"),
            "{name}"
        );
        // By login and by address, first with the imported hash and then with ours.
        for identifier in [name.to_owned(), format!("{name}@example.test")] {
            let tokens = login(&server, &identifier, IMPORTED).await.expect(name);
            assert_eq!(me(&server, &tokens.access_token).await.expect("me").login, name);
        }
    }
    assert_eq!(count(db, OURS).await, 10);
    assert_eq!(count(db, "imported_passwords").await, 0);
}

/// Other systems hash what was typed. Afterwards every spelling is the same password, as usual.
#[on_both_backends]
async fn an_imported_password_is_verified_as_it_is_typed(database: TestDatabase) {
    // `PBKDF2PasswordHasher().encode("cafe\u0301-cafe\u0301", "saltsaltsalt", iterations=10000)`
    let hash = "pbkdf2_sha256$10000$saltsaltsalt$Bu2DqWhFpxkFZOP6dRT1T7PQSbtssaCFbW14pQF3IeE=";
    let server = Server::start(database).await;
    Import::into(&server).succeed(&[user("ann", hash)], &[]).await;
    let (composed, decomposed) = ("caf\u{e9}-caf\u{e9}", "cafe\u{301}-cafe\u{301}");
    login(&server, "ann", composed).await.expect_err("another spelling");
    login(&server, "ann", decomposed).await.expect("as it was typed");
    login(&server, "ann", composed).await.expect("the same password");
}

#[on_both_backends]
async fn what_a_line_says_is_what_the_user_is(database: TestDatabase) {
    let (server, root) = server_with_root(database).await;
    let more = json!({
        "email_verified": true, "first_name": " Ann ", "last_name": "Lee", "middle_name": "B.", "locale": "pt-br",
        "create_time": "2014-05-17T10:30:00.25+02:00", "is_active": true, "roles": ["player", "admin"],
    });
    let lines = [
        with(user("Ann", QUICK_HASH), more),
        json!({"login": "bob", "email": "bob@example.test", "password_hash": null, "roles": []}),
        with(
            user("cleo", "!kl8O5md0ZUTK4SCC7wwXOHGjxnkS5K4AxrgRNtMJ"),
            json!({"is_active": false}),
        ),
    ];
    let import = Import::into(&server);
    let refused = import.run(&lines, &[]).await;
    assert_eq!(refused.code, Some(2), "{refused:?}");
    assert!(
        refused
            .stderr
            .contains("line 1: roles[1] must not be admin unless --allow-role admin is passed\n"),
        "{refused:?}"
    );
    import.succeed(&lines, &["--allow-role", "admin"]).await;
    let ann = login(&server, "ann", IMPORTED).await.expect("logged in");
    let ann = me(&server, &ann.access_token).await.expect("me");
    let names = [
        &ann.login,
        &ann.email,
        &ann.first_name,
        &ann.middle_name,
        &ann.last_name,
        &ann.locale,
    ];
    assert_eq!(names, ["Ann", "Ann@example.test", "Ann", "B.", "Lee", "pt-BR"]);
    let created = ann.create_time.expect("a time");
    assert_eq!((created.seconds, created.nanos), (1_400_315_400, 250_000_000));
    assert!(ann.email_verify_time.is_some());
    let roles = "user_roles JOIN users ON users.id = user_roles.user_id WHERE users.login";
    let db = server.database.db();
    assert_eq!(count(db, &format!("{roles} = 'Ann'")).await, 2);
    assert_eq!(count(db, &format!("{roles} = 'bob'")).await, 1);
    // Without a usable password, nobody logs in.
    for name in ["bob", "cleo"] {
        for password in [IMPORTED, "!kl8O5md0ZUTK4SCC7wwXOHGjxnkS5K4AxrgRNtMJ"] {
            let refused = login(&server, name, password).await;
            assert_eq!(
                refusal(refused),
                is(Code::Unauthenticated, "CREDENTIALS_INVALID"),
                "{name}"
            );
        }
    }
    assert_eq!(count(db, "users WHERE login = 'cleo' AND NOT is_active").await, 1);
    // The search finds imported users as it finds others.
    let found = crate::users::calls::list(
        &server,
        &root.token,
        proto::auth::v1::ListUsersRequest {
            query: "b. lee".to_owned(),
            ..Default::default()
        },
    );
    assert_eq!(found.await, ["Ann"]);
}

/// Puts the imported hash back, so that the next proof of the password meets it.
async fn reimport(server: &Server, name: &str) {
    let sql = format!("UPDATE users SET password_hash = '{QUICK_HASH}' WHERE login = '{name}'");
    execute(server, &sql).await;
}

#[on_both_backends]
async fn every_proof_of_a_password_accepts_an_imported_hash(database: TestDatabase) {
    let server = Server::start(database).await;
    let lines = ["ann", "bob", "cleo", "dan"].map(|name| user(name, QUICK_HASH));
    Import::into(&server).succeed(&lines, &[]).await;
    // A change of the password, with a wrong one first.
    let tokens = login(&server, "ann", IMPORTED).await.expect("logged in");
    for (current, is_right) in [("wrong horse", false), (IMPORTED, true)] {
        reimport(&server, "ann").await;
        let changed = server
            .account()
            .change_password(with_token(change(current, NEW), &tokens.access_token))
            .await;
        assert_eq!(changed.is_ok(), is_right, "{changed:?}");
    }
    login(&server, "ann", NEW).await.expect("the new password");
    // A new password at the login.
    let request = LoginRequest {
        new_password: NEW.to_owned(),
        new_password_confirmation: NEW.to_owned(),
        ..credentials("bob", IMPORTED)
    };
    server.auth().login(request).await.expect("logged in");
    login(&server, "bob", NEW).await.expect("the new password");
    // A change of the login.
    let tokens = login(&server, "cleo", IMPORTED).await.expect("logged in");
    reimport(&server, "cleo").await;
    let request = proto::auth::v1::UpdateMeRequest {
        user: Some(User {
            login: "cleopatra".to_owned(),
            ..User::default()
        }),
        update_mask: None,
        current_password: IMPORTED.to_owned(),
    };
    let updated = server
        .account()
        .update_me(with_token(request, &tokens.access_token))
        .await;
    assert_eq!(
        updated.expect("updated").into_inner().user.expect("a user").login,
        "cleopatra"
    );
    // A deletion.
    let tokens = login(&server, "dan", IMPORTED).await.expect("logged in");
    reimport(&server, "dan").await;
    let request = DeleteMeRequest {
        current_password: IMPORTED.to_owned(),
        ..DeleteMeRequest::default()
    };
    let deleted = server
        .account()
        .delete_me(with_token(request, &tokens.access_token))
        .await;
    deleted.expect("deleted");
    // A code for the address, without a token. The wrong code shows that the password was right.
    reimport(&server, "bob").await;
    for (password, reason) in [("wrong horse", "CREDENTIALS_INVALID"), (IMPORTED, "EMAIL_CODE_INVALID")] {
        let request = VerifyEmailRequest {
            code: "00000000".to_owned(),
            identifier: "bob".to_owned(),
            password: password.to_owned(),
        };
        let refused = server.account().verify_email(request).await.expect_err("refused");
        assert_eq!(testing::rpc::reason(&refused), reason);
    }
}

#[on_both_backends]
async fn a_new_password_replaces_an_imported_hash(database: TestDatabase) {
    let (server, admin) = crate::users::calls::administered(database).await;
    Import::into(&server).succeed(&[user("ann", QUICK_HASH)], &[]).await;
    let found = crate::users::calls::users(&server)
        .get_user(with_token(
            proto::auth::v1::GetUserRequest {
                user_id: "ann".to_owned(),
            },
            &admin,
        ))
        .await;
    let id = found.expect("found").into_inner().user.expect("a user").user_id;
    crate::users::calls::set_password(&server, &admin, &id)
        .await
        .expect("set");
    assert_eq!(count(server.database.db(), "imported_passwords").await, 0);
    let refused = login(&server, "ann", IMPORTED).await;
    assert_eq!(refusal(refused), is(Code::Unauthenticated, "CREDENTIALS_INVALID"));
}

/// Imported users had their address in the other system, so they are users from before the rule.
#[on_both_backends]
async fn imported_users_have_30_days_to_verify_their_address_and_keep_it(database: TestDatabase) {
    let folder = tempfile::tempdir().expect("a folder");
    let mails = folder.path().to_str().expect("UTF-8");
    let arguments = ["--mail-folder", mails, "--require-verified-email"];
    let server = Server::start_with(database, &crate::support::settings(&arguments)).await;
    // The 30 days of users from before the rule are over.
    server.clock.advance(40 * DAY);
    server.register("new").await;
    let old = json!({"create_time": "2014-05-17T10:30:00Z"});
    let lines = [
        user("ann", QUICK_HASH),
        with(user("old", QUICK_HASH), old),
        with(user("bob", QUICK_HASH), json!({"email_verified": true})),
    ];
    Import::into(&server).succeed(&lines, &[]).await;
    // The command has a clock of its own.
    let now = "(SELECT create_time FROM users WHERE login = 'new')";
    execute(
        &server,
        &format!("UPDATE users SET import_time = {now} WHERE import_time IS NOT NULL"),
    )
    .await;
    execute(
        &server,
        &format!("UPDATE users SET create_time = {now} WHERE login = 'ann'"),
    )
    .await;
    server.clock.advance(2 * DAY);
    server.clock.settle();
    let not_verified = is(Code::FailedPrecondition, "EMAIL_NOT_VERIFIED");
    assert_eq!(refusal(login(&server, "new", PASSWORD).await), not_verified);
    for name in ["ann", "old"] {
        login(&server, name, IMPORTED).await.expect("a user from before");
    }
    // Both are reminded, and neither is displaced.
    assert_eq!(count(server.database.db(), "email_reminders").await, 2);
    for (address, is_free) in [("new", true), ("ann", false), ("old", false), ("bob", false)] {
        let register = RegisterRequest {
            email: format!("{address}@example.test"),
            ..registration(&format!("another-{address}"))
        };
        let registered = server.auth().register(register).await;
        assert_eq!(registered.is_ok(), is_free, "{address}: {registered:?}");
    }
    server.clock.advance(29 * DAY);
    server.clock.settle();
    for name in ["ann", "old"] {
        assert_eq!(refusal(login(&server, name, IMPORTED).await), not_verified, "{name}");
    }
    login(&server, "bob", IMPORTED).await.expect("verified elsewhere");
    // An address that a user gets later is one like any other.
    execute(
        &server,
        "UPDATE users SET email_set_time = import_time WHERE login = 'ann'",
    )
    .await;
    let register = RegisterRequest {
        email: "ann@example.test".to_owned(),
        ..registration("yet-another")
    };
    server.auth().register(register).await.expect("given up");
}

#[on_both_backends]
async fn no_secret_of_an_import_is_printed_or_audited(database: TestDatabase) {
    let (server, root) = server_with_root(database).await;
    let import = Import::into(&server);
    let ended = import
        .run(&[user("ann", QUICK_HASH), user("a", "$2b$31$secret")], &[])
        .await;
    assert_eq!(ended.code, Some(2));
    assert!(!format!("{ended:?}").contains("secret"), "{ended:?}");
    import.succeed(&[user("ann", QUICK_HASH)], &[]).await;
    let request = proto::auth::v1::ListAuditEventsRequest {
        action: "user.import".to_owned(),
        ..Default::default()
    };
    let mut audit = proto::auth::v1::audit_service_client::AuditServiceClient::new(testing::rpc::channel(server.grpc));
    let events = audit.list_audit_events(with_token(request, &root.token)).await;
    let events = events.expect("listed").into_inner().events;
    let states: Vec<_> = events.iter().map(|event| event.details["state"].as_str()).collect();
    assert_eq!(states, ["finished", "began"]);
    assert!(
        events.iter().all(|event| event.actor_client_id == "command-line"),
        "{events:?}"
    );
    assert_eq!(events[0].details["users"], "1");
    assert!(!format!("{events:?}").contains("saltsalt"), "{events:?}");
    if server.database.backend() == Backend::Postgres {
        assert!(crate::support::dump(&server.database).await.contains(QUICK_HASH));
    }
}
