//! REST over the gRPC services: everything that the gateway and its clients know of it, made of the protos.
//!
//! An RPC with a `google.api.http` rule can be called from outside, one without cannot. `proto/openapi.json` describes the former for
//! people and tools; `deploy/envoy/api.binpb` tells Envoy how JSON becomes messages. Both are committed, so that nobody who starts
//! a gateway needs this crate, and a test says when they are behind the protos.

mod comments;
mod document;
mod names;
mod operation;
mod rpc;
mod schema;

use std::{
    error::Error,
    path::{Path, PathBuf},
};

use access::policy::Policies;
use prost_reflect::{DescriptorPool, ServiceDescriptor};
use protox::Compiler;

pub use self::rpc::{HttpRule, Rpc};

/// The messages of errors: no RPC names them, and every one can answer with them.
const ERRORS: [&str; 2] = ["google/rpc/error_details.proto", "google/rpc/status.proto"];

/// A file that is made of the protos.
#[derive(Debug)]
pub struct GeneratedFile {
    /// Where it is committed.
    pub path: PathBuf,
    /// What it has to hold.
    pub content: Vec<u8>,
}

/// The protos, and what is declared in them.
struct Api {
    /// With their comments.
    pool: DescriptorPool,
    policies: Policies,
    /// Without.
    encoded: Vec<u8>,
}

/// What is committed.
pub fn files() -> Result<[GeneratedFile; 2], Box<dyn Error>> {
    let api = Api::compile()?;
    let mut openapi = serde_json::to_vec_pretty(&document::document(&api)?)?;
    openapi.push(b'\n');
    Ok([
        GeneratedFile {
            path: root().join("proto/openapi.json"),
            content: openapi,
        },
        GeneratedFile {
            path: root().join("deploy/envoy/api.binpb"),
            content: api.encoded,
        },
    ])
}

/// Every RPC of every service, in the order of the protos.
pub fn rpcs() -> Result<Vec<Rpc>, Box<dyn Error>> {
    let api = Api::compile()?;
    let mut rpcs = Vec::new();
    for service in api.pool.services() {
        rpcs.extend(api.rpcs(&service)?);
    }
    Ok(rpcs)
}

/// The top of the workspace.
pub fn root() -> PathBuf {
    let crate_folder = Path::new(env!("CARGO_MANIFEST_DIR"));
    crate_folder.ancestors().nth(2).unwrap_or(crate_folder).to_owned()
}

impl Api {
    fn compile() -> Result<Self, Box<dyn Error>> {
        let compile = |with_comments| {
            let mut compiler = Compiler::new([root().join("proto")])?;
            compiler.include_imports(true).include_source_info(with_comments);
            compiler.open_files(proto::API_FILES)?.open_files(ERRORS)?;
            Ok::<_, protox::Error>(compiler)
        };
        // Not the typed set, which would lose the extensions and with them the HTTP rules.
        let encoded = compile(false)?.encode_file_descriptor_set();
        Ok(Self {
            pool: compile(true)?.descriptor_pool(),
            policies: Policies::from_descriptor_set(&encoded)?,
            encoded,
        })
    }

    /// The RPCs of a service.
    fn rpcs(&self, service: &ServiceDescriptor) -> Result<Vec<Rpc>, String> {
        service
            .methods()
            .map(|method| Rpc::of(&self.pool, &self.policies, &method))
            .collect()
    }
}
