//! Limit on the log lines of calls that a client can repeat at will. A few calls of each kind are
//! logged one by one, and the rest as a count.
//!
//! This applies to refusals of anonymous calls. With a higher limit, it also applies to anonymous
//! calls that succeed and to refusals of logged-in callers.

use std::{
    convert::Infallible,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering::Relaxed},
    },
    time::Duration,
};

use base::running::Running;
use tonic::Code;

use super::{
    codes::{CODES, name},
    rpcs::{Rpc, Rpcs},
};

/// Interval between two reports.
const INTERVAL: Duration = Duration::from_secs(10);
/// Refusals of anonymous calls that are logged one by one in each interval: for one RPC and code,
/// and in total.
const MAX_LOGGED_PER_KIND: u32 = 10;
const MAX_LOGGED_IN_TOTAL: u32 = 100;
/// Anonymous calls that succeed, and refusals of logged-in callers, that are logged one by one in
/// each interval: for one RPC and code.
const MAX_LOGGED_PER_COMMON_KIND: u32 = 1000;

/// Refusals of a server.
#[derive(Debug)]
pub(super) struct Refusals {
    rpcs: Arc<Rpcs>,
    logged: AtomicU32,
}

impl Refusals {
    pub(super) fn new(rpcs: Arc<Rpcs>) -> Self {
        Self {
            rpcs,
            logged: AtomicU32::new(0),
        }
    }

    /// Counts a call that ended with this code. Returns whether the call must be logged by itself.
    pub(super) fn is_logged(&self, rpc: &Rpc, code: Code, is_anonymous: bool) -> bool {
        let (counts, index) = (&rpc.refusals, index(code));
        let is_logged = match (code == Code::Ok, is_anonymous) {
            (true, false) => return true,
            (false, true) => {
                counts.logged[index].fetch_add(1, Relaxed) < MAX_LOGGED_PER_KIND
                    && self.logged.fetch_add(1, Relaxed) < MAX_LOGGED_IN_TOTAL
            }
            (true, true) | (false, false) => {
                counts.logged_common[index].fetch_add(1, Relaxed) < MAX_LOGGED_PER_COMMON_KIND
            }
        };
        if !is_logged {
            counts.unlogged[index].fetch_add(1, Relaxed);
        }
        is_logged
    }

    /// Logs the counts at intervals, until the service stops.
    pub(super) fn spawn(self: Arc<Self>, running: &Running) {
        let stop = running.stop_token().clone();
        running.spawn("refusals", async move {
            let report = async {
                loop {
                    tokio::time::sleep(INTERVAL).await;
                    self.report();
                }
            };
            stop.run_until_cancelled(report).await;
            self.report();
            Ok::<_, Infallible>(())
        });
    }

    fn report(&self) {
        self.logged.store(0, Relaxed);
        for rpc in self.rpcs.iter() {
            for code in 0..CODES {
                rpc.refusals.logged[code].store(0, Relaxed);
                rpc.refusals.logged_common[code].store(0, Relaxed);
                let unlogged = rpc.refusals.unlogged[code].swap(0, Relaxed);
                if unlogged > 0 {
                    tracing::warn!(
                        rpc.service,
                        rpc.method,
                        rpc.grpc.status_code = name(Code::from(i32::try_from(code).unwrap_or_default())),
                        count = unlogged,
                        "calls without a log line each"
                    );
                }
            }
        }
    }
}

fn index(code: Code) -> usize {
    usize::try_from(i32::from(code)).unwrap_or_default().min(CODES - 1)
}

#[cfg(test)]
mod tests {
    use access::policy::Policies;
    use proto::game::v1::FILE_DESCRIPTOR_SET;

    use super::*;

    #[test]
    fn a_flood_of_refusals_is_logged_as_a_sample_and_a_count() {
        let policies = Policies::from_descriptor_set(FILE_DESCRIPTOR_SET).expect("a descriptor set");
        let rpcs = Arc::new(Rpcs::new(&policies));
        let refusals = Refusals::new(Arc::clone(&rpcs));
        let logged = |path: &str, code| {
            let rpc = rpcs.at(path);
            (0..1000).filter(|_| refusals.is_logged(rpc, code, true)).count()
        };
        assert_eq!(logged("/game.v1.GameService/CreateGame", Code::Unauthenticated), 10);
        assert_eq!(logged("/game.v1.GameService/CreateGame", Code::InvalidArgument), 10);
        assert_eq!(logged("/nothing", Code::Unimplemented), 10);
        let unlogged = &rpcs.at("/nothing").refusals.unlogged[index(Code::Unimplemented)];
        assert_eq!(unlogged.load(Relaxed), 990);
        refusals.report();
        assert_eq!(unlogged.load(Relaxed), 0);
        assert_eq!(
            logged("/nothing", Code::Unimplemented),
            10,
            "after a report it begins anew"
        );
        // Common kinds have a larger limit of their own; successful calls of users are always
        // logged.
        let rpc = rpcs.at("/game.v1.GameService/CreateGame");
        for (code, is_anonymous, expected) in [
            (Code::Ok, true, 1000),
            (Code::Unauthenticated, false, 1000),
            (Code::Ok, false, 5000),
        ] {
            let logged = (0..5000)
                .filter(|_| refusals.is_logged(rpc, code, is_anonymous))
                .count();
            assert_eq!(logged, expected, "{code:?} {is_anonymous}");
        }
        let many = rpcs.iter().map(|rpc| refusals.is_logged(rpc, Code::Unavailable, true));
        let more = (1..8).flat_map(|code| rpcs.iter().map(move |rpc| (rpc, code)));
        let more = more.map(|(rpc, code)| refusals.is_logged(rpc, Code::from(code), true));
        assert!(
            many.chain(more).filter(|logged| *logged).count() <= 100,
            "all kinds together"
        );
    }
}
