#!/bin/sh
# Every fuzz target of BUILD for SECONDS, as many at a time as there are processors. New inputs go to BUILD/corpus/NAME, what
# fails to BUILD/crash-*. FUZZ_SEED (default 1): what the fuzzer draws its changes from, so that two runs make the same inputs in the
# same order; another number, or 0 for a new one each time, looks elsewhere.
#   tools/fuzz.sh BUILD SECONDS [NAME]...
set -u
build=$1 seconds=$2
shift 2
names=${*:-$(ls tests/fuzz/corpus)}
export ASAN_OPTIONS=allocator_may_return_null=1:detect_leaks=1 UBSAN_OPTIONS=print_stacktrace=1
one() {
    seeds=tests/fuzz/corpus/$1
    case $1 in onnx | run) seeds="$seeds tests/golden/onnx/bad_models tests/golden/onnx/qdq tests/golden/onnx/qops tests/golden/onnx/float_ops" ;; esac
    mkdir -p "$build/corpus/$1"
    "$build/tests/fuzz_$1" -seed="${FUZZ_SEED:-1}" -max_len=8192 -max_total_time="$seconds" -timeout=20 -rss_limit_mb=2048 -verbosity=0 -print_final_stats=1 \
        -artifact_prefix="$build/crash-$1-" "$build/corpus/$1" $seeds >"$build/fuzz-$1.log" 2>&1
    rc=$?
    runs=$(sed -n 's/^stat::number_of_executed_units: *//p' "$build/fuzz-$1.log")
    echo "fuzz: $1: ${runs:-0} runs in $seconds s: $([ $rc = 0 ] && echo clean || echo "exit $rc, see $build/fuzz-$1.log")"
    if [ $rc != 0 ]; then # for those who have this output only: the report, and the input
        grep -E 'ERROR|error:|SUMMARY|^ *#[0-9] ' "$build/fuzz-$1.log" | head -30
        input=$(sed -n 's/.*Test unit written to //p' "$build/fuzz-$1.log" | head -1)
        if [ -n "$input" ]; then echo "base64 of $input:" && gzip -9c "$input" | base64 -w 0 | cut -c1-12000; fi
    fi
    return $rc
}
failed=0 running=0
for name in $names; do
    one "$name" &
    pids="${pids:-} $!"
    running=$((running + 1))
    if [ $running -ge "$(nproc)" ]; then
        for p in $pids; do wait "$p" || failed=1; done
        pids= running=0
    fi
done
for p in ${pids:-}; do wait "$p" || failed=1; done
exit $failed
