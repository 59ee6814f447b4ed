#!/bin/sh
# Everything before pushing: the test suite under sanitizers, both compilers with warnings as errors, valgrind on
# the demo, the library's binary interface, the readers under a fuzzer,
# and another machine. In shards, so that machines can share the work:
#   tools/check.sh [asan|ubsan|tsan|races|clang|valgrind|big|kill|abi|fuzz|arm64]...   default: all but tsan
set -u
cd "$(dirname "$0")/.."
shards=${*:-asan ubsan races clang valgrind big kill abi fuzz arm64}
jobs=${JOBS:-$(nproc)}
gen=$(command -v ninja >/dev/null 2>&1 && echo "-G Ninja")
failed=
tools/deps.sh --lint || exit 1

suite() { # suite PRESET: configure, build, run its tests
    cmake --preset "$1" $gen >/dev/null && cmake --build --preset "$1" -j "$jobs" && ctest --preset "$1" -j "$jobs"
}

only_kernels() { # only_kernels CPU: those that have versions for dotprod and i8mm, on one that lacks these: nothing of theirs is run there
    QEMU_CPU=$1 ctest --preset arm64 -j "$jobs" -R 'kernels_(qgemm|dwlast|quantize|relayout)'
}

for shard in $shards; do
    echo "== check: $shard"
    case $shard in
    asan | ubsan | tsan) suite $shard ;;
    races) # threads of callers' and of sessions under the thread sanitizer: the tests that are about them, built without optimization, in a minute
        cmake -S . -B build-races $gen -DCMAKE_BUILD_TYPE=Debug -DRQ_SANITIZE=thread >/dev/null &&
            cmake --build build-races -j "$jobs" --target test_base_base test_ops_packs test_run_deploy &&
            TSAN_OPTIONS=suppressions=$PWD/tools/tsan.supp ctest --test-dir build-races --output-on-failure --no-tests=error \
                -R '^(base_base|ops_packs|run_deploy)$'
        ;;
    clang) # the other compiler: builds without a warning, passes the quick tests
        cmake -S . -B build-clang $gen -DCMAKE_C_COMPILER=clang -DRQ_WERROR=ON >/dev/null &&
            cmake --build build-clang -j "$jobs" && ctest --test-dir build-clang -j "$jobs" --output-on-failure -LE 'nosan|slow' --no-tests=error
        ;;
    valgrind) # the demo on few samples; valgrind knows AVX2 but not AVX-512, which oneDNN is told through its own switch
        cmake -S . -B build $gen >/dev/null && cmake --build build -j "$jobs" --target requant &&
            RQ_CPU=avx2 DNNL_MAX_CPU_ISA=AVX2 ONEDNN_MAX_CPU_ISA=AVX2 valgrind -q --error-exitcode=9 --leak-check=full \
                --errors-for-leak-kinds=definite --suppressions=tools/valgrind.supp \
                build/requant quantize models/digits-cnn.onnx -d models/digits-train.npz --samples 32 \
                --eval models/digits-test.npz --threads 1 -q -o build/valgrind-int8.onnx >/dev/null
        ;;
    big) # a model of more than 2 GiB, out and back (3 GiB of disk)
        cmake -S . -B build $gen >/dev/null && cmake --build build -j "$jobs" --target test_big test_coreml_big && build/tests/test_big && build/tests/test_coreml_big
        ;;
    kill) # training of floats and of a quantizer dies ten times each at random moments, goes on, and ends with the same bytes
        cmake -S . -B build $gen >/dev/null && cmake --build build -j "$jobs" --target requant &&
            tests/cli/kill.sh build/requant 10
        ;;
    abi) # programs linked with the library of before still work
        cmake -S . -B build $gen >/dev/null && cmake --build build -j "$jobs" --target requant_shared && tools/abi.sh build
        ;;
    fuzz) # any bytes as a file, FUZZ_SECONDS for each reader; what it finds lies in build-fuzz/NAME and ./crash-*
        cmake -S . -B build-fuzz $gen -DCMAKE_C_COMPILER=clang -DRQ_FUZZ=ON -DRQ_TESTS=OFF -DRQ_SANITIZE=address,undefined >/dev/null &&
            cmake --build build-fuzz -j "$jobs" && tools/fuzz.sh build-fuzz "${FUZZ_SECONDS:-15}"
        ;;
    arm64) # another machine, under QEMU: the tests below the operators (but four minutes of observers in plain C), then the same bytes here and there, and the same integers at every level
        cmake -S . -B build $gen >/dev/null && cmake --build build -j "$jobs" --target requant kernel_rows golden &&
            tools/deps.sh --arm64 && tools/arm64-sysroot.sh && cmake --preset arm64 $gen >/dev/null &&
            cmake --build --preset arm64 -j "$jobs" &&
            ctest --preset arm64 -j "$jobs" -R "${ARM64_TESTS:-base|kernels|tensor|graph|quant}" -E 'quant_documented_observers|algo_' &&
            only_kernels cortex-a57 && only_kernels neoverse-n1 && make -s determinism && python3 tests/determinism/matrix.py --pattern "onnx/q*/*" build build-arm64 qemu-aarch64 -L "${RQ_ARM64_SYSROOT:-build-arm64-sysroot}"
        ;;
    *) echo "check: no shard '$shard'; there are asan ubsan tsan races clang valgrind big kill abi fuzz arm64" >&2; exit 2 ;;
    esac || failed="$failed $shard"
done
[ -z "$failed" ] && echo "check: clean ($shards)" && exit 0
echo "check: failed:$failed" >&2
exit 1
