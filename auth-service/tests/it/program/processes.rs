//! Two auth-service processes on one PostgreSQL database. A decision of one process binds the
//! other, also after one of them was killed.

use std::{sync::Arc, time::Duration};

use db::Backend;
use proto::auth::v1::{
    AssignRoleRequest, DeactivateUserRequest, GetMeRequest, ListUsersRequest, LoginRequest, RefreshAccessTokenRequest,
    TokenPair, UnassignRoleRequest, User, account_service_client::AccountServiceClient,
    auth_service_client::AuthServiceClient, rbac_service_client::RbacServiceClient,
    user_service_client::UserServiceClient,
};
use testing::{
    block_on,
    program::{Addresses, Program, Signal, serving},
    rpc::{channel, reason, with_token},
};
use tokio::{sync::Barrier, time::timeout};
use tonic::{Code, Status, transport::Channel};

use crate::{
    program::start::{ProgramSetup, register},
    support::{PASSWORD, credentials, rotate},
};

const TEMPORARY: &str = "temporary horse";
/// Time within which both processes refuse a revoked token.
const SOON: Duration = Duration::from_secs(1);
const NO_LIMITS: [&str; 6] = [
    "--login-rate-per-minute",
    "0",
    "--registration-rate-per-minute",
    "0",
    "--hashing-queue",
    "1000",
];

/// Two processes, and the database that they share.
struct Pair {
    setup: ProgramSetup,
    programs: [Program; 2],
    at: [Addresses; 2],
}

async fn serve(setup: &ProgramSetup) -> (Program, Addresses) {
    let program = setup.serve(&[&NO_LIMITS[..], &["--bootstrap-admin-password", TEMPORARY]].concat());
    let at = program.addresses().await;
    serving(at.grpc).await;
    (program, at)
}

impl Pair {
    /// Starts both processes at the same time, on an empty database.
    async fn start() -> Self {
        let setup = ProgramSetup::new(Backend::Postgres).await;
        let ((one, at_one), (other, at_other)) = tokio::join!(serve(&setup), serve(&setup));
        Self {
            setup,
            programs: [one, other],
            at: [at_one, at_other],
        }
    }

    fn auth(&self, index: usize) -> AuthServiceClient<Channel> {
        AuthServiceClient::new(channel(self.at[index].grpc))
    }

    fn users(&self, index: usize) -> UserServiceClient<Channel> {
        UserServiceClient::new(channel(self.at[index].grpc))
    }

    async fn login(&self, index: usize, login: &str, password: &str) -> Result<TokenPair, Status> {
        let answer = self.auth(index).login(credentials(login, password)).await?;
        Ok(answer.into_inner().tokens.expect("tokens"))
    }

    /// Logs the administrator in for the first time, and returns the access token.
    async fn admin(&self) -> String {
        let request = LoginRequest {
            new_password: PASSWORD.to_owned(),
            new_password_confirmation: PASSWORD.to_owned(),
            ..credentials("admin", TEMPORARY)
        };
        let answer = self.auth(0).login(request).await.expect("the first administrator");
        answer.into_inner().tokens.expect("tokens").access_token
    }

    async fn superusers(&self, admin: &str) -> Vec<User> {
        let request = ListUsersRequest {
            role: "superuser".to_owned(),
            ..ListUsersRequest::default()
        };
        let answer = self.users(1).list_users(with_token(request, admin)).await;
        answer.expect("listed").into_inner().users
    }

    /// Kills a process, as a power cut would, and starts another in its setup.
    async fn kill_and_restart(&mut self, index: usize) {
        self.programs[index].signal(Signal::Kill);
        let (program, at) = serve(&self.setup).await;
        self.programs[index] = program;
        self.at[index] = at;
    }
}

async fn me(at: Addresses, token: &str) -> Result<User, Status> {
    let mut client = AccountServiceClient::new(channel(at.grpc));
    let answer = client.get_me(with_token(GetMeRequest {}, token)).await?;
    Ok(answer.into_inner().user.expect("a user"))
}

#[test]
fn one_of_fifty_racers_at_two_processes_rotates() {
    block_on(async {
        let pair = Pair::start().await;
        let first = register(pair.at[0], "ann").await.tokens.expect("tokens");
        let racers = (0..50).map(|index| {
            let (mut client, token) = (pair.auth(index % 2), first.refresh_token.clone());
            tokio::spawn(async move { rotate(&mut client, &token, "").await })
        });
        let mut won = Vec::new();
        for racer in racers.collect::<Vec<_>>() {
            match racer.await.expect("joined") {
                Ok(tokens) => won.push(tokens),
                Err(status) => assert_eq!(
                    (status.code(), reason(&status)),
                    (Code::Aborted, "ROTATION_OVERLAP".to_owned())
                ),
            }
        }
        assert_eq!(won.len(), 1);
        // The session survives: the winner can rotate again, also at the other process.
        rotate(&mut pair.auth(1), &won[0].refresh_token, "")
            .await
            .expect("rotated");
    });
}

#[test]
fn reuse_is_caught_by_the_other_process_and_after_a_kill() {
    block_on(async {
        let mut pair = Pair::start().await;
        for (login, is_killed) in [("ann", false), ("bob", true)] {
            let first = register(pair.at[0], login).await.tokens.expect("tokens");
            let second = rotate(&mut pair.auth(0), &first.refresh_token, "")
                .await
                .expect("rotated");
            let third = rotate(&mut pair.auth(0), &second.refresh_token, "")
                .await
                .expect("rotated");
            if is_killed {
                pair.kill_and_restart(0).await;
                pair.kill_and_restart(1).await;
            }
            let reused = rotate(&mut pair.auth(1), &first.refresh_token, "")
                .await
                .expect_err("old");
            assert_eq!(
                (reused.code(), reason(&reused)),
                (Code::Unauthenticated, "REFRESH_TOKEN_REUSED".to_owned())
            );
            let ended = rotate(&mut pair.auth(0), &third.refresh_token, "")
                .await
                .expect_err("ended");
            assert_eq!(reason(&ended), "SESSION_ENDED");
        }
    });
}

#[test]
fn calls_in_flight_do_not_outlive_a_deactivation_at_another_process() {
    block_on(async {
        let mut pair = Pair::start().await;
        let admin = pair.admin().await;
        let mut dead = Vec::new();
        for round in 0..8 {
            let name = format!("ann{round}");
            let registered = register(pair.at[1], &name).await;
            let (user_id, first) = (
                registered.user.expect("a user").user_id,
                registered.tokens.expect("tokens"),
            );
            let barrier = Arc::new(Barrier::new(3));
            let rotation = {
                let (mut client, barrier, token) = (pair.auth(0), Arc::clone(&barrier), first.refresh_token.clone());
                tokio::spawn(async move {
                    barrier.wait().await;
                    rotate(&mut client, &token, "").await
                })
            };
            let entry = {
                let (mut client, barrier) = (pair.auth(0), Arc::clone(&barrier));
                tokio::spawn(async move {
                    barrier.wait().await;
                    let answer = client.login(credentials(&name, PASSWORD)).await?;
                    Ok(answer.into_inner().tokens.expect("tokens"))
                })
            };
            barrier.wait().await;
            let request = with_token(DeactivateUserRequest { user_id }, &admin);
            pair.users(1).deactivate_user(request).await.expect("deactivated");
            let got = [rotation.await.expect("joined"), entry.await.expect("joined")];
            for tokens in got.into_iter().flatten().chain([first]) {
                for (index, at) in pair.at.iter().enumerate() {
                    let request = RefreshAccessTokenRequest {
                        refresh_token: tokens.refresh_token.clone(),
                        ..RefreshAccessTokenRequest::default()
                    };
                    let refused = pair.auth(index).refresh_access_token(request).await.expect_err("ended");
                    assert_eq!(reason(&refused), "SESSION_ENDED");
                    let refused = async { while me(*at, &tokens.access_token).await.is_ok() {} };
                    timeout(SOON, refused).await.expect("refused within a second");
                    me(*at, &tokens.access_token).await.expect_err("refused for good");
                }
                dead.push(tokens);
            }
        }
        // A new process refuses the dead tokens as well.
        pair.kill_and_restart(0).await;
        for tokens in dead {
            let refused = rotate(&mut pair.auth(0), &tokens.refresh_token, "")
                .await
                .expect_err("ended");
            assert_eq!(reason(&refused), "SESSION_ENDED");
            me(pair.at[0], &tokens.access_token).await.expect_err("refused");
        }
    });
}

#[test]
fn guesses_are_counted_across_both_processes_and_after_a_kill() {
    block_on(async {
        let mut pair = Pair::start().await;
        register(pair.at[0], "ann").await;
        let guesses = (0..200).map(|index| {
            let mut client = pair.auth(index % 2);
            tokio::spawn(async move { client.login(credentials("ann", "wrong horse")).await.map(drop) })
        });
        let mut looked_at = 0;
        for guess in guesses.collect::<Vec<_>>() {
            let refused = guess.await.expect("joined").expect_err("wrong");
            match reason(&refused).as_str() {
                "CREDENTIALS_INVALID" => looked_at += 1,
                "TOO_MANY_ATTEMPTS" => assert_eq!(refused.code(), Code::ResourceExhausted),
                other => panic!("{other}: {refused}"),
            }
        }
        // Ten attempts are free. The wait after them starts at one second, so late guesses may
        // still be let through.
        assert!((1..=13).contains(&looked_at), "{looked_at}");
        pair.kill_and_restart(0).await;
        pair.kill_and_restart(1).await;
        // The wait may be over by now. If the counters were lost, ten more guesses would be let
        // through.
        let mut looked_at = 0;
        loop {
            let refused = pair.login(0, "ann", "wrong horse").await.expect_err("wrong");
            if reason(&refused) == "TOO_MANY_ATTEMPTS" {
                break;
            }
            looked_at += 1;
        }
        assert!(looked_at <= 2, "{looked_at}");
        let refused = pair
            .login(1, "ann", PASSWORD)
            .await
            .expect_err("blocked at the other, too");
        assert_eq!(reason(&refused), "TOO_MANY_ATTEMPTS");
    });
}

#[test]
fn one_first_administrator_is_created_and_the_last_one_stays() {
    block_on(async {
        // Both processes try to create the first administrator at the same time.
        let pair = Pair::start().await;
        let admin = pair.admin().await;
        let superusers = pair.superusers(&admin).await;
        assert_eq!(
            superusers.iter().map(|user| user.login.as_str()).collect::<Vec<_>>(),
            ["admin"]
        );
        let first = superusers[0].user_id.clone();
        let second = register(pair.at[1], "ann").await.user.expect("a user").user_id;
        let rbac = |index: usize| RbacServiceClient::new(channel(pair.at[index].grpc));
        let request = AssignRoleRequest {
            user_id: second.clone(),
            role: "superuser".to_owned(),
        };
        rbac(0)
            .assign_role(with_token(request, &admin))
            .await
            .expect("assigned");
        let seconds = pair.login(1, "ann", PASSWORD).await.expect("logged in").access_token;
        // Each superuser takes the role from the other at the same time, at a different process.
        let barrier = Arc::new(Barrier::new(2));
        let take = |index: usize, token: &str, user_id: &str| {
            let (client, barrier) = (rbac(index), Arc::clone(&barrier));
            let (token, user_id) = (token.to_owned(), user_id.to_owned());
            tokio::spawn(async move {
                barrier.wait().await;
                take_superuser(client, &token, &user_id).await
            })
        };
        let (by_first, by_second) = (take(0, &admin, &second), take(1, &seconds, &first));
        let (by_first, by_second) = (by_first.await.expect("joined"), by_second.await.expect("joined"));
        assert_ne!(by_first.is_ok(), by_second.is_ok(), "{by_first:?} {by_second:?}");
        let (last, token, login) = if by_first.is_ok() {
            (&first, admin, "admin")
        } else {
            (&second, seconds, "ann")
        };
        assert_eq!(pair.superusers(&token).await[0].login, login);
        assert_eq!(pair.superusers(&token).await.len(), 1);
        let refused = take_superuser(rbac(1), &token, last).await.expect_err("the last one");
        assert_eq!(
            (refused.code(), reason(&refused)),
            (Code::FailedPrecondition, "LAST_ADMIN".to_owned())
        );
    });
}

async fn take_superuser(mut client: RbacServiceClient<Channel>, token: &str, user_id: &str) -> Result<(), Status> {
    let request = UnassignRoleRequest {
        user_id: user_id.to_owned(),
        role: "superuser".to_owned(),
    };
    client.unassign_role(with_token(request, token)).await.map(drop)
}
