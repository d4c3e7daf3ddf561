//! Cost of similar calls in Nakama, for comparison.
//!
//! The figures were measured once, side by side with these services, on 2026-11-26: Nakama at
//! commit 73ad9c15, 2 cores, PostgreSQL 15 with fsync, gRPC, 32 connections, medians of 5 turns.
//! They are constants, so compare them with care on another machine.

use db::Backend;

use crate::report::{Goal, Rounds, Row, Spread, Unit};

/// Processor time of a call in microseconds, of the server and of PostgreSQL.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Nakama {
    what: &'static str,
    server: f64,
    database: f64,
}

const fn nakama(what: &'static str, server: f64, database: f64) -> Nakama {
    Nakama { what, server, database }
}

pub(crate) const HEALTH: Nakama = nakama("health", 35.0, 0.0);
pub(crate) const SESSION_REFRESH: Nakama = nakama("session refresh, which writes nothing", 89.0, 26.0);
pub(crate) const ACCOUNT: Nakama = nakama("account", 90.0, 32.0);
pub(crate) const TOP: Nakama = nakama("top 10 of 10^5", 111.0, 68.0);
pub(crate) const RANK: Nakama = nakama("one owner's rank", 130.0, 107.0);
pub(crate) const AROUND: Nakama = nakama("ten around an owner", 192.0, 169.0);
pub(crate) const WRITE: Nakama = nakama("one durable write, of a score", 162.0, 192.0);
/// Figures from an earlier run.
pub(crate) const SCORE: Nakama = nakama("score write, in an earlier run", 270.0, 206.0);
pub(crate) const REST_ACCOUNT: Nakama = nakama("account by REST", 146.0, 31.0);
pub(crate) const LOGIN: Nakama = nakama("e-mail login, bcrypt of cost 13", 450_000.0, 0.0);

impl Nakama {
    /// Creates a row that compares our calls with this figure. The goal is half of Nakama's total.
    pub(crate) fn beside(self, scenario: &str, backend: Option<Backend>, rounds: &Rounds) -> Row {
        let figure = Spread::of(rounds.each(|slice| slice.cpu_per_call().server()));
        let what = format!(
            "CPU of a call, service + database; goal: half of Nakama's {} + {} for {}",
            self.server, self.database, self.what
        );
        let goal = Goal::AtMost(f64::midpoint(self.server, self.database));
        Row::new(
            format!("{scenario} beside Nakama"),
            backend,
            what,
            (figure, Unit::Micros),
            goal,
        )
    }
}
