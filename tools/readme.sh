#!/bin/sh
# What README.md shows is what the program prints. The support table is compared: a difference is a failure.
#   tools/readme.sh COMMAND [--update | --demo]     --update rewrites the table; --demo the transcript, whose times differ
set -eu
command=$1
case $command in /*) ;; *) command=$PWD/$command ;; esac
cd "$(dirname "$0")/.."
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT

with() { # with MARK: README.md with stdin as the block between its MARK comments
    sed "/^<!-- $1 -->\$/q" README.md
    echo '```'
    cat
    echo '```'
    sed -n "/^<!-- \/$1 -->\$/,\$p" README.md
}

if [ "${2:-}" = --demo ]; then
    demo='quantize models/digits-cnn.onnx -d models/digits-train.npz --eval models/digits-test.npz -o'
    {
        echo "\$ requant $demo digits-cnn-int8.onnx"
        "$command" $demo "$tmp/digits-cnn-int8.onnx"
    } >"$tmp/shown"
    with transcript <"$tmp/shown" >"$tmp/readme"
    cat "$tmp/readme" >README.md
    exit 0
fi
"$command" ops >"$tmp/shown"
with ops <"$tmp/shown" >"$tmp/readme"
if cmp -s README.md "$tmp/readme"; then
    exit 0
elif [ "${2:-}" = --update ]; then
    cat "$tmp/readme" >README.md
    echo "rewrote the table of README.md"
else
    diff -u README.md "$tmp/readme" || true
    echo "FAIL README.md is not what \`requant ops\` prints (make transcripts UPDATE=1 rewrites it)"
    exit 1
fi
