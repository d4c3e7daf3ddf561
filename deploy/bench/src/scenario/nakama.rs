//! Cost of similar calls in Nakama, for comparison.
//!
//! The figures were measured once, with Nakama 3.40, 2 cores, PostgreSQL 15, gRPC and 32
//! connections. They are constants, so compare them with care on another machine.

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

pub(crate) const HEALTH: Nakama = nakama("health", 44.0, 0.0);
pub(crate) const SESSION_REFRESH: Nakama = nakama("session refresh, which writes nothing", 147.0, 45.0);
pub(crate) const ACCOUNT: Nakama = nakama("account", 146.0, 57.0);
pub(crate) const TOP: Nakama = nakama("top 10 of 10^5", 157.0, 99.0);
pub(crate) const RANK: Nakama = nakama("one owner's rank", 133.0, 83.0);
pub(crate) const AROUND: Nakama = nakama("ten around an owner", 281.0, 205.0);
pub(crate) const SCORE: Nakama = nakama("score write", 270.0, 206.0);
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
