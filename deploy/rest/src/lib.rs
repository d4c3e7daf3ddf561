//! Generates from the protos what the REST gateway and its clients need.
//!
//! An RPC with a `google.api.http` rule can be called over REST. `proto/openapi.json` describes
//! these RPCs to people and tools; `deploy/envoy/api.binpb` tells Envoy how to convert JSON to
//! messages. Both files are committed, so that a gateway starts without this crate, and a test
//! fails if they do not match the protos.

mod comments;
mod document;
mod errors;
mod examples;
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

/// Protos of the error messages, which no RPC mentions but every RPC can return.
const ERRORS: [&str; 3] = [
    "authz/v1/error_reason.proto",
    "google/rpc/error_details.proto",
    "google/rpc/status.proto",
];

/// A file that is generated from the protos.
#[derive(Debug)]
pub struct GeneratedFile {
    /// Path under which it is committed.
    pub path: PathBuf,
    /// Expected content.
    pub content: Vec<u8>,
}

/// The protos and their policies.
struct Api {
    /// Descriptors with comments.
    pool: DescriptorPool,
    policies: Policies,
    /// Encoded descriptors without comments.
    encoded: Vec<u8>,
}

/// Returns the files with their expected content.
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

/// Returns all RPCs of all services, in the order of the protos.
pub fn rpcs() -> Result<Vec<Rpc>, Box<dyn Error>> {
    let api = Api::compile()?;
    let mut rpcs = Vec::new();
    for service in api.pool.services() {
        rpcs.extend(api.rpcs(&service)?);
    }
    Ok(rpcs)
}

/// Returns the root folder of the workspace.
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
        // Encoded by the compiler: the typed set would lose the extensions, and with them the HTTP
        // rules.
        let encoded = compile(false)?.encode_file_descriptor_set();
        Ok(Self {
            pool: compile(true)?.descriptor_pool(),
            policies: Policies::from_descriptor_set(&encoded)?,
            encoded,
        })
    }

    /// Returns the RPCs of a service.
    fn rpcs(&self, service: &ServiceDescriptor) -> Result<Vec<Rpc>, String> {
        service
            .methods()
            .map(|method| Rpc::of(&self.pool, &self.policies, &method))
            .collect()
    }
}
