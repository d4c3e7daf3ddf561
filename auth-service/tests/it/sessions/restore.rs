//! A database that was restored from a back-up: no token from before the restore is accepted.

use db::Backend;
use proto::auth::v1::{
    AccessEvent, DeleteMeRequest, GetMeRequest, access_event::Event, account_service_client::AccountServiceClient,
    auth_service_client::AuthServiceClient,
};
use testing::{
    block_on,
    program::{Program, Signal, serving},
    rpc::{channel, reason, with_token},
};

use crate::{
    feed::stream::{SECRET, snapshot, watch},
    program::start::{AUTH_SERVICE, ProgramSetup, register},
    support::{PASSWORD, credentials, rotate},
};

fn after_restore(setup: &ProgramSetup) -> Program {
    let secret_file = setup.secret_file.to_str().expect("UTF-8");
    Program::start(
        AUTH_SERVICE,
        [
            "after-restore",
            "--database-url",
            &setup.url,
            "--auth-secret-file",
            secret_file,
        ],
    )
}

#[test]
fn after_restore_ends_all_sessions_and_invalidates_all_tokens() {
    block_on(async {
        for backend in [Backend::Sqlite, Backend::Postgres] {
            let setup = ProgramSetup::new(backend).await;
            let accounts = setup.write(
                "accounts",
                &format!(r#"[{{"client_id": "game-service", "secret": "{SECRET}"}}]"#),
            );
            let accounts = ["--service-accounts-file", accounts.to_str().expect("UTF-8")];
            let service = setup.serve(&accounts);
            let at = service.addresses().await;
            serving(at.grpc).await;
            let tokens = register(at, "ann").await.tokens.expect("tokens");
            let bob = register(at, "bob").await.tokens.expect("tokens").access_token;
            let request = DeleteMeRequest {
                current_password: PASSWORD.to_owned(),
                ..DeleteMeRequest::default()
            };
            let mut account = AccountServiceClient::new(channel(at.grpc));
            account.delete_me(with_token(request, &bob)).await.expect("deleted");
            service.signal(Signal::Terminate);
            assert_eq!(service.ended().await.code, Some(0));

            let restored = after_restore(&setup).ended().await;
            assert_eq!((restored.code, restored.stderr.as_str()), (Some(0), ""));
            assert!(restored.stdout.starts_with("ended 1 sessions\n"), "{}", restored.stdout);

            let service = setup.serve(&accounts);
            let at = service.addresses().await;
            serving(at.grpc).await;
            let mut account = AccountServiceClient::new(channel(at.grpc));
            let me = account.get_me(with_token(GetMeRequest {}, &tokens.access_token)).await;
            assert_eq!(reason(&me.expect_err("refused")), "TOKEN_INVALID");
            let mut auth = AuthServiceClient::new(channel(at.grpc));
            let rotated = rotate(&mut auth, &tokens.refresh_token, "").await;
            assert_eq!(reason(&rotated.expect_err("refused")), "SESSION_ENDED");
            auth.login(credentials("ann", PASSWORD)).await.expect("logged in");
            // Deletions of users stay in the feed, because consumers may have missed them.
            let snapshot = snapshot(&mut watch(at.grpc, "", 0).await).await;
            let deleted = |event: &AccessEvent| matches!(event.event, Some(Event::UserDeleted(_)));
            assert_eq!(snapshot.events.iter().filter(|event| deleted(event)).count(), 1);
            assert!(
                snapshot.events.iter().all(|event| event.expire_time.is_none()),
                "{snapshot:?}"
            );
        }
    });
}

#[test]
fn after_restore_refuses_a_database_in_use() {
    block_on(async {
        let setup = ProgramSetup::new(Backend::Sqlite).await;
        let service = setup.serve(&[]);
        let at = service.addresses().await;
        serving(at.grpc).await;
        let tokens = register(at, "ann").await.tokens.expect("tokens");
        let refused = after_restore(&setup).ended().await;
        assert!(
            refused.only_line(1).contains("in use by another process"),
            "{refused:?}"
        );
        rotate(&mut AuthServiceClient::new(channel(at.grpc)), &tokens.refresh_token, "")
            .await
            .expect("it lives");
    });
}
