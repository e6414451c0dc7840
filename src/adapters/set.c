/* SPDX-License-Identifier: MIT */
/*
 * Adapter sets: creation, references, destruction, and the guards of entry points. Initial ranks are a change like any
 * other (change.c), from no rank to the first ones; what the set tells is info.c's.
 * Invariant: lrki_adapters_unref() copes with a half-built set.
 */
#include "set.h"

#include <math.h>
#include <string.h>

#include "bank.h"
#include "direction.h"
#include "spec.h"

#define HEAD (2 * sizeof(uint32_t))

static const lrk_adapters_options option_defaults = {.struct_size = sizeof(lrk_adapters_options)};

lrk_status lrk_adapters_options_init(lrk_adapters_options *options, size_t struct_size)
{
    return lrki_struct_init(options, struct_size, &option_defaults, sizeof option_defaults);
}

/* ---- references ---------------------------------------------------------------------------------------------------- */

lrk_adapters *lrki_adapters_ref(lrk_adapters *adapters)
{
    __atomic_add_fetch(&adapters->references, 1, __ATOMIC_RELAXED);
    return adapters;
}

static void free_modules(lrk_adapters *adapters)
{
    if (adapters->modules == NULL) return;
    for (int64_t i = 0; i < adapters->n_modules; i++) {
        lrki_bank_free(adapters->context, &adapters->modules[i].bank);
        lrki_text_free(adapters->context, adapters->modules[i].name);
    }
    lrki_array_free(adapters->context, adapters->modules, adapters->n_modules, sizeof *adapters->modules);
}

void lrki_adapters_unref(lrk_adapters *adapters)
{
    if (adapters == NULL || __atomic_sub_fetch(&adapters->references, 1, __ATOMIC_ACQ_REL) > 0) return;
    lrk_context *context = adapters->context;
    lrki_pass_cache_free(adapters);
    free_modules(adapters);
    lrki_table_free(context, &adapters->names);
    lrki_free(context, adapters, sizeof *adapters);
    lrki_context_unref(context);
}

void lrk_adapters_destroy(lrk_adapters *adapters)
{
    lrki_adapters_unref(adapters);
}

/* ---- guards -------------------------------------------------------------------------------------------------------- */

lrk_status lrki_adapters_enter(const lrk_adapters *adapters, const char *what)
{
    if (adapters == NULL) return LRK_ERR_ARGUMENT;
    if (adapters->in_storage_callback)
        return lrki_fail(adapters->context, LRK_ERR_BUSY, "%s: called from the set's own storage callback",
                         what);
    return LRK_OK;
}

lrk_status lrki_adapters_enter_module(const lrk_adapters *adapters, int32_t module, const char *what)
{
    lrk_status status = lrki_adapters_enter(adapters, what);
    if (status != LRK_OK) return status;
    if (module < 0 || module >= adapters->n_modules)
        return lrki_fail(adapters->context, LRK_ERR_ARGUMENT, "%s: no module %d, the set has %lld", what,
                         (int)module, (long long)adapters->n_modules);
    return LRK_OK;
}

lrk_status lrki_adapters_enter_gradients(const lrk_adapters *adapters, const char *what)
{
    lrk_status status = lrki_adapters_enter(adapters, what);
    if (status != LRK_OK) return status;
    if (adapters->flags & LRK_ADAPTERS_INFERENCE)
        return lrki_fail(adapters->context, LRK_ERR_UNSUPPORTED, "%s: an inference-only set has no gradients",
                         what);
    return LRK_OK;
}

lrk_status lrki_adapters_check_idle(const lrk_adapters *adapters, const char *what)
{
    const char *why = NULL;
    if (adapters->in_host_callback || adapters->in_storage_callback) why = "a callback of the host runs";
    if (adapters->change_pending) why = "a plan or restore is prepared";
    if (__atomic_load_n(&adapters->open_passes, __ATOMIC_ACQUIRE) > 0)
        why = "a pass is open; lrk_pass_end() it first";
    if (why == NULL) return LRK_OK;
    return lrki_fail(adapters->context, LRK_ERR_BUSY, "%s: %s", what, why);
}

int32_t lrki_adapters_module_of(const lrk_adapters *adapters, int64_t flat)
{
    int64_t low = 0, high = adapters->n_modules - 1;
    while (low < high) {
        int64_t middle = low + (high - low + 1) / 2;
        if (adapters->modules[middle].first_rank <= flat)
            low = middle;
        else
            high = middle - 1;
    }
    return (int32_t)low;
}

/* ---- creation ------------------------------------------------------------------------------------------------------ */

lrk_status lrki_adapters_options_check(lrk_context *context, const lrk_adapters_options *options)
{
    if ((options->flags & ~(LRK_ADAPTERS_INFERENCE | LRK_ADAPTERS_OUTLINE)) != 0)
        return lrki_fail(context, LRK_ERR_ARGUMENT, "lrk_adapters_options: unknown flag");
    if (options->gates < LRK_GATES_ONE || options->gates > LRK_GATES_ZERO)
        return lrki_fail(context, LRK_ERR_ARGUMENT, "unknown gates %d", (int)options->gates);
    if (!(options->dropout >= 0.0 && options->dropout < 1.0))
        return lrki_fail(context, LRK_ERR_ARGUMENT, "dropout %g is not in [0, 1)", options->dropout);
    if (options->init < LRK_INIT_KAIMING_UNIFORM || options->init > LRK_INIT_TRIPLET)
        return lrki_fail(context, LRK_ERR_ARGUMENT, "unknown init %d", (int)options->init);
    return LRK_OK;
}

static lrk_status read_options(lrk_context *context, const lrk_adapters_options *given,
                               lrk_adapters_options *options)
{
    *options = option_defaults;
    lrk_status status =
        lrki_struct_read(context, options, sizeof *options, given, HEAD, "lrk_adapters_options");
    return status == LRK_OK ? lrki_adapters_options_check(context, options) : status;
}

static lrk_status read_storage(lrk_adapters *set, const lrk_storage *given)
{
    if (given == NULL) return LRK_OK;
    lrk_context *context = set->context;
    lrk_status status =
        lrki_struct_read(context, &set->storage, sizeof set->storage, given, HEAD, "lrk_storage");
    if (status != LRK_OK) return status;
    if ((set->storage.flags & ~LRK_STORAGE_FIXED) != 0)
        return lrki_fail(context, LRK_ERR_ARGUMENT, "lrk_storage: unknown flags 0x%x",
                         (unsigned)set->storage.flags);
    if (set->storage.prepare == NULL || set->storage.commit == NULL || set->storage.abandon == NULL)
        return lrki_fail(context, LRK_ERR_ARGUMENT, "lrk_storage: prepare, commit and abandon must be given");
    set->host_storage = true;
    return LRK_OK;
}

static lrk_status add_module(lrk_adapters *set, const lrk_module_spec *spec, int32_t index)
{
    lrk_context *context = set->context;
    lrki_module *module = &set->modules[index];
    lrk_status status = lrki_spec_check(context, spec, index, &module->scale);
    if (status != LRK_OK) return status;
    int32_t twin = lrki_table_find_name(&set->names, set->modules, spec->name);
    if (twin >= 0)
        return lrki_fail_at(context, LRK_ERR_ARGUMENT, (lrki_place){.module = index},
                            "module '%s': modules %d and %d have the same name", spec->name, (int)twin,
                            (int)index);
    module->name = lrki_text_copy(context, spec->name);
    if (module->name == NULL) return lrki_fail_nomem(context, "a module's name");
    lrki_table_add_name(&set->names, set->modules, index);
    module->flags = spec->flags;
    module->kind = spec->kind;
    module->stage = spec->stage;
    module->input_group = spec->input_group;
    module->n_in = spec->n_in;
    module->n_out = spec->n_out;
    module->initial_rank = spec->rank;
    if (set->host_storage) module->bank.capacity = LRKI_NO_STORAGE;
    return LRK_OK;
}

static lrk_status add_modules(lrk_adapters *set, const lrk_module_spec *specs)
{
    if (!lrki_table_init(set->context, &set->names, set->n_modules))
        return lrki_fail_nomem(set->context, "the table of module names");
    for (int64_t i = 0; i < set->n_modules; i++) {
        lrk_module_spec spec;
        lrk_status status = lrki_spec_read(set->context, specs, i, &spec);
        if (status == LRK_OK) status = add_module(set, &spec, (int32_t)i);
        if (status != LRK_OK) return status;
    }
    return LRK_OK;
}

/* Enters the module in its group, or compares it with the first one there. */
static lrk_status join_group(const lrk_adapters *set, lrki_table *groups, int32_t index)
{
    const lrki_module *module = &set->modules[index];
    if (module->input_group == LRK_NO_GROUP) return LRK_OK;
    int32_t first = lrki_table_find_group(groups, set->modules, module->input_group);
    if (first < 0) {
        lrki_table_add_group(groups, set->modules, index);
        return LRK_OK;
    }
    if (set->modules[first].n_in == module->n_in) return LRK_OK;
    return lrki_fail_at(set->context, LRK_ERR_SHAPE, (lrki_place){.module = index},
                        "module '%s': n_in %lld differs from %lld of '%s' in input group %d", module->name,
                        (long long)module->n_in, (long long)set->modules[first].n_in,
                        set->modules[first].name, (int)module->input_group);
}

static lrk_status check_groups(const lrk_adapters *set)
{
    lrki_table groups;
    if (!lrki_table_init(set->context, &groups, set->n_modules))
        return lrki_fail_nomem(set->context, "the table of input groups");
    lrk_status status = LRK_OK;
    for (int64_t i = 0; i < set->n_modules && status == LRK_OK; i++)
        status = join_group(set, &groups, (int32_t)i);
    lrki_table_free(set->context, &groups);
    return status;
}

/* Ranks that a module begins with. */
static int64_t first_ranks(const lrk_adapters *set, const lrki_module *module)
{
    return (set->flags & LRK_ADAPTERS_OUTLINE) != 0 ? 0 : module->initial_rank;
}

/* Live ranks in all; LRK_ERR_SHAPE if they or the parameters (f32, with gradients and gates) overflow. */
static lrk_status count_ranks(const lrk_adapters *set, int64_t *ranks)
{
    int64_t floats = 0;
    *ranks = 0;
    for (int64_t i = 0; i < set->n_modules; i++) {
        const lrki_module *module = &set->modules[i];
        int64_t own, bytes;
        if (!lrki_mul(module->initial_rank, lrki_module_row(module), &own) ||
            !lrki_add(floats, own, &floats) || !lrki_mul(floats, 2 * (int64_t)sizeof(float), &bytes) ||
            !lrki_add(*ranks, first_ranks(set, module), ranks))
            return lrki_fail_at(set->context, LRK_ERR_SHAPE, (lrki_place){.module = (int32_t)i},
                                "module '%s': the size of rank %lld overflows", module->name,
                                (long long)module->initial_rank);
    }
    return LRK_OK;
}

/* The change that adds every module's initial ranks, ids from 1; parts and ids are the caller's arrays. */
static lrk_status add_ranks(lrk_adapters *set, lrki_module_change *parts, uint64_t *ids)
{
    int64_t used = 0;
    for (int64_t i = 0; i < set->n_modules; i++) {
        int64_t rank = first_ranks(set, &set->modules[i]);
        parts[i] = (lrki_module_change){.n_added = rank, .added_ids = ids + used};
        for (int64_t j = 0; j < rank; j++, used++)
            ids[used] = (uint64_t)used + 1;
    }
    lrki_change *change;
    lrk_status status = lrki_change_prepare(set, parts, 0, set->init, &change);
    if (status == LRK_OK) lrki_change_commit(change);
    return status;
}

static lrk_status create_ranks(lrk_adapters *set)
{
    int64_t ranks;
    lrk_status status = count_ranks(set, &ranks);
    if (status != LRK_OK) return status;
    lrki_module_change *parts = lrki_array(set->context, set->n_modules, sizeof *parts);
    uint64_t *ids = lrki_array(set->context, ranks, sizeof *ids);
    if (parts == NULL || ids == NULL)
        status = lrki_fail_nomem(set->context, "the initial ranks");
    else
        status = add_ranks(set, parts, ids);
    lrki_array_free(set->context, parts, set->n_modules, sizeof *parts);
    lrki_array_free(set->context, ids, ranks, sizeof *ids);
    return status;
}

/* Gates and rows of B of initial ranks, where they do not start at 1 and 0. */
static void begin_rank(const lrk_adapters *set, const lrki_module *module, int32_t gates, int64_t j)
{
    const lrki_bank *bank = &module->bank;
    uint64_t identity = bank->identities[j];
    if (gates == LRK_GATES_ZERO) bank->gates[j] = 0;
    if (gates == LRK_GATES_GAUSSIAN) {
        lrki_stream stream = lrki_stream_make(set->seed, LRKI_STREAM_GATE, identity, 0);
        lrki_stream_fill_normal(&stream, 1.0f, &bank->gates[j], 1);
    }
    if (set->init == LRK_INIT_TRIPLET) {
        lrki_stream stream = lrki_stream_make(set->seed, LRKI_STREAM_INIT_B, identity, 0);
        lrki_stream_fill_normal(&stream, LRKI_TRIPLET_DEVIATION, bank->b + j * module->n_out, module->n_out);
    }
}

static void begin_ranks(const lrk_adapters *set, int32_t gates)
{
    for (int64_t i = 0; i < set->n_modules; i++)
        for (int64_t j = 0; j < set->modules[i].bank.rank; j++)
            begin_rank(set, &set->modules[i], gates, j);
}

static lrk_adapters *new_set(lrk_context *context, int64_t n_modules, const lrk_adapters_options *options,
                             int32_t init)
{
    lrk_adapters *set = lrki_alloc_zeroed(context, sizeof *set);
    if (set == NULL) return NULL;
    set->references = 1;
    set->context = lrki_context_ref(context);
    set->n_modules = n_modules;
    set->flags = options->flags;
    set->seed = options->seed;
    set->dropout = options->dropout;
    set->init = init;
    set->next_identity = 1;
    set->modules = lrki_array(context, n_modules, sizeof *set->modules);
    if (set->modules != NULL) return set;
    lrki_adapters_unref(set);
    return NULL;
}

static lrk_status build(lrk_adapters *set, const lrk_module_spec *specs, const lrk_storage *storage)
{
    lrk_status status = read_storage(set, storage);
    if (status == LRK_OK) status = add_modules(set, specs);
    if (status == LRK_OK) status = check_groups(set);
    if (status == LRK_OK) status = create_ranks(set);
    return status;
}

static lrk_status check_call(lrk_context *context, const lrk_module_spec *specs, int64_t n_modules,
                             lrk_adapters **adapters)
{
    if (adapters != NULL) *adapters = NULL;
    if (context == NULL) return LRK_ERR_ARGUMENT;
    if (adapters == NULL || specs == NULL || n_modules < 1)
        return lrki_fail(context, LRK_ERR_ARGUMENT, "lrk_adapters_create: NULL or no modules");
    if (n_modules >= INT32_MAX)
        return lrki_fail(context, LRK_ERR_SHAPE, "lrk_adapters_create: too many modules");
    return LRK_OK;
}

static lrk_status create(lrk_context *context, const lrk_module_spec *specs, int64_t n_modules,
                         const lrk_adapters_options *options, int32_t init, lrk_adapters **adapters)
{
    lrk_adapters *set = new_set(context, n_modules, options, init);
    if (set == NULL) return lrki_fail_nomem(context, "an adapter set");
    lrk_status status = build(set, specs, options->storage);
    if (status == LRK_OK) begin_ranks(set, options->gates);
    if (status == LRK_OK)
        *adapters = set;
    else
        lrki_adapters_unref(set);
    return status;
}

lrk_status lrk_adapters_create(lrk_context *context, const lrk_module_spec *specs, int64_t n_modules,
                               const lrk_adapters_options *options, lrk_adapters **adapters)
{
    lrk_adapters_options known;
    lrk_status status = check_call(context, specs, n_modules, adapters);
    if (status == LRK_OK) status = read_options(context, options, &known);
    return status == LRK_OK ? create(context, specs, n_modules, &known, known.init, adapters) : status;
}

/* With another init than the options', which is not looked at. */
static lrk_status create_as(lrk_context *context, const lrk_module_spec *specs, int64_t n_modules,
                            const lrk_adapters_options *options, int32_t init, lrk_adapters **adapters)
{
    lrk_adapters_options known = option_defaults;
    lrk_status status = check_call(context, specs, n_modules, adapters);
    if (status == LRK_OK)
        status = lrki_struct_read(context, &known, sizeof known, options, HEAD, "lrk_adapters_options");
    known.init = LRK_INIT_ZERO;
    if (status == LRK_OK) status = lrki_adapters_options_check(context, &known);
    return status == LRK_OK ? create(context, specs, n_modules, &known, init, adapters) : status;
}

lrk_status lrki_adapters_create_zero(lrk_context *context, const lrk_module_spec *specs, int64_t n_modules,
                                     const lrk_adapters_options *options, lrk_adapters **adapters)
{
    return create_as(context, specs, n_modules, options, LRK_INIT_ZERO, adapters);
}

lrk_status lrki_adapters_create_unset(lrk_context *context, const lrk_module_spec *specs, int64_t n_modules,
                                      const lrk_adapters_options *options, lrk_adapters **adapters)
{
    return create_as(context, specs, n_modules, options, LRKI_INIT_UNSET, adapters);
}
