-- Whether the game counts on the leaderboard. A game in which a guest plays does not.
ALTER TABLE games ADD COLUMN is_ranked boolean NOT NULL DEFAULT true;

-- Whether the result counts in player_stats. NULL: a replica of the previous version wrote it, which
-- counts every game.
ALTER TABLE game_results ADD COLUMN counts boolean DEFAULT true;
ALTER TABLE game_results ALTER COLUMN counts DROP DEFAULT;

-- Games that a replica of the previous version has counted. A job checks whether a guest played.
CREATE TABLE older_results (
    game_id uuid PRIMARY KEY REFERENCES games (id) ON DELETE CASCADE
);
CREATE FUNCTION older_results_note() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO older_results (game_id) VALUES (NEW.game_id) ON CONFLICT DO NOTHING;
    RETURN NULL;
END
$$;
CREATE TRIGGER game_results_counted AFTER INSERT ON game_results
    FOR EACH ROW WHEN (NEW.counts IS NULL) EXECUTE FUNCTION older_results_note();
