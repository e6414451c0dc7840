# SPDX-License-Identifier: MIT
# Reads the public headers and writes a C program that prints the value of every constant and the size of every public
# struct with offset and size of its members, and fails on implicit padding or a size that is no multiple of 8.
BEGIN {
    print "#include <lorank/lorank.h>\n#include <stddef.h>\n#include <stdio.h>\n#include <string.h>\nint main(void)\n{\n    int bad = 0;"
    print "    size_t end = 0;"
}
/^#define LRK_[A-Z0-9_]+ +[(0-9-]/ { printf "    printf(\"%%s %%lld\\n\", \"%s\", (long long)%s);\n", $2, $2 }
/^typedef struct lrk_[a-z0-9_]+ \{/ { name = $3; open = 1; printf "    end = 0;\n"; next }
open && /^\} / {
    printf "    printf(\"%s %%zu\\n\", sizeof(%s));\n", name, name
    printf "    if (sizeof(%s) != end || sizeof(%s) %% 8 != 0) { bad = 1; printf(\"PADDING in %s\\n\"); }\n", name, name, name
    open = 0
    next
}
open {
    line = $0
    if (comment) {
        if (line !~ /\*\//) next
        sub(/.*\*\//, "", line)
        comment = 0
    }
    if (line ~ /\/\*/ && line !~ /\*\//) comment = 1
    sub(/\/\*.*/, "", line)
    if (line !~ /;/) next
    sub(/;.*/, "", line)
    if (match(line, /\(\*[a-z0-9_]+\)/)) member = substr(line, RSTART + 2, RLENGTH - 3)
    else { sub(/\[.*/, "", line); n = split(line, words, /[ *]+/); member = words[n] }
    printf "    printf(\"%s.%s %%zu %%zu\\n\", offsetof(%s, %s), sizeof(((%s *)0)->%s));\n", name, member, name, member, name, member
    printf "    if (offsetof(%s, %s) != end) { bad = 1; printf(\"PADDING before %s.%s\\n\"); }\n", name, member, name, member
    printf "    end = offsetof(%s, %s) + sizeof(((%s *)0)->%s);\n", name, member, name, member
}
END { print "    return bad;\n}" }
