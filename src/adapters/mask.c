/* SPDX-License-Identifier: MIT */
/*
 * Masks: an immutable value for every live rank, kept as a form (all, none, all but one, only one) where that says it,
 * so that the masks of a scoring run cost nothing. What a mask does to a pass is pass.c's; here it is made, and its
 * baseline and first stage are found.
 */
#include <math.h>
#include <string.h>

#include "set.h"

lrk_mask *lrki_mask_ref(lrk_mask *mask)
{
    __atomic_add_fetch(&mask->references, 1, __ATOMIC_RELAXED);
    return mask;
}

void lrki_mask_unref(lrk_mask *mask)
{
    if (mask == NULL || __atomic_sub_fetch(&mask->references, 1, __ATOMIC_ACQ_REL) > 0) return;
    lrk_adapters *adapters = mask->adapters;
    if (mask->values != NULL)
        lrki_array_free(adapters->context, mask->values, mask->n_values, sizeof *mask->values);
    lrki_free(adapters->context, mask, sizeof *mask);
    lrki_adapters_unref(adapters);
}

void lrk_mask_destroy(lrk_mask *mask)
{
    lrki_mask_unref(mask);
}

/* A mask of that form, baseline all, no stage. Guards the public calls. */
static lrk_status new_mask(lrk_adapters *adapters, int32_t form, lrk_mask **mask)
{
    if (mask != NULL) *mask = NULL;
    lrk_status status = lrki_adapters_enter(adapters, "lrk_mask_create");
    if (status != LRK_OK) return status;
    if (mask == NULL) return lrki_fail(adapters->context, LRK_ERR_ARGUMENT, "lrk_mask_create: mask is NULL");
    lrk_mask *made = lrki_alloc_zeroed(adapters->context, sizeof *made);
    if (made == NULL) return lrki_fail_nomem(adapters->context, "a mask");
    made->references = 1;
    made->adapters = lrki_adapters_ref(adapters);
    made->generation = adapters->generation;
    made->form = form;
    made->baseline = LRK_BASELINE_ALL;
    made->first_stage = LRK_NO_STAGE;
    *mask = made;
    return LRK_OK;
}

lrk_status lrk_mask_create_all(lrk_adapters *adapters, lrk_mask **mask)
{
    return new_mask(adapters, LRKI_MASK_ALL, mask);
}

lrk_status lrk_mask_create_none(lrk_adapters *adapters, lrk_mask **mask)
{
    lrk_status status = new_mask(adapters, LRKI_MASK_NONE, mask);
    if (status == LRK_OK && adapters->n_ranks > 0) (*mask)->baseline = LRK_BASELINE_NONE;
    return status;
}

static lrk_status create_of_one(lrk_adapters *adapters, uint64_t identity, int32_t form, int32_t baseline,
                                lrk_mask **mask)
{
    lrk_status status = new_mask(adapters, form, mask);
    if (status != LRK_OK) return status;
    lrk_mask *made = *mask;
    status = lrk_adapters_find_rank(adapters, identity, &made->module, &made->index);
    if (status != LRK_OK) {
        lrki_mask_unref(made);
        *mask = NULL;
        return status;
    }
    made->baseline = baseline;
    made->first_stage = adapters->modules[made->module].stage;
    return LRK_OK;
}

lrk_status lrk_mask_create_without(lrk_adapters *adapters, uint64_t identity, lrk_mask **mask)
{
    return create_of_one(adapters, identity, LRKI_MASK_WITHOUT, LRK_BASELINE_ALL, mask);
}

lrk_status lrk_mask_create_only(lrk_adapters *adapters, uint64_t identity, lrk_mask **mask)
{
    return create_of_one(adapters, identity, LRKI_MASK_ONLY, LRK_BASELINE_NONE, mask);
}

/* ---- given values ---------------------------------------------------------------------------------------------------- */

static lrk_status check_values(const lrk_adapters *adapters, const float *values, int64_t n)
{
    if (n != adapters->n_ranks)
        return lrki_fail(adapters->context, LRK_ERR_SHAPE, "a mask of %lld values for %lld live ranks",
                         (long long)n, (long long)adapters->n_ranks);
    if (values == NULL && n > 0)
        return lrki_fail(adapters->context, LRK_ERR_ARGUMENT, "lrk_mask_create_values: values is NULL");
    for (int64_t i = 0; i < n; i++) {
        if (isfinite(values[i])) continue;
        int32_t module = lrki_adapters_module_of(adapters, i);
        const lrki_module *m = &adapters->modules[module];
        int64_t index = i - m->first_rank;
        lrki_place place = {.module = module, .identity = m->bank.identities[index]};
        return lrki_fail_at(adapters->context, LRK_ERR_NONFINITE, place,
                            "the mask value of rank %lld of module '%s' is not finite", (long long)index,
                            m->name);
    }
    return LRK_OK;
}

/* Lowest stage with a value other than `baseline`, INT64_MAX if there is none. */
static int64_t first_difference(const lrk_adapters *adapters, const float *values, float baseline)
{
    int64_t first = INT64_MAX;
    for (int64_t i = 0; i < adapters->n_modules; i++) {
        const lrki_module *module = &adapters->modules[i];
        for (int64_t j = 0; j < module->bank.rank && module->stage < first; j++)
            if (values[module->first_rank + j] != baseline) first = module->stage;
    }
    return first;
}

static void find_baseline(const lrk_adapters *adapters, lrk_mask *mask)
{
    int64_t all = first_difference(adapters, mask->values, 1.0f);
    int64_t none = first_difference(adapters, mask->values, 0.0f);
    int64_t first = all >= none ? all : none;
    mask->baseline = all >= none ? LRK_BASELINE_ALL : LRK_BASELINE_NONE;
    mask->first_stage = first == INT64_MAX ? LRK_NO_STAGE : (int32_t)first;
}

lrk_status lrk_mask_create_values(lrk_adapters *adapters, const float *values, int64_t n, lrk_mask **mask)
{
    lrk_status status = new_mask(adapters, LRKI_MASK_VALUES, mask);
    if (status != LRK_OK) return status;
    lrk_mask *made = *mask;
    status = check_values(adapters, values, n);
    if (status == LRK_OK) {
        made->n_values = n;
        made->values = lrki_array(adapters->context, n, sizeof *values);
        if (made->values == NULL) status = lrki_fail_nomem(adapters->context, "a mask's values");
    }
    if (status != LRK_OK) {
        lrki_mask_unref(made);
        *mask = NULL;
        return status;
    }
    if (n > 0) memcpy(made->values, values, (size_t)n * sizeof *values);
    find_baseline(adapters, made);
    return LRK_OK;
}

lrk_status lrk_mask_info_get(const lrk_mask *mask, lrk_mask_info *info)
{
    if (mask == NULL) return LRK_ERR_ARGUMENT;
    const lrk_mask_info filled = {
        .baseline = mask->baseline, .first_stage = mask->first_stage, .generation = mask->generation};
    return lrki_struct_write(mask->adapters->context, info, &filled, sizeof filled, "lrk_mask_info");
}
