/* SPDX-License-Identifier: MIT */
/*
 * The buffer in which forward keeps H for backward: a header that says what it was written for, then for each module
 * of the call the H of the ranks that the pass works on, at the place that all live ranks would need. The host owns
 * the bytes and may move them; nothing in them is trusted beyond the header's equality with what is expected now.
 */
#include <string.h>

#include "pass_state.h"

#define MAGIC 0x6c72686b64696c68u

typedef struct header {
    uint64_t magic;
    uint64_t set;
    uint64_t generation;
    uint64_t values_version;
    uint64_t rows;
    uint64_t modules; /* hash of modules and the ranks taken      */
    uint64_t mask;    /* hash                                    */
    uint64_t input;   /* hash of mode, nonce, first row: what x' depends on */
} header;

_Static_assert(sizeof(header) == LRKI_SAVED_HEADER, "the header is part of lrk_saved_size()");

static header expected(const lrki_call *call)
{
    const lrk_pass *pass = call->pass;
    const lrk_adapters *set = pass->adapters;
    header h = {.magic = MAGIC,
                .set = (uint64_t)(uintptr_t)set,
                .generation = set->generation,
                .values_version = set->values_version,
                .rows = (uint64_t)call->x.rows,
                .mask = pass->mask_hash};
    for (int32_t i = 0; i < call->n_modules; i++) {
        const lrki_module *m = &set->modules[call->modules[i]];
        h.modules = lrki_hash_mix(h.modules, (uint64_t)call->modules[i]);
        for (int64_t j = 0; j < m->bank.rank; j++)
            h.modules = lrki_hash_mix(h.modules, lrki_pass_takes(pass, m, j));
    }
    h.input = lrki_hash_mix(lrki_hash_mix((uint64_t)pass->mode, pass->nonce), (uint64_t)pass->first_row);
    return h;
}

bool lrki_saved_part_size(const lrki_module *module, int64_t rows, int64_t *bytes)
{
    int64_t n;
    if (!lrki_mul(rows, module->bank.rank, &n) || !lrki_mul(n, sizeof(float), &n) ||
        !lrki_add(n, LRKI_ALIGN - 1, &n))
        return false;
    *bytes = n - n % LRKI_ALIGN;
    return true;
}

/* False on overflow. */
static bool saved_bytes_of(const lrk_adapters *set, const int32_t *modules, int32_t n_modules, int64_t rows,
                           int64_t *bytes)
{
    int64_t part;
    *bytes = LRKI_SAVED_HEADER;
    for (int32_t i = 0; i < n_modules; i++)
        if (!lrki_saved_part_size(&set->modules[modules[i]], rows, &part) || !lrki_add(*bytes, part, bytes))
            return false;
    return (uint64_t)*bytes <= SIZE_MAX;
}

lrk_status lrk_saved_size(const lrk_adapters *adapters, const int32_t *modules, int32_t n_modules,
                          int64_t rows, size_t *bytes)
{
    lrk_status status = lrki_adapters_enter(adapters, "lrk_saved_size");
    if (status != LRK_OK) return status;
    lrk_context *context = adapters->context;
    int64_t total;
    if (modules == NULL || n_modules < 1 || rows < 0 || bytes == NULL)
        return lrki_fail(context, LRK_ERR_ARGUMENT, "lrk_saved_size: NULL, no modules or negative rows");
    for (int32_t i = 0; i < n_modules; i++)
        if (modules[i] < 0 || modules[i] >= adapters->n_modules)
            return lrki_fail(context, LRK_ERR_ARGUMENT, "lrk_saved_size: there is no module %d",
                             (int)modules[i]);
    if (!saved_bytes_of(adapters, modules, n_modules, rows, &total))
        return lrki_fail(context, LRK_ERR_SHAPE, "lrk_saved_size: the size overflows");
    *bytes = (size_t)total;
    return LRK_OK;
}

lrk_status lrki_saved_check_size(const lrki_call *call, const void *saved, size_t saved_bytes)
{
    lrk_adapters *set = call->pass->adapters;
    int64_t need;
    if (saved == NULL && saved_bytes == 0) return LRK_OK;
    if (saved == NULL || (uintptr_t)saved % sizeof(uint64_t) != 0)
        return lrki_fail(set->context, LRK_ERR_ARGUMENT,
                         "%s: saved must be NULL with 0 bytes, or 8-byte aligned", call->name);
    if (!saved_bytes_of(set, call->modules, call->n_modules, call->x.rows, &need) ||
        (uint64_t)need > saved_bytes)
        return lrki_fail(set->context, LRK_ERR_SHAPE,
                         "%s: saved has %zu bytes, fewer than lrk_saved_size() says", call->name,
                         saved_bytes);
    return LRK_OK;
}

void lrki_saved_write_header(const lrki_call *call, void *saved)
{
    header h = expected(call);
    memcpy(saved, &h, sizeof h);
}

lrk_status lrki_saved_check_header(const lrki_call *call, const void *saved)
{
    lrk_context *context = call->pass->adapters->context;
    header h = {0}, now = expected(call);
    memcpy(&h, saved, sizeof h);
    if (h.magic != now.magic || h.set != now.set)
        return lrki_fail(context, LRK_ERR_ARGUMENT, "%s: saved was not written by lrk_forward() of this set",
                         call->name);
    if (h.generation != now.generation)
        return lrki_fail(context, LRK_ERR_STALE, "%s: saved was written before a rank change", call->name);
    if (h.values_version != now.values_version)
        return lrki_fail(context, LRK_ERR_STALE, "%s: saved was written before parameters changed",
                         call->name);
    const char *other = h.rows != now.rows         ? "rows"
                        : h.mask != now.mask       ? "mask"
                        : h.modules != now.modules ? "modules or wanted derivatives"
                        : h.input != now.input     ? "mode, nonce or first row"
                                                   : NULL;
    if (other != NULL)
        return lrki_fail(context, LRK_ERR_ARGUMENT, "%s: saved was written for another pass: %s differ",
                         call->name, other);
    return LRK_OK;
}
