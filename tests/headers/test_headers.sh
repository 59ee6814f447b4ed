#!/bin/sh
# Each public header compiles alone, as C17 and as C++17, with warnings as errors.
#   test_headers.sh CC CXX      CXX may be empty: then the C++ half is skipped, which is said
set -eu
cd "$(dirname "$0")/../.."
cc=$1 cxx=${2:-}
for h in include/requant/*.h; do
    name=requant/$(basename "$h")
    echo "#include <$name>" | $cc -std=c17 -Wall -Wextra -Wpedantic -Werror -Iinclude -fsyntax-only -x c -
    [ -z "$cxx" ] || echo "#include <$name>" | $cxx -std=c++17 -Wall -Wextra -Werror -Iinclude -fsyntax-only -x c++ -
done
[ -n "$cxx" ] || echo "no C++ compiler here: the C++ half was skipped"
