DROP INDEX games_running_o_idx;
DROP INDEX games_running_x_idx;
DROP INDEX games_create_request_key;
ALTER TABLE games DROP COLUMN create_request;
ALTER TABLE games DROP COLUMN end_reason;
