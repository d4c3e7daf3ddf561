-- A deleted user stays as somebody without a name: the games of the others are whole.
ALTER TABLE players ADD COLUMN is_deleted boolean NOT NULL DEFAULT false;

-- How far the renames and deletions of the access feed are known here.
CREATE TABLE feed_cursor (
    id       integer PRIMARY KEY CHECK (id = 1),
    epoch    uuid    NOT NULL,
    sequence bigint  NOT NULL CHECK (sequence >= 0)
);

-- When a game ends by itself; NULL once it is over.
ALTER TABLE games ADD COLUMN expire_time timestamptz;
UPDATE games SET expire_time = update_time + interval '24 hours' WHERE finish_time IS NULL;
CREATE INDEX games_expire_idx ON games (expire_time) WHERE finish_time IS NULL;

ALTER TABLE game_results ADD COLUMN end_reason text NOT NULL DEFAULT 'line'
    CHECK (end_reason IN ('line', 'full_board', 'resignation', 'timeout'));
ALTER TABLE game_results ALTER COLUMN end_reason DROP DEFAULT;
UPDATE game_results SET end_reason = games.end_reason FROM games WHERE games.id = game_results.game_id;
CREATE INDEX game_results_opponent_idx ON game_results (user_id, opponent_id, finish_time DESC, game_id DESC);

-- How many players stand where: a rank is a sum over the groups above. A row changes often and stays small, so
-- its page has room for the next versions of it.
CREATE TABLE rank_groups (
    win_ratio    double precision NOT NULL,
    wins         bigint           NOT NULL,
    games_played bigint           NOT NULL,
    players      bigint           NOT NULL CHECK (players >= 0),
    PRIMARY KEY (win_ratio, wins, games_played)
) WITH (fillfactor = 50);
INSERT INTO rank_groups (win_ratio, wins, games_played, players)
    SELECT win_ratio, wins, games_played, count(*) FROM player_stats GROUP BY win_ratio, wins, games_played;
