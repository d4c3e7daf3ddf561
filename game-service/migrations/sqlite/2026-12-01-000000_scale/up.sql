-- Both databases have the same migrations. This one is for PostgreSQL alone.
SELECT 1;
