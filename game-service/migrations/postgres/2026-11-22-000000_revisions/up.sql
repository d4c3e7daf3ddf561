-- Ranks are counted in memory, from what has changed here since it was last looked at. So nothing that follows from wins, losses and draws is kept,
-- nor how many players stand where, which made finishing games wait for each other.
DROP TABLE rank_groups;
DROP TABLE rank_bands;

-- The indexes that a rank was read by go with the column that they are on.
ALTER TABLE player_stats DROP COLUMN games_played, DROP COLUMN win_ratio;

-- The transaction that last changed the row. A snapshot says of which transactions it has seen everything, so what a later one sees and it did not
-- is found without a row that all of them would have to write.
ALTER TABLE player_stats ADD COLUMN revision xid8 NOT NULL DEFAULT '0';
ALTER TABLE players ADD COLUMN revision xid8 NOT NULL DEFAULT '0';
CREATE INDEX player_stats_revision_idx ON player_stats (revision);
CREATE INDEX players_revision_idx ON players (revision);

-- Whoever writes: this service, its commands, or somebody by hand.
CREATE FUNCTION revision_set() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    NEW.revision := pg_current_xact_id();
    RETURN NEW;
END
$$;
CREATE FUNCTION revision_set_of_player() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    UPDATE players SET revision = pg_current_xact_id() WHERE id = OLD.user_id;
    RETURN NULL;
END
$$;
CREATE TRIGGER player_stats_changed BEFORE INSERT OR UPDATE OF user_id, wins, losses, draws, last_finish_time ON player_stats
    FOR EACH ROW EXECUTE FUNCTION revision_set();
CREATE TRIGGER player_stats_deleted AFTER DELETE ON player_stats
    FOR EACH ROW EXECUTE FUNCTION revision_set_of_player();
CREATE TRIGGER players_renamed BEFORE UPDATE OF login ON players
    FOR EACH ROW EXECUTE FUNCTION revision_set();
