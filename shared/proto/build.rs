//! Compiles `proto/` with protox, so that protoc is not needed. Generates the Rust types, and one
//! descriptor set per service for reflection and for the policy layer.

use std::{env, error::Error, fmt::Write as _, fs, path::Path};

use prost_reflect::{DescriptorPool, FieldDescriptor, MessageDescriptor};
use protox::Compiler;

const PROTO: &str = "../../proto";

/// Protos that every service shares: policies, error reasons and error details. They are part of
/// every set. They are also a set of their own, for the reflection of other servers, so that
/// clients can decode the details of errors.
const COMMON: [&str; 3] = [
    "authz/v1/options.proto",
    "authz/v1/error_reason.proto",
    "google/rpc/error_details.proto",
];

#[expect(clippy::disallowed_methods, reason = "how cargo speaks to a build script")]
fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed={PROTO}");
    let out = env::var("OUT_DIR")?;
    let out = Path::new(&out);

    let auth = files_of("auth/v1")?;
    let game = files_of("game/v1")?;
    descriptor_set(&auth, &out.join("auth.v1.binpb"))?;
    descriptor_set(&game, &out.join("game.v1.binpb"))?;
    descriptor_set(&[], &out.join("common.binpb"))?;
    fs::write(
        out.join("api_files.rs"),
        format!("&{:?}", [auth.clone(), game.clone()].concat()),
    )?;

    let mut compiler = Compiler::new([PROTO])?;
    compiler.include_imports(true).include_source_info(true);
    compiler.open_files(COMMON)?.open_files(&auth)?.open_files(&game)?;
    let mut builder = tonic_prost_build::configure();
    let secret = messages_with_secrets(&compiler.descriptor_pool());
    for message in &secret {
        builder = builder.skip_debug([message.full_name()]);
    }
    builder.compile_fds(compiler.file_descriptor_set())?;
    for package in ["auth.v1", "game.v1", "authz.v1"] {
        redacted_debug(package, &secret, &out.join(format!("{package}.debug.rs")))?;
    }
    Ok(())
}

fn files_of(package: &str) -> Result<Vec<String>, Box<dyn Error>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(Path::new(PROTO).join(package))? {
        let name = entry?
            .file_name()
            .into_string()
            .map_err(|name| format!("{} is not UTF-8", name.display()))?;
        if Path::new(&name)
            .extension()
            .is_some_and(|extension| extension == "proto")
        {
            files.push(format!("{package}/{name}"));
        }
    }
    files.sort();
    Ok(files)
}

/// Writes the descriptor set as protox encodes it. The typed form would lose the extensions, and
/// the policies with them.
fn descriptor_set(files: &[String], path: &Path) -> Result<(), Box<dyn Error>> {
    let mut compiler = Compiler::new([PROTO])?;
    compiler.include_imports(true).include_source_info(true);
    compiler.open_files(COMMON)?.open_files(files)?;
    fs::write(path, compiler.encode_file_descriptor_set())?;
    Ok(())
}

/// Returns every message with a field marked `debug_redact`.
fn messages_with_secrets(pool: &DescriptorPool) -> Vec<MessageDescriptor> {
    let redacted = |field: FieldDescriptor| {
        field
            .options()
            .get_field_by_name("debug_redact")
            .is_some_and(|value| value.as_bool() == Some(true))
    };
    pool.all_messages()
        .filter(|message| message.fields().any(redacted))
        .collect()
}

/// Generates a `Debug` for each message with secrets. It prints the name of the message and no
/// fields.
fn redacted_debug(package: &str, secret: &[MessageDescriptor], path: &Path) -> Result<(), Box<dyn Error>> {
    let mut code = String::new();
    for message in secret.iter().filter(|message| message.package_name() == package) {
        let name = message.name();
        writeln!(
            code,
            "impl std::fmt::Debug for {name} {{
                fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {{
                    f.debug_struct({name:?}).finish_non_exhaustive()
                }}
            }}"
        )?;
    }
    fs::write(path, code)?;
    Ok(())
}
