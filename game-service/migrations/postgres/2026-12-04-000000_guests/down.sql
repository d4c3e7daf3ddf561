DROP TRIGGER game_results_counted ON game_results;
DROP FUNCTION older_results_note;
DROP TABLE older_results;
ALTER TABLE game_results DROP COLUMN counts;
ALTER TABLE games DROP COLUMN is_ranked;
