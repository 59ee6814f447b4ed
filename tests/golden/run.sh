#!/bin/sh
# Every golden case, as `make golden` runs them; cases of known-misses.txt may miss (each line: case, then why), and are told. Any other miss fails.
#   run.sh GOLDEN DIR
set -u
golden=$1 dir=$2 here=$(dirname "$0")
out=$(mktemp)
"$golden" "$dir" >"$out" 2>&1
rc=$?
grep -v '^FAIL' "$out"
bad=0
for c in $(sed -n 's/^FAIL \([^ ]*\).*/\1/p' "$out" | sort -u); do
    if why=$(grep -F "$c " "$here/known-misses.txt"); then
        echo "KNOWN $why"
    else
        grep -F "FAIL $c " "$out"
        bad=1
    fi
done
grep -q '^total: ' "$out" || bad=1
[ $rc -le 1 ] || bad=1
rm -f "$out"
exit $bad
