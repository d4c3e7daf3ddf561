//! Logins and e-mail addresses in all their spellings, and lookup keys that an older version
//! stored.

use std::time::Duration;

use db::{query, write_tx};
use proto::auth::v1::{
    CreateUserRequest, DeleteUserRequest, ListAuditEventsRequest, ListUsersRequest, RegisterRequest, RegisterResponse,
    UpdateUserRequest, User, audit_service_client::AuditServiceClient, user_service_client::UserServiceClient,
};
use testing::{
    TestDatabase, on_both_backends,
    rpc::{bad_fields, channel, reason, with_token},
};
use tonic::{Code, Status};

use crate::support::{
    PASSWORD, START, Server, callers::eventually, count, credentials, mask, registration, with_password,
};

async fn register(server: &Server, login: &str, email: &str) -> Result<RegisterResponse, Status> {
    let request = RegisterRequest {
        email: email.to_owned(),
        ..registration(login)
    };
    Ok(server.auth().register(request).await?.into_inner())
}

/// Logs in with this identifier and returns the login of the user.
async fn login(server: &Server, identifier: &str) -> Result<String, Status> {
    let answer = server.auth().login(credentials(identifier, PASSWORD)).await?;
    Ok(answer.into_inner().user.expect("a user").login)
}

async fn list(server: &Server, token: &str, request: ListUsersRequest) -> Vec<String> {
    let mut users = UserServiceClient::new(channel(server.grpc));
    let answer = users.list_users(with_token(request, token)).await.expect("a list");
    answer.into_inner().users.into_iter().map(|user| user.login).collect()
}

fn query(text: &str) -> ListUsersRequest {
    ListUsersRequest {
        query: text.to_owned(),
        ..ListUsersRequest::default()
    }
}

fn users_whose_email_is_taken() -> ListUsersRequest {
    ListUsersRequest {
        email_is_taken: true,
        ..ListUsersRequest::default()
    }
}

async fn execute(server: &Server, sql: &str) {
    let done: db::Result<()> = write_tx!(server.database.db(), |tx| {
        query!(tx, |c| diesel_async::SimpleAsyncConnection::batch_execute(c, sql).await)
    });
    done.expect(sql);
}

/// Rewrites the row of a user as the previous version would have written it: with this address, and
/// with the lookup key that it computed for the address.
async fn rewrite_as_previous_version(server: &Server, login: &str, email: &str, key: &str) {
    let sql = format!(
        "UPDATE users SET email = '{email}', email_folded = '{key}', search_folded = '{login}' || '\n' || '{key}' || \
         '\n', key_time = NULL WHERE login = '{login}'"
    );
    execute(server, &sql).await;
}

/// Starts the service once more on the same database, and stops it once it has started.
async fn restart(server: &Server) {
    let (running, _) = server.replica().await;
    running.stop().await.expect("ended");
}

/// Returns the audit events about taken addresses, oldest first: the user, and the owner of the
/// address.
async fn email_taken_events(server: &Server, token: &str) -> Vec<(String, String)> {
    let request = ListAuditEventsRequest {
        action: "user.email_taken".to_owned(),
        ..ListAuditEventsRequest::default()
    };
    let mut audit = AuditServiceClient::new(channel(server.grpc));
    let answer = audit.list_audit_events(with_token(request, token)).await;
    let events = answer.expect("a list").into_inner().events.into_iter().rev();
    events
        .map(|event| (event.subject_user_id, event.details["owner_user_id"].clone()))
        .collect()
}

/// Upper bound of the time from one recomputation of stale keys to the next.
const JOB_INTERVAL: Duration = Duration::from_secs(70);

const NIKOS: [&str; 2] = ["νίκος@example.test", "ΝΊΚΟΣ@Example.TEST"];
const STRASSE: [&str; 2] = ["straße@example.test", "STRASSE@example.test"];
const BUCHER: [&str; 2] = ["ann@bücher.example", "Ann@XN--BCHER-KVA.example"];

#[on_both_backends]
async fn a_user_can_log_in_with_another_spelling_of_the_address(database: TestDatabase) {
    let server = Server::start(database).await;
    for (index, [one, other]) in [NIKOS, STRASSE, BUCHER].into_iter().enumerate() {
        for (given, typed) in [(one, other), (other, one)] {
            let name = format!("user{index}");
            let user = register(&server, &name, given)
                .await
                .expect(given)
                .user
                .expect("a user");
            assert_eq!(user.email, given, "the spelling is kept");
            assert_eq!(login(&server, typed).await.expect(typed), name);
            assert_eq!(login(&server, given).await.expect(given), name);
            let refused = register(&server, "another", typed).await.expect_err(typed);
            assert_eq!(
                (refused.code(), bad_fields(&refused)),
                (Code::AlreadyExists, vec!["email".to_owned()])
            );
            // Make room for the other way round.
            execute(&server, "DELETE FROM sessions").await;
            execute(&server, &format!("DELETE FROM users WHERE login = '{name}'")).await;
        }
    }
    // A domain is not case-folded before it is encoded, so `faß.de` is not `fass.de`.
    register(&server, "sharp", "ann@faß.de").await.expect("registered");
    register(&server, "plain", "ann@fass.de")
        .await
        .expect("another address");
    for (identifier, found) in [
        ("ANN@FAß.de", "sharp"),
        ("ann@xn--fa-hia.de", "sharp"),
        ("ann@FASS.de", "plain"),
    ] {
        assert_eq!(login(&server, identifier).await.expect(identifier), found);
    }
}

#[on_both_backends]
async fn addresses_with_an_invalid_domain_are_refused_and_match_no_user(database: TestDatabase) {
    let server = Server::start(database).await;
    let token = server.superuser().await;
    let ann = server.register("ann").await;
    let anns = ann.tokens.expect("tokens").access_token;
    let user_id = ann.user.expect("a user").user_id;
    for domain in ["xn--a", "xn--\u{fc}.test", "a_b.test", "a\u{2100}b.test", "-a.test"] {
        let email = format!("zoe@{domain}");
        let refused = register(&server, "zoe", &email).await.expect_err(domain);
        assert_eq!(
            (refused.code(), bad_fields(&refused)),
            (Code::InvalidArgument, vec!["email".to_owned()])
        );
        let user = User {
            email: email.clone(),
            ..User::default()
        };
        let update = with_password(user.clone());
        let refused = server
            .account()
            .update_me(with_token(update, &anns))
            .await
            .expect_err(domain);
        assert_eq!(bad_fields(&refused), ["email"]);
        let mut users = UserServiceClient::new(channel(server.grpc));
        let update = UpdateUserRequest {
            user_id: user_id.clone(),
            user: Some(user),
            update_mask: Some(mask(&["email"])),
        };
        let refused = users.update_user(with_token(update, &token)).await.expect_err(domain);
        assert_eq!(bad_fields(&refused), ["email"]);
        let create = CreateUserRequest {
            email: email.clone(),
            login: "zoe".to_owned(),
            password: PASSWORD.to_owned(),
            ..Default::default()
        };
        let refused = users.create_user(with_token(create, &token)).await.expect_err(domain);
        assert_eq!(bad_fields(&refused), ["email"]);
        assert_eq!(
            reason(&login(&server, &email).await.expect_err(domain)),
            "CREDENTIALS_INVALID"
        );
    }
}

#[on_both_backends]
async fn white_space_around_a_name_is_trimmed(database: TestDatabase) {
    let server = Server::start(database).await;
    let registered = register(&server, " ann\u{a0}", "\tAnn@example.test \n")
        .await
        .expect("registered");
    let user = registered.user.expect("a user");
    assert_eq!((user.login.as_str(), user.email.as_str()), ("ann", "Ann@example.test"));
    for identifier in [
        "ann",
        "ann ",
        "\u{3000}ann",
        "\tann\r\n",
        " ann@example.test",
        "ann@example.test\u{2003}",
    ] {
        assert_eq!(
            login(&server, identifier).await.expect("logged in"),
            "ann",
            "{identifier:?}"
        );
    }
    for (login, email, fields) in [
        ("ann  ", "x@example.test", ["login"]),
        ("bob", " ann@example.test ", ["email"]),
    ] {
        let refused = register(&server, login, email).await.expect_err("taken");
        assert_eq!(
            (refused.code(), bad_fields(&refused)),
            (Code::AlreadyExists, fields.map(str::to_owned).to_vec())
        );
    }
    // White space inside a name is refused.
    for inside in ["a nn", "a\tnn", "ann @example.test"] {
        let refused = register(&server, inside, inside).await.expect_err("no name");
        assert_eq!(bad_fields(&refused), ["email", "login"]);
        login(&server, inside).await.expect_err("nobody");
    }
    let user = User {
        email: " Ann@example.org ".to_owned(),
        login: " Ann2 ".to_owned(),
        ..User::default()
    };
    let update = with_token(with_password(user), &registered.tokens.expect("tokens").access_token);
    let changed = server
        .account()
        .update_me(update)
        .await
        .expect("changed")
        .into_inner()
        .user
        .expect("a user");
    assert_eq!(
        (changed.login.as_str(), changed.email.as_str()),
        ("Ann2", "Ann@example.org")
    );
    assert_eq!(login(&server, "ann@EXAMPLE.org ").await.expect("logged in"), "Ann2");
}

#[on_both_backends]
async fn a_password_that_is_the_address_in_another_spelling_is_refused(database: TestDatabase) {
    let server = Server::start(database).await;
    for [one, other] in [STRASSE, BUCHER] {
        let request = RegisterRequest {
            email: one.to_owned(),
            password: other.to_owned(),
            password_confirmation: other.to_owned(),
            ..registration("ann")
        };
        assert_eq!(
            bad_fields(&server.auth().register(request).await.expect_err("refused")),
            ["password"]
        );
    }
}

#[on_both_backends]
async fn a_search_finds_every_spelling(database: TestDatabase) {
    let server = Server::start(database).await;
    let token = server.superuser().await;
    for (name, email) in [
        ("nikos", NIKOS[0]),
        ("street", STRASSE[0]),
        ("ulabel", BUCHER[0]),
        ("alabel", "zoe@xn--mller-kva.example"),
        ("sharp", "ann@faß.de"),
    ] {
        server.clock.advance(Duration::from_secs(1));
        register(&server, name, email).await.expect("registered");
    }
    for (text, found) in [
        ("ΝΊΚΟΣ", vec!["nikos"]),
        (" Νίκος@EX", vec!["nikos"]),
        ("STRASS", vec!["street"]),
        ("straß", vec!["street"]),
        ("@BÜCHER.ex", vec!["ulabel"]),
        ("xn--bcher", vec!["ulabel"]),
        ("ann@bu\u{308}cher.example", vec!["ulabel"]),
        ("@müller", vec!["alabel"]),
        ("ZOE@xn--mller-kva.example", vec!["alabel"]),
        ("faß.de", vec!["sharp"]),
    ] {
        assert_eq!(list(&server, &token, query(text)).await, found, "{text}");
    }
    // The search also covers personal names.
    let user = User {
        last_name: "Großmann".to_owned(),
        ..User::default()
    };
    let nikos = server
        .auth()
        .login(credentials("nikos", PASSWORD))
        .await
        .expect("logged in")
        .into_inner();
    let update = with_token(with_password(user), &nikos.tokens.expect("tokens").access_token);
    server.account().update_me(update).await.expect("changed");
    assert_eq!(list(&server, &token, query("GROSSMANN")).await, ["nikos"]);
    assert_eq!(list(&server, &token, query("νίκος")).await, ["nikos"]);
}

#[on_both_backends]
async fn keys_of_an_older_version_are_recomputed_at_the_start(database: TestDatabase) {
    let server = Server::start(database).await;
    let token = server.superuser().await;
    for name in ["street", "ulabel", "plain"] {
        server.register(name).await;
    }
    rewrite_as_previous_version(&server, "street", STRASSE[0], STRASSE[0]).await;
    rewrite_as_previous_version(&server, "ulabel", BUCHER[0], BUCHER[0]).await;
    rewrite_as_previous_version(&server, "plain", "Plain@example.test", "plain@example.test").await;
    login(&server, STRASSE[1]).await.expect_err("not yet");
    restart(&server).await;
    let check = async || {
        for (identifier, name) in [
            (STRASSE[0], "street"),
            (STRASSE[1], "street"),
            (BUCHER[0], "ulabel"),
            (BUCHER[1], "ulabel"),
            ("PLAIN@example.test", "plain"),
        ] {
            assert_eq!(login(&server, identifier).await.expect(identifier), name);
        }
        assert_eq!(list(&server, &token, query("strasse@")).await, ["street"]);
        assert_eq!(list(&server, &token, query("@xn--bcher")).await, ["ulabel"]);
        assert_eq!(list(&server, &token, users_whose_email_is_taken()).await, [""; 0]);
        assert_eq!(email_taken_events(&server, &token).await, []);
        let refused = register(&server, "another", STRASSE[1]).await.expect_err("taken");
        assert_eq!(bad_fields(&refused), ["email"]);
    };
    check().await;
    restart(&server).await;
    check().await;

    // A replica of the older version keeps writing: an update that leaves `key_time` behind, and a
    // new row without it.
    let sql = format!(
        "UPDATE users SET email = '{0}', email_folded = '{0}', update_time = {1} WHERE login = 'plain'",
        NIKOS[0],
        now_in_sql(&server)
    );
    execute(&server, &sql).await;
    server.register("new").await;
    rewrite_as_previous_version(&server, "new", "ẞ@bücher.example", "ß@bücher.example").await;
    restart(&server).await;
    assert_eq!(login(&server, NIKOS[1]).await.expect("recomputed"), "plain");
    assert_eq!(login(&server, "SS@BÜCHER.example").await.expect("recomputed"), "new");
}

#[on_both_backends]
async fn changing_the_first_name_does_not_mark_a_stale_key_as_current(database: TestDatabase) {
    let server = Server::start(database).await;
    let tokens = server.register("street").await.tokens.expect("tokens");
    rewrite_as_previous_version(&server, "street", STRASSE[0], STRASSE[0]).await;
    server.clock.advance(Duration::from_secs(1));
    let user = User {
        first_name: "Ann".to_owned(),
        ..User::default()
    };
    let update = with_token(with_password(user), &tokens.access_token);
    server.account().update_me(update).await.expect("changed");
    restart(&server).await;
    assert_eq!(login(&server, STRASSE[1]).await.expect("recomputed"), "street");
}

#[on_both_backends]
async fn the_oldest_of_several_accounts_keeps_their_common_address(database: TestDatabase) {
    let server = Server::start(database).await;
    let token = server.superuser().await;
    let mut ids = Vec::new();
    for name in ["oldest", "second", "third"] {
        server.clock.advance(Duration::from_secs(1));
        ids.push(server.register(name).await.user.expect("a user").user_id);
    }
    // In this version, all three addresses have the same key.
    let [one, other, third] = [
        "straße@bücher.example",
        "STRASSE@bücher.example",
        "Straße@XN--BCHER-KVA.example",
    ];
    rewrite_as_previous_version(&server, "oldest", one, one).await;
    rewrite_as_previous_version(&server, "second", other, "strasse@bücher.example").await;
    rewrite_as_previous_version(&server, "third", third, "straße@xn--bcher-kva.example").await;
    let told = vec![(ids[1].clone(), ids[0].clone()), (ids[2].clone(), ids[0].clone())];
    for _ in 0..2 {
        restart(&server).await;
        for identifier in [one, other, third, "oldest"] {
            assert_eq!(login(&server, identifier).await.expect(identifier), "oldest");
        }
        // The other users can still log in with their login.
        assert_eq!(login(&server, "second").await.expect("logged in"), "second");
        assert_eq!(login(&server, "third").await.expect("logged in"), "third");
        // Administrators are informed, but only once.
        assert_eq!(
            list(&server, &token, users_whose_email_is_taken()).await,
            ["third", "second"]
        );
        assert_eq!(email_taken_events(&server, &token).await, told);
        assert_eq!(
            list(&server, &token, query("STRASSE@")).await,
            ["third", "second", "oldest"]
        );
    }

    // A user who takes another address is no longer listed. A change of another field does not
    // affect the address.
    let second = server
        .auth()
        .login(credentials("second", PASSWORD))
        .await
        .expect("logged in")
        .into_inner();
    let second = second.tokens.expect("tokens").access_token;
    let update = async |user: User| {
        let update = with_token(with_password(user), &second);
        server
            .account()
            .update_me(update)
            .await
            .map(|answer| answer.into_inner().user.expect("a user"))
    };
    let changed = update(User {
        first_name: "Nikos".to_owned(),
        ..User::default()
    })
    .await
    .expect("changed");
    assert_eq!(changed.email, other);
    assert_eq!(
        list(&server, &token, users_whose_email_is_taken()).await,
        ["third", "second"]
    );
    for email in [one, other] {
        let user = User {
            email: email.to_owned(),
            ..User::default()
        };
        assert_eq!(bad_fields(&update(user).await.expect_err("taken")), ["email"]);
    }
    update(User {
        email: "second@example.test".to_owned(),
        ..User::default()
    })
    .await
    .expect("changed");
    assert_eq!(list(&server, &token, users_whose_email_is_taken()).await, ["third"]);
    assert_eq!(
        login(&server, "SECOND@example.test").await.expect("logged in"),
        "second"
    );

    // Deleting the oldest user frees the address. The third user gets it at the next start.
    let mut users = UserServiceClient::new(channel(server.grpc));
    let delete = DeleteUserRequest {
        user_id: ids[0].clone(),
    };
    users.delete_user(with_token(delete, &token)).await.expect("deleted");
    restart(&server).await;
    assert_eq!(login(&server, other).await.expect("logged in"), "third");
    assert_eq!(list(&server, &token, users_whose_email_is_taken()).await, [""; 0]);
    assert_eq!(email_taken_events(&server, &token).await, told);
}

#[on_both_backends]
async fn an_account_written_by_this_version_keeps_its_address(database: TestDatabase) {
    let server = Server::start(database).await;
    let token = server.superuser().await;
    let older = server.register("older").await.user.expect("a user").user_id;
    rewrite_as_previous_version(&server, "older", STRASSE[0], STRASSE[0]).await;
    server.clock.advance(Duration::from_secs(1));
    // The key of `older` is stale, so no user has this key yet.
    let younger = register(&server, "younger", STRASSE[1])
        .await
        .expect("registered")
        .user
        .expect("a user")
        .user_id;
    restart(&server).await;
    for identifier in [STRASSE[0], STRASSE[1], "younger"] {
        assert_eq!(login(&server, identifier).await.expect(identifier), "younger");
    }
    assert_eq!(login(&server, "older").await.expect("logged in"), "older");
    assert_eq!(list(&server, &token, users_whose_email_is_taken()).await, ["older"]);
    assert_eq!(email_taken_events(&server, &token).await, [(older, younger)]);
}

#[on_both_backends]
async fn an_older_account_cannot_claim_an_address_by_another_spelling(database: TestDatabase) {
    let server = Server::start(database).await;
    let token = server.superuser().await;
    let mut told = Vec::new();
    for (attacker, victim) in [("mallory", "jessica"), ("mallet", "tessa")] {
        server.clock.advance(Duration::from_secs(1));
        let older = server.register(attacker).await.user.expect("a user").user_id;
        server.clock.advance(Duration::from_secs(1));
        let younger = register(&server, victim, &format!("{victim}@x.test"))
            .await
            .expect("registered");
        told.push((older, younger.user.expect("a user").user_id));
    }
    // A replica of the older version writes the rows of both attackers. It has also written the row
    // of one victim, whose key stays the same.
    rewrite_as_previous_version(&server, "mallory", "jeßica@x.test", "jeßica@x.test").await;
    rewrite_as_previous_version(&server, "mallet", "teßa@x.test", "teßa@x.test").await;
    rewrite_as_previous_version(&server, "tessa", "Tessa@x.test", "tessa@x.test").await;
    for _ in 0..2 {
        restart(&server).await;
        for (identifier, name) in [
            ("Jessica@x.test", "jessica"),
            ("jeßica@x.test", "jessica"),
            ("tessa@x.test", "tessa"),
            ("TEẞA@x.test", "tessa"),
            ("mallory", "mallory"),
            ("mallet", "mallet"),
        ] {
            assert_eq!(login(&server, identifier).await.expect(identifier), name);
        }
        assert_eq!(
            list(&server, &token, users_whose_email_is_taken()).await,
            ["mallet", "mallory"]
        );
        assert_eq!(email_taken_events(&server, &token).await, told);
    }
}

#[on_both_backends]
async fn a_key_that_collides_only_by_the_old_rule_is_given_up(database: TestDatabase) {
    let server = Server::start(database).await;
    let token = server.superuser().await;
    server.register("older").await;
    server.clock.advance(Duration::from_secs(1));
    server.register("younger").await;
    rewrite_as_previous_version(&server, "older", "ß@x1.test", "ß@x1.test").await;
    // The older version stored `ss@x1.test` as the key of this address. UTS #46 does not allow its
    // domain.
    rewrite_as_previous_version(&server, "younger", "ss@x\u{2488}test", "ss@x1.test").await;
    restart(&server).await;
    for (identifier, name) in [
        ("ss@x1.test", "older"),
        ("ß@x1.test", "older"),
        ("ss@x\u{2488}test", "younger"),
    ] {
        assert_eq!(login(&server, identifier).await.expect(identifier), name);
    }
    assert_eq!(list(&server, &token, users_whose_email_is_taken()).await, [""; 0]);
}

#[on_both_backends]
async fn keys_that_an_older_replica_writes_are_recomputed_without_a_restart(database: TestDatabase) {
    let server = Server::start(database).await;
    server.register("older").await;
    server.clock.advance(Duration::from_secs(1));
    server.register("street").await;
    rewrite_as_previous_version(&server, "older", "straßen@example.test", "straßen@example.test").await;
    rewrite_as_previous_version(&server, "street", STRASSE[0], STRASSE[0]).await;
    let stale = "users WHERE key_time IS NULL OR key_time <> update_time";
    eventually(|| async {
        server.clock.advance(JOB_INTERVAL);
        (count(server.database.db(), stale).await == 0).then_some(())
    })
    .await;
    assert_eq!(login(&server, STRASSE[1]).await.expect("recomputed"), "street");
    assert_eq!(
        login(&server, "STRASSEN@example.test").await.expect("recomputed"),
        "older"
    );

    // `older` claims the address of `street`, and gets it once the address is free.
    rewrite_as_previous_version(&server, "older", "Straße@example.test", "straßen@example.test").await;
    eventually(|| async {
        server.clock.advance(JOB_INTERVAL);
        (count(server.database.db(), "users WHERE login = 'older' AND email_is_taken").await == 1).then_some(())
    })
    .await;
    assert_eq!(login(&server, STRASSE[1]).await.expect("logged in"), "street");
    execute(
        &server,
        "UPDATE users SET email = 'a@b.test', email_folded = 'a@b.test' WHERE login = 'street'",
    )
    .await;
    eventually(|| async {
        server.clock.advance(JOB_INTERVAL);
        (count(server.database.db(), "users WHERE email_is_taken").await == 0).then_some(())
    })
    .await;
    assert_eq!(login(&server, STRASSE[1]).await.expect("logged in"), "older");
}

#[on_both_backends]
async fn a_taken_address_can_be_set_again_once_it_is_free(database: TestDatabase) {
    let server = Server::start(database).await;
    let token = server.superuser().await;
    let holder = register(&server, "holder", STRASSE[1])
        .await
        .expect("registered")
        .user
        .expect("a user")
        .user_id;
    server.clock.advance(Duration::from_secs(1));
    let user_id = server.register("other").await.user.expect("a user").user_id;
    rewrite_as_previous_version(&server, "other", STRASSE[0], STRASSE[0]).await;
    restart(&server).await;
    let mut users = UserServiceClient::new(channel(server.grpc));
    let user = User {
        email: STRASSE[0].to_owned(),
        ..User::default()
    };
    let update = UpdateUserRequest {
        user_id,
        user: Some(user),
        update_mask: Some(mask(&["email"])),
    };
    let refused = users
        .update_user(with_token(update.clone(), &token))
        .await
        .expect_err("taken");
    assert_eq!(
        (refused.code(), bad_fields(&refused)),
        (Code::AlreadyExists, vec!["email".to_owned()])
    );
    users
        .delete_user(with_token(DeleteUserRequest { user_id: holder }, &token))
        .await
        .expect("deleted");
    users.update_user(with_token(update, &token)).await.expect("changed");
    assert_eq!(list(&server, &token, users_whose_email_is_taken()).await, [""; 0]);
    assert_eq!(login(&server, STRASSE[1]).await.expect("logged in"), "other");
}

#[on_both_backends]
async fn keys_that_cannot_change_are_current_after_the_migration(database: TestDatabase) {
    let server = Server::start(database).await;
    let migration = match server.database.backend() {
        db::Backend::Sqlite => include_str!("../../../migrations/sqlite/2026-11-28-090000_email_keys/up.sql"),
        db::Backend::Postgres => include_str!("../../../migrations/postgres/2026-11-28-090000_email_keys/up.sql"),
    };
    let (_, update) = migration.split_once("UPDATE users").expect("an update");
    let (update, _) = update.split_once(';').expect("an end");
    let current = [
        ("Ann.O'Hara+x@Example-1.test", "ann.o'hara+x@example-1.test"),
        ("a@localhost", "a@localhost"),
        ("a@r3---sn.test", "a@r3---sn.test"),
        ("a@1.2", "a@1.2"),
    ];
    let stale = [
        (STRASSE[0], STRASSE[0]),
        (BUCHER[0], BUCHER[0]),
        (BUCHER[1], "ann@xn--bcher-kva.example"),
        ("b@x.XN--bcher-kva", "b@x.xn--bcher-kva"),
        ("a@b_c.test", "a@b_c.test"),
        ("a@-b.test", "a@-b.test"),
        ("a@b-.test", "a@b-.test"),
        ("a@b.test-", "a@b.test-"),
        // The older version would not compute this key for this address.
        ("a@other.test", "another@other.test"),
    ];
    let names: Vec<String> = (0..current.len() + stale.len())
        .map(|index| format!("user{index}"))
        .collect();
    for (name, (email, key)) in names.iter().zip(current.into_iter().chain(stale)) {
        server.register(name).await;
        rewrite_as_previous_version(&server, name, &email.replace('\'', "''"), &key.replace('\'', "''")).await;
    }
    server.register("person").await;
    execute(
        &server,
        "UPDATE users SET last_name = 'Großmann', key_time = NULL WHERE login = 'person'",
    )
    .await;
    execute(&server, &format!("UPDATE users{update}")).await;
    for (index, name) in names.iter().enumerate() {
        let is_stale = count(
            server.database.db(),
            &format!("users WHERE login = '{name}' AND key_time IS NULL"),
        )
        .await
            == 1;
        assert_eq!(is_stale, index >= current.len(), "{name}");
    }
    let stale = "users WHERE key_time IS NULL OR key_time <> update_time";
    assert_eq!(count(server.database.db(), stale).await, 10);
    restart(&server).await;
    assert_eq!(count(server.database.db(), stale).await, 0);
    for (name, (email, _)) in names.iter().zip(current) {
        assert_eq!(login(&server, email).await.expect(email), *name);
    }
    // A user can still log in with an address whose domain UTS #46 refuses.
    assert_eq!(login(&server, "A@b_C.test").await.expect("logged in"), "user8");
}

#[on_both_backends]
async fn many_keys_are_recomputed_in_one_start(database: TestDatabase) {
    let server = Server::start(database).await;
    let token = server.superuser().await;
    server.register("one").await;
    // More than two batches of users, of whom many have the same creation time. Two users in
    // different batches have the same address.
    for index in 0..450 {
        let id = match server.database.backend() {
            db::Backend::Sqlite => format!("x'{index:032x}'"),
            db::Backend::Postgres => format!("'{index:032x}'::uuid"),
        };
        let local = if index == 7 || index == 400 {
            "ß7".to_owned()
        } else {
            format!("ß{index}")
        };
        let sql = format!(
            "INSERT INTO users (id, login, login_folded, email, email_folded, password_hash, first_name, last_name, \
             middle_name, is_active, token_version, create_time, update_time, search_folded) \
             SELECT {id}, 'l{index}', 'l{index}', '{local}@b.test', 'ß{index}@b.test', password_hash, '', '', '', \
             is_active, 1, create_time, update_time, '' FROM users WHERE login = 'one'"
        );
        execute(&server, &sql).await;
    }
    restart(&server).await;
    assert_eq!(list(&server, &token, users_whose_email_is_taken()).await, ["l400"]);
    for index in [0, 7, 199, 200, 201, 399, 449] {
        assert_eq!(
            login(&server, &format!("SS{index}@b.test")).await.expect("logged in"),
            format!("l{index}")
        );
    }
}

/// Returns a time, as SQL, that is later than all changes so far.
fn now_in_sql(server: &Server) -> String {
    let later = START.plus(Duration::from_secs(60));
    match server.database.backend() {
        db::Backend::Sqlite => later.as_micros().to_string(),
        db::Backend::Postgres => "'2026-11-21T00:01:00Z'".to_owned(),
    }
}
