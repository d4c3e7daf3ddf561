//! Logging and measuring of calls.

use std::{
    borrow::Cow,
    sync::Arc,
    time::{Duration, Instant},
};

use base::{
    error::Reason as _,
    telemetry::{CALL, metrics::InFlight},
};
use proto::authz::v1::ErrorReason;
use tonic::Code;
use tracing::Span;

use super::{codes::name, refusals::Refusals, rpcs::Rpc};

/// Record of a call, which is logged and measured when it is dropped, even if the caller goes away
/// before the response.
pub(super) struct Record {
    pub(super) rpc: Arc<Rpc>,
    pub(super) start: Instant,
    pub(super) code: Code,
    /// `ErrorInfo.reason` of a call that failed.
    pub(super) reason: Option<Cow<'static, str>>,
    pub(super) span: Span,
    pub(super) refusals: Arc<Refusals>,
    /// Whether the caller may be anonymous. A call that ends with UNAUTHENTICATED counts as
    /// anonymous too.
    pub(super) is_anonymous: bool,
    pub(super) _in_flight: InFlight,
}

#[cfg(test)]
impl Record {
    /// Returns the record of a call that no client has made.
    pub(super) fn for_test() -> Self {
        Self {
            rpc: Arc::new(Rpc::infrastructure("/test/")),
            start: Instant::now(),
            code: Code::Cancelled,
            reason: None,
            span: Span::none(),
            refusals: Arc::new(Refusals::new(Arc::new(crate::rpcs::Rpcs::for_test()))),
            is_anonymous: true,
            _in_flight: InFlight::new(metrics::Gauge::noop()),
        }
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        let elapsed = self.start.elapsed();
        let is_anonymous = self.is_anonymous || self.code == Code::Unauthenticated;
        if self.refusals.is_logged(&self.rpc, self.code, is_anonymous) {
            let reason = self.reason.as_deref();
            // A stream may end outside of its span.
            self.span
                .in_scope(|| log(self.code, reason, elapsed, self.rpc.is_infrastructure));
        }
        self.span.record("rpc.grpc.status_code", i32::from(self.code));
        if is_fault(self.code) {
            self.span.record("otel.status_code", "ERROR");
        }
        self.rpc.durations(self.code).record(elapsed.as_secs_f64());
    }
}

/// Logs a call. The level separates bugs (error), problems for the operator (warn) and problems for
/// the caller (info).
fn log(code: Code, reason: Option<&str>, elapsed: Duration, infrastructure: bool) {
    let code_name = name(code);
    let elapsed_us = u64::try_from(elapsed.as_micros()).unwrap_or(u64::MAX);
    macro_rules! call {
        ($level:ident, $message:literal) => {
            tracing::$level!(target: CALL, { rpc.grpc.status_code = code_name, reason, elapsed_us }, $message)
        };
    }
    match code {
        Code::Internal | Code::Unknown | Code::DataLoss => call!(error, "call failed"),
        // A stream that ends because the server drains is not a problem.
        Code::Unavailable if reason == Some(ErrorReason::ShuttingDown.name()) => call!(info, "call"),
        Code::Unavailable | Code::ResourceExhausted | Code::DeadlineExceeded => call!(warn, "call failed"),
        // Probes call every few seconds.
        _ if infrastructure => call!(debug, "call"),
        _ => call!(info, "call"),
    }
}

/// Returns whether the code counts as a fault of the server (OpenTelemetry's conventions for gRPC).
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
