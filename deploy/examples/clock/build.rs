//! Compiles the proto of this service into Rust types and a descriptor set. The descriptor set
//! contains the access policy of each RPC, which the proto declares with our options.

use std::{env, error::Error, fs, path::Path};

use protox::Compiler;

/// Folders with protos. A service in another repository has a copy of `authz/v1/options.proto`, or
/// of the whole folder, in place of the second one.
const PROTOS: [&str; 2] = ["proto", "../../../proto"];

fn main() -> Result<(), Box<dyn Error>> {
    for folder in PROTOS {
        println!("cargo::rerun-if-changed={folder}");
    }
    let mut compiler = Compiler::new(PROTOS)?;
    compiler.include_imports(true).include_source_info(true);
    compiler.open_file("clock/v1/clock_service.proto")?;
    // Write the set as the compiler encodes it. The typed set would lose the policies.
    #[expect(clippy::disallowed_methods, reason = "how cargo speaks to a build script")]
    let out = env::var("OUT_DIR")?;
    fs::write(
        Path::new(&out).join("clock.binpb"),
        compiler.encode_file_descriptor_set(),
    )?;
    tonic_prost_build::configure()
        .extern_path(".authz.v1", "::proto::authz::v1")
        .compile_fds(compiler.file_descriptor_set())?;
    Ok(())
}
