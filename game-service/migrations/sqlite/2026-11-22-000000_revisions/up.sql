-- Ranks are now computed in memory, from the rows that have changed since the last look. Columns derived from wins, losses and draws are therefore
-- dropped, and so are the numbers of players by result, whose rows made finishing games wait for each other.
DROP TABLE rank_groups;
DROP TABLE rank_bands;

CREATE TABLE player_stats_next (
    user_id          BLOB    PRIMARY KEY NOT NULL REFERENCES players (id),
    wins             INTEGER NOT NULL CHECK (wins >= 0),
    losses           INTEGER NOT NULL CHECK (losses >= 0),
    draws            INTEGER NOT NULL CHECK (draws >= 0),
    last_finish_time INTEGER NOT NULL,
    -- Increases with each change of any player's stats or login, in commit order, because only one transaction writes at a time.
    revision         INTEGER NOT NULL DEFAULT 0
) STRICT;
INSERT INTO player_stats_next (user_id, wins, losses, draws, last_finish_time)
    SELECT user_id, wins, losses, draws, last_finish_time FROM player_stats;
DROP TABLE player_stats;
ALTER TABLE player_stats_next RENAME TO player_stats;
CREATE INDEX player_stats_revision_idx ON player_stats (revision);

ALTER TABLE players ADD COLUMN revision INTEGER NOT NULL DEFAULT 0;
CREATE INDEX players_revision_idx ON players (revision);

CREATE VIEW next_revision (value) AS
    SELECT 1 + max((SELECT coalesce(max(revision), 0) FROM player_stats), (SELECT coalesce(max(revision), 0) FROM players));

-- Triggers, so that every writer sets the revision: this service, its commands, and operators by hand.
CREATE TRIGGER player_stats_inserted AFTER INSERT ON player_stats BEGIN
    UPDATE player_stats SET revision = (SELECT value FROM next_revision) WHERE user_id = new.user_id;
END;
CREATE TRIGGER player_stats_updated AFTER UPDATE OF user_id, wins, losses, draws, last_finish_time ON player_stats BEGIN
    UPDATE player_stats SET revision = (SELECT value FROM next_revision) WHERE user_id = new.user_id;
END;
CREATE TRIGGER player_stats_deleted AFTER DELETE ON player_stats BEGIN
    -- The deleted row may have had the highest revision.
    UPDATE players SET revision = max((SELECT value FROM next_revision), old.revision + 1) WHERE id = old.user_id;
END;
CREATE TRIGGER players_renamed AFTER UPDATE OF login ON players BEGIN
    UPDATE players SET revision = (SELECT value FROM next_revision) WHERE id = new.id;
END;
