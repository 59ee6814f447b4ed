#!/bin/sh
# Rewrite the parts of README.md that the program prints: the transcript of the demo and the table of operators.
#   tools/readme_tables.sh build/requant
set -eu
cd "$(dirname "$0")/.."
requant=$1
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT

fill() { # fill MARK: put stdin between the README's MARK comments
    awk -v mark="$1" -v file="$tmp/part" '
        index($0, "<!-- " mark " -->") { print; while ((getline line < file) > 0) print line; skip = 1; next }
        index($0, "<!-- /" mark " -->") { skip = 0 }
        !skip' README.md >"$tmp/readme"
    cp "$tmp/readme" README.md
}

{
    echo '```'
    echo '$ requant quantize models/digits-cnn.onnx -d models/digits-train.npz --eval models/digits-test.npz -o digits-cnn-int8.onnx'
    "$requant" quantize models/digits-cnn.onnx -d models/digits-train.npz --eval models/digits-test.npz -o "$tmp/digits-cnn-int8.onnx"
    echo '```'
} >"$tmp/part"
fill transcript
{
    echo '```'
    "$requant" ops
    echo '```'
} >"$tmp/part"
fill ops
