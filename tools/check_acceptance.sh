#!/bin/sh
# Does docs/acceptance.md say what is so? Each row names a test that exists in its file and is run there, or says "not applicable" with the reason;
# numbers of a list follow one another.
set -eu
cd "$(dirname "$0")/.."
awk -F'|' '
function fail(why) { print FILENAME ":" FNR ": " $2 ": " why; bad = 1 }
/^\| *[A-Z]+[0-9]/ {
    id = $2; gsub(/ /, "", id)
    list = id; sub(/[0-9].*/, "", list)
    n = substr(id, length(list) + 1)
    rows++
    if (n ~ /^[0-9]+$/ && n != ++last[list]) { fail("expected " list last[list]); last[list] = n }
    if (!match($4, /`[^`]*`/)) {
        if ($4 !~ /^ not applicable: ...../) fail("neither a test nor \"not applicable: reason\"")
        next
    }
    split(substr($4, RSTART + 1, RLENGTH - 2), at, ": ")
    defined = run = 0
    while ((got = (getline line < at[1])) > 0) {
        if (line ~ "^static void " at[2] "\\(void \\*\\*") defined = 1
        if (line ~ "cmocka_unit_test\\(" at[2] "\\)") run = 1
    }
    close(at[1])
    if (got < 0) fail("there is no file " at[1])
    else if (!defined) fail(at[1] " has no test " at[2])
    else if (!run) fail(at[1] " does not run " at[2])
}
END {
    if (rows < 80) { print FILENAME ": " rows + 0 " rows were read, expected 80 at least"; bad = 1 }
    exit bad
}
' docs/acceptance.md
