//! Start time, memory at rest and binary size of both services in one process.

use std::{
    fs,
    path::Path,
    process::Command,
    time::{Duration, Instant},
};

use testing::program::{Program, Signal};

use super::Setup;
use crate::{
    deployment::{executable, free_address, started},
    process::Processes,
    report::{Goal, Report, Row, Spread, Unit},
};

/// Time after which a started program is at rest.
const IDLE: Duration = Duration::from_secs(3);

pub(crate) async fn run(setup: &Setup<'_>, report: &mut Report) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let data = folder.path().join("data");
    // The first start creates the data, so it is not measured.
    stop(start(&data).await.0).await;
    let (mut starts, mut memory) = (Vec::new(), Vec::new());
    for _ in 0..2 * setup.rounds {
        let (program, time) = start(&data).await;
        starts.push(time.as_secs_f64() * 1e3);
        tokio::time::sleep(IDLE).await;
        memory.push(Processes::One(program.id()).memory());
        stop(program).await;
    }
    let what = "from the start of both services in one process, on a database that is there, to SERVING of both";
    report.add(Row::new(
        "start",
        None,
        what,
        (Spread::of(starts), Unit::Millis),
        Goal::AtMost(100.0),
    ));
    let what = format!(
        "memory of both services in one process, {} s after the start",
        IDLE.as_secs()
    );
    report.add(Row::new(
        "idle memory",
        None,
        what,
        (Spread::of(memory), Unit::Mib),
        Goal::AtMost(30.0),
    ));

    let stripped = folder.path().join("standalone");
    let done = Command::new("strip")
        .arg("-o")
        .arg(&stripped)
        .arg(executable("standalone"))
        .status();
    assert!(done.expect("run strip").success(), "strip");
    let mib = crate::statistics::as_f64(fs::metadata(&stripped).expect("the binary").len()) / 1024.0 / 1024.0;
    let what = "size of the program with both services, stripped";
    report.add(Row::new(
        "binary",
        None,
        what,
        (Spread::once(mib), Unit::Mib),
        Goal::AtMost(25.0),
    ));
}

async fn start(data: &Path) -> (Program, Duration) {
    let [auth, auth_http, game, game_http] = [(); 4].map(|()| free_address());
    let begin = Instant::now();
    let program = Program::start(
        &executable("standalone"),
        [
            "--data-dir",
            data.to_str().expect("UTF-8"),
            "--auth-listen",
            &auth.to_string(),
            "--auth-http-listen",
            &auth_http.to_string(),
            "--game-listen",
            &game.to_string(),
            "--game-http-listen",
            &game_http.to_string(),
            "--log-level",
            "warn",
        ],
    );
    for address in [auth, game] {
        started(address).await;
    }
    (program, begin.elapsed())
}

async fn stop(program: Program) {
    program.signal(Signal::Terminate);
    let ended = program.ended().await;
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
}
