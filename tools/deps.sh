#!/bin/sh
# Install what building and testing need and this machine lacks (Debian 12 and relatives).
#   tools/deps.sh [-y] [--lint] [--arm64]     -y: do not ask    --lint: also what `make lint` and `make check` need
#   --arm64: also the cross compiler and the emulator of `make check SHARD=arm64`
# Asks once on a terminal; CI=true or no terminal means yes. Nothing missing: says nothing, changes nothing.
set -eu

need="build-essential cmake ninja-build pkg-config protobuf-c-compiler libprotobuf-c-dev libjansson-dev libyaml-dev
libzip-dev libjpeg62-turbo-dev libpng-dev libdnnl-dev libsleef-dev libcmocka-dev libonnx-testdata
python3 python3-venv"
lint="clang clang-format clang-tidy cppcheck valgrind g++ abigail-tools xz-utils"
yes=
for arg in "$@"; do
    case $arg in
    -y) yes=1 ;;
    --lint) need="$need $lint" ;;
    --arm64) need="$need gcc-aarch64-linux-gnu qemu-user" ;;
    *) echo "usage: tools/deps.sh [-y] [--lint] [--arm64]" >&2; exit 2 ;;
    esac
done

if ! command -v dpkg-query >/dev/null 2>&1; then
    # not Debian: CMake's own message names what is missing
    exit 0
fi
missing=
arch=$(dpkg --print-architecture)
for p in $need; do
    # a line per architecture; this machine's own counts, and "all"
    dpkg-query -W -f '${Architecture} ${db:Status-Status}\n' "$p" 2>/dev/null | grep -qE "^($arch|all) installed$" ||
        missing="$missing $p"
done
[ -n "$missing" ] || exit 0

echo "requant needs these Debian packages:$missing"
sudo=
if [ "$(id -u)" != 0 ]; then
    if ! command -v sudo >/dev/null 2>&1; then
        echo "not root and no sudo here: please install them, then run this again" >&2
        exit 1
    fi
    sudo=sudo
fi
if [ -z "$yes" ] && [ "${CI:-}" != true ] && [ -t 0 ]; then
    printf 'install them now with %sapt-get? [Y/n] ' "${sudo:+sudo }"
    read -r answer
    case $answer in
    '' | y | Y | yes) ;;
    *) echo "nothing installed" >&2; exit 1 ;;
    esac
fi
export DEBIAN_FRONTEND=noninteractive
fetch() { $sudo env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends $missing; }
# package lists may be absent or old: try, and refresh them when that fails
fetch >/tmp/requant-deps.$$ 2>&1 || { $sudo apt-get update && fetch; }
rm -f /tmp/requant-deps.$$
echo "installed:$missing"
