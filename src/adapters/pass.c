/* SPDX-License-Identifier: MIT */
/*
 * The life of a pass: options, claims on gradients, workspace, and the cache of ended passes that makes opening one
 * free of allocation from the second time on. What a pass computes is in forward.c.
 */
#include <string.h>

#include "pca.h"
#include "sketch.h"

#define ALL_GRADIENTS (LRK_GRAD_PARAMETERS | LRK_GRAD_GATES | LRK_GRAD_MASK)

lrk_status lrk_pass_options_init(lrk_pass_options *options, size_t struct_size)
{
    lrk_pass_options defaults = {.mode = LRK_PASS_EVALUATE, .gradients = LRK_GRAD_PARAMETERS};
    return lrki_struct_init(options, struct_size, &defaults, sizeof defaults);
}

/* ---- workspace ---------------------------------------------------------------------------------------------------- */

static bool add_module(const lrk_adapters *set, const lrk_sketch *sketch, int64_t i, lrki_lora_size *size)
{
    const lrki_module *m = &set->modules[i];
    int64_t ranks = sketch != NULL ? sketch->modules[i].samples : m->bank.rank;
    return lrki_lora_size_add(size, lrki_fused_ranks(set->context, size->rows, m->n_in, m->n_out), m->n_in,
                              m->n_out, ranks);
}

/* Size of the largest call that begins with module i: its group, counted at the group's first module. */
static bool group_at(const lrk_adapters *set, const lrk_sketch *sketch, int64_t i, lrki_lora_size *size)
{
    int32_t group = set->modules[i].input_group;
    if (!add_module(set, sketch, i, size)) return false;
    for (int64_t k = 0; k < set->n_modules && group != LRK_NO_GROUP; k++) {
        if (k == i || set->modules[k].input_group != group) continue;
        if (k < i) return true; /* the group was counted at k */
        if (!add_module(set, sketch, k, size)) return false;
    }
    return true;
}

lrk_status lrki_workspace_size(const lrk_adapters *set, const lrk_sketch *sketch, int64_t max_rows,
                               size_t *bytes)
{
    *bytes = 0;
    for (int64_t i = 0; i < set->n_modules; i++) {
        lrki_lora_size size = {.rows = max_rows, .tiles = sketch == NULL && set->dropout > 0.0};
        size_t need;
        if (!group_at(set, sketch, i, &size) || !lrki_lora_scratch_size(&size, &need))
            return lrki_fail(set->context, LRK_ERR_SHAPE, "the workspace for %lld rows overflows",
                             (long long)max_rows);
        if (need > *bytes) *bytes = need;
    }
    return LRK_OK;
}

lrk_status lrk_workspace_size(const lrk_adapters *adapters, int64_t max_rows, size_t *bytes)
{
    lrk_status status = lrki_adapters_enter(adapters, "lrk_workspace_size");
    if (status != LRK_OK) return status;
    if (max_rows < 1 || bytes == NULL)
        return lrki_fail(adapters->context, LRK_ERR_ARGUMENT,
                         "lrk_workspace_size: max_rows < 1 or bytes is NULL");
    return lrki_workspace_size(adapters, NULL, max_rows, bytes);
}

/* ---- the cache ---------------------------------------------------------------------------------------------------- */

static void push_list(lrk_adapters *set, struct lrki_pass_cache *first, struct lrki_pass_cache *last)
{
    struct lrki_pass_cache *head = __atomic_load_n(&set->pass_cache, __ATOMIC_RELAXED);
    do
        last->next = head;
    while (!__atomic_compare_exchange_n(&set->pass_cache, &head, first, true, __ATOMIC_RELEASE,
                                        __ATOMIC_RELAXED));
}

/* Taking the whole list and giving back the rest needs no lock and knows no ABA; a thread that comes in between finds
 * the cache empty and makes a pass of its own. */
static lrk_pass *take_cached(lrk_adapters *set)
{
    struct lrki_pass_cache *list = __atomic_exchange_n(&set->pass_cache, NULL, __ATOMIC_ACQUIRE);
    if (list == NULL) return NULL;
    struct lrki_pass_cache *rest = list->next;
    if (rest != NULL) {
        struct lrki_pass_cache *last = rest;
        while (last->next != NULL)
            last = last->next;
        push_list(set, rest, last);
    }
    return (lrk_pass *)list;
}

static void free_pass(lrk_context *context, lrk_pass *pass)
{
    lrki_free(context, pass->own, pass->own_bytes);
    lrki_free(context, pass, sizeof *pass);
}

void lrki_pass_cache_free(lrk_adapters *adapters)
{
    struct lrki_pass_cache *list = __atomic_exchange_n(&adapters->pass_cache, NULL, __ATOMIC_ACQUIRE);
    while (list != NULL) {
        struct lrki_pass_cache *next = list->next;
        free_pass(adapters->context, (lrk_pass *)list);
        list = next;
    }
}

/* Gives the pass a workspace of its own of at least that size. */
static lrk_status own_workspace(lrk_context *context, lrk_pass *pass, size_t bytes)
{
    if (pass->own_bytes < bytes) {
        lrki_free(context, pass->own, pass->own_bytes);
        pass->own_bytes = 0;
        pass->own = lrki_alloc(context, bytes);
        if (pass->own == NULL) return lrki_fail_nomem(context, "the workspace of a pass");
        pass->own_bytes = bytes;
    }
    pass->workspace = pass->own;
    return LRK_OK;
}

/* Measuring walks all modules, so a pass that is used again remembers the answer. */
static lrk_status measure(const lrk_adapters *set, lrk_pass *pass, int64_t max_rows)
{
    if (pass->sized_rows == max_rows && pass->sized_generation == set->generation) return LRK_OK;
    lrk_status status = lrki_workspace_size(set, NULL, max_rows, &pass->sized_bytes);
    pass->sized_rows = status == LRK_OK ? max_rows : 0;
    pass->sized_generation = set->generation;
    return status;
}

static lrk_status find_workspace(lrk_adapters *set, lrk_pass *pass, const lrk_pass_options *options)
{
    lrk_status status = measure(set, pass, options->max_rows);
    if (status != LRK_OK) return status;
    if (options->workspace == NULL) return own_workspace(set->context, pass, pass->sized_bytes);
    if (options->workspace_bytes < pass->sized_bytes)
        return lrki_fail(set->context, LRK_ERR_ARGUMENT, "lrk_pass_begin: workspace has %zu bytes of %zu",
                         options->workspace_bytes, pass->sized_bytes);
    pass->workspace = options->workspace;
    return LRK_OK;
}

/* A pass with its workspace; everything else is the caller's to set. */
static lrk_status take_pass(lrk_adapters *set, const lrk_pass_options *options, lrk_pass **out)
{
    lrk_pass *pass = take_cached(set);
    if (pass == NULL) pass = lrki_alloc_zeroed(set->context, sizeof *pass);
    if (pass == NULL) return lrki_fail_nomem(set->context, "a pass");
    lrk_status status = find_workspace(set, pass, options);
    if (status != LRK_OK) {
        free_pass(set->context, pass);
        return status;
    }
    *out = pass;
    return LRK_OK;
}

/* ---- begin and end ------------------------------------------------------------------------------------------------ */

static lrk_status check_plain(lrk_context *context, const lrk_pass_options *o)
{
    const char *wrong = NULL;
    if (o->flags != 0) wrong = "flags must be 0";
    if (o->mode != LRK_PASS_EVALUATE && o->mode != LRK_PASS_TRAIN) wrong = "unknown mode";
    if ((o->gradients & ~ALL_GRADIENTS) != 0) wrong = "unknown bits in gradients";
    if (o->first_row < 0) wrong = "first_row is negative";
    if (o->max_rows < 1) wrong = "max_rows must be at least 1";
    if (o->workspace == NULL && o->workspace_bytes != 0) wrong = "workspace_bytes without a workspace";
    if ((uintptr_t)o->workspace % LRKI_ALIGN != 0) wrong = "workspace is not 64-byte aligned";
    return wrong == NULL ? LRK_OK : lrki_fail(context, LRK_ERR_ARGUMENT, "lrk_pass_begin: %s", wrong);
}

static lrk_status check_mask(const lrk_adapters *set, const lrk_mask *mask)
{
    if (mask == NULL) return LRK_OK;
    if (mask->adapters != set)
        return lrki_fail(set->context, LRK_ERR_ARGUMENT, "lrk_pass_begin: the mask is of another set");
    if (mask->generation != set->generation)
        return lrki_fail(set->context, LRK_ERR_STALE,
                         "lrk_pass_begin: the mask was made before a rank change");
    return LRK_OK;
}

static lrk_status check_sink(const lrk_adapters *set, const lrk_pass_options *o)
{
    if (o->sink == NULL) {
        if (o->gradients & LRK_GRAD_MASK)
            return lrki_fail(set->context, LRK_ERR_ARGUMENT, "lrk_pass_begin: mask derivatives need a sink");
        return LRK_OK;
    }
    if (o->sink->adapters != set)
        return lrki_fail(set->context, LRK_ERR_ARGUMENT, "lrk_pass_begin: the sink is of another set");
    if (o->sink->generation != set->generation)
        return lrki_fail(set->context, LRK_ERR_STALE,
                         "lrk_pass_begin: the sink was made before a rank change");
    if ((o->gradients & ~o->sink->kinds) != 0)
        return lrki_fail(set->context, LRK_ERR_ARGUMENT,
                         "lrk_pass_begin: the sink does not hold these derivatives");
    return LRK_OK;
}

static lrk_status check_outputs(const lrk_adapters *set, const lrk_pass_options *o)
{
    if (o->outputs == NULL && o->n_outputs != 0)
        return lrki_fail(set->context, LRK_ERR_ARGUMENT, "lrk_pass_begin: n_outputs without outputs");
    if (o->outputs != NULL && o->n_outputs != set->n_ranks)
        return lrki_fail(set->context, LRK_ERR_SHAPE,
                         "lrk_pass_begin: outputs of %lld ranks, the set has %lld", (long long)o->n_outputs,
                         (long long)set->n_ranks);
    return LRK_OK;
}

static lrk_status check_options(const lrk_adapters *set, const lrk_pass_options *o)
{
    lrk_status status = check_plain(set->context, o);
    if (status == LRK_OK) status = check_mask(set, o->mask);
    if (status == LRK_OK) status = check_sink(set, o);
    if (status == LRK_OK && o->sketch != NULL && o->sketch->adapters != set)
        status = lrki_fail(set->context, LRK_ERR_ARGUMENT, "lrk_pass_begin: the sketch is of another set");
    if (status == LRK_OK) status = check_outputs(set, o);
    if (status == LRK_OK && o->pca != NULL && o->pca->adapters != set)
        status =
            lrki_fail(set->context, LRK_ERR_ARGUMENT, "lrk_pass_begin: the components are of another set");
    if (status != LRK_OK) return status;
    if (o->mode == LRK_PASS_TRAIN && (set->flags & LRK_ADAPTERS_INFERENCE))
        return lrki_fail(set->context, LRK_ERR_UNSUPPORTED,
                         "lrk_pass_begin: an inference-only set cannot train");
    return LRK_OK;
}

static bool take_flag(bool *flag)
{
    return !__atomic_exchange_n(flag, true, __ATOMIC_ACQ_REL);
}

lrk_status lrki_pass_claim(lrk_pass *pass)
{
    lrk_adapters *set = pass->adapters;
    if (pass->sink != NULL || pass->claimed_set) return LRK_OK;
    if (!take_flag(&set->gradients_in_use))
        return lrki_fail(set->context, LRK_ERR_BUSY,
                         "another open pass writes the set's gradients; use a sink");
    pass->claimed_set = true;
    return LRK_OK;
}

static void release_flag(bool *flag)
{
    __atomic_store_n(flag, false, __ATOMIC_RELEASE);
}

/* The sketch is the pass's from here on, and has room for its calls. */
static lrk_status claim_sketch(const lrk_pass *pass)
{
    lrk_sketch *sketch = pass->sketch;
    if (sketch == NULL) return LRK_OK;
    if (!take_flag(&sketch->in_use))
        return lrki_fail(pass->adapters->context, LRK_ERR_BUSY,
                         "lrk_pass_begin: another open pass feeds the sketch");
    lrk_status status = lrki_sketch_reserve(sketch, pass->max_rows);
    if (status != LRK_OK) release_flag(&sketch->in_use);
    return status;
}

static lrk_status claim_pca(const lrk_pass *pass)
{
    if (pass->pca == NULL || take_flag(&pass->pca->in_use)) return LRK_OK;
    return lrki_fail(pass->adapters->context, LRK_ERR_BUSY,
                     "lrk_pass_begin: another open pass feeds the components");
}

static lrk_status claim_gradients(lrk_pass *pass)
{
    if (pass->sink != NULL)
        return take_flag(&pass->sink->in_use)
                   ? LRK_OK
                   : lrki_fail(pass->adapters->context, LRK_ERR_BUSY,
                               "lrk_pass_begin: another open pass writes to the sink");
    return pass->mode == LRK_PASS_TRAIN && pass->gradients != 0 ? lrki_pass_claim(pass) : LRK_OK;
}

/* What it feeds. */
static void release_fed(const lrk_pass *pass)
{
    if (pass->sketch != NULL) release_flag(&pass->sketch->in_use);
    if (pass->pca != NULL) release_flag(&pass->pca->in_use);
}

static lrk_status claim_fed(const lrk_pass *pass)
{
    lrk_status status = claim_sketch(pass);
    if (status != LRK_OK) return status;
    status = claim_pca(pass);
    if (status != LRK_OK && pass->sketch != NULL) release_flag(&pass->sketch->in_use);
    return status;
}

/* Counts the pass as open and claims what it certainly writes. Undone by leave(). */
static lrk_status enter(lrk_pass *pass)
{
    lrk_adapters *set = pass->adapters;
    if (set->change_pending)
        return lrki_fail(set->context, LRK_ERR_BUSY, "lrk_pass_begin: a rank change is prepared");
    lrk_status status = claim_fed(pass);
    if (status != LRK_OK) return status;
    status = claim_gradients(pass);
    if (status == LRK_OK)
        __atomic_add_fetch(&set->open_passes, 1, __ATOMIC_ACQ_REL);
    else
        release_fed(pass);
    return status;
}

static void leave(lrk_pass *pass)
{
    if (pass->sink != NULL) release_flag(&pass->sink->in_use);
    if (pass->claimed_set) release_flag(&pass->adapters->gradients_in_use);
    release_fed(pass);
    __atomic_sub_fetch(&pass->adapters->open_passes, 1, __ATOMIC_ACQ_REL);
}

lrk_status lrk_pass_begin(lrk_adapters *adapters, const lrk_pass_options *given, lrk_pass **out)
{
    lrk_pass_options options;
    lrk_pass *pass = NULL;
    if (out != NULL) *out = NULL;
    lrk_status status = lrki_adapters_enter(adapters, "lrk_pass_begin");
    if (status != LRK_OK) return status;
    lrk_context *context = adapters->context;
    if (out == NULL) return lrki_fail(context, LRK_ERR_ARGUMENT, "lrk_pass_begin: pass is NULL");
    lrk_pass_options_init(&options, sizeof options);
    status =
        lrki_struct_read(context, &options, sizeof options, given, 2 * sizeof(uint32_t), "lrk_pass_options");
    if (status == LRK_OK) status = check_options(adapters, &options);
    if (status == LRK_OK) status = take_pass(adapters, &options, &pass);
    if (status != LRK_OK) return status;

    pass->adapters = adapters;
    pass->mode = options.mode;
    pass->gradients = options.gradients;
    pass->nonce = options.nonce;
    pass->first_row = options.first_row;
    pass->max_rows = options.max_rows;
    pass->mask = (lrk_mask *)options.mask; /* counted, not changed */
    pass->mask_hash = lrki_mask_hash(options.mask);
    pass->sink = options.gradients != 0 ? options.sink : NULL;
    pass->sketch = options.sketch;
    pass->outputs = options.outputs;
    pass->pca = options.pca;
    pass->claimed_set = false;
    pass->lent = false;
    status = enter(pass);
    if (status != LRK_OK) {
        push_list(adapters, &pass->link, &pass->link);
        return status;
    }
    lrki_adapters_ref(adapters);
    if (pass->mask != NULL) lrki_mask_ref(pass->mask);
    if (pass->sink != NULL) lrki_sink_ref(pass->sink);
    if (pass->sketch != NULL) lrki_sketch_ref(pass->sketch);
    if (pass->pca != NULL) lrki_pca_ref(pass->pca);
    *out = pass;
    return LRK_OK;
}

void lrk_pass_end(lrk_pass *pass)
{
    if (pass == NULL || pass->lent) return;
    lrk_adapters *set = pass->adapters;
    lrk_mask *mask = pass->mask;
    lrk_sink *sink = pass->sink;
    lrk_sketch *sketch = pass->sketch;
    lrk_pca *pca = pass->pca;
    leave(pass);
    push_list(set, &pass->link, &pass->link);
    if (mask != NULL) lrki_mask_unref(mask);
    lrki_sink_unref(sink);
    lrki_sketch_unref(sketch);
    lrki_pca_unref(pca);
    lrki_adapters_unref(set);
}

void lrki_pass_lend(lrk_pass *pass, bool lent)
{
    pass->lent = lent;
}

lrk_adapters *lrki_pass_adapters(const lrk_pass *pass)
{
    return pass->adapters;
}

/* ---- the pass's mask ---------------------------------------------------------------------------------------------- */

lrk_status lrk_pass_mask_info(const lrk_pass *pass, lrk_mask_info *info)
{
    if (pass == NULL) return LRK_ERR_ARGUMENT;
    if (pass->mask != NULL) return lrk_mask_info_get(pass->mask, info);
    lrk_mask_info all = {
        .baseline = LRK_BASELINE_ALL, .first_stage = LRK_NO_STAGE, .generation = pass->adapters->generation};
    return lrki_struct_write(pass->adapters->context, info, &all, sizeof all, "lrk_mask_info");
}

float lrki_pass_mask_value(const lrk_pass *pass, const lrki_module *module, int64_t rank)
{
    const lrk_mask *mask = pass->mask;
    if (mask == NULL || mask->form == LRKI_MASK_ALL) return 1.0f;
    if (mask->form == LRKI_MASK_NONE) return 0.0f;
    if (mask->form == LRKI_MASK_VALUES) return mask->values[module->first_rank + rank];
    bool the_one = module == &pass->adapters->modules[mask->module] && rank == mask->index;
    return the_one == (mask->form == LRKI_MASK_ONLY) ? 1.0f : 0.0f;
}

static bool is_loud(const lrk_pass *pass, const lrki_module *module, int64_t rank)
{
    return lrki_pass_mask_value(pass, module, rank) != 0.0f && module->bank.gates[rank] != 0.0f;
}

bool lrki_pass_takes(const lrk_pass *pass, const lrki_module *module, int64_t rank)
{
    return is_loud(pass, module, rank) || (pass->gradients & LRK_GRAD_MASK) ||
           ((pass->gradients & LRK_GRAD_GATES) && lrki_pass_mask_value(pass, module, rank) != 0.0f);
}

lrki_share lrki_pass_share(const lrk_pass *pass, const lrki_module *module)
{
    lrki_share share = {.count = 0, .silent = true};
    for (int64_t j = 0; j < module->bank.rank; j++) {
        share.count += lrki_pass_takes(pass, module, j);
        share.silent = share.silent && !is_loud(pass, module, j);
    }
    return share;
}

uint64_t lrki_mask_hash(const lrk_mask *mask)
{
    if (mask == NULL) return lrki_hash_mix(0, LRKI_MASK_ALL);
    uint64_t hash = lrki_hash_mix(0, (uint64_t)mask->form);
    if (mask->form == LRKI_MASK_WITHOUT || mask->form == LRKI_MASK_ONLY)
        hash = lrki_hash_mix(lrki_hash_mix(hash, (uint64_t)mask->module), (uint64_t)mask->index);
    for (int64_t i = 0; mask->form == LRKI_MASK_VALUES && i < mask->n_values; i++) {
        uint32_t bits;
        memcpy(&bits, &mask->values[i], sizeof bits);
        hash = lrki_hash_mix(hash, bits);
    }
    return hash;
}
