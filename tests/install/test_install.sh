#!/bin/sh
# Install into an empty prefix, then build and run a small program outside the tree: once by pkg-config, once by
# find_package, and once against the static library.
#   test_install.sh BUILD_DIR CC
set -eu
build=$1 cc=$2
here=$(cd "$(dirname "$0")" && pwd)
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
cmake --install "$build" --prefix "$tmp/prefix" >"$tmp/install.log"

export PKG_CONFIG_PATH="$(dirname "$(find "$tmp/prefix" -name requant.pc)")"
libdir=$(pkg-config --variable=libdir requant)
export LD_LIBRARY_PATH="$libdir"
mkdir "$tmp/outside" && cp "$here/ten_lines.c" "$tmp/outside/" && cd "$tmp/outside"

$cc ten_lines.c $(pkg-config --cflags --libs requant) -o by_pkgconfig
./by_pkgconfig
readelf -d by_pkgconfig | grep -q 'NEEDED.*librequant\.so\.[0-9]' || { echo "no soname in what was linked"; exit 1; }
$cc ten_lines.c -I"$tmp/prefix/include" "$libdir/librequant.a" $(pkg-config --static --libs requant) -o static
./static

# the examples, against the installed package
models="$here/../../models"
for e in "$here"/../../examples/*.c; do
    $cc -std=c17 -Wall -Wextra -Wno-unused-parameter -Werror "$e" $(pkg-config --cflags --libs requant) -lm -o "$(basename "$e" .c)"
done
./own_op >got
printf 'as built, in float: -0.000 -0.333 0.000 0.667 4.000\nannotated, in integers: 0.000 -0.346 0.000 0.661 4.000\n' | diff - got
./quantize_in_memory "$models/digits-cnn.onnx" "$models/digits-train.npz" "$models/digits-test.npz" 2>/dev/null >got
grep -qx 'top-1 of the first sample: [0-9]' got || { echo "quantize_in_memory printed: $(cat got)"; exit 1; }

./own_observer "$models/digits-cnn.onnx" "$models/digits-train.npz" "$models/digits-test.npz" >got
grep -c 'int8 99\.' got | grep -qx 2 || { echo "own_observer printed: $(cat got)"; exit 1; }

# four methods, and none with less error than the one that looks for the least
./observe >got
[ "$(wc -l <got)" = 5 ] && awk 'NR > 1 { e[$1] = $NF } END { exit !(e["mse"] > 0 && e["mse"] < e["min_max"] && e["mse"] <= e["percentile"]) }' got ||
    { echo "observe printed: $(cat got)"; exit 1; }

# the loss falls, quantized or not, and what it saved is quantized
./train_milestones blur.onnx >got
[ "$(wc -l <got)" = 7 ] && awk '{ l[NR] = $NF } END { exit !(l[7] > 0 && l[7] < l[1] / 10) }' got || { echo "train_milestones printed: $(cat got)"; exit 1; }
"$tmp/prefix/bin/requant" info blur.onnx | grep -q '^quantized *yes' || { echo "train_milestones saved no integers"; exit 1; }

# trained by a YAML file, a package for iOS 17 of integers, nine in ten right while it learned
./digits_coreml "$models/digits-train.npz" "$models/digits-test.npz" "$here/../../examples/digits.yaml" digits.mlpackage >got
awk '/^epoch 8/ { right = $(NF - 2) } END { exit !(right > 95) }' got || { echo "digits_coreml printed: $(cat got)"; exit 1; }
"$tmp/prefix/bin/requant" info digits.mlpackage >got
grep -q 'specification 8 (iOS 17)' got && grep -q 'quantize x.* constexpr_affine_dequantize x3' got || { echo "digits_coreml saved: $(cat got)"; exit 1; }
"$tmp/prefix/bin/requant" eval digits.mlpackage -d "$models/digits-test.npz" >got
awk '/^accuracy/ { right = $2 } END { exit !(right > 95) }' got || { echo "digits.mlpackage: $(cat got)"; exit 1; }

# two threads answer as one does
./serve_batch "$models/digits-cnn.onnx" 2 4 501 >got
[ "$(wc -l <got)" = 3 ] && grep -qx 'the same answers: yes' got || { echo "serve_batch printed: $(cat got)"; exit 1; }

# 20 layers with weights on the way of the data, two beside it
./resnet r20.onnx >/dev/null
"$tmp/prefix/bin/requant" info r20.onnx | grep -q 'BatchNormalization x21 Conv x21 Relu x19 Add x9' || { echo "resnet: $("$tmp/prefix/bin/requant" info r20.onnx)"; exit 1; }

# the program of README.md, and what README.md says that it prints
block() { # block MARK: what stands in README.md between the fences of MARK
    sed -n "/^<!-- $1 -->\$/,/^<!-- \/$1 -->\$/p" "$here/../../README.md" | sed '1,2d' | sed '/^```$/,$d'
}
block quantizers >quantizers.c
$cc -std=c17 -Wall -Wextra -Werror quantizers.c $(pkg-config --cflags --libs requant) -o quantizers
./quantizers >got
block quantizers-print | diff - got
[ -s got ] && [ -s qat.npz ] || { echo "the program of README.md left nothing"; exit 1; }

cp "$here/outside.cmake" CMakeLists.txt
cmake -S . -B build -DCMAKE_C_COMPILER="$cc" -DCMAKE_PREFIX_PATH="$tmp/prefix" >"$tmp/cmake.log" || { cat "$tmp/cmake.log"; exit 1; }
cmake --build build >"$tmp/build.log" 2>&1 || { cat "$tmp/build.log"; exit 1; }
./build/ten_lines

# nothing leaves the library but what the headers promise
leaked=$(nm -D --defined-only "$libdir/librequant.so" | awk '$2 != "A" { print $3 }' | grep -v '^rq_' || true)
[ -z "$leaked" ] || { echo "symbols that should be hidden: $leaked"; exit 1; }
for f in bin/requant share/man/man1/requant.1 share/requant/recipe.schema.json; do
    [ -s "$tmp/prefix/$f" ] || { echo "not installed: $f"; exit 1; }
done
