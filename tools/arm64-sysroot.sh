#!/bin/sh
# tools/arm64-sysroot.sh [DIR]: the arm64 libraries that requant stands on, unpacked from Debian's packages into a folder of
# their own (default build-arm64/sysroot), for cmake/arm64.cmake and qemu-aarch64. Nothing is installed and no architecture is
# added to this machine: apt gets a package database of its own. A folder that is there already is left as it is.
set -eu
cd "$(dirname "$0")/.."
dir=${1:-build-arm64/sysroot}
[ -e "$dir/complete" ] && exit 0
for tool in apt-get dpkg aarch64-linux-gnu-gcc qemu-aarch64; do
    command -v $tool >/dev/null 2>&1 && continue
    echo "arm64-sysroot: $tool is missing (Debian: gcc-aarch64-linux-gnu, qemu-user)" >&2
    exit 1
done
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
apt -y --no-install-recommends --download-only install libc6-dev libcmocka-dev libdnnl-dev libjansson-dev \
    libprotobuf-c-dev libpthreadpool-dev libsleef-dev libyaml-dev libzip-dev >>"$dir/apt/log" 2>&1 ||
    { tail -5 "$dir/apt/log" >&2; exit 1; }
for deb in "$dir"/apt/archives/*.deb; do
    dpkg -x "$deb" "$dir"
done
rm -rf "$dir/apt/archives" "$dir/apt/lists"
touch "$dir/complete"
echo "arm64-sysroot: $dir, $(du -sh "$dir" | cut -f1)"
