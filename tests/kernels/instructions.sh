#!/bin/sh
# Instructions of chosen kernels at the level AVX2, counted by callgrind, beside tests/kernels/instructions.txt: a gate against slower kernels that
# no busy machine disturbs. More than 5 % more fails; more than 5 % fewer asks for new numbers, and fails too. --update writes them.
#   tests/kernels/instructions.sh PROGRAM [--update]
set -eu
program=$(readlink -f "$1")
here=$(cd "$(dirname "$0")" && pwd)
command -v valgrind >/dev/null || { echo "skipped: valgrind is not there"; exit 77; }
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
valgrind -q --tool=callgrind --callgrind-out-file="$tmp/out" --collect-atstart=no --toggle-collect=measured --dump-after=measured \
    "$program" >"$tmp/names" 2>"$tmp/said" || {
    code=$?
    cat "$tmp/names" "$tmp/said"
    exit $code
}
n=0
while read -r name; do
    n=$((n + 1))
    printf '%s\t%s\n' "$(sed -n 's/^\(totals\|summary\): //p' "$tmp/out.$n" | head -1)" "$name"
done <"$tmp/names" >"$tmp/now"
if [ "${2:-}" = --update ]; then
    { sed -n '/^#/p' "$here/instructions.txt"; cat "$tmp/now"; } >"$tmp/new"
    cp "$tmp/new" "$here/instructions.txt"
    exit 0
fi
awk -F '\t' '
/^#/ { next }
NR == FNR { was[$2] = $1; next }
!($2 in was) { print "FAIL " $2 ": " $1 " instructions, none in instructions.txt: --update"; bad = 1; next }
{
    share = $1 / was[$2] - 1
    word = share > 0.05 ? "FAIL" : share < -0.05 ? "FASTER" : "ok"
    printf "%-6s %-28s %9d instructions, %9d before (%+.1f %%)\n", word, $2, $1, was[$2], 100 * share
    if (word == "FASTER")
        print "       update the numbers: tests/kernels/instructions.sh PROGRAM --update"
    bad = bad || word != "ok"
    delete was[$2]
}
END { for (name in was) { print "FAIL " name ": in instructions.txt, but not run"; bad = 1 } exit bad }
' "$here/instructions.txt" "$tmp/now"
