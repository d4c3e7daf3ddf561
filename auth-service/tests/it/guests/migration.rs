//! The migration that makes the role `guest` a built-in one.

use diesel_async::SimpleAsyncConnection as _;
use testing::{TestDatabase, on_both_backends};

use crate::support::count;

async fn run(database: &TestDatabase, script: &str) {
    let ran: db::Result<()> = db::write_tx!(database.db(), |tx| db::query!(tx, |c| c.batch_execute(script).await));
    ran.unwrap_or_else(|error| panic!("{error}: {script}"));
}

#[on_both_backends]
async fn a_role_that_an_administrator_called_guest_keeps_its_holders_and_permissions(database: TestDatabase) {
    let is_postgres = database.backend() == db::Backend::Postgres;
    let (up, down) = if is_postgres {
        (
            include_str!("../../../migrations/postgres/2026-12-04-000000_guests/up.sql"),
            include_str!("../../../migrations/postgres/2026-12-04-000000_guests/down.sql"),
        )
    } else {
        (
            include_str!("../../../migrations/sqlite/2026-12-04-000000_guests/up.sql"),
            include_str!("../../../migrations/sqlite/2026-12-04-000000_guests/down.sql"),
        )
    };
    run(&database, down).await;
    let (role, resource, permission, action, now) = if is_postgres {
        let id = |number| format!("'00000000-0000-7000-8000-0000000000{number}'");
        (id("a1"), id("a2"), id("a3"), id("13"), "now()")
    } else {
        let id = |number| format!("x'000000000000700080000000000000{number}'");
        (id("a1"), id("a2"), id("a3"), id("13"), "0")
    };
    let is_declared = if is_postgres { "true" } else { "1" };
    let before = format!(
        "INSERT INTO roles (id, code_name, name, description, create_time) VALUES ({role}, 'guest', 'Guest', '', {now});
        INSERT INTO resources (id, code_name, name, description, owner, create_time)
            VALUES ({resource}, 'games', 'games', '', 'game-service', {now});
        INSERT INTO permissions (id, resource_id, action_id, name, description, is_declared, create_time)
            VALUES ({permission}, {resource}, {action}, 'games:read', '', {is_declared}, {now});
        INSERT INTO role_permissions (role_id, permission_id) VALUES ({role}, {permission});"
    );
    run(&database, &before).await;
    run(&database, up).await;
    let db = database.db();
    let hex = "000000000000700080000000000000a1";
    let kept = format!(
        "roles JOIN role_permissions ON roles.id = role_id WHERE code_name = 'guest_{hex}' AND name = 'Guest {hex}'"
    );
    assert_eq!(count(db, &kept).await, 1);
    // The built-in role holds nothing yet, and is marked for what was declared before.
    let built_in = "roles WHERE code_name = 'guest' AND name = 'Guest'";
    assert_eq!(count(db, built_in).await, 1);
    let held = "role_permissions JOIN roles ON roles.id = role_id WHERE code_name = 'guest'";
    assert_eq!(count(db, held).await, 0);
    let marked = "new_role_permissions JOIN permissions ON permissions.id = permission_id WHERE name = 'games:read'";
    assert_eq!(count(db, marked).await, 1);
}
