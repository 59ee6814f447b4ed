#!/bin/sh
# Is every public function documented? In each header a function, or the run of functions it stands in, follows a comment, ends in
# one, or follows the type that its comment introduces.
set -eu
cd "$(dirname "$0")/.."
awk '
FNR == 1 { documented = 0 }
/^[[:space:]]*$/ { if (!in_type) documented = 0; next }   # a blank line ends what a comment is about
/^typedef (struct|enum).*\{/ { in_type = 1 }
in_type && /^\}/ { in_type = 0; next }
in_type { next }
/^[[:space:]]*\/?\*/ { documented = 1; next }
/^RQ_API/ {
    if (!documented && !/\/\*/) { print FILENAME ":" FNR ": not documented: " $0; bad = 1 }
    documented = 1
}
END { exit bad }
' include/requant/*.h
