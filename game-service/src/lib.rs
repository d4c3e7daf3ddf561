//! game-service: plays tic-tac-toe, keeps every finished game and ranks the players. It verifies
//! access tokens by itself, with the public keys of auth-service.
//!
//! A request passes through three layers: `grpc` parses it and makes one call, `domain` applies the
//! rules in at most one transaction, and `store` runs the SQL. Each layer returns either a value or
//! an error of the domain. [`rules`] and [`ranks`] depend on no other module of this crate.

pub mod cli;
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

use access::{
    feed::{Follower, NameFeed},
    policy::Grants,
    token::{AcceptedAudiences, KeySet, KeySource, Verifier},
    view::{AccessView, SilenceRule},
};
use base::{StartError, clock::Clock, listen::Listener, running::Running};
use db::{Db, MigrationLock};
use proto::game::v1::{
    FILE_DESCRIPTOR_SET, game_service_server::GameServiceServer, history_service_server::HistoryServiceServer,
    leaderboard_service_server::LeaderboardServiceServer,
};
use server::{ServerSettings, Service};
use tonic::service::Routes;

pub use self::store::MIGRATIONS;
use self::{
    config::GameSettings,
    domain::{Games, History, Leaderboard, Names, PlayRules},
    grpc::{GameRpc, HistoryRpc, LeaderboardRpc},
};

/// Source of the keys that verify access tokens.
#[derive(Debug)]
pub enum VerificationKeys {
    /// This source, read again at this interval. Revocations and role changes are not known. Roles
    /// hold the permissions that the RPCs declare, and a token is valid until it expires.
    From(KeySource, Duration),
    /// The access feed, which also provides revocations and roles.
    Follow(Box<Follower>, SilenceRule),
}

/// Everything that game-service needs to run. The caller has bound the sockets and connected the
/// database.
#[derive(Debug)]
pub struct GameService<'a> {
    /// Settings of game-service.
    pub settings: &'a GameSettings,
    /// Settings of the gRPC server.
    pub server: &'a ServerSettings,
    /// Issuer (`iss`) of the access tokens that are accepted.
    pub token_issuer: &'a str,
    /// Audiences (`aud`) of the access tokens that are accepted.
    pub token_audiences: AcceptedAudiences,
    /// Source of the keys that verify access tokens.
    pub keys: VerificationKeys,
    /// Database of the service.
    pub db: Db,
    /// Clock of the service.
    pub clock: Clock,
    /// Socket on which gRPC is served.
    pub grpc: Listener,
    /// Socket on which HTTP is served.
    pub http: Listener,
}

impl GameService<'_> {
    /// Prepares the database and starts to serve. Returns once the service is ready: the database
    /// and the keys are available and, if it follows the access feed, revocations and roles are
    /// loaded. The service runs until the stop token of `running` is cancelled.
    ///
    /// If `migrate` is true, pending migrations are applied. Otherwise they are an error.
    pub async fn spawn(self, migrate: bool, running: &Running) -> Result<(), StartError> {
        let keys = KeySet::empty();
        let (access, follower) = self.keys.open(&keys, &self.clock, running).await?;
        let verifier = Verifier::new(self.token_issuer, self.token_audiences, keys, self.clock.clone());
        let service = Service {
            settings: self.server,
            descriptor_set: FILE_DESCRIPTOR_SET,
            verifier,
            access: access.clone(),
            backing: self.db.clone(),
            clock: &self.clock,
            grpc: self.grpc,
            http: self.http,
        };
        let service = service.start(running).await?;
        domain::counts::describe();
        let db = &self.db;
        let prepare = || async move {
            let mut lock = MigrationLock::acquire(db).await?;
            db::bring_up_to_date(&mut lock, &MIGRATIONS, migrate).await?;
            Ok(Names::position(db).await?)
        };
        let Some(after) = service.prepare(prepare).await? else {
            return Ok(());
        };

        let settings = self.settings;
        let rules = PlayRules {
            open_for: Duration::from_secs(settings.open_game_seconds.into()),
            turn_for: Duration::from_secs(settings.turn_seconds.into()),
            logins_come_from_feed: follower.is_some(),
            max_running: settings.max_running_games,
        };
        let games = Games::new(&self.db, self.clock, rules);
        let leaderboard = Leaderboard::new(self.db.clone(), settings.leaderboard_min_games.into());
        jobs::spawn(&games, &leaderboard, running);
        if let Some(follower) = follower {
            let (feed, changes) = NameFeed::new(after);
            jobs::follow_names(&games, after, changes, running);
            follower
                .with_names(feed)
                .spawn(access.clone(), service.policies(), running);
        }
        // Calls need the whole leaderboard, so the service is not ready before.
        let load = || async { Ok(leaderboard.catch_up().await?) };
        if service.prepare(load).await?.is_none() || !service.wait_for_access().await {
            return Ok(());
        }
        let history = HistoryRpc {
            history: History { db: self.db },
            access,
        };
        let rpcs = Routes::new(GameServiceServer::new(GameRpc { games }))
            .add_service(HistoryServiceServer::new(history))
            .add_service(LeaderboardServiceServer::new(LeaderboardRpc { leaderboard }));
        service.serve(rpcs);
        Ok(())
    }
}

impl VerificationKeys {
    /// Returns the view of revocations and roles. If the service follows the access feed, also
    /// returns the follower that will keep the view and the keys up to date. Otherwise, starts a
    /// task that keeps the keys up to date.
    async fn open(
        self,
        keys: &KeySet,
        clock: &Clock,
        running: &Running,
    ) -> Result<(AccessView, Option<Box<Follower>>), StartError> {
        match self {
            Self::From(source, refresh) => {
                tracing::warn!(
                    "the service does not follow the access feed (no --auth-client-id), so logouts, deactivations and \
                     role changes \
                     take effect only when access tokens expire, and roles hold only their default permissions"
                );
                // An unusable key file is a mistake in the settings. A key service that cannot be
                // reached may still come up.
                source.prepare(keys).await.map_err(StartError::setting)?;
                let (followed, stop) = (keys.clone(), running.stop_token().clone());
                running.follow("verification keys", async move {
                    source.follow(followed, refresh, stop).await;
                });
                let grants = Grants::from_descriptor_set(FILE_DESCRIPTOR_SET).map_err(StartError::failed)?;
                Ok((AccessView::offline(keys.clone(), grants, clock.clone()), None))
            }
            Self::Follow(follower, rule) => {
                let access = AccessView::following(keys.clone(), clock.clone()).with_silence(rule);
                Ok((access, Some(follower)))
            }
        }
    }
}
