//! game-service: plays tic-tac-toe, keeps every finished game and ranks the players. It verifies access tokens by itself, with
//! auth-service's public keys.
//!
//! A request goes `grpc` (parse, one call) -> `domain` (the rules, one transaction) -> `store` (SQL); nothing comes back up but
//! a value or a domain error. [`rules`] and [`ranks`] know of nothing but themselves.

pub mod commands;
pub mod config;
mod domain;
mod grpc;
mod ids;
mod jobs;
pub mod ranks;
pub mod rules;
mod store;

use std::time::Duration;

use futures_util::FutureExt as _;

use shared::{
    authz::{Grants, Policies},
    clock::Clock,
    config::{StartError, when_available},
    db::{self, Db, Loader, MigrationLock},
    feed::{AccessView, Follower, NameFeed, SilenceRule},
    proto::game::v1::{
        FILE_DESCRIPTOR_SET, game_service_server::GameServiceServer, history_service_server::HistoryServiceServer,
        leaderboard_service_server::LeaderboardServiceServer,
    },
    server::{GrpcServer, HttpServer, Listener, MAX_MESSAGE_LEN, Running, ServerSettings},
    token::{AcceptedAudiences, KeySet, KeySource, Verifier},
};
use tonic::service::Routes;

pub use self::store::MIGRATIONS;
use self::{
    config::GameSettings,
    domain::{Error, Games, History, Leaderboard, Names, PlayRules, Watchers},
    grpc::{GameRpc, HistoryRpc, LeaderboardRpc},
};

/// Where the keys come from that verify access tokens.
#[derive(Debug)]
pub enum VerificationKeys {
    /// From this source, again each time that this much time has passed. Nothing else is known: roles hold what the RPCs
    /// declare, and a token is good until it expires.
    From(KeySource, Duration),
    /// From the access feed, and with them revocations and roles.
    Follow(Box<Follower>, SilenceRule),
}

/// What game-service needs to run. The caller has bound the sockets and connected the database.
#[derive(Debug)]
pub struct GameService<'a> {
    /// Its own settings.
    pub settings: &'a GameSettings,
    /// The settings of its gRPC server.
    pub server: &'a ServerSettings,
    /// Whose access tokens it accepts: their `iss`.
    pub token_issuer: &'a str,
    /// Access tokens for whom it accepts: their `aud`.
    pub token_audiences: AcceptedAudiences,
    /// The keys that verify them.
    pub keys: VerificationKeys,
    /// Its database.
    pub db: Db,
    /// What time it is.
    pub clock: Clock,
    /// Where it serves gRPC.
    pub grpc: Listener,
    /// Where it serves HTTP.
    pub http: Listener,
}

impl GameService<'_> {
    /// Prepares the database, and serves until the stop token of `running` is cancelled. Returns when it is ready: when the
    /// database and the keys are there, and where it follows the access feed, all that is known of revocations and roles.
    ///
    /// `migrate` applies the migrations that are pending; without it they are an error.
    pub async fn spawn(self, migrate: bool, running: &Running) -> Result<(), StartError> {
        let keys = KeySet::empty();
        let policies = Policies::from_descriptor_set(FILE_DESCRIPTOR_SET).map_err(StartError::failed)?;
        let (access, follower) = self.keys.open(&keys, &policies, &self.clock, running).await?;
        let server = GrpcServer {
            settings: self.server,
            descriptor_set: FILE_DESCRIPTOR_SET,
            verifier: Verifier::new(
                self.token_issuer,
                self.token_audiences,
                keys.clone(),
                self.clock.clone(),
            ),
            access: access.clone(),
        };
        let (health, rpcs) = server.spawn(self.grpc, running).await.map_err(StartError::setting)?;
        HttpServer::new(health.clone()).spawn(self.server, self.http, running);
        domain::counts::describe();
        self.db.report(running);
        self.db.watch_clock(&self.clock, running);

        let stop = running.stop_token();
        let db = &self.db;
        let prepare = || async move {
            let mut lock = MigrationLock::acquire(db).await?;
            db::bring_up_to_date(&mut lock, &MIGRATIONS, migrate).await?;
            Names::position(db).await.map_err(|error| match error {
                Error::Database(error) => error.into(),
                error => StartError::failed(error),
            })
        };
        let Some(after) = Box::pin(when_available(db, stop, prepare)).await? else {
            return Ok(());
        };

        let settings = self.settings;
        let games = Games {
            db: self.db.clone(),
            clock: self.clock,
            watchers: Watchers::default(),
            rules: PlayRules {
                open_for: Duration::from_secs(settings.open_game_seconds.into()),
                turn_for: Duration::from_secs(settings.turn_seconds.into()),
                hears_of_names: follower.is_some(),
                max_running: settings.max_running_games,
            },
            played: Loader::new(self.db.clone(), |conn, sights| {
                store::games_with_moves(conn, sights).boxed()
            }),
        };
        let leaderboard = Leaderboard::new(self.db.clone(), settings.leaderboard_min_games.into());
        jobs::spawn(&games, &leaderboard, running);
        if let Some(follower) = follower {
            let (feed, changes) = NameFeed::new(after);
            jobs::follow_names(&games, after, changes, running);
            follower.with_names(feed).spawn(access.clone(), &policies, running);
        }
        if stop.run_until_cancelled(access.wait_until_loaded()).await.is_none() {
            return Ok(());
        }

        let games = GameRpc { games };
        let history = HistoryRpc {
            history: History { db: self.db.clone() },
            access: access.clone(),
        };
        let leaderboard = LeaderboardRpc { leaderboard };
        rpcs.mount(
            Routes::new(GameServiceServer::new(games).max_decoding_message_size(MAX_MESSAGE_LEN))
                .add_service(HistoryServiceServer::new(history).max_decoding_message_size(MAX_MESSAGE_LEN))
                .add_service(LeaderboardServiceServer::new(leaderboard).max_decoding_message_size(MAX_MESSAGE_LEN)),
        );
        let db = self.db;
        let ready = move || {
            let (db, access) = (db.clone(), access.clone());
            async move { access.is_loaded() && db.ping().await.is_ok() }
        };
        health.spawn(ready, running);
        Ok(())
    }
}

impl VerificationKeys {
    /// Lets a task keep the keys up to date. Gives what else is known about tokens, and who is yet to fill it in.
    async fn open(
        self,
        keys: &KeySet,
        policies: &Policies,
        clock: &Clock,
        running: &Running,
    ) -> Result<(AccessView, Option<Box<Follower>>), StartError> {
        match self {
            Self::From(source, refresh) => {
                tracing::warn!(
                    "tokens are verified by keys alone (no --auth-client-id): a logout, a deactivation or a change of roles \
                     counts when the access token expires, and roles hold what this service declares"
                );
                // A file that cannot be used is a mistake in the settings; a service that cannot be reached may come.
                source.prepare(keys).await.map_err(StartError::setting)?;
                let (followed, stop) = (keys.clone(), running.stop_token().clone());
                running.follow("verification keys", async move {
                    source.follow(followed, refresh, stop).await;
                });
                let access = AccessView::offline(keys.clone(), Grants::from_policies(policies));
                Ok((access, None))
            }
            Self::Follow(follower, rule) => {
                let access = AccessView::following(keys.clone(), clock.clone()).with_silence(rule);
                Ok((access, Some(follower)))
            }
        }
    }
}
