//! How long a refused login takes while there are imported hashes.

use std::time::{Duration, Instant};

use auth_service::MIGRATIONS;
use proto::auth::v1::LoginRequest;
use serde_json::json;
use testing::{TestDatabase, on_both_backends};

use super::{IMPORTED, Import, QUICK_HASH, user, with};
use crate::{
    support::{PASSWORD, Server, credentials, execute, settings},
    users::calls::login,
};

/// Returns the shortest of several times that a refused login takes.
async fn refused(server: &Server, identifier: &str, password: &str) -> Duration {
    let mut shortest = Duration::MAX;
    for _ in 0..3 {
        let request: LoginRequest = credentials(identifier, password);
        let start = Instant::now();
        let refused = server.auth().login(request).await;
        shortest = shortest.min(start.elapsed());
        assert_eq!(
            testing::rpc::reason(&refused.expect_err("refused")),
            "CREDENTIALS_INVALID"
        );
    }
    shortest
}

/// Returns how much processor time PBKDF2 with a million iterations takes here.
fn processor_time_of_the_slow_hash() -> Duration {
    let now = || Duration::try_from(rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime)).expect("a time");
    let start = now();
    let iterations = std::num::NonZeroU32::new(1_000_000).expect("it is not 0");
    let mut output = [0; 32];
    aws_lc_rs::pbkdf2::derive(
        aws_lc_rs::pbkdf2::PBKDF2_HMAC_SHA256,
        iterations,
        b"salt",
        b"wrong",
        &mut output,
    );
    now().saturating_sub(start)
}

/// A busy machine makes single logins slower, but none quicker, so only the shortest times are
/// compared, and only with a lower bound.
#[on_both_backends]
async fn a_refusal_takes_as_long_as_the_slowest_imported_hash(database: TestDatabase) {
    const SLOW: &str = "pbkdf2_sha256$1000000$R5e69DdP1AYixLTbwhJgpv$mF37vnIiMSTiymnp78I3RlOGITPtdDyIYwbz4tf/nRY=";
    db::migrate(database.db(), &MIGRATIONS).await.expect("migrated");
    let lines = [
        user("slow", SLOW),
        user("quick", QUICK_HASH),
        with(user("inactive", QUICK_HASH), json!({"is_active": false})),
        user("nobody-yet", ""),
    ];
    Import::at(&database).succeed(&lines, &[]).await;
    let server = Server::start_with(database, &settings(&["--hashing-workers", "1"])).await;
    server.register("ann").await;
    let slow = processor_time_of_the_slow_hash();
    let least = slow.mul_f64(0.6);
    for (identifier, password) in [
        ("slow", "wrong horse"),
        ("quick", "wrong horse"),
        ("ann", "wrong horse"),
        ("ann@example.test", "wrong horse"),
        ("nobody", "wrong horse"),
        ("nobody@example.test", "wrong horse"),
        ("nobody-yet", IMPORTED),
        // The right password of a user who cannot log in.
        ("inactive", IMPORTED),
    ] {
        let time = refused(&server, identifier, password).await;
        assert!(time > least, "{identifier}: {time:?} instead of {slow:?}");
    }
    // Once no imported hash is left, a refusal takes no longer than one of our hashes.
    for identifier in ["slow", "quick"] {
        login(&server, identifier, IMPORTED).await.expect("logged in");
    }
    execute(&server, "DELETE FROM imported_passwords").await;
    let (_restarted, mut auth) = server.replica().await;
    let mut shortest = Duration::MAX;
    for number in 0..10 {
        let start = Instant::now();
        let unknown = credentials(&format!("unknown-{number}"), PASSWORD);
        auth.login(unknown).await.expect_err("refused");
        shortest = shortest.min(start.elapsed());
    }
    assert!(shortest < least, "{shortest:?}");
}
