#!/bin/sh
# run.sh TMP ROWS REQUANT[...] [-- MODEL DATA OPTIONS]...: the same bytes everywhere. Each MODEL is quantized, with OPTIONS (one word
# of the shell), on the first ROWS rows of DATA and run, as a float model and as the file that was made, under every RQ_CPU level of every REQUANT with one thread, at the first level and the last one with two as well.
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
        set -- "$@" $net.onnx models/digits-train.npz ""
    done
    for net in cnn conv_bn depthwise lstm mlp residual transformer; do
        set -- "$@" tests/golden/onnx/static_quant/$net.onnx models/digits-train.npz ""
    done
    nets=tests/golden/onnx/static_quant
    set -- "$@" $nets/transformer.onnx models/digits-train.npz "--mode dynamic" \
        $nets/lstm.onnx models/digits-train.npz "--mode dynamic" \
        $nets/transformer_matmul.onnx models/digits-train.npz "--mode weight-only --weights s4" \
        $nets/mlp_matmul.onnx models/digits-train.npz "--mode weight-only --weights u4 --affine-weights --weight-method hqq" \
        $nets/conv_bn.onnx models/digits-train.npz "--method entropy" \
        $nets/residual.onnx models/digits-train.npz "--method percentile --activations u16"
    ocr=${RQ_REAL:-.}/ppocr_cls
    if [ -n "${RQ_REAL:-}" ] && [ -e "$ocr/model.onnx" ]; then
        set -- "$@" "$ocr/model.onnx" "$ocr/calib.npz" ""
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
    levels=$($tool --version | sed -n 's/^cpu: \([^,]*\),.*/\1/p' | sed 's/+fma//; s/avx-vnni/avxvnni/; s/avx512-vnni/vnni/; s/avx512-vbmi//')
    case " $levels " in *" scalar "*) ;; *) levels="scalar $levels" ;; esac
    for level in $levels; do
        ways="$ways $i:$level:1"
    done
    ways="$ways $i:scalar:2 $i:$level:2"
done
echo "ways:$ways ($rows rows)"

failed=0
number=0
printf '%-13s %-13s %-13s %-5s %s\n' 'int8 model' 'its outputs' 'float outputs' ways network
while [ $# -gt 0 ]; do
    model=$1 name=$(basename "$1" .onnx) data=$tmp/data.npz first= n=0
    [ "$name" != model ] || name=$(basename "$(dirname "$1")")
    python3 tests/determinism/npz_head.py "$2" "$data" "$rows"
    options=$3
    shift 3
    label="$name${options:+ $options}"
    number=$((number + 1))
    for way in $ways; do
        eval "tool=\$tool_${way%%:*}"
        rest=${way#*:} out=$tmp/$number-$name-$(echo "$way" | tr ':' '-')
        threads=${rest#*:}
        export RQ_CPU="${rest%:*}"
        $tool quantize "$model" -d "$data" -o "$out.onnx" --seed 1 --deterministic --threads $threads -q $options
        $tool run "$out.onnx" -d "$data" -o "$out-codes.npz" --deterministic --threads $threads -q
        $tool run "$model" -d "$data" -o "$out-float.npz" --deterministic --threads $threads -q
        unset RQ_CPU
        first=${first:-$out}
        for part in .onnx -codes.npz -float.npz; do
            cmp "$first$part" "$out$part" && continue
            echo "$label: $way differs from the first way in $(basename "$out$part")"
            failed=1
        done
        n=$((n + 1))
    done
    printf '%-13s %-13s %-13s %-5s %s\n' "$(hash "$first.onnx")" "$(hash "$first-codes.npz")" \
        "$(hash "$first-float.npz")" $n "$label"
done
exit $failed
