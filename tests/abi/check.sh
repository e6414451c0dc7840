#!/bin/sh
# SPDX-License-Identifier: MIT
# check.sh SHARED_LIBRARY STATIC_LIBRARY WORK_FOLDER [--update]: the ABI gates, and what the library must not hold or
# call. With --update the committed lists are written anew from the headers.
set -eu
library=$1 archive=$2 work=$3 update=${4:-}
here=$(dirname "$0")
mkdir -p "$work"

nm -D --defined-only "$library" | awk '$2 ~ /^[TDBRVW]$/ {sub(/@.*/, "", $3); print $3}' | LC_ALL=C sort -u >"$work/symbols.txt"
awk '/^LRK_API/ {call = 1} call {text = text " " $0} call && /;/ {print text; text = ""; call = 0}' include/lorank/*.h |
    grep -oE 'lrk_[a-z0-9_]+\(' | tr -d '(' | LC_ALL=C sort -u >"$work/declared.txt"

awk -f "$here/layout.awk" include/lorank/*.h >"$work/layout.c"
${CC:-cc} -std=c11 -Iinclude -o "$work/layout" "$work/layout.c"
"$work/layout" >"$work/layout.txt" || { grep PADDING "$work/layout.txt"; exit 1; }

if [ "$update" = --update ]; then
    cp "$work/declared.txt" "$here/symbols.txt"
    cp "$work/layout.txt" "$here/layout.txt"
    { echo 'LRK_0 {'; echo '    global:'; sed 's/.*/        &;/' "$work/declared.txt"; echo '    local: *;'; echo '};'; } \
        >src/lorank.map
    echo "abi: lists written from the headers; look at their diff, then run the gate"
    exit 0
fi
echo "symbols: exported against tests/abi/symbols.txt, headers and src/lorank.map"
diff -u "$here/symbols.txt" "$work/symbols.txt"
diff -u "$work/declared.txt" "$work/symbols.txt"
grep -oE 'lrk_[a-z0-9_]+' src/lorank.map | LC_ALL=C sort -u | diff -u - "$work/symbols.txt"
echo "layout: structs and constants against tests/abi/layout.txt"
diff -u "$here/layout.txt" "$work/layout.txt"

echo "headers: each alone as C99 and as C++98"
for header in include/lorank/*.h; do
    printf "#include \"%s\"\nextern int not_empty;\n" "$header" >"$work/header.c"
    ${CC:-cc} -std=c99 -pedantic-errors -Wall -Wextra -Werror -I. -fsyntax-only "$work/header.c"
    ${CXX:-c++} -std=c++98 -pedantic-errors -Wall -Wextra -Werror -I. -x c++ -fsyntax-only "$work/header.c"
done
echo "state: no writable data; no printing, exiting, environment or signals; libc's memory only as a context's default"
# Tables of pointers (.data.rel.ro) are read-only once loaded.
readelf -SW "$archive" | sed 's/\[ *[0-9]*\]//' | awk '
    /^File:/ {file = $2}
    $1 ~ /^\.t?(data|bss)/ && $1 !~ /^\.data\.rel\.ro/ && $5 !~ /^0+$/ {print file ": writable section " $1; bad = 1}
    END {exit bad}'
nm -A -u "$archive" | awk '
    {name = $NF; sub(/^__/, "", name); sub(/_chk$/, "", name)}
    name ~ /^(stdin|stdout|stderr|v?f?w?printf|v?dprintf|f?puts|f?putc|putchar|_IO_putc|fwrite|perror|psignal|syslog)$/ ||
    name ~ /^(_?exit|_Exit|quick_exit|abort|assert_fail|at_quick_exit|atexit|longjmp)$/ ||
    name ~ /^(getenv|secure_getenv|setenv|unsetenv|putenv|environ|setlocale|srand|rand|random|srandom)$/ ||
    name ~ /^(malloc|calloc|realloc|reallocarray|aligned_alloc|posix_memalign|free|strn?dup|v?asprintf|getline)$/ && !/context\.o/ ||
    name ~ /^(signal|sigaction|raise|kill|alarm|fork|execv|execve|system|popen)$/ {print "calls " $0; bad = 1}
    END {exit bad}'
echo "abi: ok, $(wc -l <"$work/symbols.txt") symbols, $(wc -l <"$work/layout.txt") layout facts"
