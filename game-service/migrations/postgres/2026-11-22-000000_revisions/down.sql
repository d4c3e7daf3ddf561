DROP TRIGGER players_renamed ON players;
DROP TRIGGER player_stats_deleted ON player_stats;
DROP TRIGGER player_stats_changed ON player_stats;
DROP FUNCTION revision_set_of_player();
DROP FUNCTION revision_set();
ALTER TABLE players DROP COLUMN revision;
ALTER TABLE player_stats DROP COLUMN revision;

ALTER TABLE player_stats ADD COLUMN games_played bigint, ADD COLUMN win_ratio double precision;
UPDATE player_stats SET games_played = wins + losses + draws, win_ratio = wins::double precision / greatest(1, losses + draws);
ALTER TABLE player_stats
    ALTER COLUMN games_played SET NOT NULL,
    ALTER COLUMN win_ratio SET NOT NULL,
    ADD CHECK (games_played = wins + losses + draws),
    ADD CHECK (win_ratio = wins::double precision / greatest(1, losses + draws));
CREATE INDEX player_stats_rank_idx ON player_stats (win_ratio DESC, wins DESC, last_finish_time, user_id);

CREATE TABLE rank_groups (
    band         integer          NOT NULL,
    win_ratio    double precision NOT NULL,
    wins         bigint           NOT NULL,
    games_played bigint           NOT NULL,
    players      bigint           NOT NULL CHECK (players >= 0),
    PRIMARY KEY (band, win_ratio, wins, games_played),
    CHECK (band = 512 * wins / (wins + greatest(1, games_played - wins)))
) WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000);
CREATE INDEX rank_groups_games_idx ON rank_groups (games_played);
CREATE TABLE rank_bands (
    band    integer PRIMARY KEY,
    players bigint  NOT NULL CHECK (players >= 0)
) WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000);
INSERT INTO rank_groups (band, win_ratio, wins, games_played, players)
    SELECT 512 * wins / (wins + greatest(1, games_played - wins)), win_ratio, wins, games_played, count(*)
    FROM player_stats GROUP BY win_ratio, wins, games_played;
INSERT INTO rank_bands (band, players) SELECT band, sum(players) FROM rank_groups GROUP BY band;
