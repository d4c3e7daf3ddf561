#!/bin/sh
# Creates a database and a user for each service. Runs when the container's volume is empty.
set -eu
for name in auth game; do
    password=$(cat "/run/secrets/$name-database-password")
    psql --username "$POSTGRES_USER" --set ON_ERROR_STOP=1 --set name="$name" --set password="$password" <<'SQL'
CREATE ROLE :"name" LOGIN PASSWORD :'password';
CREATE DATABASE :"name" OWNER :"name";
SQL
done
