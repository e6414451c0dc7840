/* SPDX-License-Identifier: MIT */
/*
 * Progress of calls that make a set and fill it, module by module: loading and resizing. It is told in bytes of A and B as
 * they are in memory; modules of rank 0 are not told of.
 */
#ifndef LRKI_FILLING_H
#define LRKI_FILLING_H

#include "set.h"

typedef struct lrki_filling {
    const lrk_adapters *set;
    const char *what; /* for details: "loading" */
    void *user;
    int32_t (*call)(void *user, uint64_t done, uint64_t total); /* NULL: nobody asks */
    uint64_t done;
    uint64_t total;
} lrki_filling;

/* `options` are those that the set was created with. */
lrki_filling lrki_filling_begin(const lrk_adapters *set, const lrk_adapters_options *options,
                                const char *what);
/* Module i is filled. LRK_ERR_CANCELLED if the host wants no more. */
lrk_status lrki_filling_tell(lrki_filling *filling, int64_t i);

#endif
