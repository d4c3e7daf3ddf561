-- Both databases have migrations of the same names. This one changes only PostgreSQL.
SELECT 1;
