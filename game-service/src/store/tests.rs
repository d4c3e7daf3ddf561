//! Tests of the store. The constraints of the tables keep out rows that make no sense, whatever the
//! code above does.

use access::view::{Epoch, FeedPosition};
use base::{clock::Timestamp, ids::UserId, sql_types};
use db::{Backend, prelude::*, prepared, query, write_tx};
use diesel::sql_types::BigInt;
use testing::{TestDatabase, block_on, on_both_backends};

use super::{standings::ChangedPlayer, *};
use crate::{ids::GameId, ranks::Standing};

const NOW: Timestamp = Timestamp::from_micros(1_795_219_200_000_000);

/// Name of a fault, and a function that adds the fault to a valid row.
type Wrong<Row> = (&'static str, fn(&mut Row));

struct Seed {
    ann: UserId,
    bob: UserId,
    game: GameRow,
}

/// Inserts two players and a running game between them.
async fn seed(database: &TestDatabase) -> Seed {
    let [ann, bob] = [(); 2].map(|()| UserId::generate());
    let game = GameRow {
        id: GameId::generate(),
        opponent: "player".to_owned(),
        creator_id: ann,
        x_player_id: Some(ann),
        o_player_id: Some(bob),
        board: ".........".to_owned(),
        state: "turn".to_owned(),
        winner: None,
        version: 2,
        create_time: NOW,
        update_time: NOW,
        finish_time: None,
        end_reason: None,
        create_request: None,
        expire_time: Some(NOW),
        sweep_time: NOW,
        moves: Some(Moves::default()),
        is_ranked: true,
    };
    let seeded: db::Result<()> = write_tx!(database.db(), |tx| {
        player_insert(tx, ann, "ann").await?;
        player_insert(tx, bob, "bob").await?;
        game_insert(tx, &game).await
    });
    seeded.expect("seeded");
    Seed { ann, bob, game }
}

fn first_move() -> Moves {
    Moves(vec![StoredMove {
        cell: 4,
        version: 3,
        time: NOW,
    }])
}

fn won_by_ann(seed: &Seed) -> ResultRow {
    ResultRow {
        user_id: seed.ann,
        game_id: seed.game.id,
        result: "won".to_owned(),
        opponent_id: Some(seed.bob),
        finish_time: NOW,
        end_reason: "line".to_owned(),
        counts: Some(true),
    }
}

fn stats_of_ann(seed: &Seed) -> StatsRow {
    StatsRow {
        user_id: seed.ann,
        wins: 1,
        losses: 2,
        draws: 1,
        last_finish_time: NOW,
    }
}

/// Adds a row to a player's stats and returns the sum.
async fn add_stats(database: &TestDatabase, row: &StatsRow) -> db::Result<StatsRow> {
    write_tx!(database.db(), |tx| {
        stats_add(tx, row).await?;
        Ok(stats_by_ids(tx, &[row.user_id]).await?.remove(0))
    })
}

#[on_both_backends]
async fn inconsistent_games_are_rejected(database: TestDatabase) {
    let seed = seed(&database).await;
    let wrong: [Wrong<GameRow>; 17] = [
        ("opponent", |row| row.opponent = "nobody".to_owned()),
        ("unknown creator", |row| {
            row.creator_id = UserId::generate();
            row.x_player_id = Some(row.creator_id);
        }),
        ("creator does not play", |row| row.creator_id = UserId::generate()),
        ("against oneself", |row| row.o_player_id = row.x_player_id),
        ("running without an opponent", |row| row.o_player_id = None),
        ("two against the computer", |row| row.opponent = "computer".to_owned()),
        ("waiting for nobody", |row| row.state = "waiting".to_owned()),
        ("waiting for the computer", |row| {
            row.state = "waiting".to_owned();
            row.opponent = "computer".to_owned();
            row.o_player_id = None;
        }),
        ("waiting with a mark", |row| {
            row.state = "waiting".to_owned();
            row.board = "X........".to_owned();
            row.o_player_id = None;
        }),
        ("short board", |row| row.board = "........".to_owned()),
        ("long board", |row| row.board = "..........".to_owned()),
        ("strange board", |row| row.board = "x........".to_owned()),
        ("state", |row| row.state = "strange".to_owned()),
        ("won by nobody", |row| {
            row.state = "won".to_owned();
            row.finish_time = Some(NOW);
        }),
        ("winner of a draw", |row| {
            row.state = "draw".to_owned();
            row.winner = Some("X".to_owned());
            row.finish_time = Some(NOW);
        }),
        ("over without an end", |row| row.state = "draw".to_owned()),
        ("version", |row| row.version = 0),
    ];
    for (what, change) in wrong {
        let mut row = GameRow {
            id: GameId::generate(),
            ..seed.game.clone()
        };
        change(&mut row);
        let written: db::Result<()> = write_tx!(database.db(), |tx| game_insert(tx, &row).await);
        assert!(written.is_err(), "{what}");
    }
    let row = GameRow {
        id: GameId::generate(),
        ..seed.game.clone()
    };
    let written: db::Result<()> = write_tx!(database.db(), |tx| game_insert(tx, &row).await);
    written.expect("a game that makes sense");
}

#[on_both_backends]
async fn a_game_is_counted_once_for_each_player(database: TestDatabase) {
    let seed = seed(&database).await;
    let won = won_by_ann(&seed);
    let written: db::Result<()> = write_tx!(database.db(), |tx| results_insert(tx, &won).await);
    written.expect("a result");
    let again: db::Result<()> = write_tx!(database.db(), |tx| results_insert(tx, &won).await);
    assert!(matches!(again, Err(db::Error::Unique { .. })), "{again:?}");
    for opponent_id in [Some(seed.bob), Some(UserId::generate())] {
        let row = ResultRow {
            user_id: seed.bob,
            opponent_id,
            ..won.clone()
        };
        let written: db::Result<()> = write_tx!(database.db(), |tx| results_insert(tx, &row).await);
        assert!(written.is_err(), "{opponent_id:?}");
    }
}

#[on_both_backends]
async fn inconsistent_stats_are_rejected(database: TestDatabase) {
    let seed = seed(&database).await;
    let stats = stats_of_ann(&seed);
    let wrong: [Wrong<StatsRow>; 3] = [
        ("wins", |row| row.wins = -1),
        ("losses", |row| row.losses = -1),
        ("draws", |row| row.draws = -1),
    ];
    for (what, change) in wrong {
        let mut row = stats.clone();
        change(&mut row);
        assert!(add_stats(&database, &row).await.is_err(), "{what}");
    }
    assert_eq!(add_stats(&database, &stats).await.expect("stats that add up"), stats);
    // More wins, no further loss, and a later time.
    let more = StatsRow {
        wins: 3,
        losses: 0,
        draws: 0,
        last_finish_time: Timestamp::from_micros(NOW.as_micros() + 1),
        ..stats.clone()
    };
    let sum = StatsRow {
        wins: 4,
        last_finish_time: more.last_finish_time,
        ..stats.clone()
    };
    assert_eq!(add_stats(&database, &more).await.expect("the sum"), sum);
    // A game that is counted late does not set the time back.
    let late = StatsRow {
        last_finish_time: NOW,
        ..more
    };
    assert_eq!(
        add_stats(&database, &late).await.expect("the sum").last_finish_time,
        sum.last_finish_time
    );
    let of_nobody = StatsRow {
        user_id: UserId::generate(),
        ..stats
    };
    assert!(add_stats(&database, &of_nobody).await.is_err(), "stats of nobody");
}

#[on_both_backends]
async fn an_older_login_does_not_replace_a_newer_one(database: TestDatabase) {
    let ann = UserId::generate();
    let (one, other) = (Epoch::generate(), Epoch::generate());
    let mut names = Vec::new();
    for (login, epoch, sequence) in [
        ("ann", one, 5),
        ("late", one, 4),
        ("again", one, 5),
        ("anna", one, 6),
        ("anew", other, 1),
    ] {
        let renamed: db::Result<Vec<(UserId, String)>> = write_tx!(database.db(), |tx| {
            player_rename(tx, ann, login, FeedPosition { epoch, sequence }).await?;
            players_by_ids(tx, &[ann]).await
        });
        names.push(renamed.expect("renamed").remove(0).1);
    }
    assert_eq!(names, ["ann", "ann", "ann", "anna", "anew"]);
    let deleted: db::Result<_> = write_tx!(database.db(), |tx| {
        player_delete(tx, ann).await?;
        player_rename(
            tx,
            ann,
            "back",
            FeedPosition {
                epoch: other,
                sequence: 2,
            },
        )
        .await?;
        player_upsert(tx, ann, "back").await?;
        Ok((player_lock(tx, ann).await?, players_by_ids(tx, &[ann]).await?))
    });
    assert_eq!(
        deleted.expect("deleted"),
        ((String::new(), true), vec![(ann, String::new())])
    );
}

#[on_both_backends]
async fn the_feed_cursor_only_moves_forward(database: TestDatabase) {
    let (one, other) = (Epoch::generate(), Epoch::generate());
    let mut known = Vec::new();
    for (epoch, sequence) in [(one, 5), (one, 4), (one, 6), (other, 1)] {
        let set: db::Result<Option<FeedPosition>> = write_tx!(database.db(), |tx| {
            feed_cursor_set(tx, FeedPosition { epoch, sequence }).await?;
            feed_cursor_get(tx).await
        });
        known.push(set.expect("set").expect("a position").sequence);
    }
    assert_eq!(known, [5, 5, 6, 1]);
}

#[on_both_backends]
async fn every_change_of_a_standing_is_seen_once(database: TestDatabase) {
    let seed = seed(&database).await;
    let db = database.db();
    let mut horizon = standings_horizon(&mut db.read().await.expect("a connection"))
        .await
        .expect("a horizon");
    let run = async |statement: &'static str| {
        let changed: db::Result<usize> =
            write_tx!(db, |tx| query!(tx, |c| diesel::sql_query(statement).execute(c).await));
        assert_eq!(changed.expect("changed"), 1, "{statement}");
    };
    let mut changes = async || {
        let changed = standings_changed(&mut db.read().await.expect("a connection"), &horizon, 10, &[]).await;
        let changes = changed.expect("read").expect("the same database");
        horizon = changes.horizon;
        assert_eq!(changes.logins, []);
        let seen = |player: ChangedPlayer| (player.id, player.login, player.standing.wins);
        changes.players.into_iter().map(seen).collect::<Vec<_>>()
    };
    let ann = |login: &str, wins| (seed.ann, login.to_owned(), wins);
    // Nothing has changed since the horizon was taken.
    assert_eq!(changes().await, []);
    add_stats(&database, &stats_of_ann(&seed)).await.expect("added");
    assert_eq!(changes().await, [ann("ann", 1)]);
    assert_eq!(changes().await, []);
    add_stats(&database, &stats_of_ann(&seed)).await.expect("added");
    let renamed: db::Result<()> = write_tx!(db, |tx| {
        player_upsert(tx, seed.ann, "anna").await?;
        // An unchanged login is not written.
        player_upsert(tx, seed.bob, "bob").await
    });
    renamed.expect("renamed");
    // A player with several changes is there once.
    assert_eq!(changes().await, [ann("anna", 2)]);
    let renamed: db::Result<()> = write_tx!(db, |tx| player_upsert(tx, seed.ann, "annie").await);
    renamed.expect("renamed");
    assert_eq!(changes().await, [ann("annie", 2)]);
    let renamed: db::Result<()> = write_tx!(db, |tx| {
        let at = FeedPosition {
            epoch: Epoch::generate(),
            sequence: 1,
        };
        player_rename(tx, seed.ann, "anna", at).await
    });
    renamed.expect("renamed");
    assert_eq!(changes().await, [ann("anna", 2)]);
    // Changes by hand are seen as well.
    run("UPDATE player_stats SET wins = 7").await;
    assert_eq!(changes().await, [ann("anna", 7)]);
    run("DELETE FROM player_stats").await;
    assert_eq!(changes().await, [ann("anna", 0)]);
    add_stats(&database, &stats_of_ann(&seed)).await.expect("added");
    assert_eq!(changes().await, [ann("anna", 1)]);
    let deleted: db::Result<()> = write_tx!(db, |tx| player_delete(tx, seed.ann).await);
    deleted.expect("deleted");
    assert_eq!(changes().await, [ann("", 1)]);
    assert_eq!(changes().await, []);
}

#[on_both_backends]
async fn logins_are_read_along_with_the_changes(database: TestDatabase) {
    let seed = seed(&database).await;
    let db = database.db();
    let conn = &mut db.read().await.expect("a connection");
    let horizon = standings_horizon(conn).await.expect("a horizon");
    let written: db::Result<()> = write_tx!(db, |tx| {
        stats_add(tx, &stats_of_ann(&seed)).await?;
        player_delete(tx, seed.bob).await
    });
    written.expect("written");
    let (ann, bob) = ((seed.ann, "ann".to_owned()), (seed.bob, String::new()));
    let unknown = UserId::generate();
    for (wanted, expected) in [
        (vec![], vec![]),
        (vec![seed.ann], vec![ann.clone()]),
        (vec![unknown, seed.bob, seed.ann], vec![ann, bob]),
    ] {
        let changed = standings_changed(conn, &horizon, 10, &wanted).await.expect("read");
        let mut changes = changed.expect("the same database");
        changes.logins.sort_by(|(_, a), (_, b)| b.cmp(a));
        assert_eq!(changes.logins, expected);
        assert!(
            changes
                .players
                .iter()
                .any(|player| (player.id, player.standing.wins) == (seed.ann, 1))
        );
    }
}

#[on_both_backends]
async fn every_standing_is_read_once(database: TestDatabase) {
    // Enough for several parts.
    let stats: Vec<StatsRow> = (0..500)
        .map(|number| StatsRow {
            user_id: UserId::generate(),
            wins: number * 10_000_000,
            losses: 2,
            draws: 1,
            last_finish_time: NOW,
        })
        .collect();
    let player = |row: &StatsRow| PlayerRow {
        id: row.user_id,
        login: "somebody".to_owned(),
    };
    let players: Vec<PlayerRow> = stats.iter().map(player).collect();
    let written: db::Result<()> = write_tx!(database.db(), |tx| {
        players_insert(tx, &players).await?;
        stats_insert(tx, &stats).await?;
        stats_delete(tx, stats[7].user_id).await
    });
    written.expect("written");
    let mut snapshot = database.db().snapshot().await.expect("a snapshot");
    let mut all = Vec::new();
    let scanned = standings_scan(&mut snapshot, |id, standing| all.push((id, standing))).await;
    scanned.expect("read");
    snapshot.end().await;
    all.sort_unstable_by_key(|(id, _)| *id);
    let standing = |row: &StatsRow| Standing {
        // A count that is too large, which no game leads to, becomes the largest possible one.
        wins: u32::try_from(row.wins).unwrap_or(u32::MAX),
        losses: 2,
        draws: 1,
        last_finish_time: NOW,
    };
    let (before, after) = (&stats[..7], &stats[8..]);
    let expected = before.iter().chain(after).map(|row| (row.user_id, standing(row)));
    assert_eq!(all, expected.collect::<Vec<_>>());
}

#[on_both_backends]
async fn uncommitted_changes_are_seen_after_their_commit(database: TestDatabase) {
    let seed = seed(&database).await;
    let db = database.db();
    let bob = StatsRow {
        user_id: seed.bob,
        ..stats_of_ann(&seed)
    };
    let horizon = async || {
        standings_horizon(&mut db.read().await.expect("a connection"))
            .await
            .expect("a horizon")
    };
    let changed = async |since: &Horizon| {
        let changed = standings_changed(&mut db.read().await.expect("a connection"), since, 10, &[]).await;
        let changes = changed.expect("read").expect("the same database");
        let ids: Vec<UserId> = changes.players.into_iter().map(|player| player.id).collect();
        (changes.horizon, ids)
    };
    let before = horizon().await;
    let written: db::Result<Horizon> = write_tx!(db, |tx| {
        stats_add(tx, &stats_of_ann(&seed)).await?;
        // On PostgreSQL, another transaction begins later and commits earlier.
        if tx.backend() == Backend::Postgres {
            add_stats(&database, &bob).await?;
        }
        let (since, seen) = changed(&before).await;
        assert_eq!(
            seen,
            if tx.backend() == Backend::Postgres {
                vec![seed.bob]
            } else {
                vec![]
            }
        );
        Ok(since)
    });
    let (since, seen) = changed(&written.expect("written")).await;
    assert_eq!(seen, [seed.ann]);
    assert_eq!(changed(&since).await.1, []);
}

#[on_both_backends]
async fn rows_restored_from_another_server_are_read_only_once(database: TestDatabase) {
    let db = database.db();
    if db.backend() == Backend::Sqlite {
        // A SQLite file carries its own revisions, so there is nothing to renew.
        let renewed: db::Result<usize> = write_tx!(db, |tx| standings_renew_revisions(tx, 1).await);
        assert_eq!(renewed.expect("renewed"), 0);
        return;
    }
    let seed = seed(&database).await;
    for user_id in [seed.ann, seed.bob] {
        add_stats(
            &database,
            &StatsRow {
                user_id,
                ..stats_of_ann(&seed)
            },
        )
        .await
        .expect("added");
    }
    let dumped = "UPDATE player_stats SET revision = '9000000000000000000'";
    let restored: db::Result<usize> = write_tx!(db, |tx| query!(tx, |c| diesel::sql_query(dumped).execute(c).await));
    assert_eq!(restored.expect("restored"), 2);
    let mut renewed = Vec::new();
    for _ in 0..3 {
        renewed.push(
            standings_renew_revisions(&mut db.write().await.expect("a connection"), 1)
                .await
                .expect("renewed"),
        );
    }
    assert_eq!(renewed, [1, 1, 0]);
    let conn = &mut db.read().await.expect("a connection");
    let horizon = standings_horizon(conn).await.expect("a horizon");
    let changed = standings_changed(conn, &horizon, 10, &[]).await.expect("read");
    assert_eq!(changed.expect("the same database").players, []);
}

#[on_both_backends]
async fn too_many_changes_or_another_database_yield_none(database: TestDatabase) {
    let seed = seed(&database).await;
    let db = database.db();
    let horizon = standings_horizon(&mut db.read().await.expect("a connection"))
        .await
        .expect("a horizon");
    for user_id in [seed.ann, seed.bob] {
        add_stats(
            &database,
            &StatsRow {
                user_id,
                ..stats_of_ann(&seed)
            },
        )
        .await
        .expect("added");
    }
    let conn = &mut db.read().await.expect("a connection");
    for (limit, is_said) in [(1, false), (2, false), (3, true)] {
        assert_eq!(
            standings_changed(conn, &horizon, limit, &[seed.ann, seed.bob])
                .await
                .expect("read")
                .is_some(),
            is_said,
            "{limit}"
        );
    }
    if db.backend() == Backend::Postgres {
        let emptied: db::Result<usize> = write_tx!(db, |tx| query!(tx, |c| diesel::sql_query("TRUNCATE player_stats")
            .execute(c)
            .await));
        emptied.expect("emptied");
        assert!(
            standings_changed(conn, &horizon, 10, &[])
                .await
                .expect("read")
                .is_none(),
            "no trigger tells of it"
        );
        for user_id in [seed.ann, seed.bob] {
            add_stats(
                &database,
                &StatsRow {
                    user_id,
                    ..stats_of_ann(&seed)
                },
            )
            .await
            .expect("added");
        }
    }
    let other = horizon.clone().of_another_database();
    let changed = standings_changed(conn, &other, 10, &[]).await.expect("read");
    assert!(changed.is_none());
}

#[on_both_backends]
async fn a_batched_read_shows_the_same_as_single_reads(database: TestDatabase) {
    let seed = seed(&database).await;
    let waiting = GameRow {
        id: GameId::generate(),
        o_player_id: None,
        state: "waiting".to_owned(),
        version: 1,
        ..seed.game.clone()
    };
    let other = GameRow {
        id: GameId::generate(),
        moves: Some(first_move()),
        ..seed.game.clone()
    };
    let written: db::Result<()> = write_tx!(database.db(), |tx| {
        game_insert(tx, &waiting).await?;
        game_insert(tx, &other).await
    });
    written.expect("games");
    let (stranger, gone) = (UserId::generate(), GameId::generate());
    let requests: Vec<ViewRequest> = [gone, other.id, seed.game.id, waiting.id]
        .into_iter()
        .flat_map(|game| [Some(stranger), Some(seed.bob), None].map(|user| ViewRequest { game, user }))
        .collect();
    let conn = &mut database.db().read().await.expect("a connection");
    let shown = |request: ViewRequest, played: PlayedRows| {
        (
            request,
            played.game.id,
            played.game.moves.map(|moves| moves.0.len()),
            played.x_login,
            played.o_login,
        )
    };
    let mut alone = Vec::new();
    for request in &requests {
        alone.extend(
            game_with_moves(conn, *request)
                .await
                .expect("read")
                .map(|played| shown(*request, played)),
        );
    }
    // A running game is visible to two of the three users, and a waiting one to all three.
    assert_eq!(alone.len(), 2 + 2 + 3);
    let together = games_with_moves(conn, &requests).await.expect("read");
    assert_eq!(
        together
            .into_iter()
            .map(|(request, played)| shown(request, played))
            .collect::<Vec<_>>(),
        alone
    );
}

#[on_both_backends]
async fn a_change_of_an_outdated_version_is_not_written(database: TestDatabase) {
    let seed = seed(&database).await;
    let update = GameUpdate {
        x_player_id: Some(seed.ann),
        o_player_id: Some(seed.bob),
        board: "X........".to_owned(),
        state: "turn".to_owned(),
        winner: None,
        version: 3,
        update_time: NOW,
        finish_time: None,
        end_reason: None,
        expire_time: Some(NOW),
        sweep_time: NOW,
        moves: Some(first_move()),
        is_ranked: true,
    };
    let id = seed.game.id;
    let written: db::Result<(bool, bool)> = write_tx!(database.db(), |tx| {
        Ok((
            game_update(tx, id, 2, &update).await?,
            game_update(tx, id, 2, &update).await?,
        ))
    });
    assert_eq!(written.expect("written"), (true, false));
}

#[test]
fn the_query_for_changes_is_planned_once_on_postgres() {
    block_on(async {
        let database = TestDatabase::create(Backend::Postgres, &MIGRATIONS).await;
        let db = database.db();
        // Enough rows to make a custom plan look cheaper than a generic one.
        let many = [
            "INSERT INTO players (id, login) SELECT gen_random_uuid(), 'player' || n FROM generate_series(1, 20000) \
            AS n",
            "INSERT INTO player_stats (user_id, wins, losses, draws, last_finish_time) SELECT id, 1, 0, 0, now() FROM \
            players",
            "ANALYZE",
        ];
        for statement in many {
            let written: db::Result<usize> =
                write_tx!(db, |tx| query!(tx, |c| diesel::sql_query(statement).execute(c).await));
            written.expect(statement);
        }
        let conn = &mut db.read().await.expect("a connection");
        let horizon = standings_horizon(conn).await.expect("a horizon");
        let id = prepared::<sql_types::Uuid>("SELECT id FROM players LIMIT 1");
        let one: db::Result<UserId> = query!(conn, |c| id.get_result(c).await);
        let one = one.expect("a player");
        for _ in 0..20 {
            for (wanted, logins) in [(&[one][..], 1), (&[], 0)] {
                let changed = standings_changed(conn, &horizon, 1_000, wanted).await.expect("read");
                assert!(changed.is_some_and(|changes| changes.logins.len() == logins));
            }
        }
        let plans = prepared::<BigInt>(
            "SELECT custom_plans FROM pg_prepared_statements WHERE statement LIKE '%pg_visible_in_snapshot%' \
             AND statement NOT LIKE '%pg_prepared_statements%'",
        );
        let plans: db::Result<Vec<i64>> = query!(conn, |c| plans.load(c).await);
        // PostgreSQL makes five custom plans before it considers a generic one.
        assert_eq!(plans.expect("with logins and without"), [5, 5]);
    });
}

#[on_both_backends]
async fn more_games_than_one_statement_takes_are_inserted(database: TestDatabase) {
    let seed = seed(&database).await;
    let rows: Vec<GameRow> = (0..2_500)
        .map(|_| GameRow {
            id: GameId::generate(),
            ..seed.game.clone()
        })
        .collect();
    let inserted: db::Result<()> = write_tx!(database.db(), |tx| games_insert(tx, &rows).await);
    inserted.expect("inserted");
}
