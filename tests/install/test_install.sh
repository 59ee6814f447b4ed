#!/bin/sh
# Install into an empty prefix, then build and run a small program outside the tree: once by pkg-config, once by
# find_package, and once against the static library.
#   test_install.sh BUILD_DIR CC
set -eu
build=$1 cc=$2
here=$(cd "$(dirname "$0")" && pwd)
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
cmake --install "$build" --prefix "$tmp/prefix" >"$tmp/install.log"

export PKG_CONFIG_PATH="$(dirname "$(find "$tmp/prefix" -name requant.pc)")"
libdir=$(pkg-config --variable=libdir requant)
export LD_LIBRARY_PATH="$libdir"
mkdir "$tmp/outside" && cp "$here/ten_lines.c" "$tmp/outside/" && cd "$tmp/outside"

$cc ten_lines.c $(pkg-config --cflags --libs requant) -o by_pkgconfig
./by_pkgconfig
readelf -d by_pkgconfig | grep -q 'NEEDED.*librequant\.so\.[0-9]' || { echo "no soname in what was linked"; exit 1; }
$cc ten_lines.c -I"$tmp/prefix/include" "$libdir/librequant.a" $(pkg-config --static --libs requant) -o static
./static

cp "$here/outside.cmake" CMakeLists.txt
cmake -S . -B build -DCMAKE_C_COMPILER="$cc" -DCMAKE_PREFIX_PATH="$tmp/prefix" >"$tmp/cmake.log" || { cat "$tmp/cmake.log"; exit 1; }
cmake --build build >"$tmp/build.log" 2>&1 || { cat "$tmp/build.log"; exit 1; }
./build/ten_lines

# nothing leaves the library but what the headers promise
leaked=$(nm -D --defined-only "$libdir/librequant.so" | awk '$2 != "A" { print $3 }' | grep -v '^rq_' || true)
[ -z "$leaked" ] || { echo "symbols that should be hidden: $leaked"; exit 1; }
for f in bin/requant share/man/man1/requant.1 share/requant/recipe.schema.json; do
    [ -s "$tmp/prefix/$f" ] || { echo "not installed: $f"; exit 1; }
done
