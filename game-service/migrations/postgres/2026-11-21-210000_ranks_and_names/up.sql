-- A deleted user keeps a row without a login, so that the opponents' games stay complete.
ALTER TABLE players ADD COLUMN is_deleted boolean NOT NULL DEFAULT false;

-- Event of the access feed that the login comes from; NULL if it comes from a token.
ALTER TABLE players ADD COLUMN name_epoch uuid;
ALTER TABLE players ADD COLUMN name_sequence bigint;

-- Position in the access feed up to which renames and deletions have been applied.
CREATE TABLE feed_cursor (
    id       integer PRIMARY KEY CHECK (id = 1),
    epoch    uuid    NOT NULL,
    sequence bigint  NOT NULL CHECK (sequence >= 0)
);

-- Deadline after which the game ends by itself; NULL once it is over.
ALTER TABLE games ADD COLUMN expire_time timestamptz;
UPDATE games SET expire_time = update_time + interval '24 hours' WHERE finish_time IS NULL;
CREATE INDEX games_expire_idx ON games (expire_time, id) WHERE finish_time IS NULL;

ALTER TABLE game_results ADD COLUMN end_reason text NOT NULL DEFAULT 'line'
    CHECK (end_reason IN ('line', 'full_board', 'resignation', 'timeout'));
ALTER TABLE game_results ALTER COLUMN end_reason DROP DEFAULT;
UPDATE game_results SET end_reason = games.end_reason FROM games WHERE games.id = game_results.game_id;
CREATE INDEX game_results_opponent_idx ON game_results (user_id, opponent_id, finish_time DESC, game_id DESC);

-- Number of players by result. A rank is a sum over the higher bands, and over the higher groups in the player's own band. A band is a range of
-- ratios, so neither sum is over many rows, however many players there are. The rows change often and stay small, so their pages keep free space
-- for the next versions and are vacuumed often.
CREATE TABLE rank_groups (
    band         integer          NOT NULL,
    win_ratio    double precision NOT NULL,
    wins         bigint           NOT NULL,
    games_played bigint           NOT NULL,
    players      bigint           NOT NULL CHECK (players >= 0),
    PRIMARY KEY (band, win_ratio, wins, games_played),
    -- Games won of 512, as if the player had lost or drawn at least one game.
    CHECK (band = 512 * wins / (wins + greatest(1, games_played - wins)))
) WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000);
-- For the number of players who have not finished enough games to be ranked.
CREATE INDEX rank_groups_games_idx ON rank_groups (games_played);
CREATE TABLE rank_bands (
    band    integer PRIMARY KEY,
    players bigint  NOT NULL CHECK (players >= 0)
) WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000);
INSERT INTO rank_groups (band, win_ratio, wins, games_played, players)
    SELECT 512 * wins / (wins + greatest(1, games_played - wins)), win_ratio, wins, games_played, count(*)
    FROM player_stats GROUP BY win_ratio, wins, games_played;
INSERT INTO rank_bands (band, players) SELECT band, sum(players) FROM rank_groups GROUP BY band;
