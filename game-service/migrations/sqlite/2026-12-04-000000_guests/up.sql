-- Whether the game counts on the leaderboard. A game in which a guest plays does not.
ALTER TABLE games ADD COLUMN is_ranked INTEGER NOT NULL DEFAULT 1 CHECK (is_ranked IN (0, 1));

-- Whether the result counts in player_stats. NULL: a program of the previous version wrote it, which
-- counts every game.
ALTER TABLE game_results ADD COLUMN counts INTEGER CHECK (counts IN (0, 1));
UPDATE game_results SET counts = 1;

-- Games that a program of the previous version has counted. A job checks whether a guest played.
CREATE TABLE older_results (
    game_id BLOB PRIMARY KEY NOT NULL REFERENCES games (id) ON DELETE CASCADE
) STRICT, WITHOUT ROWID;
CREATE TRIGGER game_results_counted AFTER INSERT ON game_results WHEN NEW.counts IS NULL
BEGIN
    INSERT OR IGNORE INTO older_results (game_id) VALUES (NEW.game_id);
END;
