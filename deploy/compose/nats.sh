#!/bin/sh
# Starts nats-server with the passwords from the secrets: its files want them in the environment, in quotes, or it takes
# a password such as 12e4 for a number and does not start. Arguments go to the server.
set -eu

# The password of a user, quoted for the server.
password() {
    printf '"%s"' "$(cat "${SECRETS_DIR:-/run/secrets}/nats_$1_password")"
}

NATS_OPERATOR_PASSWORD=$(password operator)
NATS_PRODUCER_PASSWORD=$(password producer)
NATS_WORKER_PASSWORD=$(password worker)
NATS_VIEWER_PASSWORD=$(password viewer)
export NATS_OPERATOR_PASSWORD NATS_PRODUCER_PASSWORD NATS_WORKER_PASSWORD NATS_VIEWER_PASSWORD

exec nats-server -c "$(dirname "$0")/nats.conf" "$@"
