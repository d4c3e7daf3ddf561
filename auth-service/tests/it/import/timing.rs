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
    let slow = refused(&server, "slow", "wrong horse").await;
    assert!(slow > Duration::from_millis(50), "{slow:?}");
    let least = slow.mul_f64(0.6);
    for (identifier, password) in [
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
    // The right password of others does not wait.
    let start = Instant::now();
    server.login("ann").await;
    assert!(start.elapsed() < slow, "{:?}", start.elapsed());
    // Once no imported hash is left, nothing is padded any more.
    for identifier in ["slow", "quick"] {
        login(&server, identifier, IMPORTED).await.expect("logged in");
    }
    execute(&server, "DELETE FROM imported_passwords").await;
    let (_restarted, mut auth) = server.replica().await;
    let start = Instant::now();
    auth.login(credentials("nobody", PASSWORD)).await.expect_err("refused");
    assert!(start.elapsed() < least, "{:?}", start.elapsed());
}
