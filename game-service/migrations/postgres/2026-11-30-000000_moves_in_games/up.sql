-- Locks both tables first, in the order in which the previous version locks them, so that the two cannot deadlock: a statement of that
-- version may hold a lock on one and wait for the other.
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

-- A move changes one row and no index. PostgreSQL then writes the new version of the row beside the old one (a heap-only tuple) if the page has
-- free space. Half of each page is kept free, because a game grows to about twice its size as moves are made.
ALTER TABLE games SET (fillfactor = 50);

-- Moves in order: cell, version of the game after the move, and time in microseconds since 1970, as in '4 3 1795219200000000,0 4 …'.
-- X and O alternate, beginning with X. NULL if they are still in moves_before, from which a job migrates them.
ALTER TABLE games ADD COLUMN moves text;
ALTER TABLE games ALTER COLUMN moves SET DEFAULT '';

-- Time of the next check for the deadline, not later than the deadline. A move postpones expire_time without changing this indexed column.
ALTER TABLE games ADD COLUMN sweep_time timestamptz NOT NULL DEFAULT now();
CREATE INDEX games_sweep_idx ON games (sweep_time, id) WHERE finish_time IS NULL;
DROP INDEX games_expire_idx;

-- Only waiting games are searched for by state.
CREATE INDEX games_waiting_idx ON games (create_time, id) WHERE state = 'waiting';
DROP INDEX games_state_idx;

-- View under the old name, through which replicas of the previous version read and write moves. A later version drops it and moves_before.
ALTER TABLE moves RENAME TO moves_before;
CREATE FUNCTION moves_before_of(game uuid) RETURNS text STABLE LANGUAGE sql AS $$
    SELECT coalesce(string_agg(format('%s %s %s', cell, version, (extract(epoch FROM create_time) * 1000000)::bigint), ',' ORDER BY ply), '')
    FROM moves_before WHERE game_id = game
$$;
-- Not a UNION of both places: PostgreSQL would read it as a whole for a single game.
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
