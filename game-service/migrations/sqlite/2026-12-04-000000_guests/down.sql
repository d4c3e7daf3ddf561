DROP TRIGGER game_results_counted;
DROP TABLE older_results;
ALTER TABLE game_results DROP COLUMN counts;
ALTER TABLE games DROP COLUMN is_ranked;
