#!/bin/sh
# Would a program that was linked with the library of tests/abi still work with this one? Additions pass; anything taken away or
# laid out differently fails, and is listed (libabigail).
#   tools/abi.sh BUILD [--update]     --update: this library is what later ones are held against; say so in CHANGELOG.md
set -eu
build=$1
kept=tests/abi/librequant.abi.xz
for p in abidw abidiff xz; do
    command -v $p >/dev/null 2>&1 || { echo "abi: $p is missing (Debian: abigail-tools, xz-utils)" >&2; exit 1; }
done
old=$(mktemp --suffix=.abi) private=$(mktemp)
trap 'rm -f "$old" "$private"' EXIT
# what the headers only name is nobody's business
sed -n 's/^ *typedef struct \(rq_[a-z_0-9]*\) \1;.*/\1/p; s/^.*struct \(rq_[a-z_0-9]*\) \*.*/\1/p' include/requant/*.h | sort -u |
    while read -r name; do
        grep -q "struct $name {" include/requant/*.h || printf '[suppress_type]\n  name = %s\n' "$name"
    done >"$private"
dump() { abidw --no-show-locs --no-corpus-path --no-comp-dir-path --type-id-style hash "$build/librequant.so"; }
if [ "${2:-}" = --update ]; then
    mkdir -p tests/abi
    dump | xz -9e >$kept
    echo "abi: $kept is of $(nm -D --defined-only "$build/librequant.so" | wc -l) symbols now"
    exit 0
fi
xz -dc $kept >"$old"
abidiff --no-added-syms --suppressions "$private" "$old" "$build/librequant.so" || {
    echo "abi: changed; if it must be, raise the version, then tools/abi.sh $build --update" >&2
    exit 1
}
echo "abi: compatible"
