-- Players whose statistics or login changed since the revision ?1. At most ?2 ids are read from each table.
--
-- The first two columns are the new horizon, and stand in every row. If nobody has changed there is one row, without a player.
SELECT
    '' AS database,
    CAST((SELECT value - 1 FROM next_revision) AS TEXT) AS seen,
    players.id AS user_id,
    players.login,
    player_stats.wins,
    player_stats.losses,
    player_stats.draws,
    player_stats.last_finish_time
FROM (SELECT 1) AS horizon
LEFT JOIN players ON players.id IN (
    SELECT user_id FROM (
        SELECT user_id FROM player_stats WHERE revision > CAST(?1 AS INTEGER) ORDER BY revision LIMIT ?2
    ) AS changed
    UNION ALL
    SELECT id FROM (
        SELECT id FROM players WHERE revision > CAST(?1 AS INTEGER) ORDER BY revision LIMIT ?2
    ) AS changed
)
LEFT JOIN player_stats ON player_stats.user_id = players.id
