-- Ranks are now computed in memory, from the rows that have changed since the last look. Columns derived from wins, losses and draws are therefore
-- dropped, and so are the numbers of players by result, whose rows made finishing games wait for each other.
DROP TABLE rank_groups;
DROP TABLE rank_bands;

-- Dropping the columns also drops the indexes by which ranks were read.
ALTER TABLE player_stats DROP COLUMN games_played, DROP COLUMN win_ratio;

-- Transaction that last changed the row. A snapshot knows which transactions it sees completely, so the rows that a later snapshot sees changed are
-- found without a counter that every transaction would have to update.
ALTER TABLE player_stats ADD COLUMN revision xid8 NOT NULL DEFAULT '0';
ALTER TABLE players ADD COLUMN revision xid8 NOT NULL DEFAULT '0';
CREATE INDEX player_stats_revision_idx ON player_stats (revision);
CREATE INDEX players_revision_idx ON players (revision);

-- Triggers, so that every writer sets the revision: this service, its commands, and operators by hand.
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
