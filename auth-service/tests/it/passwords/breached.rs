//! Passwords that are known from data breaches.

use std::{fmt::Write as _, path::Path, time::Duration};

use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use db::Backend;
use proto::auth::v1::{LoginRequest, RegisterRequest};
use tempfile::TempDir;
use testing::{
    TestDatabase, block_on, on_both_backends,
    program::Program,
    rpc::{bad_fields, reason, with_token},
    write_secret,
};
use tonic::Code;
use tonic_types::StatusExt as _;

use crate::{
    guests::{guest, upgrade, upgrade_to},
    program::start::{AUTH_SERVICE, ProgramSetup},
    support::{
        PASSWORD, Server,
        callers::{is, refusal},
        credentials, registration, settings,
    },
    users::calls::{NEW, TEMPORARY, change, first_login, login, new_user, users},
};

/// A password that the file lists, and that follows all other rules.
const BREACHED: &str = "battery staple 1";

/// Writes a sorted file of 1000 passwords, one of which is [`BREACHED`].
fn write_list(path: &Path) {
    let passwords = (1..1000).map(|number| format!("breached {number}"));
    let passwords = passwords.chain([BREACHED.to_owned()]);
    let mut lines: Vec<String> = passwords
        .enumerate()
        .map(|(index, password)| {
            let sha1 = digest(&SHA1_FOR_LEGACY_USE_ONLY, password.as_bytes());
            let digits = sha1.as_ref().iter().fold(String::new(), |mut text, byte| {
                write!(text, "{byte:02X}").expect("a String takes it");
                text
            });
            format!("{digits}:{}\r\n", index * index)
        })
        .collect();
    lines.sort();
    std::fs::write(path, lines.concat()).expect("written");
}

/// Starts a server that refuses the passwords of a list. Returns an administrator's access token,
/// too.
async fn start(database: TestDatabase) -> (Server, String, TempDir) {
    let folder = tempfile::tempdir().expect("a folder");
    let list = folder.path().join("breached");
    write_list(&list);
    let list = list.to_str().expect("UTF-8");
    let arguments = ["--breached-passwords", list, "--bootstrap-admin-password", TEMPORARY];
    let server = Server::start_with(database, &settings(&arguments)).await;
    let tokens = first_login(&server, "admin", TEMPORARY, PASSWORD)
        .await
        .expect("logged in");
    (server, tokens.access_token, folder)
}

#[on_both_backends]
async fn a_breached_password_is_refused_wherever_one_is_set(database: TestDatabase) {
    let (server, admin, _folder) = start(database).await;
    let register = RegisterRequest {
        password: BREACHED.to_owned(),
        password_confirmation: BREACHED.to_owned(),
        ..registration("ann")
    };
    let refused = server.auth().register(register).await.expect_err("refused");
    assert_eq!(bad_fields(&refused), ["password"]);
    assert!(refused.message().contains("known from a data breach"), "{refused}");
    // The names are still free.
    let ann = server.register("ann").await;
    let (id, token) = (
        ann.user.expect("a user").user_id,
        ann.tokens.expect("tokens").access_token,
    );

    let changed = server
        .account()
        .change_password(with_token(change(PASSWORD, BREACHED), &token))
        .await;
    assert_eq!(bad_fields(&changed.expect_err("refused")), ["new_password"]);
    let at_login = LoginRequest {
        new_password: BREACHED.to_owned(),
        new_password_confirmation: BREACHED.to_owned(),
        ..credentials("ann", PASSWORD)
    };
    let refused = server.auth().login(at_login).await.expect_err("refused");
    assert_eq!(bad_fields(&refused), ["new_password"]);

    let create = proto::auth::v1::CreateUserRequest {
        password: BREACHED.to_owned(),
        ..new_user("bob", &[])
    };
    let refused = users(&server).create_user(with_token(create, &admin)).await;
    assert_eq!(bad_fields(&refused.expect_err("refused")), ["password"]);
    let set = proto::auth::v1::SetPasswordRequest {
        user_id: id,
        password: BREACHED.to_owned(),
    };
    let refused = users(&server).set_password(with_token(set, &admin)).await;
    assert_eq!(bad_fields(&refused.expect_err("refused")), ["password"]);

    let guest = guest(&server).await;
    let request = proto::auth::v1::UpgradeAccountRequest {
        password: BREACHED.to_owned(),
        password_confirmation: BREACHED.to_owned(),
        ..upgrade_to("cleo")
    };
    let refused = upgrade(&server, &guest.access, request).await;
    assert_eq!(bad_fields(&refused.expect_err("refused")), ["password"]);
    let reset = proto::auth::v1::ResetPasswordRequest {
        identifier: "ann".to_owned(),
        code: "00000000".to_owned(),
        new_password: BREACHED.to_owned(),
        new_password_confirmation: BREACHED.to_owned(),
        ..Default::default()
    };
    let refused = server.auth().reset_password(reset).await.expect_err("refused");
    assert_eq!(bad_fields(&refused), ["new_password"]);

    // Nothing has changed, and other passwords are accepted.
    login(&server, "ann", PASSWORD).await.expect("the old password");
    let changed = server
        .account()
        .change_password(with_token(change(PASSWORD, NEW), &token))
        .await;
    changed.expect("changed");
}

/// A user who has such a password already is not locked out, and gets a new hash of it as usual.
#[on_both_backends]
async fn a_breached_password_that_was_set_before_still_works(database: TestDatabase) {
    let folder = tempfile::tempdir().expect("a folder");
    let list = folder.path().join("breached");
    write_list(&list);
    let server = Server::start(database).await;
    let register = RegisterRequest {
        password: BREACHED.to_owned(),
        password_confirmation: BREACHED.to_owned(),
        ..registration("ann")
    };
    server.auth().register(register).await.expect("registered");
    let arguments = [
        "--breached-passwords",
        list.to_str().expect("UTF-8"),
        "--hashing-passes",
        "2",
    ];
    let (_replica, mut auth) = server.replica_ahead(0, &settings(&arguments)).await;
    auth.login(credentials("ann", BREACHED)).await.expect("logged in");
    let hashed = "users WHERE password_hash LIKE '$argon2id$v=19$m=8,t=2,p=1$%'";
    assert_eq!(crate::support::count(server.database.db(), hashed).await, 1);
}

/// A file that is damaged or on a disk that fails while the service runs.
#[on_both_backends]
async fn no_password_is_set_while_the_list_cannot_be_read(database: TestDatabase) {
    let (server, admin, folder) = start(database).await;
    let list = folder.path().join("breached");
    let content = std::fs::read(&list).expect("read");
    std::fs::write(&list, vec![b'?'; content.len()]).expect("written");
    let refused = server.auth().register(registration("ann")).await.expect_err("refused");
    let retry = refused.get_details_retry_info().expect("a RetryInfo").retry_delay;
    assert!(retry.is_some_and(|delay| delay >= Duration::from_secs(15)), "{retry:?}");
    assert_eq!(
        (refused.code(), reason(&refused)),
        is(Code::Unavailable, "BREACHED_PASSWORDS_UNAVAILABLE")
    );
    let create = users(&server)
        .create_user(with_token(new_user("bob", &[]), &admin))
        .await;
    assert_eq!(refusal(create), is(Code::Unavailable, "BREACHED_PASSWORDS_UNAVAILABLE"));
    // A login sets no password.
    login(&server, "admin", PASSWORD).await.expect("logged in");
    std::fs::write(&list, content).expect("written");
    server.register("ann").await;
}

#[test]
fn a_bad_list_of_breached_passwords_is_a_bad_setting() {
    block_on(async {
        let setup = ProgramSetup::new(Backend::Sqlite).await;
        let list = setup.folder.path().join("breached");
        let path = list.to_str().expect("UTF-8");
        let arguments = ["--breached-passwords", path];
        let ended = setup.refused(&arguments).await;
        assert!(ended.only_line(64).contains("--breached-passwords"), "{ended:?}");
        for (content, words) in [
            ("", "it is empty"),
            ("hunter2\n", "40 hexadecimal digits"),
            (
                "FFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFF:1\n0000000000000000000000000000000000000000:1\n",
                "not sorted",
            ),
        ] {
            std::fs::write(&list, content).expect("written");
            let ended = setup.refused(&arguments).await;
            let line = ended.only_line(64);
            assert!(line.contains(path) && line.contains(words), "{line}");
        }
    });
}

#[test]
fn create_admin_refuses_a_breached_password() {
    block_on(async {
        let setup = ProgramSetup::new(Backend::Sqlite).await;
        let migrated = Program::start(AUTH_SERVICE, ["migrate", "--database-url", &setup.url]);
        assert_eq!(migrated.ended().await.code, Some(0));
        let [list, password] = ["breached", "password"].map(|name| setup.folder.path().join(name));
        write_list(&list);
        let create = async |text: &str| {
            write_secret(&password, text);
            let own = ["create-admin", "--database-url", &setup.url, "--login", "root"];
            let rest = [
                "--email",
                "root@example.com",
                "--password-file",
                password.to_str().expect("UTF-8"),
            ];
            let breached = ["--breached-passwords", list.to_str().expect("UTF-8")];
            Program::start(AUTH_SERVICE, [&own[..], &rest, &breached].concat())
                .ended()
                .await
        };
        let ended = create(BREACHED).await;
        assert!(ended.only_line(64).contains("known from a data breach"), "{ended:?}");
        assert_eq!(create("another battery").await.code, Some(0));
    });
}
