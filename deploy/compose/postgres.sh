#!/bin/sh
# Makes the roles of the fleet in a new database, with the passwords from the secrets. Run by the image, as the
# superuser, when its volume is empty.
set -eu

deploy=${DEPLOY_DIR:-/etc/maitred}
SECRETS_DIR=${SECRETS_DIR:-/run/secrets}
export SECRETS_DIR

# psql reads the passwords itself: on the command line everybody would see them.
psql --no-psqlrc --quiet --set=ON_ERROR_STOP=1 --username="${POSTGRES_USER:-postgres}" \
    --dbname="${POSTGRES_DB:-maitred}" --file="$deploy/postgres/roles.sql" --file=- <<'SQL'
\set owner `cat "$SECRETS_DIR/postgres_owner_password"`
\set writer `cat "$SECRETS_DIR/postgres_writer_password"`
\set reader `cat "$SECRETS_DIR/postgres_reader_password"`
ALTER ROLE maitred_owner PASSWORD :'owner';
ALTER ROLE maitred_writer PASSWORD :'writer';
ALTER ROLE maitred_reader PASSWORD :'reader';
SQL
