-- Both tables at first, in the order in which the version before takes them, so that neither waits for the other: that version's
-- statements may hold one and want the other.
DO $$
BEGIN
    FOR attempt IN 1..100 LOOP
        BEGIN
            SET LOCAL lock_timeout = '300ms';
            LOCK TABLE moves, games IN ACCESS EXCLUSIVE MODE;
            EXIT;
        EXCEPTION WHEN lock_not_available OR deadlock_detected THEN
            PERFORM pg_sleep(0.1);
        END;
    END LOOP;
    SET LOCAL lock_timeout = 0;
    LOCK TABLE moves, games IN ACCESS EXCLUSIVE MODE;
END
$$;

-- A move changes one row and no index: PostgreSQL then writes the new version of the row beside the old one (a heap-only tuple), and the pages
-- keep room for that: with its moves a game takes about twice the room that it takes at first.
ALTER TABLE games SET (fillfactor = 50);

-- The moves, in order: cell, version of the game that the move made, and time in microseconds since 1970, as in '4 3 1795219200000000,0 4 …'.
-- X has made every other one, beginning with the first. NULL: they are still in moves_before, from where a job takes them over.
ALTER TABLE games ADD COLUMN moves text;
ALTER TABLE games ALTER COLUMN moves SET DEFAULT '';

-- When to look whether the time of the game has run out, at the latest when it has. A move postpones expire_time and leaves this as it is.
ALTER TABLE games ADD COLUMN sweep_time timestamptz NOT NULL DEFAULT now();
CREATE INDEX games_sweep_idx ON games (sweep_time, id) WHERE finish_time IS NULL;
DROP INDEX games_expire_idx;

-- No other state is ever searched for.
CREATE INDEX games_waiting_idx ON games (create_time, id) WHERE state = 'waiting';
DROP INDEX games_state_idx;

-- Replicas of the version before read and write moves by this name. A later version drops it, and moves_before with it.
ALTER TABLE moves RENAME TO moves_before;
CREATE FUNCTION moves_before_of(game uuid) RETURNS text STABLE LANGUAGE sql AS $$
    SELECT coalesce(string_agg(format('%s %s %s', cell, version, (extract(epoch FROM create_time) * 1000000)::bigint), ',' ORDER BY ply), '')
    FROM moves_before WHERE game_id = game
$$;
-- One arm alone: a UNION with a join could not be asked for single games, only read as a whole.
CREATE VIEW moves AS
    SELECT games.id AS game_id, made.*
    FROM games CROSS JOIN LATERAL (
        SELECT (one.number - 1)::integer AS ply,
            split_part(one.text, ' ', 1)::integer AS cell,
            CASE one.number % 2 WHEN 1 THEN 'X' ELSE 'O' END AS mark,
            CASE one.number % 2 WHEN 1 THEN games.x_player_id ELSE games.o_player_id END AS player_id,
            split_part(one.text, ' ', 2)::bigint AS version,
            timestamptz 'epoch' + split_part(one.text, ' ', 3)::bigint * interval '1 microsecond' AS create_time
        FROM string_to_table(coalesce(games.moves, moves_before_of(games.id)), ',') WITH ORDINALITY AS one (text, number)
        WHERE one.text <> ''
    ) AS made;
CREATE FUNCTION moves_insert() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    UPDATE games
        SET moves = concat_ws(',', nullif(coalesce(moves, moves_before_of(id)), ''),
            format('%s %s %s', NEW.cell, NEW.version, (extract(epoch FROM NEW.create_time) * 1000000)::bigint))
        WHERE id = NEW.game_id;
    DELETE FROM moves_before WHERE game_id = NEW.game_id;
    RETURN NEW;
END
$$;
CREATE TRIGGER moves_inserted INSTEAD OF INSERT ON moves FOR EACH ROW EXECUTE FUNCTION moves_insert();
