use std::fmt::Write as _;

use base::ids::UserId;
use db::write_tx;
use diesel_async::SimpleAsyncConnection as _;
use testing::{TestDatabase, block_on, on_both_backends};

use super::*;
use crate::store::{
    GameRow, GameUpdate, MIGRATIONS, ViewRequest, game::fill_in, game_update, game_with_moves, games_insert,
    player_insert, schema::games,
};

const START: i64 = 1_795_219_200_000_000;

fn made(cell: i32, version: i64) -> StoredMove {
    StoredMove {
        cell,
        version,
        time: Timestamp::from_micros(START + version),
    }
}

#[test]
fn moves_are_read_as_they_were_written() {
    for moves in [vec![], vec![made(4, 3)], vec![made(4, 3), made(0, 4), made(8, 5)]] {
        let moves = Moves(moves);
        assert_eq!(Moves::parse(&moves.text()), Some(moves));
    }
}

#[test]
fn malformed_moves_are_rejected() {
    for text in [" ", "4", "4 3", "4 3 5 6", "4 3 x", "4 3 5,,0 4 6", ",", "4 3 5 ,0 4 6"] {
        assert_eq!(Moves::parse(text), None, "{text:?}");
    }
}

/// Returns both scripts of the migration that copies moves into the games' rows: up and down.
fn migration(backend: Backend) -> (&'static str, &'static str) {
    macro_rules! sql {
        ($backend:literal, $way:literal) => {
            include_str!(concat!(
                env!("CARGO_MANIFEST_DIR"),
                "/migrations/",
                $backend,
                "/2026-11-30-000000_moves_in_games/",
                $way,
                ".sql"
            ))
        };
    }
    match backend {
        Backend::Sqlite => (sql!("sqlite", "up"), sql!("sqlite", "down")),
        Backend::Postgres => (sql!("postgres", "up"), sql!("postgres", "down")),
    }
}

async fn run(db: &Db, statements: &str) {
    let ran: db::Result<()> = write_tx!(db, |tx| query!(tx, |c| c.batch_execute(statements).await));
    ran.unwrap_or_else(|error| panic!("{error}: {statements}"));
}

/// Inserts a game of `x` and `o` with these moves, as the previous version writes it.
async fn play_as_before(db: &Db, game: GameId, (x, o): (UserId, UserId), moves: &[StoredMove]) {
    let id = |uuid: &uuid::Uuid| match db.backend() {
        Backend::Sqlite => format!("x'{}'", uuid.simple()),
        Backend::Postgres => format!("'{uuid}'"),
    };
    let time = |time: Timestamp| match db.backend() {
        Backend::Sqlite => time.as_micros().to_string(),
        Backend::Postgres => format!("timestamptz 'epoch' + {} * interval '1 microsecond'", time.as_micros()),
    };
    let [game, x, o] = [game.as_uuid(), x.as_uuid(), o.as_uuid()].map(id);
    let now = time(Timestamp::from_micros(START));
    let mut statements = format!(
        "INSERT INTO players (id, login) VALUES ({x}, 'ann'), ({o}, 'bob') ON CONFLICT DO NOTHING;
         INSERT INTO games (id, opponent, creator_id, x_player_id, o_player_id, board, state, version, create_time, \
         update_time, expire_time) \
         VALUES ({game}, 'player', {x}, {x}, {o}, '.........', 'turn', 9, {now}, {now}, {now});"
    );
    for (ply, made) in moves.iter().enumerate() {
        let (mark, player) = if ply % 2 == 0 { ('X', &x) } else { ('O', &o) };
        let _ = write!(
            statements,
            "INSERT INTO moves (game_id, ply, cell, mark, player_id, version, create_time) \
             VALUES ({game}, {ply}, {}, '{mark}', {player}, {}, {});",
            made.cell,
            made.version,
            time(made.time)
        );
    }
    run(db, &statements).await;
}

async fn moves_of(db: &Db, game: GameId) -> Vec<StoredMove> {
    let conn = &mut db.read().await.expect("a connection");
    let found = game_with_moves(conn, ViewRequest { game, user: None }).await;
    let moves = found.expect("read").expect("the game").game.moves;
    moves.expect("filled in").0
}

/// Returns the number of moves that the previous version sees.
async fn count_moves(db: &Db) -> i64 {
    let conn = &mut db.read().await.expect("a connection");
    let count = prepared::<BigInt>("SELECT count(*) FROM moves");
    let count: db::Result<i64> = query!(conn, |c| count.get_result(c).await);
    count.expect("counted")
}

#[on_both_backends]
async fn games_of_the_previous_version_keep_their_moves(database: TestDatabase) {
    let db = database.db();
    let (up, down) = migration(database.backend());
    run(db, down).await;
    let players = (UserId::generate(), UserId::generate());
    let games = [
        [made(4, 3), made(0, 4), made(8, 5)].to_vec(),
        [made(2, 3)].to_vec(),
        vec![],
    ];
    let games = games.map(|moves| (GameId::generate(), moves));
    for (game, moves) in &games {
        play_as_before(db, *game, players, moves).await;
    }
    run(db, up).await;
    for (game, moves) in &games {
        assert_eq!(&moves_of(db, *game).await, moves);
    }
    // Migrated moves are the same.
    let mut after = None;
    while let Some(last) = moves_take_over(db, after, 1).await.expect("taken over") {
        after = Some(last);
    }
    for (game, moves) in &games {
        assert_eq!(&moves_of(db, *game).await, moves);
    }
    // They are also the same after the migration was reverted and applied again.
    run(db, down).await;
    assert_eq!(count_moves(db).await, 4);
    run(db, up).await;
    for (game, moves) in &games {
        assert_eq!(&moves_of(db, *game).await, moves);
    }
}

#[test]
fn moves_migrated_between_two_reads_are_not_lost() {
    block_on(async {
        let database = TestDatabase::create(Backend::Postgres, &MIGRATIONS).await;
        let (db, (up, down)) = (database.db(), migration(Backend::Postgres));
        run(db, down).await;
        let game = GameId::generate();
        let players = (UserId::generate(), UserId::generate());
        play_as_before(db, game, players, &[made(4, 3), made(0, 4)]).await;
        run(db, up).await;
        let conn = &mut db.read().await.expect("a connection");
        let row: db::Result<GameRow> = query!(conn, |c| games::table
            .find(game)
            .select(GameRow::as_select())
            .first(c)
            .await);
        let mut row = row.expect("the game");
        assert_eq!(row.moves, None);
        assert_eq!(moves_take_over(db, None, 10).await.expect("taken over"), Some(game));
        // Meanwhile another move is made, at a later version.
        let later = format!("UPDATE games SET version = 10, moves = moves || ',8 10 {START}' WHERE id = '{game}'");
        run(db, &later).await;
        fill_in(conn, vec![&mut row]).await.expect("filled in");
        assert_eq!(row.moves, Some(Moves(vec![made(4, 3), made(0, 4)])));
    });
}

#[test]
fn a_replica_of_the_previous_version_reads_many_games_by_their_index() {
    block_on(async {
        let database = TestDatabase::create(Backend::Postgres, &MIGRATIONS).await;
        let many = "INSERT INTO players (id, login) VALUES ('00000000-0000-0000-0000-000000000001', 'ann');
            INSERT INTO games (id, opponent, creator_id, x_player_id, board, state, version, create_time, update_time)
            SELECT gen_random_uuid(), 'computer', p.id, p.id, '.........', 'turn', 1, now(), now()
            FROM players p, generate_series(1, 5000);";
        run(database.db(), many).await;
        run(database.db(), "ANALYZE games").await;
        let plan = prepared::<Text>(
            "EXPLAIN SELECT * FROM games LEFT JOIN moves ON moves.game_id = games.id \
             WHERE games.id = ANY('{00000000-0000-0000-0000-000000000002,00000000-0000-0000-0000-000000000003}')",
        );
        let conn = &mut database.db().read().await.expect("a connection");
        let plan: db::Result<Vec<String>> = query!(conn, |c| plan.load(c).await);
        let plan = plan.expect("a plan").join("\n");
        assert!(!plan.contains("Seq Scan on games"), "{plan}");
    });
}

#[test]
fn a_replica_of_the_previous_version_reads_and_writes_moves_beside_this_one() {
    block_on(async {
        let database = TestDatabase::create(Backend::Postgres, &MIGRATIONS).await;
        let (db, (up, down)) = (database.db(), migration(Backend::Postgres));
        run(db, down).await;
        let players = (UserId::generate(), UserId::generate());
        let (old, new) = (GameId::generate(), GameId::generate());
        play_as_before(db, old, players, &[made(4, 3), made(0, 4)]).await;
        run(db, up).await;
        // The older replica continues an old game and begins another.
        let insert = format!(
            "INSERT INTO moves (game_id, ply, cell, mark, player_id, version, create_time) VALUES ('{old}', 2, 8, \
             'X', '{}', 5, timestamptz 'epoch' + {} * interval '1 microsecond')",
            players.0,
            START + 5
        );
        run(db, &insert).await;
        play_as_before(db, new, players, &[made(1, 3), made(2, 4)]).await;
        assert_eq!(moves_of(db, old).await, [made(4, 3), made(0, 4), made(8, 5)]);
        assert_eq!(moves_of(db, new).await, [made(1, 3), made(2, 4)]);
        assert_eq!(count_moves(db).await, 5);
        let players_match = prepared::<BigInt>(
            "SELECT count(*) FROM moves JOIN games ON games.id = game_id \
             WHERE player_id = CASE mark WHEN 'X' THEN x_player_id ELSE o_player_id END",
        );
        let conn = &mut db.read().await.expect("a connection");
        let matching: db::Result<i64> = query!(conn, |c| players_match.get_result(c).await);
        assert_eq!(matching.expect("counted"), 5);
    });
}

#[test]
fn a_move_changes_no_index_of_postgres() {
    block_on(async {
        let database = TestDatabase::create(Backend::Postgres, &MIGRATIONS).await;
        let players = (UserId::generate(), UserId::generate());
        let start = Timestamp::from_micros(START);
        let rows = (0..50).map(|_| GameRow {
            id: GameId::generate(),
            opponent: "player".to_owned(),
            creator_id: players.0,
            x_player_id: Some(players.0),
            o_player_id: Some(players.1),
            board: ".........".to_owned(),
            state: "turn".to_owned(),
            winner: None,
            version: 9,
            create_time: start,
            update_time: start,
            finish_time: None,
            end_reason: None,
            create_request: None,
            expire_time: Some(start),
            sweep_time: start,
            moves: Some(Moves::default()),
            is_ranked: true,
        });
        let rows: Vec<GameRow> = rows.collect();
        let inserted: db::Result<()> = write_tx!(database.db(), |tx| {
            player_insert(tx, players.0, "ann").await?;
            player_insert(tx, players.1, "bob").await?;
            games_insert(tx, &rows).await
        });
        inserted.expect("inserted");
        let games: Vec<GameId> = rows.iter().map(|row| row.id).collect();
        let conn = &mut database.db().write().await.expect("a connection");
        for ply in 0..8_i32 {
            let version = i64::from(ply) + 10;
            let now = Timestamp::from_micros(START + version);
            let update = GameUpdate {
                x_player_id: Some(players.0),
                o_player_id: Some(players.1),
                board: "X........".to_owned(),
                state: "turn".to_owned(),
                winner: None,
                version,
                update_time: now,
                finish_time: None,
                end_reason: None,
                expire_time: Some(now),
                sweep_time: Timestamp::from_micros(START),
                moves: Some(Moves((0..=ply).map(|cell| made(cell, version)).collect())),
                is_ranked: true,
            };
            for game in &games {
                assert!(game_update(conn, *game, version - 1, &update).await.expect("updated"));
            }
        }
        let flush = prepared::<Text>("SELECT pg_stat_force_next_flush()::text");
        let flushed: db::Result<Vec<String>> = query!(conn, |c| flush.load(c).await);
        flushed.expect("flushed");
        let counts = prepared::<(BigInt, BigInt)>(
            "SELECT n_tup_upd, n_tup_hot_upd FROM pg_stat_user_tables WHERE relname = 'games'",
        );
        let counts: db::Result<(i64, i64)> = query!(conn, |c| counts.get_result(c).await);
        let (all, heap_only) = counts.expect("counted");
        assert_eq!(all, 400);
        // A page has no room for another version of a row while transactions of other tests may
        // still see the old ones. If a move changed an index, there would be none at all.
        assert!(heap_only > 100, "{heap_only}");
    });
}
