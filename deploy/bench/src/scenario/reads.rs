//! RPCs that read: one without a database, a profile, and a game.

use base::{clock::Timestamp, ids::UserId, sql_types};
use db::{Backend, prepared};
use diesel::{
    QueryResult,
    sql_types::{BigInt, Nullable, Text},
};
use diesel_async::RunQueryDsl as _;
use proto::{
    auth::v1::{GetClientAddressRequest, GetClientAddressResponse, GetMeRequest, GetMeResponse},
    game::v1::{GetGameRequest, GetGameResponse},
};
use tonic::Status;

use super::{Setup, nakama};
use crate::{
    baseline::{
        bare_rpc::{BareServer, GET_CLIENT_ADDRESS, GET_GAME, GET_ME},
        bare_sql::{BareConn, on},
    },
    deployment::{CHEAP_HASHING, Deployment, Game, NO_LIMITS},
    load::{Caller, Processors},
    report::{Goal, Report, Rounds, Row, Spread, Unit},
    rpc::Rpc,
};

/// Measures the cost of our server's layers.
pub(crate) async fn without_database(setup: &Setup<'_>, report: &mut Report) {
    let deployment = Deployment::start(setup.engine, &[&CHEAP_HASHING[..], &NO_LIMITS].concat()).await;
    let users = deployment.register_users(setup.connections).await;
    let mut ours: Vec<Rpc<GetClientAddressRequest, GetClientAddressResponse>> = Vec::new();
    for user in &users {
        let request = GetClientAddressRequest {};
        ours.push(Rpc::new(
            user.channel.clone(),
            GET_CLIENT_ADDRESS,
            std::slice::from_ref(&user.access_token),
            request,
        ));
    }
    let answer = ours[0].answer().await.expect("an answer");
    let bare = BareServer::start(GET_CLIENT_ADDRESS, &answer).await;
    let mut theirs: Vec<Rpc<GetClientAddressRequest, GetClientAddressResponse>> = Vec::new();
    for user in &users {
        let request = GetClientAddressRequest {};
        theirs.push(Rpc::new(
            bare.channel(),
            GET_CLIENT_ADDRESS,
            std::slice::from_ref(&user.access_token),
            request,
        ));
    }
    let (mut us, mut them, mut ratios) = (Rounds::default(), Rounds::default(), Vec::new());
    for _ in 0..setup.rounds {
        us.push(setup.time.drive(&mut ours, &deployment.auth_processors()).await);
        them.push(setup.time.drive(&mut theirs, &bare.processors()).await);
        ratios.push(us.last().cpu_per_call().service / them.last().cpu_per_call().service);
    }
    let what = "CPU of a call with an access token, against the same RPC on a bare tonic server";
    let figure = (Spread::of(ratios), Unit::Times);
    let row = Row::new("RPC without a database", None, what, figure, Goal::AtMost(1.25));
    report.add(row.with("ours", &us).with("bare tonic", &them));
    report.add(nakama::HEALTH.beside("RPC without a database", None, &us));
}

/// Measures the cost of reading one's own profile.
pub(crate) async fn get_me(setup: &Setup<'_>, report: &mut Report) {
    let deployment = Deployment::start(setup.engine, &[&CHEAP_HASHING[..], &NO_LIMITS].concat()).await;
    let users = deployment.register_users(setup.connections).await;
    let mut ours: Vec<Rpc<GetMeRequest, GetMeResponse>> = Vec::new();
    let mut selects = Vec::new();
    for user in &users {
        ours.push(Rpc::new(
            user.channel.clone(),
            GET_ME,
            std::slice::from_ref(&user.access_token),
            GetMeRequest {},
        ));
        selects.push(SelectProfile {
            conn: BareConn::open(&deployment.auth_database.url).await,
            id: user.id.parse().expect("an id"),
        });
    }
    let answer = ours[0].answer().await.expect("an answer");
    let bare = BareServer::start(GET_ME, &answer).await;
    let mut theirs: Vec<Rpc<GetMeRequest, GetMeResponse>> = Vec::new();
    for user in &users {
        theirs.push(Rpc::new(
            bare.channel(),
            GET_ME,
            std::slice::from_ref(&user.access_token),
            GetMeRequest {},
        ));
    }
    let processors = deployment.auth_processors();
    let read = Read {
        ours,
        selects,
        theirs,
        bare,
        processors,
    };
    let us = read.compare(setup, report, "GetMe").await;
    if setup.engine.backend() == Backend::Postgres {
        report.add(nakama::ACCOUNT.beside("GetMe", Some(Backend::Postgres), &us));
    }
}

/// Measures the cost of reading a game.
pub(crate) async fn get_game(setup: &Setup<'_>, report: &mut Report) {
    let game = Game::start(setup.engine).await;
    let mut ours: Vec<Rpc<GetGameRequest, GetGameResponse>> = Vec::new();
    let mut theirs: Vec<Rpc<GetGameRequest, GetGameResponse>> = Vec::new();
    let mut selects = Vec::new();
    let mut bare = None;
    for number in 0..setup.connections {
        let played = super::moves::play_half(&game, number).await;
        let request = GetGameRequest {
            game_id: played.game_id.clone(),
        };
        let mut rpc = Rpc::new(
            game.channel(),
            GET_GAME,
            std::slice::from_ref(&played.token),
            request.clone(),
        );
        if bare.is_none() {
            let answer: GetGameResponse = rpc.answer().await.expect("an answer");
            bare = Some(BareServer::start(GET_GAME, &answer).await);
        }
        ours.push(rpc);
        let server = bare.as_ref().expect("just started");
        theirs.push(Rpc::new(
            server.channel(),
            GET_GAME,
            std::slice::from_ref(&played.token),
            request,
        ));
        selects.push(SelectGame {
            conn: BareConn::open(&game.database.url).await,
            id: played.game_id.parse().expect("an id"),
        });
    }
    let processors = game.processors();
    let bare = bare.expect("there is a connection");
    let read = Read {
        ours,
        selects,
        theirs,
        bare,
        processors,
    };
    read.compare(setup, report, "GetGame").await;
}

/// An RPC, its statement in a loop, and its answer from a bare server.
struct Read<R, S> {
    ours: Vec<R>,
    selects: Vec<S>,
    theirs: Vec<R>,
    bare: BareServer,
    processors: Processors,
}

impl<R: Caller, S: Caller> Read<R, S> {
    async fn compare(mut self, setup: &Setup<'_>, report: &mut Report, name: &str) -> Rounds {
        let loop_processors = Processors::own(self.processors.database.clone());
        let (mut us, mut statement, mut rpc) = (Rounds::default(), Rounds::default(), Rounds::default());
        let mut ratios = Vec::new();
        for _ in 0..setup.rounds {
            us.push(setup.time.drive(&mut self.ours, &self.processors).await);
            statement.push(setup.time.drive(&mut self.selects, &loop_processors).await);
            rpc.push(setup.time.drive(&mut self.theirs, &self.bare.processors()).await);
            let baseline = statement.last().cpu_per_call().server() + rpc.last().cpu_per_call().service;
            ratios.push(us.last().cpu_per_call().server() / baseline);
        }
        let what = "CPU of a call, service + database, against its SELECT in a bare loop + the bare RPC";
        let backend = Some(setup.engine.backend());
        let row = Row::new(
            name,
            backend,
            what,
            (Spread::of(ratios), Unit::Times),
            Goal::AtMost(1.3),
        );
        report.add(
            row.with("ours", &us)
                .with("bare SELECT", &statement)
                .with("bare tonic", &rpc),
        );
        us
    }
}

struct SelectProfile {
    conn: BareConn,
    id: UserId,
}

/// Columns of a user's profile, with roles and permissions as texts.
type Profile = (
    (sql_types::Uuid, Text, Text, Text, Text, Text),
    (
        sql_types::Timestamp,
        sql_types::Timestamp,
        Nullable<sql_types::Timestamp>,
    ),
    (Nullable<Text>, Nullable<Text>, Nullable<Text>),
);

impl Caller for SelectProfile {
    async fn call(&mut self) -> Result<(), Status> {
        type Row = (
            (UserId, String, String, String, String, String),
            (Timestamp, Timestamp, Option<Timestamp>),
            (Option<String>, Option<String>, Option<String>),
        );
        let select = prepared::<Profile>(
            "SELECT users.id, users.login, users.email, users.first_name, users.last_name, users.middle_name, \
             users.create_time, users.update_time, users.last_login_time, \
             (SELECT string_agg(roles.code_name, ' ') FROM user_roles JOIN roles ON roles.id = user_roles.role_id \
              WHERE user_roles.user_id = users.id), \
             (SELECT string_agg(permissions.name, ' ') FROM user_roles \
              JOIN role_permissions ON role_permissions.role_id = user_roles.role_id \
              JOIN permissions ON permissions.id = role_permissions.permission_id \
              WHERE user_roles.user_id = users.id), \
             (SELECT string_agg(permissions.name, ' ') FROM user_permissions \
              JOIN permissions ON permissions.id = user_permissions.permission_id \
              WHERE user_permissions.user_id = users.id) \
             FROM users WHERE users.is_active AND users.id = ",
        )
        .bind::<sql_types::Uuid, _>(self.id);
        let found: QueryResult<Row> = on!(&mut self.conn, |c| select.get_result(c).await);
        found.map(drop).map_err(|error| Status::internal(error.to_string()))
    }
}

struct SelectGame {
    conn: BareConn,
    /// Id of the game. The type of the id does not matter here.
    id: UserId,
}

/// The columns of a game, with its moves, and the logins of its players.
type WholeGame = (
    (
        sql_types::Uuid,
        Text,
        sql_types::Uuid,
        Nullable<sql_types::Uuid>,
        Nullable<sql_types::Uuid>,
    ),
    (Text, Text, Nullable<Text>, BigInt, Nullable<Text>),
    (
        sql_types::Timestamp,
        sql_types::Timestamp,
        Nullable<sql_types::Timestamp>,
        Nullable<sql_types::Timestamp>,
    ),
    (Nullable<Text>, Nullable<Text>, Nullable<Text>),
);

impl Caller for SelectGame {
    async fn call(&mut self) -> Result<(), Status> {
        type Row = (
            (UserId, String, UserId, Option<UserId>, Option<UserId>),
            (String, String, Option<String>, i64, Option<String>),
            (Timestamp, Timestamp, Option<Timestamp>, Option<Timestamp>),
            (Option<String>, Option<String>, Option<String>),
        );
        let select = prepared::<WholeGame>(
            "SELECT games.id, games.opponent, games.creator_id, games.x_player_id, games.o_player_id, \
             games.board, games.state, games.winner, games.version, games.end_reason, \
             games.create_time, games.update_time, games.finish_time, games.expire_time, games.moves, x.login, o.login \
             FROM games LEFT JOIN players x ON x.id = games.x_player_id \
             LEFT JOIN players o ON o.id = games.o_player_id \
             WHERE games.id = ",
        )
        .bind::<sql_types::Uuid, _>(self.id);
        let found: QueryResult<Row> = on!(&mut self.conn, |c| select.get_result(c).await);
        found.map(drop).map_err(|error| Status::internal(error.to_string()))
    }
}
