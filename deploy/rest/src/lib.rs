//! REST over the gRPC services: everything that the gateway and its clients know of it, made of the protos.
//!
//! An RPC with a `google.api.http` rule can be called from outside, one without cannot. `proto/openapi.json` describes the former for
//! people and tools; `deploy/envoy/api.binpb` tells Envoy how JSON becomes messages. Both are committed, so that nobody who starts
//! a gateway needs this crate, and a test says when they are behind the protos.

mod comments;
mod document;
mod operation;
mod rpc;
mod schema;

use std::{
    error::Error,
    path::{Path, PathBuf},
};

use prost_reflect::DescriptorPool;
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

/// What is committed.
pub fn files() -> Result<[GeneratedFile; 2], Box<dyn Error>> {
    let (pool, encoded) = compile()?;
    let mut openapi = serde_json::to_vec_pretty(&document::document(&pool)?)?;
    openapi.push(b'\n');
    Ok([
        GeneratedFile {
            path: root().join("proto/openapi.json"),
            content: openapi,
        },
        GeneratedFile {
            path: root().join("deploy/envoy/api.binpb"),
            content: encoded,
        },
    ])
}

/// Every RPC of every service, in the order of the protos.
pub fn rpcs() -> Result<Vec<Rpc>, Box<dyn Error>> {
    let (pool, _) = compile()?;
    Ok(pool
        .services()
        .flat_map(|service| service.methods().collect::<Vec<_>>())
        .map(|method| Rpc::of(&pool, &method))
        .collect::<Result<_, _>>()?)
}

/// The top of the workspace.
pub fn root() -> PathBuf {
    let crate_folder = Path::new(env!("CARGO_MANIFEST_DIR"));
    crate_folder.ancestors().nth(2).unwrap_or(crate_folder).to_owned()
}

/// The protos with their comments, and encoded without.
fn compile() -> Result<(DescriptorPool, Vec<u8>), Box<dyn Error>> {
    let protos = root().join("proto");
    let files = shared::proto::API_FILES;
    let mut compiler = Compiler::new([&protos])?;
    compiler.include_imports(true).include_source_info(true);
    compiler.open_files(files)?.open_files(ERRORS)?;
    let pool = compiler.descriptor_pool();
    // Not the typed set, which would lose the extensions and with them the HTTP rules.
    let mut compiler = Compiler::new([&protos])?;
    compiler.include_imports(true).include_source_info(false);
    compiler.open_files(files)?.open_files(ERRORS)?;
    Ok((pool, compiler.encode_file_descriptor_set()))
}
