/* SPDX-License-Identifier: MIT */
/*
 * Limits: the host's floors and caps by name pattern, turned into one pair of bounds a module. The first limit that
 * matches a module decides it; a limit that decides none is an error, as it is likely a misspelt pattern.
 */
#include <fnmatch.h>

#include "allocation.h"

lrk_status lrki_limit_check(lrk_context *context, const lrk_limit *limit)
{
    const char *wrong = limit->flags != 0                            ? "flags must be 0"
                        : limit->floor < 0                           ? "floor must be >= 0"
                        : limit->cap < 0 && limit->cap != LRK_NO_CAP ? "cap must be >= 0 or LRK_NO_CAP"
                        : limit->cap != LRK_NO_CAP && limit->floor > limit->cap ? "floor is above cap"
                                                                                : NULL;
    if (wrong == NULL) return LRK_OK;
    return lrki_fail(context, LRK_ERR_ARGUMENT, "%s in limit '%s'", wrong, limit->pattern);
}

static lrk_status read_limit(lrk_context *context, const lrk_limit *limits, int64_t i, lrk_limit *limit)
{
    lrk_limit_init(limit, sizeof *limit);
    lrk_status status =
        lrki_struct_read_at(context, limit, sizeof *limit, limits, i, sizeof(uint32_t) * 2, "lrk_limit");
    if (status != LRK_OK) return status;
    if (limit->pattern == NULL)
        return lrki_fail(context, LRK_ERR_ARGUMENT, "pattern of limit %lld is NULL", (long long)i);
    return lrki_limit_check(context, limit);
}

/* Bounds of the modules that match and that no earlier limit decided; returns how many these are. */
static int64_t decide(const lrk_adapters *adapters, const lrk_limit *limit, bool *decided,
                      lrki_bounds *bounds)
{
    int64_t n = 0;
    for (int64_t i = 0; i < adapters->n_modules; i++) {
        if (decided[i] || fnmatch(limit->pattern, adapters->modules[i].name, 0) != 0) continue;
        decided[i] = true;
        bounds[i] = (lrki_bounds){limit->floor, limit->cap == LRK_NO_CAP ? INT64_MAX : limit->cap};
        n++;
    }
    return n;
}

static lrk_status read_all(const lrk_adapters *adapters, const lrk_limit *limits, int64_t n_limits,
                           bool *decided, lrki_bounds *bounds)
{
    for (int64_t i = 0; i < n_limits; i++) {
        lrk_limit limit;
        lrk_status status = read_limit(adapters->context, limits, i, &limit);
        if (status != LRK_OK) return status;
        if (decide(adapters, &limit, decided, bounds) == 0)
            return lrki_fail(adapters->context, LRK_ERR_NOT_FOUND,
                             "limit '%s' decides no module: it matches none, or earlier limits took them",
                             limit.pattern);
    }
    return LRK_OK;
}

lrk_status lrki_limits_read(const lrk_adapters *adapters, const lrk_limit *limits, int64_t n_limits,
                            lrki_bounds *bounds)
{
    for (int64_t i = 0; i < adapters->n_modules; i++)
        bounds[i] = (lrki_bounds){0, INT64_MAX};
    if (n_limits == 0) return LRK_OK;
    bool *decided = lrki_array(adapters->context, adapters->n_modules, sizeof *decided);
    if (decided == NULL) return lrki_fail_nomem(adapters->context, "the limits");
    lrk_status status = read_all(adapters, limits, n_limits, decided, bounds);
    lrki_array_free(adapters->context, decided, adapters->n_modules, sizeof *decided);
    return status;
}
