-- Reason for the end of a game.
ALTER TABLE games ADD COLUMN end_reason text
    CHECK (end_reason IN ('line', 'full_board', 'resignation', 'cancellation', 'timeout', 'expiry'));
UPDATE games SET end_reason = CASE state WHEN 'won' THEN 'line' WHEN 'draw' THEN 'full_board' ELSE 'cancellation' END
    WHERE finish_time IS NOT NULL;

-- Id that the creator gave the request, so that a repeated request creates no second game.
ALTER TABLE games ADD COLUMN create_request uuid;
CREATE UNIQUE INDEX games_create_request_key ON games (creator_id, create_request) WHERE create_request IS NOT NULL;

-- For the unfinished games of a player.
CREATE INDEX games_running_x_idx ON games (x_player_id, create_time, id) WHERE finish_time IS NULL;
CREATE INDEX games_running_o_idx ON games (o_player_id, create_time, id) WHERE finish_time IS NULL;
