LOCK TABLE games, moves_before IN ACCESS EXCLUSIVE MODE;
CREATE TEMPORARY TABLE moves_after ON COMMIT DROP AS SELECT * FROM moves;
DROP VIEW moves;
DROP FUNCTION moves_insert();
DROP FUNCTION moves_before_of(uuid);
ALTER TABLE moves_before RENAME TO moves;
INSERT INTO moves (game_id, ply, cell, mark, player_id, version, create_time)
    SELECT game_id, ply, cell, mark, player_id, version, create_time FROM moves_after
    ON CONFLICT DO NOTHING;

CREATE INDEX games_state_idx ON games (state, create_time, id);
DROP INDEX games_waiting_idx;
CREATE INDEX games_expire_idx ON games (expire_time, id) WHERE finish_time IS NULL;
DROP INDEX games_sweep_idx;
ALTER TABLE games DROP COLUMN moves, DROP COLUMN sweep_time;
ALTER TABLE games RESET (fillfactor);
