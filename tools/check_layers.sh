#!/bin/sh
# Every #include in src/ goes to the own folder or to one with a smaller number in src/LAYERS, and is written
# from src/; cli/ and examples/ include nothing of ours but <requant/...>. Sections of docs/ that comments cite exist.
# Only base/number turns text into reals and back.
set -eu
cd "$(dirname "$0")/.."

bad=$(find src -name '*.[ch]' -print | sort | xargs awk '
    BEGIN {
        while ((getline line < "src/LAYERS") > 0)
            if (line !~ /^#/ && split(line, f, " ") == 2) layer[f[1]] = f[2]
    }
    FNR == 1 { split(FILENAME, part, "/"); from = part[2]; if (!(from in layer)) print FILENAME ": folder " from " is not in src/LAYERS" }
    /^[ \t]*#[ \t]*include[ \t]*"/ {
        split($0, q, "\""); path = q[2]
        if (path ~ /\.pb-c\.h$/) { if (from != "formats") print FILENAME ":" FNR ": only src/formats reads protobuf"; next }
        if (split(path, p, "/") < 2) { print FILENAME ":" FNR ": write \"" path "\" from src/"; next }
        to = p[1]
        if (to == "requant" || to == from) next
        if (!(to in layer)) print FILENAME ":" FNR ": folder " to " is not in src/LAYERS"
        else if (layer[to] >= layer[from]) print FILENAME ":" FNR ": " from " (" layer[from] ") may not include " to " (" layer[to] ")"
    }')

own=$(grep -nE '^[ \t]*#[ \t]*include[ \t]*"' -r cli examples --include='*.[ch]' 2>/dev/null |
    grep -vE '"(opts|progress|cmd|cli)[a-z_]*\.h"' || true)
[ -z "$own" ] || bad="$bad
$own: outside the library only <requant/...> may be included"

only() { # only PATTERN FILE: the one file that may include a library
    grep -lE "^[ \t]*#[ \t]*include[ \t]*<$1" -r src 2>/dev/null | grep -vE "^src/$2$" | while read -r f; do echo "$f: only src/$2 may include <$1...>"; done
}
more=$(only 'dnnl' 'kernels/float_dnnl_base\.h'; only 'pthread' '(base/threads|tensor/storage)\.c'; only '(cblas|lapacke)' 'kernels/linalg\.c')
bad="$bad$more"

# Numbers as text: strtod and printf take the program's comma for a point.
comma=$(grep -nE '\b(strto(d|f|ld)|atof)\(|\b(v?s?n?printf|fprintf)\(.*%[-+#0-9.*]*[gfea]\b' -r src | grep -v '^src/base/number\.c:' || true)
[ -z "$comma" ] || bad="$bad
$comma: base/number reads and writes numbers"

# What comments cite (a file and numbers, across line ends too) is a heading there.
cited=$(find src include cli tests tools docs bench -type f \( -name '*.[ch]' -o -name '*.inc' -o -name '*.sh' -o -name '*.py' -o -name '*.md' \) |
    while read -r f; do
        tr '\n' ' ' <"$f" | sed 's/  *[*#] / /g' |
            grep -oE '(docs/)?[a-z]+-facts(\.md)? +[A-Z]?[0-9]+(\.[0-9]+)*((, | and | to |-)[A-Z]?[0-9]+(\.[0-9]+)*)*' |
            while read -r doc numbers; do
                doc=docs/${doc#docs/}
                doc=${doc%.md}.md
                for n in $(echo "$numbers" | tr -s ',-' '  ' | sed 's/and//g; s/to//g'); do
                    grep -q "^## $n " "$doc" || echo "$f: $doc has no section $n"
                done
            done
    done)
[ -z "$cited" ] || bad="$bad
$cited"

[ -z "$bad" ] && exit 0
echo "$bad" >&2
exit 1
