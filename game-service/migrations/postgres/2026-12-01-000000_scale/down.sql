ALTER TABLE game_results RESET (autovacuum_vacuum_insert_scale_factor, autovacuum_analyze_scale_factor);
ALTER TABLE player_stats RESET (fillfactor, autovacuum_vacuum_scale_factor, autovacuum_analyze_scale_factor);
ALTER TABLE games RESET (autovacuum_vacuum_scale_factor, autovacuum_analyze_scale_factor);
