-- A deleted user keeps a row without a login, so that the opponents' games stay complete.
ALTER TABLE players ADD COLUMN is_deleted INTEGER NOT NULL DEFAULT 0 CHECK (is_deleted IN (0, 1));

-- Event of the access feed that the login comes from; NULL if it comes from a token.
ALTER TABLE players ADD COLUMN name_epoch BLOB CHECK (length(name_epoch) = 16);
ALTER TABLE players ADD COLUMN name_sequence INTEGER;

-- Position in the access feed up to which renames and deletions have been applied.
CREATE TABLE feed_cursor (
    id       INTEGER PRIMARY KEY NOT NULL CHECK (id = 1),
    epoch    BLOB    NOT NULL CHECK (length(epoch) = 16),
    sequence INTEGER NOT NULL CHECK (sequence >= 0)
) STRICT;

-- Deadline after which the game ends by itself; NULL once it is over.
ALTER TABLE games ADD COLUMN expire_time INTEGER;
UPDATE games SET expire_time = update_time + 24 * 3600 * 1000000 WHERE finish_time IS NULL;
CREATE INDEX games_expire_idx ON games (expire_time, id) WHERE finish_time IS NULL;

ALTER TABLE game_results ADD COLUMN end_reason TEXT NOT NULL DEFAULT 'line'
    CHECK (end_reason IN ('line', 'full_board', 'resignation', 'timeout'));
UPDATE game_results SET end_reason = (SELECT games.end_reason FROM games WHERE games.id = game_results.game_id);
CREATE INDEX game_results_opponent_idx ON game_results (user_id, opponent_id, finish_time DESC, game_id DESC);

-- Number of players by result. A rank is a sum over the higher bands, and over the higher groups in the player's own band. A band is a range of
-- ratios, so neither sum is over many rows, however many players there are.
CREATE TABLE rank_groups (
    band         INTEGER NOT NULL,
    win_ratio    REAL    NOT NULL,
    wins         INTEGER NOT NULL,
    games_played INTEGER NOT NULL,
    players      INTEGER NOT NULL CHECK (players >= 0),
    PRIMARY KEY (band, win_ratio, wins, games_played),
    -- Games won of 512, as if the player had lost or drawn at least one game.
    CHECK (band = 512 * wins / (wins + max(1, games_played - wins)))
) STRICT, WITHOUT ROWID;
-- For the number of players who have not finished enough games to be ranked.
CREATE INDEX rank_groups_games_idx ON rank_groups (games_played);
CREATE TABLE rank_bands (
    band    INTEGER PRIMARY KEY NOT NULL,
    players INTEGER NOT NULL CHECK (players >= 0)
) STRICT;
INSERT INTO rank_groups (band, win_ratio, wins, games_played, players)
    SELECT 512 * wins / (wins + max(1, games_played - wins)), win_ratio, wins, games_played, count(*)
    FROM player_stats GROUP BY win_ratio, wins, games_played;
INSERT INTO rank_bands (band, players) SELECT band, sum(players) FROM rank_groups GROUP BY band;
