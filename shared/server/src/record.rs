//! Logs and measures calls.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use base::telemetry::metrics::InHand;
use tonic::Code;
use tracing::Span;

use super::{codes::name, refusals::Refusals, rpcs::Rpc};

/// What is logged and measured of a call when it is dropped: also where the caller went away before there was an answer.
pub(super) struct Record {
    pub(super) rpc: Arc<Rpc>,
    pub(super) start: Instant,
    pub(super) code: Code,
    pub(super) span: Span,
    pub(super) refusals: Arc<Refusals>,
    /// Whether the call may be that of a stranger. Without a token, the code says so too.
    pub(super) is_anonymous: bool,
    pub(super) _in_hand: InHand,
}

#[cfg(test)]
impl Record {
    /// A record of a call that no client has made.
    pub(super) fn of_test() -> Self {
        Self {
            rpc: Arc::new(Rpc::infrastructure("/test/")),
            start: Instant::now(),
            code: Code::Cancelled,
            span: Span::none(),
            refusals: Arc::new(Refusals::new(Arc::new(crate::rpcs::Rpcs::of_test()))),
            is_anonymous: true,
            _in_hand: InHand::new(metrics::Gauge::noop()),
        }
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        let elapsed = self.start.elapsed();
        let is_anonymous = self.is_anonymous || self.code == Code::Unauthenticated;
        if self.refusals.is_logged(&self.rpc, self.code, is_anonymous) {
            log(self.code, elapsed, self.rpc.is_infrastructure);
        }
        self.span.record("rpc.grpc.status_code", i32::from(self.code));
        if is_fault(self.code) {
            self.span.record("otel.status_code", "ERROR");
        }
        self.rpc.durations(self.code).record(elapsed.as_secs_f64());
    }
}

/// The level says whose concern it is: ours, the operator's or the caller's own.
fn log(code: Code, elapsed: Duration, infrastructure: bool) {
    let code_name = name(code);
    let elapsed_us = u64::try_from(elapsed.as_micros()).unwrap_or(u64::MAX);
    match code {
        Code::Internal | Code::Unknown | Code::DataLoss => {
            tracing::error!(rpc.grpc.status_code = code_name, elapsed_us, "call failed");
        }
        Code::Unavailable | Code::ResourceExhausted | Code::DeadlineExceeded => {
            tracing::warn!(rpc.grpc.status_code = code_name, elapsed_us, "call failed");
        }
        // Probes call every few seconds.
        _ if infrastructure => tracing::debug!(rpc.grpc.status_code = code_name, elapsed_us, "call"),
        _ => tracing::info!(rpc.grpc.status_code = code_name, elapsed_us, "call"),
    }
}

/// Whether the code is a fault of the server (OpenTelemetry's conventions for gRPC).
const fn is_fault(code: Code) -> bool {
    matches!(
        code,
        Code::Unknown
            | Code::DeadlineExceeded
            | Code::Unimplemented
            | Code::Internal
            | Code::Unavailable
            | Code::DataLoss
    )
}
