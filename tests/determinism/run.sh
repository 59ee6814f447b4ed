#!/bin/sh
# run.sh TMP ROWS REQUANT[...] [-- MODEL DATA]...: the same bytes everywhere. Each MODEL is quantized on the first ROWS rows of
# DATA and run, as a float model and as the file that was made, under every RQ_CPU level of every REQUANT with one thread and with two.
# A REQUANT is a command, one word of the shell or several: 'qemu-aarch64 -L ROOT build-arm64/requant' is another machine.
# Prints a row per network: the hashes that all ways share, or which way differs. Exit 1 when one does.
# Without MODEL: the digits networks of models/ and of tests/golden, and the OCR classifier where RQ_REAL names the folder that
# tools/real/prepare.py filled.
set -eu
tmp=$1/determinism rows=$2
shift 2
rm -rf "$tmp"
mkdir -p "$tmp"

n_tools=0
while [ $# -gt 0 ] && [ "$1" != -- ]; do
    n_tools=$((n_tools + 1))
    eval "tool_$n_tools=\$1"
    shift
done
if [ $# -gt 0 ]; then
    shift
else
    for net in models/digits-cnn models/digits-uneven; do
        set -- "$@" $net.onnx models/digits-train.npz
    done
    for net in cnn conv_bn depthwise lstm mlp residual transformer; do
        set -- "$@" tests/golden/onnx/static_quant/$net.onnx models/digits-train.npz
    done
    ocr=${RQ_REAL:-.}/ppocr_cls
    if [ -n "${RQ_REAL:-}" ] && [ -e "$ocr/model.onnx" ]; then
        set -- "$@" "$ocr/model.onnx" "$ocr/calib.npz"
    else
        echo "left out: the OCR classifier, RQ_REAL names no folder of tools/real/prepare.py with it"
    fi
fi

hash() { sha256sum "$1" | cut -c1-12; }

# the ways: "NUMBER-OF-TOOL LEVEL THREADS"
ways=
i=0
while [ $i -lt $n_tools ]; do
    i=$((i + 1))
    eval "tool=\$tool_$i"
    levels=$($tool --version | sed -n 's/^cpu: \([^,]*\),.*/\1/p' | sed 's/+fma//; s/avx512-vnni/vnni/; s/avx512-vbmi//')
    case " $levels " in *" scalar "*) ;; *) levels="scalar $levels" ;; esac
    for level in $levels; do
        ways="$ways $i:$level:1 $i:$level:2"
    done
done
echo "ways:$ways ($rows rows)"

failed=0
printf '%-14s %-13s %-13s %-13s %s\n' network 'int8 model' 'its outputs' 'float outputs' ways
while [ $# -gt 0 ]; do
    model=$1 name=$(basename "$1" .onnx) data=$tmp/data.npz first= n=0
    [ "$name" != model ] || name=$(basename "$(dirname "$1")")
    python3 tests/determinism/npz_head.py "$2" "$data" "$rows"
    shift 2
    for way in $ways; do
        eval "tool=\$tool_${way%%:*}"
        rest=${way#*:} out=$tmp/$name-$(echo "$way" | tr ':' '-')
        threads=${rest#*:}
        export RQ_CPU="${rest%:*}"
        $tool quantize "$model" -d "$data" -o "$out.onnx" --seed 1 --deterministic --threads $threads -q --json "$out.json"
        $tool run "$out.onnx" -d "$data" -o "$out-codes.npz" --deterministic --threads $threads -q
        $tool run "$model" -d "$data" -o "$out-float.npz" --deterministic --threads $threads -q
        unset RQ_CPU
        first=${first:-$out}
        for part in .onnx -codes.npz -float.npz; do
            cmp "$first$part" "$out$part" && continue
            echo "$name: $way differs from the first way in $(basename "$out$part")"
            failed=1
        done
        n=$((n + 1))
    done
    printf '%-14s %-13s %-13s %-13s %s\n' "$name" "$(hash "$first.onnx")" "$(hash "$first-codes.npz")" \
        "$(hash "$first-float.npz")" $n
done
exit $failed
