-- A deleted user stays as somebody without a name: the games of the others are whole.
ALTER TABLE players ADD COLUMN is_deleted INTEGER NOT NULL DEFAULT 0 CHECK (is_deleted IN (0, 1));

-- How far the renames and deletions of the access feed are known here.
CREATE TABLE feed_cursor (
    id       INTEGER PRIMARY KEY NOT NULL CHECK (id = 1),
    epoch    BLOB    NOT NULL CHECK (length(epoch) = 16),
    sequence INTEGER NOT NULL CHECK (sequence >= 0)
) STRICT;

-- When a game ends by itself; NULL once it is over.
ALTER TABLE games ADD COLUMN expire_time INTEGER;
UPDATE games SET expire_time = update_time + 24 * 3600 * 1000000 WHERE finish_time IS NULL;
CREATE INDEX games_expire_idx ON games (expire_time) WHERE finish_time IS NULL;

ALTER TABLE game_results ADD COLUMN end_reason TEXT NOT NULL DEFAULT 'line'
    CHECK (end_reason IN ('line', 'full_board', 'resignation', 'timeout'));
UPDATE game_results SET end_reason = (SELECT games.end_reason FROM games WHERE games.id = game_results.game_id);
CREATE INDEX game_results_opponent_idx ON game_results (user_id, opponent_id, finish_time DESC, game_id DESC);

-- How many players stand where: a rank is a sum over the groups above.
CREATE TABLE rank_groups (
    win_ratio    REAL    NOT NULL,
    wins         INTEGER NOT NULL,
    games_played INTEGER NOT NULL,
    players      INTEGER NOT NULL CHECK (players >= 0),
    PRIMARY KEY (win_ratio, wins, games_played)
) STRICT, WITHOUT ROWID;
INSERT INTO rank_groups (win_ratio, wins, games_played, players)
    SELECT win_ratio, wins, games_played, count(*) FROM player_stats GROUP BY win_ratio, wins, games_played;
