//! Mixed calls at a steady rate, for an hour by default. Memory, descriptors and response times
//! should stay where they are.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use proto::{
    auth::v1::{
        GetMeRequest, LoginRequest, LogoutRequest, RefreshAccessTokenRequest, RotateTokensRequest, TokenPair,
        account_service_client::AccountServiceClient, auth_service_client::AuthServiceClient,
    },
    game::v1::{
        CreateGameRequest, GetLeaderboardRequest, GetPlayerRankRequest, JoinGameRequest, ListFinishedGamesRequest,
        MakeMoveRequest, Mark, Opponent, WatchGameRequest, game_service_client::GameServiceClient,
        history_service_client::HistoryServiceClient, leaderboard_service_client::LeaderboardServiceClient,
    },
};
use testing::rpc::{request_id, with_token};
use tokio::{
    task::JoinSet,
    time::{Interval, MissedTickBehavior, interval, sleep},
};
use tonic::{Code, Response, Status, transport::Channel};

use super::Setup;
use crate::{
    deployment::{Deployment, NO_LIMITS, PASSWORD},
    load::Processors,
    process::Processes,
    report::{Goal, Report, Row, Spread, Unit},
    statistics::{Times, as_f64, millis},
};

/// Options for the duration and the load.
#[derive(Clone, Copy, Debug, clap::Args)]
pub(crate) struct Length {
    /// Duration in minutes [4 to 1440].
    #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u16).range(4..=1440))]
    minutes: u16,
    /// Total number of calls per second [8 to 10000].
    #[arg(long, default_value_t = 135, value_parser = clap::value_parser!(u16).range(8..=10_000))]
    rate: u16,
}

/// Number of pairs of players that call at the same time.
const PAIRS: u16 = 8;
/// Number of visits of a pair from one failed login to the next.
const VISITS_PER_FAILED_LOGIN: u64 = 20;
/// Cells of the moves, in order. X completes a diagonal with the last one.
const CELLS: [i32; 7] = [0, 1, 2, 3, 4, 5, 6];

const MINUTE: Duration = Duration::from_mins(1);

/// Calls since the last report.
#[derive(Default)]
struct Seen {
    times: Times,
    /// Times of logins, which hash a password.
    logins: Times,
    failures: BTreeMap<String, u64>,
}

/// State that all pairs of players share.
struct Soak {
    auth: Channel,
    game: Channel,
    seen: Mutex<Seen>,
    accounts: AtomicU64,
}

/// Two players who log in, play each other and log out, again and again.
struct Pair {
    soak: Arc<Soak>,
    logins: [String; 2],
    visits: u64,
    /// Timer for the next call.
    pace: Interval,
}

/// State of the services at the end of a minute.
struct Minute {
    /// Memory of auth-service and of game-service, in MiB.
    memory: [f64; 2],
    descriptors: [f64; 2],
    p99: f64,
}

pub(crate) async fn run(setup: &Setup<'_>, length: &Length, report: &mut Report) {
    let deployment = Deployment::start(setup.engine, &NO_LIMITS).await;
    let soak = Arc::new(Soak {
        auth: deployment.auth_channel.clone(),
        game: deployment.game_channel(),
        seen: Mutex::default(),
        accounts: AtomicU64::new(0),
    });
    let between = Duration::from_secs(1) * u32::from(PAIRS) / u32::from(length.rate);
    let mut pairs = JoinSet::new();
    for _ in 0..PAIRS {
        let logins = [soak.register(&deployment).await, soak.register(&deployment).await];
        let mut pace = interval(between);
        pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut pair = Pair {
            soak: Arc::clone(&soak),
            logins,
            visits: 0,
            pace,
        };
        pairs.spawn(async move {
            loop {
                // Failures are counted. The next visit starts from the beginning.
                let _ = pair.visit().await;
            }
        });
    }
    let both = [deployment.auth_processors(), deployment.game_processors()];
    let mut minutes = Vec::new();
    println!(
        "{:>6} {:>9} {:>9} {:>8} {:>8} {:>9} {:>9} {:>9} {:>9} {:>9}  failures",
        "minute", "auth MiB", "game MiB", "auth fds", "game fds", "calls/s", "p50 ms", "p99 ms", "login p99", "us/call"
    );
    for number in 1..=length.minutes {
        let (start, before) = (Instant::now(), micros(&both));
        sleep(MINUTE).await;
        let seconds = start.elapsed().as_secs_f64();
        let used = micros(&both) - before;
        minutes.push(soak.minute(number, seconds, used, &both));
        if number % 2 == 0 {
            soak.register(&deployment).await;
        }
    }
    pairs.shutdown().await;
    rows(setup, &minutes, report);
}

/// Compares the last quarter with the second, since caches and pools fill up in the first.
fn rows(setup: &Setup<'_>, minutes: &[Minute], report: &mut Report) {
    let quarter = minutes.len() / 4;
    let growth = |of: &dyn Fn(&Minute) -> f64| {
        let median = |minutes: &[Minute]| Spread::of(minutes.iter().map(of).collect()).median;
        median(&minutes[minutes.len() - quarter..]) / median(&minutes[quarter..2 * quarter])
    };
    let backend = Some(setup.engine.backend());
    let figures: [(&str, f64, f64); 5] = [
        ("memory of auth-service", growth(&|minute| minute.memory[0]), 1.05),
        ("memory of game-service", growth(&|minute| minute.memory[1]), 1.05),
        (
            "descriptors of auth-service",
            growth(&|minute| minute.descriptors[0]),
            1.1,
        ),
        (
            "descriptors of game-service",
            growth(&|minute| minute.descriptors[1]),
            1.1,
        ),
        ("p99 of all calls but logins", growth(&|minute| minute.p99), 1.5),
    ];
    for (what, figure, goal) in figures {
        let name = format!("soak, {what}");
        let what = format!(
            "{what} in the last quarter of {} minutes against the second quarter",
            minutes.len()
        );
        report.add(Row::new(
            name,
            backend,
            what,
            (Spread::once(figure), Unit::Times),
            Goal::AtMost(goal),
        ));
    }
}

/// Returns the processor time of both services and their databases, in microseconds.
fn micros(both: &[Processors]) -> f64 {
    let each = both.iter().flat_map(|each| [&each.service, &each.database]);
    each.map(Processes::micros).sum()
}

impl Soak {
    /// Registers an account and returns its login.
    async fn register(&self, deployment: &Deployment) -> String {
        let login = format!("soak-{}", self.accounts.fetch_add(1, Ordering::Relaxed));
        deployment.register(&login).await;
        login
    }

    /// Prints the figures of a minute and resets the counts.
    fn minute(&self, number: u16, seconds: f64, used: f64, both: &[Processors; 2]) -> Minute {
        let seen = std::mem::take(&mut *self.seen.lock());
        let memory = [&both[0], &both[1]].map(|each| each.service.memory());
        let descriptors = [&both[0], &both[1]].map(|each| each.service.descriptors());
        let calls = as_f64(seen.times.len() + seen.logins.len());
        let p99 = millis(seen.times.percentile(0.99));
        println!(
            "{number:>6} {:>9.1} {:>9.1} {:>8} {:>8} {:>9.1} {:>9.2} {p99:>9.2} {:>9.2} {:>9.0}  {:?}",
            memory[0],
            memory[1],
            descriptors[0],
            descriptors[1],
            calls / seconds,
            millis(seen.times.percentile(0.5)),
            millis(seen.logins.percentile(0.99)),
            used / calls,
            seen.failures,
        );
        Minute {
            memory,
            descriptors,
            p99,
        }
    }

    fn note(&self, time: Duration, is_login: bool, failure: Option<Status>) {
        let mut seen = self.seen.lock();
        if is_login {
            seen.logins.note(time);
        } else {
            seen.times.note(time);
        }
        if let Some(status) = failure {
            *seen
                .failures
                .entry(format!("{:?}: {}", status.code(), status.message()))
                .or_default() += 1;
        }
    }
}

impl Pair {
    /// Waits until the next call is due, makes it and counts it.
    async fn call<T>(&mut self, call: impl Future<Output = Result<Response<T>, Status>>) -> Result<T, Status> {
        self.pace.tick().await;
        let start = Instant::now();
        let answer = call.await;
        self.soak.note(start.elapsed(), false, answer.as_ref().err().cloned());
        answer.map(Response::into_inner)
    }

    async fn log_in(&mut self, player: usize) -> Result<TokenPair, Status> {
        let mut client = AuthServiceClient::new(self.soak.auth.clone());
        let request = LoginRequest {
            identifier: self.logins[player].clone(),
            password: PASSWORD.to_owned(),
            ..LoginRequest::default()
        };
        self.pace.tick().await;
        let start = Instant::now();
        let answer = client.login(request).await;
        self.soak.note(start.elapsed(), true, answer.as_ref().err().cloned());
        Ok(answer?.into_inner().tokens.unwrap_or_default())
    }

    /// Logs both players in, looks around, plays a game and logs them out: 26 calls.
    async fn visit(&mut self) -> Result<(), Status> {
        self.visits += 1;
        let mut auth = AuthServiceClient::new(self.soak.auth.clone());
        if self.visits.is_multiple_of(VISITS_PER_FAILED_LOGIN) {
            let wrong = LoginRequest {
                identifier: self.logins[0].clone(),
                password: "not the password".to_owned(),
                ..LoginRequest::default()
            };
            let start = Instant::now();
            let refused = auth.login(wrong).await;
            let unexpected = refused.err().filter(|status| status.code() != Code::Unauthenticated);
            self.soak.note(start.elapsed(), true, unexpected);
        }
        let mut tokens = [self.log_in(0).await?, self.log_in(1).await?];
        for own in &mut tokens {
            let mut account = AccountServiceClient::new(self.soak.auth.clone());
            self.call(account.get_me(with_token(GetMeRequest {}, &own.access_token)))
                .await?;
            let rotate = RotateTokensRequest {
                refresh_token: own.refresh_token.clone(),
                request_id: request_id(),
                ..RotateTokensRequest::default()
            };
            *own = self.call(auth.rotate_tokens(rotate)).await?.tokens.unwrap_or_default();
            let refresh = RefreshAccessTokenRequest {
                refresh_token: own.refresh_token.clone(),
                ..RefreshAccessTokenRequest::default()
            };
            self.call(auth.refresh_access_token(refresh)).await?;
        }
        let access = [&tokens[0].access_token, &tokens[1].access_token];
        self.play(access).await?;
        for own in access {
            let mut history = HistoryServiceClient::new(self.soak.game.clone());
            let list = with_token(ListFinishedGamesRequest::default(), own);
            self.call(history.list_finished_games(list)).await?;
            let mut leaderboard = LeaderboardServiceClient::new(self.soak.game.clone());
            let top = with_token(GetLeaderboardRequest::default(), own);
            self.call(leaderboard.get_leaderboard(top)).await?;
            let rank = with_token(GetPlayerRankRequest::default(), own);
            self.call(leaderboard.get_player_rank(rank)).await?;
        }
        for own in access {
            self.call(auth.logout(with_token(LogoutRequest::default(), own)))
                .await?;
        }
        Ok(())
    }

    /// Plays a whole game, which the second player watches.
    async fn play(&mut self, access: [&String; 2]) -> Result<(), Status> {
        let mut game = GameServiceClient::new(self.soak.game.clone());
        let create = CreateGameRequest {
            opponent: Opponent::Player.into(),
            mark: Mark::X.into(),
            ..CreateGameRequest::default()
        };
        let made = self.call(game.create_game(with_token(create, access[0]))).await?;
        let game_id = made.game.unwrap_or_default().game_id;
        let join = JoinGameRequest {
            game_id: game_id.clone(),
        };
        self.call(game.join_game(with_token(join, access[1]))).await?;
        let watch = WatchGameRequest {
            game_id: game_id.clone(),
        };
        let mut watched = self.call(game.watch_game(with_token(watch, access[1]))).await?;
        for (number, (cell, version)) in CELLS.into_iter().zip(2..).enumerate() {
            let make_move = MakeMoveRequest {
                game_id: game_id.clone(),
                cell: Some(cell),
                expected_version: version,
            };
            self.call(game.make_move(with_token(make_move, access[number % 2])))
                .await?;
        }
        // The stream ends by itself after the last move.
        while watched.message().await?.is_some() {}
        Ok(())
    }
}
