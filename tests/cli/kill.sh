#!/bin/sh
# Training that is killed (SIGKILL) at random moments and resumed ends with the bytes of a run that was not: the model, and the metrics but for
# their times.
#   tests/cli/kill.sh COMMAND [TIMES]
set -u
command=$(readlink -f "$1")
times=${2:-10}
models=$(cd "$(dirname "$0")/../../models" && pwd)
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
cd "$tmp" || exit 1

run=
train() { # train NAME [OPTION]...
    name=$1
    shift
    ${run:-} "$command" train "$models/digits-cnn.onnx" -d "$models/digits-train.npz" --eval "$models/digits-test.npz" -o "$name.onnx" \
        --epochs 3 --batch 16 --lr 0.02 --schedule cosine --augment crop=1 --seed 7 --clip-norm 5 --threads 2 \
        --checkpoint "$name.ckpt" --checkpoint-steps 7 --json "$name.jsonl" --json-steps 5 -q "$@"
}

timeless() { sed 's/, "seconds": [^}]*//' "$1"; }

start=$(date +%s%N)
train whole || { echo "FAIL: the run that nobody kills"; exit 1; }
whole=$((($(date +%s%N) - start) / 1000000))
failed=0
for i in $(seq "$times"); do
    rm -rf part.onnx part.ckpt part.jsonl
    at=$(od -An -N2 -tu2 /dev/urandom | awk -v t="$whole" "{ printf \"%.3f\", \$1 / 65536 * t / 1000 }")
    run=exec train part & # the process itself, not a shell around it
    child=$!
    sleep "$at"
    kill -9 "$child" 2>/dev/null
    wait "$child" 2>/dev/null
    [ -e part.onnx ] && state=finished || state=killed
    train part --resume part.ckpt || { echo "FAIL: killed after $at s of ${whole} ms, does not resume"; failed=$((failed + 1)); continue; }
    if ! cmp -s whole.onnx part.onnx; then
        echo "FAIL: $state after $at s of $whole ms, and the model differs"
        failed=$((failed + 1))
    elif [ "$(timeless whole.jsonl)" != "$(timeless part.jsonl)" ]; then
        echo "FAIL: $state after $at s of $whole ms, and the metrics differ"
        failed=$((failed + 1))
    elif ls part.ckpt | grep -q tmp; then
        echo "FAIL: $state after $at s: something half-written stays"
        failed=$((failed + 1))
    fi
done
echo "kill: $((times - failed)) of $times runs ended with the same bytes"
[ "$failed" = 0 ]
