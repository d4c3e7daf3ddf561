-- Players, with the login from their last token.
CREATE TABLE players (
    id    uuid PRIMARY KEY,
    login text NOT NULL
);

CREATE TABLE games (
    id          uuid        PRIMARY KEY,
    opponent    text        NOT NULL CHECK (opponent IN ('computer', 'player')),
    creator_id  uuid        NOT NULL REFERENCES players (id),
    -- NULL for the computer, and while no player has this mark.
    x_player_id uuid        REFERENCES players (id),
    o_player_id uuid        REFERENCES players (id),
    -- Cells row by row: X, O, or a dot for a free one.
    board       text        NOT NULL CHECK (board ~ '^[XO.]{9}$'),
    state       text        NOT NULL CHECK (state IN ('waiting', 'turn', 'won', 'draw', 'cancelled')),
    winner      text        CHECK (winner IN ('X', 'O')),
    -- Increases by one with every change.
    version     bigint      NOT NULL CHECK (version >= 1),
    create_time timestamptz NOT NULL,
    update_time timestamptz NOT NULL,
    finish_time timestamptz,
    CHECK (creator_id IS NOT DISTINCT FROM x_player_id OR creator_id IS NOT DISTINCT FROM o_player_id),
    CHECK (x_player_id <> o_player_id),
    -- One player is NULL against the computer and in a waiting game; otherwise both are set.
    CHECK (CASE
        WHEN opponent = 'computer' OR state = 'waiting' THEN (x_player_id IS NULL) <> (o_player_id IS NULL)
        WHEN state = 'cancelled' THEN true
        ELSE x_player_id IS NOT NULL AND o_player_id IS NOT NULL
    END),
    CHECK (state <> 'waiting' OR (opponent = 'player' AND board = '.........')),
    CHECK ((state = 'won') = (winner IS NOT NULL)),
    CHECK ((state IN ('won', 'draw', 'cancelled')) = (finish_time IS NOT NULL))
);
CREATE INDEX games_state_idx ON games (state, create_time, id);

CREATE TABLE moves (
    game_id     uuid        NOT NULL REFERENCES games (id) ON DELETE CASCADE,
    -- Number of the move, from 0.
    ply         integer     NOT NULL CHECK (ply BETWEEN 0 AND 8),
    cell        integer     NOT NULL CHECK (cell BETWEEN 0 AND 8),
    mark        text        NOT NULL CHECK (mark IN ('X', 'O')),
    -- NULL for the computer.
    player_id   uuid        REFERENCES players (id),
    -- Version of the game after the move.
    version     bigint      NOT NULL CHECK (version > ply + 1),
    create_time timestamptz NOT NULL,
    PRIMARY KEY (game_id, ply),
    UNIQUE (game_id, cell),
    UNIQUE (game_id, version),
    -- X makes the even moves.
    CHECK ((ply % 2 = 0) = (mark = 'X'))
);

-- History: a row for each player of each finished game that counts.
CREATE TABLE game_results (
    user_id     uuid        NOT NULL REFERENCES players (id),
    game_id     uuid        NOT NULL REFERENCES games (id),
    result      text        NOT NULL CHECK (result IN ('won', 'lost', 'drawn')),
    -- NULL for the computer.
    opponent_id uuid        REFERENCES players (id),
    finish_time timestamptz NOT NULL,
    PRIMARY KEY (user_id, game_id),
    CHECK (opponent_id <> user_id)
);
CREATE INDEX game_results_newest_idx ON game_results (user_id, finish_time DESC, game_id DESC);

-- Totals of game_results.
CREATE TABLE player_stats (
    user_id          uuid             PRIMARY KEY REFERENCES players (id),
    wins             bigint           NOT NULL CHECK (wins >= 0),
    losses           bigint           NOT NULL CHECK (losses >= 0),
    draws            bigint           NOT NULL CHECK (draws >= 0),
    games_played     bigint           NOT NULL CHECK (games_played = wins + losses + draws),
    win_ratio        double precision NOT NULL CHECK (win_ratio = wins::double precision / greatest(1, losses + draws)),
    last_finish_time timestamptz      NOT NULL
);
CREATE INDEX player_stats_rank_idx ON player_stats (win_ratio DESC, wins DESC, last_finish_time, user_id);
