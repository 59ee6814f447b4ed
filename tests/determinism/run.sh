#!/bin/sh
# run.sh REQUANT TMP [MODEL DATA]: the same bytes under every instruction set and thread count, from quantizing as from
# running, float as in integers. MODEL is a float one; without it: the digits CNN. Levels this machine lacks are named and
# left out. Prints a line per way and the hashes that all of them share.
set -eu
tool=$1 tmp=$2/determinism
rm -rf "$tmp"
mkdir -p "$tmp"
if [ $# -ge 4 ]; then
    model=$3 train=$4 data=$4
else
    model=models/digits-cnn.onnx train=models/digits-train.npz data=models/digits-test.npz
fi
n=0
for cpu in scalar avx2 avx512 vnni neon; do
    for threads in 1 2; do
        out=$tmp/$cpu-$threads
        if ! RQ_CPU=$cpu "$tool" quantize "$model" -d "$train" -o "$out.onnx" --samples 64 --seed 1 --deterministic \
            --threads $threads -q --json "$out.json" 2>"$tmp/said"; then
            if [ $cpu != scalar ] && grep -q RQ_CPU "$tmp/said"; then
                echo "left out: $(cat "$tmp/said")"
                break
            fi
            cat "$tmp/said" >&2
            exit 1
        fi
        RQ_CPU=$cpu "$tool" run "$out.onnx" -d "$data" -o "$out-codes.npz" --deterministic --threads $threads
        RQ_CPU=$cpu "$tool" run "$model" -d "$data" -o "$out-float.npz" --deterministic --threads $threads
        for part in .onnx -codes.npz -float.npz; do
            cmp "$tmp/scalar-1$part" "$out$part"
        done
        n=$((n + 1))
        echo "$cpu, $threads threads: same"
    done
done
echo "$n ways, identical: model $(cksum <"$tmp/scalar-1.onnx"), its outputs $(cksum <"$tmp/scalar-1-codes.npz")," \
    "float outputs $(cksum <"$tmp/scalar-1-float.npz")"
