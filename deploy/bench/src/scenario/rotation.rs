//! Rotation and refresh of tokens.

use std::sync::Arc;

use base::{
    clock::{Clock, Timestamp},
    ids::SessionId,
    sql_types,
};
use db::{Backend, prepared};
use diesel::sql_types::{BigInt, Nullable, Text};
use diesel_async::RunQueryDsl as _;
use proto::auth::v1::{RefreshAccessTokenRequest, RotateTokensRequest};
use tokio::sync::Mutex;
use tonic::Status;

use super::{Setup, nakama};
use crate::{
    baseline::bare_sql::{BareConn, on},
    deployment::{CHEAP_HASHING, Deployment, NO_LIMITS, User},
    load::{Caller, Processors},
    report::{Goal, Report, Rounds, Row, Spread, Unit},
};

/// Caller that rotates its tokens, each time with the latest refresh token.
pub(crate) struct Rotate(pub(crate) User);

/// Caller that gets new access tokens for a refresh token that stays the same.
struct Refresh(User);

impl Rotate {
    async fn next(&mut self) -> Result<(), Status> {
        let request = RotateTokensRequest {
            refresh_token: self.0.refresh_token.clone(),
            ..RotateTokensRequest::default()
        };
        let answer = self.0.auth().rotate_tokens(request).await?.into_inner();
        self.0.refresh_token = answer.tokens.expect("tokens").refresh_token;
        Ok(())
    }
}

impl Caller for Rotate {
    async fn call(&mut self) -> Result<(), Status> {
        self.next().await
    }
}

impl Caller for Refresh {
    async fn call(&mut self) -> Result<(), Status> {
        let request = RefreshAccessTokenRequest {
            refresh_token: self.0.refresh_token.clone(),
            ..RefreshAccessTokenRequest::default()
        };
        self.0.auth().refresh_access_token(request).await.map(drop)
    }
}

pub(crate) async fn run(setup: &Setup<'_>, report: &mut Report) {
    let deployment = Deployment::start(setup.engine, &[&CHEAP_HASHING[..], &NO_LIMITS].concat()).await;
    let users = deployment.register_users(2 * setup.connections).await;
    let (of_loops, users) = users.split_at(setup.connections);
    let url = &deployment.auth_database.url;
    let writer = Arc::new(Mutex::new(BareConn::open(url).await));
    let mut loops = Vec::new();
    for user in of_loops {
        let conn = match setup.engine.backend() {
            // SQLite has one writer at a time, so all callers share one connection.
            Backend::Sqlite => Arc::clone(&writer),
            Backend::Postgres => Arc::new(Mutex::new(BareConn::open(url).await)),
        };
        // The documented form of a refresh token is `v1.<session id>.<counter>.<MAC>`.
        let session = user.refresh_token.split('.').nth(1).expect("a session");
        loops.push(BareRotation {
            conn,
            session: session.parse().expect("an id"),
        });
    }
    let own = Processors::own(deployment.auth_database.processes.clone());
    let mut rotating: Vec<Rotate> = users.iter().cloned().map(Rotate).collect();
    let (mut us, mut bare, mut ratios) = (Rounds::default(), Rounds::default(), Vec::new());
    for _ in 0..setup.rounds {
        us.push(setup.time.drive(&mut rotating, &deployment.auth_processors()).await);
        bare.push(setup.time.drive(&mut loops, &own).await);
        ratios.push(us.last().goodput() / bare.last().goodput());
    }
    let what = "calls/s, each durable, against the same transaction in a bare loop";
    let backend = Some(setup.engine.backend());
    let row = Row::new(
        "RotateTokens",
        backend,
        what,
        (Spread::of(ratios), Unit::Times),
        Goal::AtLeast(0.7),
    );
    report.add(row.with("ours", &us).with("bare transaction", &bare));

    if setup.engine.backend() == Backend::Postgres {
        let mut refreshing: Vec<Refresh> = rotating.into_iter().map(|rotate| Refresh(rotate.0)).collect();
        let mut us = Rounds::default();
        for _ in 0..setup.rounds {
            us.push(setup.time.drive(&mut refreshing, &deployment.auth_processors()).await);
        }
        report.add(
            nakama::SESSION_REFRESH
                .beside("RefreshAccessToken", Some(Backend::Postgres), &us)
                .with("ours", &us),
        );
    }
}

/// The same work without a service: reads the session and the user's data for the token, and writes
/// the next counter.
struct BareRotation {
    conn: Arc<Mutex<BareConn>>,
    session: SessionId,
}

impl Caller for BareRotation {
    async fn call(&mut self) -> Result<(), Status> {
        type Row = (i64, String, i64, Option<String>, Option<String>);
        let session = self.session;
        let mut conn = self.conn.lock().await;
        let now: Timestamp = Clock::system().now();
        macro_rules! select {
            ($lock:literal) => {
                prepared::<(BigInt, Text, BigInt, Nullable<Text>, Nullable<Text>)>(
                    "SELECT sessions.counter, users.login, users.token_version, \
                     (SELECT string_agg(roles.code_name, ' ') FROM user_roles JOIN roles ON roles.id = \
                      user_roles.role_id WHERE user_roles.user_id = users.id), \
                     (SELECT string_agg(permissions.name, ' ') FROM user_permissions \
                      JOIN permissions ON permissions.id = user_permissions.permission_id \
                      WHERE user_permissions.user_id = users.id) \
                     FROM sessions JOIN users ON users.id = sessions.user_id WHERE sessions.id = ",
                )
                .bind::<sql_types::Uuid, _>(session)
                .text($lock)
            };
        }
        conn.begin().await;
        let found: Row = match &mut *conn {
            BareConn::Sqlite(c) => select!("").get_result(&mut **c).await,
            BareConn::Postgres(c) => select!(" FOR UPDATE OF users, sessions").get_result(&mut **c).await,
        }
        .expect("the session");
        let update = prepared::<()>("UPDATE sessions SET counter = counter + 1, is_used = false, rotate_time = ")
            .bind::<sql_types::Timestamp, _>(now)
            .text(", last_use_time = ")
            .bind::<sql_types::Timestamp, _>(now)
            .text(" WHERE id = ")
            .bind::<sql_types::Uuid, _>(session)
            .text(" AND end_time IS NULL AND counter = ")
            .bind::<BigInt, _>(found.0);
        let rows = on!(&mut *conn, |c| update.execute(c).await).expect("rotated");
        conn.commit().await;
        if rows == 1 { Ok(()) } else { Err(Status::aborted("")) }
    }
}
