#!/usr/bin/env bash
# Makes a random password for each user of each server, and the URLs that hold them, in the folder beside this script
# (or the one that is named). What is there is left alone: the servers know their passwords already.
set -euo pipefail

folder=${1:-$(dirname "$0")/secrets}
mkdir -p "$folder"
# Nobody else gets in; the files are readable because a container reads them as a user of its own.
chmod 700 "$folder"
umask 022

# secret NAME TEXT: writes it, unless it is there; no newline, some readers would take it as part of it.
secret() {
    [[ -s $folder/$1 ]] || printf '%s' "$2" >"$folder/$1"
}

# password NAME: makes one of letters and digits, which needs no escaping anywhere.
password() {
    secret "$1" "$(od -An -N20 -tx1 /dev/urandom | tr -d ' \n')"
}

for user in operator producer worker; do
    password "nats_${user}_password"
    secret "nats_${user}_url" "nats://$user:$(<"$folder/nats_${user}_password")@nats:4222"
done

password redis_password
secret redis_url "redis://:$(<"$folder/redis_password")@redis:6379"

password postgres_password
for role in owner writer reader; do
    password "postgres_${role}_password"
    secret "postgres_${role}_url" "postgres://maitred_$role:$(<"$folder/postgres_${role}_password")@postgres:5432/maitred"
done

password grafana_admin_password
