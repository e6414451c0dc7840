/* SPDX-License-Identifier: MIT */
/* Is this text UTF-8? Asked of every file before anything else looks at its text. */
#ifndef FT_UTF8_H
#define FT_UTF8_H

#include <stddef.h>

/* The offset of the first byte that does not belong to valid UTF-8, or `bytes` when all do. */
size_t ft_utf8_valid_prefix(const char *text, size_t bytes);

#endif
