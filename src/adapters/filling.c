/* SPDX-License-Identifier: MIT */
#include "filling.h"

#include <inttypes.h>

static uint64_t bytes_of(const lrki_module *m)
{
    return (uint64_t)m->bank.rank * ((uint64_t)m->n_in + (uint64_t)m->n_out) * sizeof(float);
}

lrki_filling lrki_filling_begin(const lrk_adapters *set, const lrk_adapters_options *options,
                                const char *what)
{
    lrk_adapters_options known = {0};
    lrki_filling filling = {.set = set, .what = what};
    if (lrki_struct_read(set->context, &known, sizeof known, options, 2 * sizeof(uint32_t),
                         "lrk_adapters_options") != LRK_OK)
        return filling; /* cannot be: the set was made with them */
    filling.user = known.user;
    filling.call = known.progress;
    for (int64_t i = 0; i < set->n_modules; i++)
        filling.total += bytes_of(&set->modules[i]);
    return filling;
}

lrk_status lrki_filling_tell(lrki_filling *f, int64_t i)
{
    uint64_t bytes = bytes_of(&f->set->modules[i]), failures = lrki_failures(f->set->context);
    f->done += bytes;
    if (f->call == NULL || bytes == 0 || f->call(f->user, f->done, f->total) == 0) return LRK_OK;
    return lrki_fail_callback(f->set->context, LRK_ERR_CANCELLED, LRKI_NOWHERE, failures,
                              "progress() stopped %s after %" PRIu64 " of %" PRIu64 " bytes", f->what,
                              f->done, f->total);
}
