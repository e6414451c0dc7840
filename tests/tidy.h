/* SPDX-License-Identifier: MIT */
/*
 * For clang-tidy alone, which sees one file at a time: recording a failure never returns LRK_OK. Without this every
 * "NULL is a failure" would be followed further as a success. Not for src/core, which defines these.
 */
#include "core/core.h"

#define lrki_fail(context, status, ...) ((void)lrki_fail(context, status, __VA_ARGS__), (status))
#define lrki_fail_nomem(context, what)  ((void)lrki_fail_nomem(context, what), LRK_ERR_NOMEM)
