#!/bin/sh
# Layers, formatting, clang-tidy and cppcheck over the tree; each says what it found, and one summary ends it.
#   tools/lint.sh [layers|format|tidy|cppcheck]...   default: all
# TIDY_NODES: how far clang's analyzer follows one function (default: 40000 states; its own default, 225000, takes three times as long).
set -u
cd "$(dirname "$0")/.."
what=${*:-layers format tidy cppcheck}
build=${BUILD:-build}
failed=

sources() { git ls-files -co --exclude-standard "$@" | while read -r f; do [ -f "$f" ] && echo "$f"; done; }
have() { command -v "$1" >/dev/null 2>&1 || { echo "lint: $1 is missing; tools/deps.sh --lint installs it" >&2; failed="$failed $2(missing)"; false; }; }

for step in $what; do
    case $step in
    layers) tools/check_layers.sh || failed="$failed layers" ;;
    format)
        have clang-format format && { sources '*.c' '*.h' | xargs clang-format --dry-run -Werror || failed="$failed format"; }
        ;;
    tidy)
        have clang-tidy tidy || continue
        [ -f $build/compile_commands.json ] || cmake -S . -B $build >/dev/null || exit 1
        cmake --build $build --target rq_generate >/dev/null 2>&1
        sources 'src/*.c' 'cli/*.c' 'examples/*.c' | xargs -P "$(nproc)" -n 4 clang-tidy --quiet -p $build \
            --extra-arg=-Xclang --extra-arg=-analyzer-config --extra-arg=-Xclang --extra-arg=max-nodes="${TIDY_NODES:-40000}" 2>/dev/null >$build/tidy.txt ||
            { grep -E 'warning:|error:' $build/tidy.txt | sort -u; failed="$failed tidy"; }
        ;;
    cppcheck)
        have cppcheck cppcheck || continue
        sources 'src/*.c' 'cli/*.c' | cppcheck --quiet --error-exitcode=1 --inline-suppr --std=c11 -j "$(nproc)" \
            --enable=warning,performance,portability --suppressions-list=tools/cppcheck.supp \
            -D__x86_64__ -D_GNU_SOURCE -I include -I src --file-list=- || failed="$failed cppcheck"
        ;;
    *) echo "lint: no step '$step'; there are layers format tidy cppcheck" >&2; exit 2 ;;
    esac
done
[ -z "$failed" ] && echo "lint: clean ($what)" && exit 0
echo "lint: not clean:$failed" >&2
exit 1
