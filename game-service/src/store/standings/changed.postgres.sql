-- Players whose statistics or login changed since the snapshot $1. At most $2 ids are read from each table.
--
-- The first two columns are the new horizon, and stand in every row. If nobody has changed there is one row, without a player.
--
-- The planner is kept from planning anew at each execution, which takes several times as long as the query itself: it does so
-- when the plan for the given values seems cheaper than the generic one. Values inside a SELECT of their own, and an upper
-- bound on the range, make both cost the same. `ANY (ARRAY(...))` reads the players by their index.
SELECT
    CAST(pg_postmaster_start_time() AS text) || ' ' || pg_relation_filenode('player_stats') AS database,
    CAST(pg_current_snapshot() AS text) AS seen,
    players.id AS user_id,
    players.login,
    player_stats.wins,
    player_stats.losses,
    player_stats.draws,
    player_stats.last_finish_time
FROM (SELECT 1) AS horizon
LEFT JOIN players ON players.id = ANY (ARRAY(
    SELECT user_id FROM (
        SELECT user_id FROM player_stats
        WHERE revision >= (SELECT pg_snapshot_xmin(CAST($1 AS pg_snapshot)))
            AND revision <= (SELECT CAST('18446744073709551615' AS xid8))
            AND NOT pg_visible_in_snapshot(revision, (SELECT CAST($1 AS pg_snapshot)))
        ORDER BY revision LIMIT (SELECT $2)
    ) AS changed
    UNION ALL
    SELECT id FROM (
        SELECT id FROM players
        WHERE revision >= (SELECT pg_snapshot_xmin(CAST($1 AS pg_snapshot)))
            AND revision <= (SELECT CAST('18446744073709551615' AS xid8))
            AND NOT pg_visible_in_snapshot(revision, (SELECT CAST($1 AS pg_snapshot)))
        ORDER BY revision LIMIT (SELECT $2)
    ) AS changed
))
LEFT JOIN player_stats ON player_stats.user_id = players.id
