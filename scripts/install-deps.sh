#!/usr/bin/env bash
# Finds out what the build needs and is missing, and installs it where apt-get and root (or sudo) are at hand;
# elsewhere it says what to install and fails. Does nothing, quickly, when nothing is missing.
#
#   MAITRED_INSTALL=0          only say what is missing
#   MAITRED_INSTALL_NEXTEST=1  also install cargo-nextest, with cargo; without it the tests run under cargo test
set -euo pipefail
source "$(dirname "$0")/env.sh"
source scripts/apt.sh

# bindgen loads libclang at build time. clang-cpp is another library with a similar name, hence the patterns.
has_libclang() {
    [[ -n ${LIBCLANG_PATH:-} ]] && return 0
    local dir
    for dir in /usr/lib/llvm*/lib /usr/lib/*-linux-gnu /usr/lib64 /usr/lib64/llvm*/lib /usr/lib /usr/local/lib \
        /opt/homebrew/opt/llvm/lib /usr/local/opt/llvm/lib /Library/Developer/CommandLineTools/usr/lib; do
        if compgen -G "$dir/libclang.so*" >/dev/null || compgen -G "$dir/libclang-[0-9]*.so*" >/dev/null ||
            compgen -G "$dir/libclang.dylib" >/dev/null; then
            return 0
        fi
    done
    return 1
}

has_pip() {
    python3 -m pip --version >/dev/null 2>&1
}

# Prints the missing parts, one a line, in the words used below.
missing_parts() {
    { have cc && have c++; } || echo compiler
    have make || echo make
    have cmake || echo cmake
    has_libclang || echo libclang
    { have python3 && has_pip; } || echo pip
}

# package_of MANAGER PART: what the part is called there.
package_of() {
    case $1:$2 in
    apt:compiler) echo g++ ;;
    apt:libclang) echo libclang-dev ;;
    apt:pip) echo python3-pip ;;
    dnf:compiler) echo gcc-c++ ;;
    dnf:libclang) echo clang-devel ;;
    dnf:pip) echo python3-pip ;;
    brew:compiler) echo gcc ;;
    brew:libclang) echo llvm ;;
    brew:pip) echo python ;;
    *) echo "$2" ;;
    esac
}

packages() {
    local manager=$1 part
    shift
    for part in "$@"; do
        package_of "$manager" "$part"
    done
}

explain() {
    say "missing: $*"
    say "install it, then run the command again:"
    say "  Debian, Ubuntu: apt-get install $(packages apt "$@" | tr '\n' ' ')"
    say "  Fedora:         dnf install $(packages dnf "$@" | tr '\n' ' ')"
    say "  macOS:          brew install $(packages brew "$@" | tr '\n' ' ')"
}

install_with_apt() {
    local names
    mapfile -t names < <(packages apt "$@")
    apt_install "${names[@]}"
}

install_system_parts() {
    local missing
    mapfile -t missing < <(missing_parts)
    ((${#missing[@]} == 0)) && return
    if ! can_install || ! install_with_apt "${missing[@]}"; then
        explain "${missing[@]}"
        exit 1
    fi
    mapfile -t missing < <(missing_parts)
    if ((${#missing[@]} > 0)); then
        die "still missing after the installation: ${missing[*]}"
    fi
}

install_nextest() {
    if [[ ${MAITRED_INSTALL_NEXTEST:-0} == 1 ]] && ! cargo nextest --version >/dev/null 2>&1; then
        cargo install --locked cargo-nextest
    fi
}

have cargo || die "Rust is missing: install it with rustup (https://rustup.rs), then run the command again"
install_system_parts
install_nextest
