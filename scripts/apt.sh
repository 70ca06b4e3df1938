# shellcheck shell=bash
# Sourced by the scripts that install system packages.

# Runs a command as root. Without a terminal sudo must not ask for a password: nobody could answer.
as_root() {
    if ((EUID == 0)); then
        "$@"
    elif [[ -t 0 ]]; then
        sudo "$@"
    else
        sudo -n "$@"
    fi
}

can_install() {
    [[ ${MAITRED_INSTALL:-1} == 1 ]] && have apt-get && { ((EUID == 0)) || have sudo; }
}

# apt_install PACKAGE...
apt_install() {
    say "installing $*"
    as_root apt-get -qq update &&
        as_root env DEBIAN_FRONTEND=noninteractive apt-get -qq install --no-install-recommends --yes "$@" >&2
}
