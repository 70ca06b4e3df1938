#!/bin/sh
# Starts nats-server with the passwords from the secrets: its files want them in the environment, in quotes, or it takes
# a password such as 12e4 for a number and does not start. Arguments go to the server.
set -eu

secrets=${SECRETS_DIR:-/run/secrets}
NATS_OPERATOR_PASSWORD=\"$(cat "$secrets/nats_operator_password")\"
NATS_PRODUCER_PASSWORD=\"$(cat "$secrets/nats_producer_password")\"
NATS_WORKER_PASSWORD=\"$(cat "$secrets/nats_worker_password")\"
export NATS_OPERATOR_PASSWORD NATS_PRODUCER_PASSWORD NATS_WORKER_PASSWORD

exec nats-server -c "$(dirname "$0")/nats.conf" "$@"
