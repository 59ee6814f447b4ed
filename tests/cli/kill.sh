#!/bin/sh
# Training that is killed (SIGKILL) at random moments and resumed ends with the bytes of a run that was not: the model, and the metrics but for
# their times. Of floats, and of a quantizer whose scales are learned, whose milestones come one by one and whose batch norms move until one of them.
#   tests/cli/kill.sh COMMAND [TIMES]
set -u
command=$(readlink -f "$1")
times=${2:-10}
models=$(cd "$(dirname "$0")/../../models" && pwd)
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
cd "$tmp" || exit 1

cat >config.yaml <<'YAML'
global_config:
  weight_dtype: qint4
  activation_n_bits: 4
  weight_observer: lsq
  activation_observer: lsq_plus
  quantization_scheme: affine
  algorithm: learnable
  milestones: [0, 15, 40, 60]   # of 164 steps
YAML

run=
what=
train() { # train NAME [OPTION]...
    name=$1
    shift
    if [ "$what" = qat ]; then
        set -- qat --config config.yaml -n 200 --optimizer adam --scale-lr 0.5 --lr 0.002 --epochs 2 --checkpoint-steps 9 "$@"
    else
        set -- train --lr 0.02 --augment crop=1 --clip-norm 5 --epochs 3 --checkpoint-steps 7 "$@"
    fi
    word=$1
    shift
    ${run:-} "$command" "$word" "$models/digits-cnn.onnx" -d "$models/digits-train.npz" --eval "$models/digits-test.npz" -o "$name.onnx" \
        --batch 16 --schedule cosine --seed 7 --threads 2 --checkpoint "$name.ckpt" --json "$name.jsonl" --json-steps 5 -q "$@"
}

timeless() { sed 's/, "seconds": [^}]*//; s/"\(ms\|peak_rss_mb\)": [^,}]*/"\1": 0/g' "$1"; }

kill_and_resume() { # kill_and_resume: with $what
    rm -rf whole.* part.*
    start=$(date +%s%N)
    train whole || { echo "FAIL: $what: the run that nobody kills"; exit 1; }
    whole=$((($(date +%s%N) - start) / 1000000))
    for i in $(seq "$times"); do
        rm -rf part.onnx part.ckpt part.jsonl
        at=$(od -An -N2 -tu2 /dev/urandom | awk -v t="$whole" "{ printf \"%.3f\", \$1 / 65536 * t / 1000 }")
        run=exec
        train part & # the process itself, not a shell around it
        child=$!
        run=
        sleep "$at"
        kill -9 "$child" 2>/dev/null
        wait "$child" 2>/dev/null
        [ -e part.onnx ] && state=finished || state=killed
        train part --resume part.ckpt || { echo "FAIL: $what: killed after $at s of $whole ms, does not resume"; failed=$((failed + 1)); continue; }
        if ! cmp -s whole.onnx part.onnx; then
            echo "FAIL: $what: $state after $at s of $whole ms, and the model differs"
            failed=$((failed + 1))
        elif [ "$(timeless whole.jsonl)" != "$(timeless part.jsonl)" ]; then
            echo "FAIL: $what: $state after $at s of $whole ms, and the metrics differ"
            failed=$((failed + 1))
        elif ls part.ckpt | grep -q tmp; then
            echo "FAIL: $what: $state after $at s: something half-written stays"
            failed=$((failed + 1))
        fi
    done
}

failed=0
for what in train qat; do
    kill_and_resume
done
echo "kill: $((2 * times - failed)) of $((2 * times)) runs ended with the same bytes"
[ "$failed" = 0 ]
