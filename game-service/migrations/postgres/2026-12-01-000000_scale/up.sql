-- By default, PostgreSQL would vacuum a table only when a fifth of it is dead, and update its statistics when a
-- tenth has changed. Both are too seldom for a large table.
ALTER TABLE games SET (autovacuum_vacuum_scale_factor = 0.01, autovacuum_analyze_scale_factor = 0.02);
ALTER TABLE player_stats SET (fillfactor = 90,
    autovacuum_vacuum_scale_factor = 0.02, autovacuum_analyze_scale_factor = 0.02);
ALTER TABLE game_results SET (autovacuum_vacuum_insert_scale_factor = 0.02, autovacuum_analyze_scale_factor = 0.02);
