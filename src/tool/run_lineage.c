/* SPDX-License-Identifier: MIT */
/* The lineage of ranks while a trace is read: sorted by identity. */
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>

#include "run_parts.h"

static int by_identity(const void *left, const void *right)
{
    int64_t a = ((const run_rank *)left)->identity, b = ((const run_rank *)right)->identity;
    return (a > b) - (a < b);
}

run_rank *run_find_rank(const run *r, int64_t identity)
{
    run_rank key = {.identity = identity};
    return r->n_lineage == 0 ? NULL
                             : bsearch(&key, r->lineage, (size_t)r->n_lineage, sizeof key, by_identity);
}

/* Identities grow, so that a new one mostly goes to the end. */
run_rank *run_ensure_rank(run *r, int64_t identity, int64_t module)
{
    run_rank *found = run_find_rank(r, identity);
    if (found != NULL) return found;
    if (r->n_lineage == r->lineage_capacity) {
        r->lineage_capacity = 2 * r->lineage_capacity + 64;
        r->lineage = run_grow(r->lineage, r->lineage_capacity, sizeof *r->lineage);
    }
    int64_t at = r->n_lineage++;
    for (; at > 0 && r->lineage[at - 1].identity > identity; at--)
        r->lineage[at] = r->lineage[at - 1];
    r->lineage[at] = (run_rank){identity, module, RUN_UNKNOWN, -1, -1, NAN, true};
    return &r->lineage[at];
}

bool run_read_live(run_reader *in, json_t *list, int64_t module, int64_t *n)
{
    *n = (int64_t)json_array_size(list);
    for (int64_t i = 0; i < *n; i++) {
        json_t *pair = json_array_get(list, (size_t)i);
        json_t *identity = json_array_get(pair, 0), *birth = json_array_get(pair, 1);
        if (json_array_size(pair) != 2 || !json_is_integer(identity) || !json_is_integer(birth))
            return run_fail(in, "module %" PRId64 ": a rank is not [identity, birth]", module);
        run_rank *rank = run_ensure_rank(in->r, json_integer_value(identity), module);
        rank->birth = json_integer_value(birth);
        rank->live = true;
    }
    return true;
}
