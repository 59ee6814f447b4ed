#!/bin/sh
# run.sh REQUANT TMP [MODEL DATA]: an int8 model gives the same bytes under every instruction set and thread count.
# Without MODEL: the digits CNN, quantized here. Levels this machine lacks are named and left out.
set -eu
tool=$1 tmp=$2/determinism
rm -rf "$tmp"
mkdir -p "$tmp"
if [ $# -ge 4 ]; then
    model=$3 data=$4
else
    model=$tmp/int8.onnx data=models/digits-test.npz
    "$tool" quantize models/digits-cnn.onnx -d models/digits-train.npz -o "$model" --samples 64 --seed 1 >"$tmp/verdict"
fi
n=0
for cpu in scalar avx2 vnni; do
    for threads in 1 2; do
        out=$tmp/$cpu-$threads.npz
        if ! RQ_CPU=$cpu "$tool" run "$model" -d "$data" -o "$out" --threads $threads 2>"$tmp/said"; then
            if [ $cpu != scalar ] && grep -q RQ_CPU "$tmp/said"; then
                echo "left out: $(cat "$tmp/said")"
                continue
            fi
            cat "$tmp/said" >&2
            exit 1
        fi
        cmp "$tmp/scalar-1.npz" "$out"
        n=$((n + 1))
    done
done
echo "$n output files, identical: $(cksum <"$tmp/scalar-1.npz")"
