#!/bin/sh
# Starts redis-server with the password from the secrets: it cannot read one from a file, and on the command line
# everybody sees it. Arguments go to the server.
set -eu

secrets=${SECRETS_DIR:-/run/secrets}
umask 077
configuration=$(mktemp)
{
    cat "$(dirname "$0")/../redis/redis.conf"
    printf '\nrequirepass %s\n' "$(cat "$secrets/redis_password")"
} >"$configuration"

exec redis-server "$configuration" "$@"
