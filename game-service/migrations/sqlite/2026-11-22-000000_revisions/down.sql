DROP TRIGGER players_renamed;
DROP TRIGGER player_stats_deleted;
DROP TRIGGER player_stats_updated;
DROP TRIGGER player_stats_inserted;
DROP VIEW next_revision;
DROP INDEX players_revision_idx;
ALTER TABLE players DROP COLUMN revision;

CREATE TABLE player_stats_before (
    user_id          BLOB    PRIMARY KEY NOT NULL REFERENCES players (id),
    wins             INTEGER NOT NULL CHECK (wins >= 0),
    losses           INTEGER NOT NULL CHECK (losses >= 0),
    draws            INTEGER NOT NULL CHECK (draws >= 0),
    games_played     INTEGER NOT NULL CHECK (games_played = wins + losses + draws),
    win_ratio        REAL    NOT NULL CHECK (win_ratio = CAST(wins AS REAL) / max(1, losses + draws)),
    last_finish_time INTEGER NOT NULL
) STRICT;
INSERT INTO player_stats_before
    SELECT user_id, wins, losses, draws, wins + losses + draws, CAST(wins AS REAL) / max(1, losses + draws), last_finish_time
    FROM player_stats;
DROP TABLE player_stats;
ALTER TABLE player_stats_before RENAME TO player_stats;
CREATE INDEX player_stats_rank_idx ON player_stats (win_ratio DESC, wins DESC, last_finish_time, user_id);

CREATE TABLE rank_groups (
    band         INTEGER NOT NULL,
    win_ratio    REAL    NOT NULL,
    wins         INTEGER NOT NULL,
    games_played INTEGER NOT NULL,
    players      INTEGER NOT NULL CHECK (players >= 0),
    PRIMARY KEY (band, win_ratio, wins, games_played),
    CHECK (band = 512 * wins / (wins + max(1, games_played - wins)))
) STRICT, WITHOUT ROWID;
CREATE INDEX rank_groups_games_idx ON rank_groups (games_played);
CREATE TABLE rank_bands (
    band    INTEGER PRIMARY KEY NOT NULL,
    players INTEGER NOT NULL CHECK (players >= 0)
) STRICT;
INSERT INTO rank_groups (band, win_ratio, wins, games_played, players)
    SELECT 512 * wins / (wins + max(1, games_played - wins)), win_ratio, wins, games_played, count(*)
    FROM player_stats GROUP BY win_ratio, wins, games_played;
INSERT INTO rank_bands (band, players) SELECT band, sum(players) FROM rank_groups GROUP BY band;
