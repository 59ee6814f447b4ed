#!/bin/sh
# What README.md and docs/qconfig.md show is what the program prints. The tables are compared: a difference is a failure.
#   tools/readme.sh COMMAND [--update | --demo]     --update rewrites the tables; --demo the transcript, whose times differ
set -eu
command=$1
case $command in /*) ;; *) command=$PWD/$command ;; esac
cd "$(dirname "$0")/.."
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT

with() { # with FILE MARK: FILE with stdin as the block between its MARK comments
    sed "/^<!-- $2 -->\$/q" "$1"
    echo '```'
    cat
    echo '```'
    sed -n "/^<!-- \/$2 -->\$/,\$p" "$1"
}

if [ "${2:-}" = --demo ]; then
    demo='quantize models/digits-cnn.onnx -d models/digits-train.npz --eval models/digits-test.npz -o'
    {
        echo "\$ requant $demo digits-cnn-int8.onnx"
        "$command" $demo "$tmp/digits-cnn-int8.onnx"
    } >"$tmp/shown"
    with README.md transcript <"$tmp/shown" >"$tmp/readme"
    cat "$tmp/readme" >README.md
    exit 0
fi
failed=0
table() { # table FILE COMMAND: FILE shows what `requant COMMAND` prints
    "$command" "$2" | sed 's/ *$//' >"$tmp/shown"
    with "$1" "$2" <"$tmp/shown" >"$tmp/readme"
    cmp -s "$1" "$tmp/readme" && return
    if [ "$update" ]; then
        cat "$tmp/readme" >"$1"
        echo "rewrote the table of $1"
    else
        diff -u "$1" "$tmp/readme" || true
        echo "FAIL $1 is not what \`requant $2\` prints (make transcripts UPDATE=1 rewrites it)"
        failed=1
    fi
}

update=
[ "${2:-}" = --update ] && update=1
table README.md ops
table docs/qconfig.md qconfigs
exit $failed
