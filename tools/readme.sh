#!/bin/sh
# The support table in README.md is what `requant ops` prints. A difference is a failure; --update rewrites it.
#   tools/readme.sh COMMAND [--update]
set -eu
command=$1
cd "$(dirname "$0")/.."
tmp=$(mktemp)
trap 'rm -f "$tmp"' EXIT
{
    sed '/^<!-- ops -->$/q' README.md
    printf '```\n'
    "$command" ops
    printf '```\n'
    sed -n '/^<!-- \/ops -->$/,$p' README.md
} >"$tmp"
if cmp -s README.md "$tmp"; then
    exit 0
elif [ "${2:-}" = --update ]; then
    cat "$tmp" >README.md
    echo "rewrote the table of README.md"
else
    diff -u README.md "$tmp" || true
    echo "FAIL README.md is not what \`requant ops\` prints (make transcripts UPDATE=1 rewrites it)"
    exit 1
fi
