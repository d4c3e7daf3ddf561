CREATE TABLE moves (
    game_id     BLOB    NOT NULL REFERENCES games (id) ON DELETE CASCADE,
    ply         INTEGER NOT NULL CHECK (ply BETWEEN 0 AND 8),
    cell        INTEGER NOT NULL CHECK (cell BETWEEN 0 AND 8),
    mark        TEXT    NOT NULL CHECK (mark IN ('X', 'O')),
    player_id   BLOB    REFERENCES players (id),
    version     INTEGER NOT NULL CHECK (version > ply + 1),
    create_time INTEGER NOT NULL,
    PRIMARY KEY (game_id, ply),
    UNIQUE (game_id, cell),
    UNIQUE (game_id, version),
    CHECK ((ply % 2 = 0) = (mark = 'X'))
) STRICT;
-- Splits the text move by move: the cell is before the first space, the version before the second.
INSERT INTO moves (game_id, ply, cell, mark, player_id, version, create_time)
    WITH RECURSIVE made (game_id, x_player_id, o_player_id, ply, text, rest) AS (
        SELECT id, x_player_id, o_player_id, -1, '', moves || ',' FROM games WHERE moves <> ''
        UNION ALL
        SELECT game_id, x_player_id, o_player_id, ply + 1, substr(rest, 1, instr(rest, ',') - 1), substr(rest, instr(rest, ',') + 1)
        FROM made WHERE rest <> ''
    )
    SELECT game_id, ply,
        CAST(substr(text, 1, instr(text, ' ') - 1) AS INTEGER),
        CASE ply % 2 WHEN 0 THEN 'X' ELSE 'O' END,
        CASE ply % 2 WHEN 0 THEN x_player_id ELSE o_player_id END,
        CAST(substr(text, instr(text, ' ') + 1) AS INTEGER),
        CAST(substr(substr(text, instr(text, ' ') + 1), instr(substr(text, instr(text, ' ') + 1), ' ') + 1) AS INTEGER)
    FROM made WHERE ply >= 0;

CREATE INDEX games_state_idx ON games (state, create_time, id);
DROP INDEX games_waiting_idx;
CREATE INDEX games_expire_idx ON games (expire_time, id) WHERE finish_time IS NULL;
DROP INDEX games_sweep_idx;
ALTER TABLE games DROP COLUMN moves;
ALTER TABLE games DROP COLUMN sweep_time;
