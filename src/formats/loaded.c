/* SPDX-License-Identifier: MIT */
/* The common part of loading files as sets (loaded.h). */
#include "loaded.h"

#include "../adapters/set.h"

#define HEAD (2 * sizeof(uint32_t))

lrk_status lrki_loaded_arguments(lrk_context *context, const void *from, const char *what,
                                 const lrk_module_spec *modules, int64_t n_modules, lrk_adapters **adapters)
{
    if (adapters == NULL) return LRK_ERR_ARGUMENT;
    *adapters = NULL;
    if (context == NULL) return LRK_ERR_ARGUMENT;
    if (from == NULL) return lrki_fail(context, LRK_ERR_ARGUMENT, "%s is NULL", what);
    if ((modules == NULL) != (n_modules == 0) || n_modules < 0)
        return lrki_fail(context, LRK_ERR_ARGUMENT, "modules and n_modules contradict each other");
    return LRK_OK;
}

lrk_status lrki_loaded_spec(lrk_context *context, const lrk_module_spec *modules, int64_t i,
                            lrk_module_spec *spec)
{
    (void)lrk_module_spec_init(spec, sizeof *spec);
    lrk_status status = lrki_struct_read_at(context, spec, sizeof *spec, modules, i, HEAD, "lrk_module_spec");
    if (status != LRK_OK) return status;
    if (spec->name == NULL)
        return lrki_fail(context, LRK_ERR_ARGUMENT, "module %lld: name is NULL", (long long)i);
    if (spec->scale_rank == 0 && spec->rank > 0) spec->scale_rank = spec->rank;
    spec->rank = 0;
    return LRK_OK;
}

bool lrki_loaded_wants_values(const lrk_adapters *adapters)
{
    return (adapters->flags & LRK_ADAPTERS_OUTLINE) == 0;
}

lrk_status lrki_loaded_end(lrk_status status, lrk_adapters **adapters)
{
    if (status == LRK_OK) return LRK_OK;
    lrk_adapters_destroy(*adapters);
    *adapters = NULL;
    return status;
}
