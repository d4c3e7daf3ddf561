//! Rows for many users and games.

use base::ids::UserId;
use diesel_async::{AsyncConnection as _, AsyncPgConnection, SimpleAsyncConnection as _};
use indicatif::{MultiProgress, ProgressBar};
use uuid::Uuid;

use crate::deployment::progress;

/// Number of rows that are inserted at a time.
const BATCH: u64 = 100_000;

/// Numbers of users and games.
#[derive(Clone, Copy, Debug)]
pub(super) struct Seed {
    pub(super) users: u64,
    pub(super) games: u64,
}

/// First 48 bits of the ids, by what they identify. Ids are ordered as new ones are.
const USER: u64 = 0x0199_0000_0000;
const SESSION: u64 = 0x019a_0000_0000;
const EVENT: u64 = 0x019b_0000_0000;
const GAME: u64 = 0x019c_0000_0000;

/// Users are created over a year. The texts of a user are as diverse as those of people: words of
/// letters and digits in logins and addresses, and some thousands of names.
const USERS: &str = "
INSERT INTO users (id, login, login_folded, email, email_folded, password_hash, first_name, last_name, middle_name,
    is_active, token_version, create_time, update_time, last_login_time, search_folded, key_time)
SELECT id, login, login, email, email, (SELECT password_hash FROM users WHERE login_folded = 'pattern'),
    initcap(first_name), initcap(last_name), '', true, 1, create_time, create_time, create_time,
    login || chr(10) || email || chr(10) || first_name || ' ' || last_name, create_time
FROM (SELECT {user} AS id, {word:login} AS login, {word:email} || '@mail.example' AS email,
    substr({word:first}, 1, 6) AS first_name, substr({word:last}, 1, 8) AS last_name,
    now() - interval '400 days' + n * (interval '399 days' / {all}) AS create_time
    FROM generate_series({first}, {last}) AS n) AS made";

const ROLES: &str = "
INSERT INTO user_roles (user_id, role_id)
SELECT {user}, '00000000-0000-7000-8000-000000000003' FROM generate_series({first}, {last}) AS n";

/// A session of every user. One in five was used within the last day, the others within a week. One
/// in five has ended in the last 29 days. One in 50 ended before that, and is to be purged; as many
/// are due for a check, and have been renewed.
const SESSIONS: &str = "
INSERT INTO sessions (id, user_id, counter, is_used, create_time, rotate_time, expire_time, absolute_expire_time,
    end_time, end_reason, device_id, ip_address, user_agent, last_use_time, sweep_time)
SELECT {session}, {user}, 3, false, used - interval '20 days', used, used + interval '7 days',
    used + interval '70 days', ended, CASE WHEN ended IS NOT NULL THEN 'logout' END, gen_random_uuid(), '192.0.2.7',
    'Game/4.2 (Phone; OS 17.5; a user agent as long as they are)', used,
    CASE WHEN n % 50 = 3 THEN now() - random() * interval '1 hour' - interval '10 minutes'
        ELSE used + interval '7 days' END
FROM (SELECT n, now() - CASE WHEN n % 5 = 0 THEN random() * interval '1 day'
    ELSE interval '1 day' + random() * interval '5 days' END AS used,
    CASE WHEN n % 50 = 7 THEN now() - interval '31 days' - random() * interval '1 day'
        WHEN n % 5 = 1 THEN now() - random() * interval '29 days' END AS ended
    FROM generate_series({first}, {last}) AS n) AS made";

/// Further ended sessions, as many as are to be purged.
pub(super) const NEW_SESSIONS: &str = "
INSERT INTO sessions (id, user_id, counter, is_used, create_time, rotate_time, expire_time, absolute_expire_time,
    end_time, end_reason, device_id, ip_address, user_agent, last_use_time, sweep_time)
SELECT gen_random_uuid(), {user}, 3, false, used - interval '20 days', used, used + interval '7 days',
    used + interval '70 days', now(), 'logout', gen_random_uuid(), '192.0.2.7',
    'Game/4.2 (Phone; OS 17.5; a user agent as long as they are)', used, used + interval '7 days'
FROM (SELECT n, now() - random() * interval '1 day' AS used
    FROM generate_series({first}, {last}) AS n WHERE n % 50 = 7) AS made";

/// Events of the users who are active, in the order of their times. One in 50 is older than 30
/// days.
const EVENTS: &str = "
INSERT INTO audit_events (id, event_time, action, outcome, reason, actor_user_id, actor_client_id, target_type,
    target_id, subject_user_id, ip_address, user_agent, request_id, details)
SELECT {event}, CASE WHEN n <= {all} / 50 THEN now() - interval '32 days' + n * interval '1 millisecond'
        ELSE now() - interval '29 days' + n * (interval '29 days' / {all}) END,
    'session.create', 'success', '', {active}, '', 'session', {session}::text, {active}, '192.0.2.7',
    'Game/4.2 (Phone; OS 17.5; a user agent as long as they are)', gen_random_uuid()::text, '{}'
FROM generate_series({first}, {last}) AS n";

pub(super) const NEW_EVENTS: &str = "
INSERT INTO audit_events (id, event_time, action, outcome, reason, actor_user_id, actor_client_id, target_type,
    target_id, subject_user_id, ip_address, user_agent, request_id, details)
SELECT gen_random_uuid(), now(), 'session.create', 'success', '', {active}, '', 'session', {session}::text, {active},
    '192.0.2.7', 'Game/4.2 (Phone; OS 17.5; a user agent as long as they are)', gen_random_uuid()::text, '{}'
FROM generate_series({first}, {last}) AS n WHERE n % 50 = 7";

/// A failed login of one user in 50, which no longer counts.
const ATTEMPTS: &str = "
INSERT INTO login_throttle (key, failures, blocked_until, expire_time)
SELECT sha256(n::text::bytea), 1, timestamptz 'epoch', now() - random() * interval '1 hour' - interval '10 minutes'
FROM generate_series({first}, {last}) AS n WHERE n % 50 = 7";

const PLAYERS: &str = "
INSERT INTO players (id, login) SELECT {user}, 'player-' || n FROM generate_series({first}, {last}) AS n";

/// Finished games of a year, ten for each of their players. One in 100 is not finished: half of
/// those are due for a check, and their time has been extended.
const GAMES: &str = "
INSERT INTO games (id, opponent, creator_id, x_player_id, o_player_id, board, state, winner, version, create_time,
    update_time, finish_time, end_reason, create_request, expire_time, sweep_time, moves)
SELECT {game}, 'player', x, x, o, CASE WHEN is_over THEN 'XXXOO....' ELSE '.........' END,
    CASE WHEN is_over THEN 'won' ELSE 'turn' END, CASE WHEN is_over THEN 'X' END, CASE WHEN is_over THEN 7 ELSE 2 END,
    time, time, CASE WHEN is_over THEN time END, CASE WHEN is_over THEN 'line' END, gen_random_uuid(),
    CASE WHEN NOT is_over THEN now() + interval '20 hours' END,
    CASE WHEN NOT is_over AND n % 200 = 0 THEN now() - random() * interval '1 hour' - interval '10 minutes'
        ELSE time + interval '24 hours' END,
    CASE WHEN is_over THEN '0 3 1795219200000000,3 4 1795219201000000,1 5 1795219202000000,4 6 1795219203000000,'
        || '2 7 1795219204000000' ELSE '' END
FROM (SELECT n, {x} AS x, {o} AS o, n % 100 <> 0 AS is_over,
    CASE WHEN n % 100 <> 0 THEN now() - interval '365 days' + n * (interval '365 days' / {all})
        ELSE now() - random() * interval '1 hour' END AS time
    FROM generate_series({first}, {last}) AS n) AS made";

const RESULTS: &str = "
INSERT INTO game_results (user_id, game_id, result, opponent_id, finish_time, end_reason)
SELECT CASE side WHEN 0 THEN {x} ELSE {o} END, {game}, CASE side WHEN 0 THEN 'won' ELSE 'lost' END,
    CASE side WHEN 0 THEN {o} ELSE {x} END, now() - interval '365 days' + n * (interval '365 days' / {all}), 'line'
FROM generate_series({first}, {last}) AS n, generate_series(0, 1) AS side WHERE n % 100 <> 0";

const STATS: &str = "
INSERT INTO player_stats (user_id, wins, losses, draws, last_finish_time)
SELECT {user}, 5 + n % 7, 5 + n % 3, n % 2, now() - random() * interval '30 days'
FROM generate_series({first}, {last}) AS n";

impl Seed {
    /// Returns the id of this user, who is a player as well.
    pub(super) fn user(number: u64) -> UserId {
        let high = u128::from(USER + number) << 80;
        UserId::from_uuid(Uuid::from_u128(high | (0x7000_8000 << 48) | u128::from(number)))
    }

    /// Returns the number of players who have played: those with the first numbers.
    pub(super) const fn players(self) -> u64 {
        self.games / 5
    }

    /// Returns the number of an active user at random.
    pub(super) fn active_user(self) -> u64 {
        5 * rand::random_range(1..=self.users / 5)
    }

    /// Fills the database of auth-service, which has been migrated.
    pub(super) async fn fill_auth(self, url: &str, bars: &MultiProgress) {
        let bar = bars.add(progress("rows for auth-service", 5 * self.users));
        let mut conn = open(url).await;
        // An index of trigrams takes minutes to build, and hours to insert into row by row.
        let keep = "CREATE TEMP TABLE search AS SELECT pg_get_indexdef('users_search_idx'::regclass) AS index";
        run(&mut conn, keep).await;
        run(&mut conn, "DROP INDEX users_search_idx").await;
        let users = async {
            self.insert(&mut conn, USERS, self.users, &bar).await;
            run(&mut conn, "DO $$ BEGIN EXECUTE (SELECT index FROM search); END $$").await;
            self.insert(&mut conn, ROLES, self.users, &bar).await;
        };
        let others = async {
            let mut conn = open(url).await;
            for insert in [SESSIONS, EVENTS, ATTEMPTS] {
                self.insert(&mut conn, insert, self.users, &bar).await;
            }
        };
        tokio::join!(users, others);
        clean(&mut conn).await;
        bar.finish_and_clear();
    }

    /// Fills the database of game-service, which has been migrated.
    pub(super) async fn fill_game(self, url: &str, bars: &MultiProgress) {
        let tables = [
            (PLAYERS, self.users / 5),
            (GAMES, self.games),
            (RESULTS, self.games),
            (STATS, self.players()),
        ];
        let bar = bars.add(progress(
            "rows for game-service",
            tables.iter().map(|(_, rows)| rows).sum(),
        ));
        let mut conn = open(url).await;
        for (insert, rows) in tables {
            self.insert(&mut conn, insert, rows, &bar).await;
        }
        clean(&mut conn).await;
        bar.finish_and_clear();
    }

    /// Inserts the rows with the numbers from 1 to `all`.
    async fn insert(self, conn: &mut AsyncPgConnection, insert: &str, all: u64, bar: &ProgressBar) {
        let mut first = 1;
        while first <= all {
            let last = all.min(first + BATCH - 1);
            run(conn, &self.sql(insert, first, last, all)).await;
            bar.inc(last - first + 1);
            first = last + 1;
        }
    }

    /// Returns the statement for the rows with these numbers.
    pub(super) fn sql(self, insert: &str, first: u64, last: u64, all: u64) -> String {
        let id = |kind: u64, number: &str| {
            format!("(lpad(to_hex({kind} + {number}), 12, '0') || '70008000' || lpad(to_hex({number}), 12, '0'))::uuid")
        };
        // 12 letters and digits that differ for each seed.
        let word = |seed: &str| {
            format!("lower(translate(substr(encode(decode(md5({seed}), 'hex'), 'base64'), 1, 12), '+/', 'xy'))")
        };
        let players = self.players();
        insert
            .replace("{word:login}", &word("'login' || n"))
            .replace("{word:email}", &word("'email' || n"))
            .replace("{word:first}", &word("'first' || n % 1999"))
            .replace("{word:last}", &word("'last' || n % 7919"))
            .replace("{user}", &id(USER, "n"))
            .replace("{active}", &id(USER, &format!("(5 + 5 * (n % ({} / 5)))", self.users)))
            .replace("{session}", &id(SESSION, "n"))
            .replace("{event}", &id(EVENT, "n"))
            .replace("{game}", &id(GAME, "n"))
            .replace("{x}", &id(USER, &format!("(1 + n % {players})")))
            .replace("{o}", &id(USER, &format!("(1 + (n + 1) % {players})")))
            .replace("{all}", &all.to_string())
            .replace("{first}", &first.to_string())
            .replace("{last}", &last.to_string())
    }
}

/// Connects for writing rows that refer only to each other, in any order.
async fn open(url: &str) -> AsyncPgConnection {
    let mut conn = AsyncPgConnection::establish(url).await.expect("connect");
    run(&mut conn, "SET session_replication_role = replica").await;
    conn
}

/// Does at once what PostgreSQL would do by itself within a minute, in the middle of the
/// measurement.
async fn clean(conn: &mut AsyncPgConnection) {
    run(conn, "VACUUM (ANALYZE)").await;
}

/// Runs a statement.
pub(super) async fn run(conn: &mut AsyncPgConnection, statement: &str) {
    conn.batch_execute(statement).await.expect(statement);
}
