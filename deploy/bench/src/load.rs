//! Closed-loop load: each connection has one call in flight, and makes the next one when that is
//! answered.

use std::{
    collections::{BTreeMap, HashMap},
    time::{Duration, Instant},
};

use tokio::{sync::watch, task::JoinSet, time::timeout};
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use crate::{
    process::Processes,
    statistics::{Times, as_f64, millis},
};

#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    WarmUp,
    Measured,
    Over,
}

/// Client that makes one call after the other.
pub(crate) trait Caller: Send + 'static {
    /// Makes the next call.
    fn call(&mut self) -> impl Future<Output = Result<(), Status>> + Send;

    /// Returns how long to wait after this refusal before the next call. By default there is no
    /// wait.
    fn pause(&self, _refusal: &Status) -> Duration {
        Duration::ZERO
    }
}

/// Caller that waits as long as the server asks for before it tries again.
pub(crate) struct Patient<C>(pub(crate) C);

impl<C: Caller> Caller for Patient<C> {
    fn call(&mut self) -> impl Future<Output = Result<(), Status>> + Send {
        self.0.call()
    }

    fn pause(&self, refusal: &Status) -> Duration {
        let told = refusal.get_details_retry_info();
        told.and_then(|told| told.retry_delay).unwrap_or_default()
    }
}

/// Durations of a measurement.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Time {
    /// Time before anything counts.
    pub(crate) warm_up: Duration,
    pub(crate) measured: Duration,
}

/// Processes whose processor time is measured.
#[derive(Clone, Debug)]
pub(crate) struct Processors {
    pub(crate) service: Processes,
    pub(crate) database: Processes,
}

/// Results of one measurement.
#[derive(Clone, Debug)]
pub(crate) struct Slice {
    pub(crate) seconds: f64,
    /// Times of calls that were answered with OK.
    pub(crate) times: Times,
    /// Times of all other calls.
    pub(crate) refusals: Times,
    pub(crate) codes: BTreeMap<String, u64>,
    pub(crate) cpu: Cpu,
    /// Memory of the service, in MiB.
    pub(crate) memory: f64,
    pub(crate) peak_memory: f64,
}

/// Processor time in microseconds, in total or per call.
#[derive(Clone, Copy, Debug, Default, serde::Serialize)]
pub(crate) struct Cpu {
    pub(crate) service: f64,
    pub(crate) database: f64,
    pub(crate) client: f64,
}

#[derive(Default)]
struct Seen {
    times: Times,
    refusals: Times,
    codes: HashMap<Code, u64>,
}

impl Processors {
    /// Measures only this program, and the database if it is a separate process.
    pub(crate) fn own(database: Processes) -> Self {
        Self {
            service: Processes::own(),
            database,
        }
    }

    fn cpu(&self) -> Cpu {
        Cpu {
            service: self.service.micros(),
            database: self.database.micros(),
            client: Processes::own().micros(),
        }
    }
}

impl Time {
    /// Runs all callers at the same time, for the warm-up and for the measurement. Puts them back
    /// into `callers` afterwards.
    pub(crate) async fn drive<C: Caller>(self, callers: &mut Vec<C>, processors: &Processors) -> Slice {
        let (phase, now) = watch::channel(Phase::WarmUp);
        let mut tasks = JoinSet::new();
        for mut caller in callers.drain(..) {
            let mut phase = now.clone();
            tasks.spawn(async move {
                let mut seen = Seen::default();
                loop {
                    let start = Instant::now();
                    let answer = caller.call().await;
                    let code = answer.as_ref().map_or_else(Status::code, |()| Code::Ok);
                    let now = *phase.borrow();
                    match now {
                        Phase::WarmUp => {}
                        Phase::Measured => seen.note(code, start.elapsed()),
                        Phase::Over => return (caller, seen),
                    }
                    let pause = answer.err().map(|refusal| caller.pause(&refusal)).unwrap_or_default();
                    let over = phase.wait_for(|phase| *phase == Phase::Over);
                    if !pause.is_zero() && timeout(pause, over).await.is_ok() {
                        return (caller, seen);
                    }
                }
            });
        }
        tokio::time::sleep(self.warm_up).await;
        let (start, before) = (Instant::now(), processors.cpu());
        phase.send_replace(Phase::Measured);
        tokio::time::sleep(self.measured).await;
        phase.send_replace(Phase::Over);
        let (seconds, after) = (start.elapsed().as_secs_f64(), processors.cpu());
        let mut all = Seen::default();
        while let Some(task) = tasks.join_next().await {
            let (caller, seen) = task.expect("no caller panics");
            callers.push(caller);
            all.times.add(&seen.times);
            all.refusals.add(&seen.refusals);
            for (code, calls) in seen.codes {
                *all.codes.entry(code).or_default() += calls;
            }
        }
        Slice {
            seconds,
            times: all.times,
            refusals: all.refusals,
            codes: all
                .codes
                .into_iter()
                .map(|(code, calls)| (format!("{code:?}"), calls))
                .collect(),
            cpu: after.minus(before),
            memory: processors.service.memory(),
            peak_memory: processors.service.peak_memory(),
        }
    }
}

impl Seen {
    fn note(&mut self, code: Code, time: Duration) {
        *self.codes.entry(code).or_default() += 1;
        let times = if code == Code::Ok {
            &mut self.times
        } else {
            &mut self.refusals
        };
        times.note(time);
    }
}

impl Slice {
    /// Returns the number of calls that were answered with OK.
    pub(crate) fn good(&self) -> f64 {
        as_f64(self.times.len())
    }

    /// Returns the number of calls per second that were answered with OK.
    pub(crate) fn goodput(&self) -> f64 {
        self.good() / self.seconds
    }

    /// Returns the processor time per call that was answered with OK.
    pub(crate) fn cpu_per_call(&self) -> Cpu {
        self.cpu.over(self.good().max(1.0))
    }

    /// Returns this percentile of the times until a refusal, in milliseconds.
    pub(crate) fn refused_within(&self, share: f64) -> f64 {
        millis(self.refusals.percentile(share))
    }

    /// Returns this percentile of the times until an OK, in milliseconds.
    pub(crate) fn percentile(&self, share: f64) -> f64 {
        millis(self.times.percentile(share))
    }
}

impl Cpu {
    /// Returns the processor time of service and database together.
    pub(crate) fn server(self) -> f64 {
        self.service + self.database
    }

    fn minus(self, other: Self) -> Self {
        Self {
            service: self.service - other.service,
            database: self.database - other.database,
            client: self.client - other.client,
        }
    }

    fn over(self, calls: f64) -> Self {
        Self {
            service: self.service / calls,
            database: self.database / calls,
            client: self.client / calls,
        }
    }
}
