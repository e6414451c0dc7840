#!/bin/sh
# SPDX-License-Identifier: MIT
# What adding lorank to the trainer took: prints the lines between #ifdef LORANK and #endif of the files
# that compile without it too, and counts them; then the two files that exist for lorank alone. With --count,
# numbers only. Blank lines and comments are not counted.
set -eu
cd "$(dirname "$0")"
shared="linear.c model_run.c model_internal.h trainer.h trainer.c"

marked() {
    awk '/^#ifdef LORANK/ {inside = 1; next}
         inside && /^#(else|endif)/ {inside = 0; next}
         inside {print}' "$1"
}
code() {
    awk '{ line = $0
           gsub(/\/\*.*\*\//, "", line)
           if (line ~ /^[ \t]*\/\*/) comment = 1
           if (!comment && line !~ /^[ \t]*$/) n++
           if (line ~ /\*\//) comment = 0 }
         END { print n + 0 }'
}

total=0
for file in $shared; do
    n=$(marked "$file" | code)
    [ "$n" -gt 0 ] || continue
    if [ "${1:-}" != --count ]; then
        echo "---- $file"
        marked "$file" | sed 's/^/+/'
    fi
    printf '%-18s %4d lines for lorank\n' "$file" "$n"
    total=$((total + n))
done
printf '%-18s %4d lines in the model and its loop\n' "together" "$total"
printf '%-18s %4d lines beside them: describes the layers to lorank\n' adapt.c "$(code <adapt.c)"
printf '%-18s %4d lines beside them: answers its questions about the loss\n' score.c "$(code <score.c)"
