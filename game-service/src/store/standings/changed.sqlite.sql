-- Players whose statistics changed since the revision ?1, and the logins of the players ?3. At most ?2 ids are read from each
-- table. A deleted row of `player_stats` leaves its mark on the row of `players`.
--
-- The first row is the new horizon. A changed player has statistics and no login, any other player a login and no statistics.
SELECT
    '' AS database,
    CAST((SELECT value - 1 FROM next_revision) AS TEXT) AS seen,
    NULL AS user_id,
    NULL AS login,
    NULL AS wins,
    NULL AS losses,
    NULL AS draws,
    NULL AS last_finish_time
UNION ALL
SELECT
    NULL,
    NULL,
    changed.user_id,
    NULL,
    coalesce(player_stats.wins, 0),
    coalesce(player_stats.losses, 0),
    coalesce(player_stats.draws, 0),
    coalesce(player_stats.last_finish_time, 0)
FROM (
    SELECT user_id FROM (
        SELECT user_id FROM player_stats WHERE revision > CAST(?1 AS INTEGER) ORDER BY revision LIMIT ?2
    )
    UNION
    SELECT id FROM (
        SELECT id FROM players WHERE revision > CAST(?1 AS INTEGER) ORDER BY revision LIMIT ?2
    )
) AS changed
LEFT JOIN player_stats ON player_stats.user_id = changed.user_id
UNION ALL
SELECT NULL, NULL, players.id, players.login, NULL, NULL, NULL, NULL
FROM players
WHERE players.id IN (SELECT unhex(value) FROM json_each(?3))
