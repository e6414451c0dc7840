/* SPDX-License-Identifier: MIT */
/* Status codes and their words: one table, in the order of the numbers (entry i is status -i). */
#include "lorank/status.h"

#include <stddef.h>

static const struct {
    const char *name;
    const char *text;
} table[] = {
    {"LRK_OK", "success"},
    {"LRK_ERR_NOMEM", "the allocator returned NULL"},
    {"LRK_ERR_ARGUMENT", "an argument violates its contract"},
    {"LRK_ERR_SHAPE", "operand shapes do not conform or a size overflows"},
    {"LRK_ERR_HOST", "a host callback reported failure"},
    {"LRK_ERR_CONFIG", "a configuration text was rejected"},
    {"LRK_ERR_BUSY", "the handle is in use"},
    {"LRK_ERR_STALE", "made before a change that makes it meaningless"},
    {"LRK_ERR_STATE", "call out of order"},
    {"LRK_ERR_NONFINITE", "a value is NaN or infinite"},
    {"LRK_ERR_NOT_FOUND", "nothing of that name"},
    {"LRK_ERR_CANCELLED", "the host asked to stop"},
    {"LRK_ERR_UNSUPPORTED", "a feature that lorank does not have"},
    {"LRK_ERR_FORMAT", "a file's content breaks its format"},
    {"LRK_ERR_IO", "the operating system refused to read or write"},
    {"LRK_ERR_VERSION", "a struct is larger than known here and its tail is not zero"},
    {"LRK_ERR_BUDGET", "no plan satisfies the budget, floors and caps"},
    {"LRK_ERR_NO_GRADIENT", "a module got no gradient"},
    {"LRK_ERR_REFUSED", "a participant refused a plan"},
    {"LRK_ERR_WORKERS", "another worker failed or differs"},
};

static size_t position(lrk_status status)
{
    return status <= 0 ? (size_t)(-(int64_t)status) : sizeof table;
}

const char *lrk_status_name(lrk_status status)
{
    size_t i = position(status);
    return i < sizeof table / sizeof table[0] ? table[i].name : "LRK_ERR_?";
}

const char *lrk_status_text(lrk_status status)
{
    size_t i = position(status);
    return i < sizeof table / sizeof table[0] ? table[i].text : "unknown status";
}
