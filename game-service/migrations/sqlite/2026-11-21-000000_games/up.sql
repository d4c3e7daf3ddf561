-- Players, with the login from their last token.
CREATE TABLE players (
    id    BLOB    PRIMARY KEY NOT NULL CHECK (length(id) = 16),
    login TEXT    NOT NULL
) STRICT;

CREATE TABLE games (
    id          BLOB    PRIMARY KEY NOT NULL CHECK (length(id) = 16),
    opponent    TEXT    NOT NULL CHECK (opponent IN ('computer', 'player')),
    creator_id  BLOB    NOT NULL REFERENCES players (id),
    -- NULL for the computer, and while no player has this mark.
    x_player_id BLOB    REFERENCES players (id),
    o_player_id BLOB    REFERENCES players (id),
    -- Cells row by row: X, O, or a dot for a free one.
    board       TEXT    NOT NULL CHECK (length(board) = 9 AND board NOT GLOB '*[^XO.]*'),
    state       TEXT    NOT NULL CHECK (state IN ('waiting', 'turn', 'won', 'draw', 'cancelled')),
    winner      TEXT    CHECK (winner IN ('X', 'O')),
    -- Increases by one with every change.
    version     INTEGER NOT NULL CHECK (version >= 1),
    create_time INTEGER NOT NULL,
    update_time INTEGER NOT NULL,
    finish_time INTEGER,
    CHECK (creator_id IS x_player_id OR creator_id IS o_player_id),
    CHECK (x_player_id <> o_player_id),
    -- One player is NULL against the computer and in a waiting game; otherwise both are set.
    CHECK (CASE
        WHEN opponent = 'computer' OR state = 'waiting' THEN (x_player_id IS NULL) <> (o_player_id IS NULL)
        WHEN state = 'cancelled' THEN 1
        ELSE x_player_id IS NOT NULL AND o_player_id IS NOT NULL
    END),
    CHECK (state <> 'waiting' OR (opponent = 'player' AND board = '.........')),
    CHECK ((state = 'won') = (winner IS NOT NULL)),
    CHECK ((state IN ('won', 'draw', 'cancelled')) = (finish_time IS NOT NULL))
) STRICT;
CREATE INDEX games_state_idx ON games (state, create_time, id);

CREATE TABLE moves (
    game_id     BLOB    NOT NULL REFERENCES games (id) ON DELETE CASCADE,
    -- Number of the move, from 0.
    ply         INTEGER NOT NULL CHECK (ply BETWEEN 0 AND 8),
    cell        INTEGER NOT NULL CHECK (cell BETWEEN 0 AND 8),
    mark        TEXT    NOT NULL CHECK (mark IN ('X', 'O')),
    -- NULL for the computer.
    player_id   BLOB    REFERENCES players (id),
    -- Version of the game after the move.
    version     INTEGER NOT NULL CHECK (version > ply + 1),
    create_time INTEGER NOT NULL,
    PRIMARY KEY (game_id, ply),
    UNIQUE (game_id, cell),
    UNIQUE (game_id, version),
    -- X makes the even moves.
    CHECK ((ply % 2 = 0) = (mark = 'X'))
) STRICT;

-- History: a row for each player of each finished game that counts.
CREATE TABLE game_results (
    user_id     BLOB    NOT NULL REFERENCES players (id),
    game_id     BLOB    NOT NULL REFERENCES games (id),
    result      TEXT    NOT NULL CHECK (result IN ('won', 'lost', 'drawn')),
    -- NULL for the computer.
    opponent_id BLOB    REFERENCES players (id),
    finish_time INTEGER NOT NULL,
    PRIMARY KEY (user_id, game_id),
    CHECK (opponent_id <> user_id)
) STRICT;
CREATE INDEX game_results_newest_idx ON game_results (user_id, finish_time DESC, game_id DESC);

-- Totals of game_results.
CREATE TABLE player_stats (
    user_id          BLOB    PRIMARY KEY NOT NULL REFERENCES players (id),
    wins             INTEGER NOT NULL CHECK (wins >= 0),
    losses           INTEGER NOT NULL CHECK (losses >= 0),
    draws            INTEGER NOT NULL CHECK (draws >= 0),
    games_played     INTEGER NOT NULL CHECK (games_played = wins + losses + draws),
    win_ratio        REAL    NOT NULL CHECK (win_ratio = CAST(wins AS REAL) / max(1, losses + draws)),
    last_finish_time INTEGER NOT NULL
) STRICT;
CREATE INDEX player_stats_rank_idx ON player_stats (win_ratio DESC, wins DESC, last_finish_time, user_id);
