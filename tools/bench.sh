#!/bin/sh
# Kernels and whole models through the same tables as the tests; JSON lines on stdout.
#   tools/bench.sh BUILD_DIR
set -eu
build=$1
cmake --build "$build" --target bench_kernels bench_quant requant >&2
"$build/bench_kernels"
"$build/bench_quant" --json
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
for model in models/*.onnx; do
    "$build/requant" quantize "$model" -d models/digits-train.npz -o "$tmp/int8.onnx" -q
    "$build/requant" bench "$model" --against "$tmp/int8.onnx" --json "$tmp/bench.json" -q
    printf '{"model": "%s", "bench": %s}\n' "$(basename "$model")" "$(tr -d '\n' <"$tmp/bench.json")"
done
