#!/bin/sh
# tools/arm64-sysroot.sh [DIR]: the arm64 libraries that requant stands on (those of tools/deps.sh), unpacked from Debian's
# packages into a folder of their own (default $RQ_ARM64_SYSROOT or build-arm64-sysroot), for cmake/arm64.cmake and
# qemu-aarch64. Nothing is installed and no architecture is added to this machine: apt gets a package database of its own.
# A folder that has them all is left as it is.
set -eu
cd "$(dirname "$0")/.."
dir=${1:-${RQ_ARM64_SYSROOT:-build-arm64-sysroot}}
packages="libc6-dev $(sed -n '/^need=/,/"$/p' tools/deps.sh | tr ' "' '\n\n' | grep '^lib.*-dev$' | tr '\n' ' ')"
[ "$(cat "$dir/complete" 2>/dev/null)" = "$packages" ] && exit 0
mkdir -p "$dir/apt/lists/partial" "$dir/apt/archives/partial"
dir=$(cd "$dir" && pwd)
: >"$dir/apt/status"
apt() {
    apt-get -q -oAPT::Architecture=arm64 -oAPT::Architectures=arm64 -oAPT::Sandbox::User= -oDebug::NoLocking=1 \
        -oDir::State::Lists="$dir/apt/lists" -oDir::State::status="$dir/apt/status" \
        -oDir::Cache::archives="$dir/apt/archives" -oDir::Cache::pkgcache= -oDir::Cache::srcpkgcache= "$@"
}
apt update >"$dir/apt/log" 2>&1 || { tail -5 "$dir/apt/log" >&2; exit 1; }
# with an empty database, everything they need comes along, the C library first of all
apt -y --no-install-recommends --download-only install $packages >>"$dir/apt/log" 2>&1 ||
    { tail -5 "$dir/apt/log" >&2; exit 1; }
for deb in "$dir"/apt/archives/*.deb; do
    dpkg -x "$deb" "$dir"
done
rm -rf "$dir/apt/archives" "$dir/apt/lists"
echo "$packages" >"$dir/complete"
echo "arm64-sysroot: $dir, $(du -sh "$dir" | cut -f1)"
