#!/bin/sh
# SPDX-License-Identifier: MIT
# Every relative link in the documents leads to a file, and every lrk_ or LRK_ name they mention stands in a header.
set -eu
bad=0
cat include/lorank/*.h >build/headers.txt 2>/dev/null || { mkdir -p build && cat include/lorank/*.h >build/headers.txt; }
for page in README.md $(find docs examples tests -name '*.md'); do
    folder=$(dirname "$page")
    for link in $(grep -oE '\]\([^)#]+' "$page" | sed 's/](//' | grep -vE '^(https?|mailto):' || true); do
        [ -e "$folder/$link" ] || { echo "$page: no file $link"; bad=1; }
    done
    for name in $(grep -oE '\b(lrk|LRK)_[A-Za-z0-9_]*[A-Za-z0-9]\b' "$page" | sort -u || true); do
        grep -q "$name" build/headers.txt || { echo "$page: no name $name in the headers"; bad=1; }
    done
done
# README holds the smallest example word for word, and the size of the trainer's integration.
sed '1d' examples/00_hello.c >build/hello.txt
awk '/^```c$/ {on = 1; next} /^```$/ {if (on) exit} on' README.md | diff -u build/hello.txt - || bad=1
lines=$(examples/finetune/integration_diff.sh | awk '$1 == "together" {print $2}')
grep -q "$lines lines in the model and its loop" README.md || { echo "README.md: the integration takes $lines lines"; bad=1; }
[ $bad = 0 ] && echo "docs: ok"
exit $bad
