DROP TABLE player_stats;
DROP TABLE game_results;
DROP TABLE moves;
DROP TABLE games;
DROP TABLE players;
