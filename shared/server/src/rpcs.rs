//! Known RPCs, with the names of calls in logs, traces and metrics.

use std::{
    collections::HashMap,
    sync::{Arc, OnceLock, atomic::AtomicU32},
};

use access::{
    authz,
    policy::{Policies, Policy},
};
use metrics::Histogram;
use tonic::Code;

use super::codes::{CODES, name};

/// Histogram of the duration of calls in seconds, by service, method and code.
const DURATION: &str = "rpc_server_call_duration_seconds";

/// Paths of reflection. A service may have a method of the same name.
const REFLECTION: [&str; 2] = [
    "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
    "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
];
/// Path of the stream of health.
const HEALTH_STREAM: &str = "/grpc.health.v1.Health/Watch";

/// Returns whether this is the path of an RPC of reflection.
pub(super) fn is_reflection(path: &str) -> bool {
    REFLECTION.contains(&path)
}

/// All known RPCs. They become labels of metrics, so the set is fixed: anyone who can reach the
/// port can make up paths.
#[derive(Debug)]
pub(super) struct Rpcs {
    by_path: HashMap<String, Arc<Rpc>>,
    /// Health and reflection, with one entry for all methods of a service.
    infrastructure: Vec<Arc<Rpc>>,
    unknown: Arc<Rpc>,
}

/// RPC, or several RPCs that are measured as one.
#[derive(Debug)]
pub(super) struct Rpc {
    /// `service/method`.
    pub(super) name: String,
    pub(super) service: String,
    pub(super) method: String,
    pub(super) is_infrastructure: bool,
    is_stream: bool,
    /// Whether the RPC needs no token.
    pub(super) is_public: bool,
    pub(super) refusals: RefusalCounts,
    /// Duration by gRPC code. Each histogram is created with its first call.
    durations: [OnceLock<Histogram>; CODES],
}

/// Calls of one RPC since the last report, by gRPC code.
#[derive(Debug, Default)]
pub(super) struct RefusalCounts {
    pub(super) logged: [AtomicU32; CODES],
    /// Logged calls of the common kinds.
    pub(super) logged_common: [AtomicU32; CODES],
    pub(super) unlogged: [AtomicU32; CODES],
}

impl Rpcs {
    pub(super) fn new(policies: &Policies) -> Self {
        metrics::describe_histogram!(
            DURATION,
            metrics::Unit::Seconds,
            "Duration of finished calls in seconds, by service (`rpc_service`), method (`rpc_method`) and gRPC code \
             (`rpc_grpc_status_code`)."
        );
        let by_path = policies.iter().map(|(path, policy)| {
            let rpc = Rpc {
                is_stream: policies.is_stream(path),
                is_public: *policy == Policy::Public,
                ..Rpc::of(path)
            };
            (path.to_owned(), Arc::new(rpc))
        });
        let infrastructure = authz::INFRASTRUCTURE.iter();
        Self {
            by_path: by_path.collect(),
            infrastructure: infrastructure
                .map(|prefix| Arc::new(Rpc::infrastructure(prefix)))
                .collect(),
            unknown: Arc::new(Rpc {
                is_public: true,
                ..Rpc::new("unknown", "unknown")
            }),
        }
    }

    /// Creates a set without RPCs.
    #[cfg(test)]
    pub(super) fn for_test() -> Self {
        Self {
            by_path: HashMap::new(),
            infrastructure: Vec::new(),
            unknown: Arc::new(Rpc::new("unknown", "unknown")),
        }
    }

    /// Iterates over all entries, each once.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Rpc> {
        let more = self.infrastructure.iter().chain([&self.unknown]);
        self.by_path.values().chain(more).map(Arc::as_ref)
    }

    /// Returns the RPC at this path. All unknown paths share one entry.
    pub(super) fn at(&self, path: &str) -> &Arc<Rpc> {
        let infrastructure = || self.infrastructure.iter().find(|rpc| rpc.is_at(path));
        self.by_path.get(path).or_else(infrastructure).unwrap_or(&self.unknown)
    }
}

impl Rpc {
    fn new(service: &str, method: &str) -> Self {
        Self {
            name: format!("{service}/{method}"),
            service: service.to_owned(),
            method: method.to_owned(),
            is_infrastructure: false,
            is_stream: false,
            is_public: false,
            refusals: RefusalCounts::default(),
            durations: [const { OnceLock::new() }; CODES],
        }
    }

    fn of(path: &str) -> Self {
        let (service, method) = path.trim_start_matches('/').split_once('/').unwrap_or((path, ""));
        Self::new(service, method)
    }

    /// Creates one entry for all RPCs of the service whose paths have this prefix.
    pub(super) fn infrastructure(prefix: &str) -> Self {
        Self {
            is_infrastructure: true,
            is_public: true,
            ..Self::new(prefix.trim_matches('/'), "*")
        }
    }

    fn is_at(&self, path: &str) -> bool {
        let rest = path
            .strip_prefix('/')
            .and_then(|path| path.strip_prefix(self.service.as_str()));
        rest.is_some_and(|rest| rest.starts_with('/'))
    }

    /// Returns whether the response to a call of this path is a stream. The path must belong to
    /// this entry.
    pub(super) fn is_stream_at(&self, path: &str) -> bool {
        self.is_stream || path == HEALTH_STREAM || is_reflection(path)
    }

    /// Returns the histogram for calls that end with this code.
    pub(super) fn durations(&self, code: Code) -> &Histogram {
        let index = usize::try_from(i32::from(code)).unwrap_or_default();
        self.durations[index.min(CODES - 1)].get_or_init(|| {
            metrics::histogram!(
                DURATION,
                "rpc_service" => self.service.clone(),
                "rpc_method" => self.method.clone(),
                "rpc_grpc_status_code" => name(code),
            )
        })
    }
}
