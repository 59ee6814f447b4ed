#!/bin/sh
# Transcripts of the command line. Each tests/cli/*.cmd holds commands, one a line; its .out holds what they print
# (stdout and stderr together) and their exit codes. A difference is a failure; --update rewrites the .out files, and
# the difference is reviewed like code.
#   tests/cli/run.sh COMMAND [--update] [NAME]...
# Commands run in a folder that has models/ in it and ../golden/ beside it; `mask` hides numbers that vary between machines.
set -u
command=$(readlink -f "$1")
shift
update=
[ "${1:-}" = --update ] && update=1 && shift
here=$(cd "$(dirname "$0")" && pwd)
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
mkdir "$tmp/bin"
ln -s "$here/../golden" "$tmp/golden"
ln -s "$command" "$tmp/bin/requant"
PATH=$tmp/bin:$PATH
LC_ALL=C
export PATH LC_ALL

mask() { sed -E 's/-?[0-9]+(\.[0-9]+)?(e[-+]?[0-9]+)?/#/g; s/ +/ /g; s/-{3,}/---/g'; }

run_case() { # run_case FILE: its transcript on stdout
    rm -rf "$tmp/work" && mkdir "$tmp/work" && cd "$tmp/work" || exit 1
    ln -s "$here/../../models" models
    while IFS= read -r line || [ -n "$line" ]; do
        case $line in
        '' | '#'*) printf '%s\n' "$line"; continue ;;
        esac
        printf '$ %s\n' "$line"
        (eval "$line") 2>&1 </dev/null
        printf '[exit %d]\n' $?
    done <"$1"
}

failed=0 n=0
[ $# -gt 0 ] || set -- $(cd "$here" && ls *.cmd | sed 's/\.cmd$//')
for name; do
    n=$((n + 1))
    run_case "$here/$name.cmd" >"$tmp/got"
    if [ -n "$update" ]; then
        cmp -s "$tmp/got" "$here/$name.out" || { cp "$tmp/got" "$here/$name.out" && echo "rewrote $name.out"; }
    elif ! diff -u "$here/$name.out" "$tmp/got"; then
        echo "FAIL cli/$name (make transcripts UPDATE=1 rewrites it)"
        failed=$((failed + 1))
    fi
done
echo "transcripts: $((n - failed)) passed, $failed failed"
[ $failed = 0 ]
