DROP TABLE rank_groups;
DROP INDEX game_results_opponent_idx;
ALTER TABLE game_results DROP COLUMN end_reason;
DROP INDEX games_expire_idx;
ALTER TABLE games DROP COLUMN expire_time;
DROP TABLE feed_cursor;
ALTER TABLE players DROP COLUMN is_deleted;
