-- Players whose statistics changed since the snapshot $1, and the logins of the players $3. At most $2 ids are read from each
-- table. A deleted row of `player_stats` leaves its mark on the row of `players`.
--
-- The first row is the new horizon. A changed player has statistics and no login, any other player a login and no statistics.
--
-- The planner is kept from planning anew at each execution, which takes several times as long as the query itself: it does so
-- when the plan for the given values seems cheaper than the generic one. Values inside a SELECT of their own, and an upper
-- bound on the range, make both cost the same. `unnest(ARRAY(...))` and `ANY` read the rows by their index.
SELECT
    CAST(pg_postmaster_start_time() AS text) || ' ' || pg_relation_filenode('player_stats') AS database,
    CAST(pg_current_snapshot() AS text) AS seen,
    CAST(NULL AS uuid) AS user_id,
    CAST(NULL AS text) AS login,
    CAST(NULL AS bigint) AS wins,
    CAST(NULL AS bigint) AS losses,
    CAST(NULL AS bigint) AS draws,
    CAST(NULL AS timestamptz) AS last_finish_time
UNION ALL
SELECT
    NULL,
    NULL,
    changed.user_id,
    NULL,
    coalesce(player_stats.wins, 0),
    coalesce(player_stats.losses, 0),
    coalesce(player_stats.draws, 0),
    coalesce(player_stats.last_finish_time, to_timestamp(0))
FROM unnest(ARRAY(
    SELECT user_id FROM (
        SELECT user_id FROM player_stats
        WHERE revision >= (SELECT pg_snapshot_xmin(CAST($1 AS pg_snapshot)))
            AND revision <= (SELECT CAST('18446744073709551615' AS xid8))
            AND NOT pg_visible_in_snapshot(revision, (SELECT CAST($1 AS pg_snapshot)))
        ORDER BY revision LIMIT (SELECT $2)
    ) AS changed
    UNION
    SELECT id FROM (
        SELECT id FROM players
        WHERE revision >= (SELECT pg_snapshot_xmin(CAST($1 AS pg_snapshot)))
            AND revision <= (SELECT CAST('18446744073709551615' AS xid8))
            AND NOT pg_visible_in_snapshot(revision, (SELECT CAST($1 AS pg_snapshot)))
        ORDER BY revision LIMIT (SELECT $2)
    ) AS changed
)) AS changed (user_id)
LEFT JOIN player_stats ON player_stats.user_id = changed.user_id
UNION ALL
SELECT NULL, NULL, players.id, players.login, NULL, NULL, NULL, NULL
FROM players
WHERE players.id = ANY (CAST((SELECT $3) AS uuid[]))
