-- Moves in order: cell, version of the game after the move, and time in microseconds since 1970, as in '4 3 1795219200000000,0 4 …'.
-- X and O alternate, beginning with X.
ALTER TABLE games ADD COLUMN moves TEXT NOT NULL DEFAULT '';
UPDATE games SET moves = made.moves
    FROM (
        SELECT game_id, group_concat(cell || ' ' || version || ' ' || create_time, ',') AS moves
        FROM (SELECT game_id, cell, version, create_time FROM moves ORDER BY game_id, ply)
        GROUP BY game_id
    ) AS made
    WHERE made.game_id = games.id;
DROP TABLE moves;

-- Time of the next check for the deadline, not later than the deadline. A move postpones expire_time without changing this indexed column.
ALTER TABLE games ADD COLUMN sweep_time INTEGER NOT NULL DEFAULT 0;
UPDATE games SET sweep_time = coalesce(expire_time, 0);
CREATE INDEX games_sweep_idx ON games (sweep_time, id) WHERE finish_time IS NULL;
DROP INDEX games_expire_idx;

-- Only waiting games are searched for by state.
CREATE INDEX games_waiting_idx ON games (create_time, id) WHERE state = 'waiting';
DROP INDEX games_state_idx;
