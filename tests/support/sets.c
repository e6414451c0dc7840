/* SPDX-License-Identifier: MIT */
/*
 * Adapter sets for tests (sets.h). The host's buffers start as NaN, so that a row that nobody wrote shows.
 */
#include "sets.h"

#include <check.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

lrk_module_spec sets_spec(const char *name, int64_t n_in, int64_t n_out, int64_t rank)
{
    lrk_module_spec spec;
    ck_assert_int_eq(lrk_module_spec_init(&spec, sizeof spec), LRK_OK);
    spec.name = name;
    spec.n_in = n_in;
    spec.n_out = n_out;
    spec.rank = rank;
    return spec;
}

void sets_three(lrk_module_spec specs[3])
{
    specs[0] = sets_spec("a", 5, 3, 2);
    specs[1] = sets_spec("b", 4, 6, 3);
    specs[2] = sets_spec("c", 7, 2, 0);
    for (int i = 0; i < 3; i++)
        specs[i].stage = i;
}

lrk_adapters *sets_create(lrk_context *context, const lrk_module_spec *specs, int64_t n,
                          const lrk_adapters_options *options)
{
    lrk_adapters *adapters = NULL;
    char text[256];
    lrk_status status = lrk_adapters_create(context, specs, n, options, &adapters);
    lrk_context_error(context, text, sizeof text);
    ck_assert_msg(status == LRK_OK, "%s: %s", lrk_status_name(status), text);
    ck_assert_ptr_nonnull(adapters);
    return adapters;
}

void sets_expect(lrk_context *context, lrk_status status, lrk_status want, const char *words)
{
    char text[512];
    lrk_error_info info = {.struct_size = sizeof info};
    lrk_context_error(context, text, sizeof text);
    ck_assert_msg(status == want, "%s instead of %s: %s", lrk_status_name(status), lrk_status_name(want),
                  text);
    ck_assert_msg(strstr(text, words) != NULL, "'%s' does not say '%s'", text, words);
    ck_assert_int_eq(lrk_context_error_info(context, &info), LRK_OK);
    ck_assert_int_eq(info.status, want);
}

lrk_allocator *sets_alora(lrk_adapters *adapters, int64_t n_move)
{
    lrk_alora_options options;
    lrk_allocator *allocator;
    ck_assert_int_eq(lrk_alora_options_init(&options, sizeof options), LRK_OK);
    options.n_move = n_move;
    ck_assert_int_eq(lrk_allocator_create_alora(adapters, &options, &allocator), LRK_OK);
    return allocator;
}

uint64_t sets_random(uint64_t *state)
{
    uint64_t z = *state += 0x9e3779b97f4a7c15u; /* splitmix64 */
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
}

float sets_value(uint64_t identity, int32_t tensor, int64_t column)
{
    uint64_t state = identity * 1000003u + (uint64_t)tensor * 7919u + (uint64_t)column * 104729u;
    return (float)(sets_random(&state) >> 40) / 8388608.0f - 1.0f;
}

lrk_adapters_info sets_info(const lrk_adapters *adapters)
{
    lrk_adapters_info info = {.struct_size = sizeof info};
    ck_assert_int_eq(lrk_adapters_info_get(adapters, &info), LRK_OK);
    return info;
}

lrk_tensor sets_tensor(const lrk_adapters *adapters, int32_t module, int32_t which)
{
    lrk_tensor tensor = {.struct_size = sizeof tensor};
    ck_assert_int_eq(lrk_adapters_tensor(adapters, module, which, &tensor), LRK_OK);
    return tensor;
}

static const uint64_t *identities(const lrk_adapters *adapters, int32_t module, int64_t *rank)
{
    const uint64_t *ids;
    ck_assert_int_eq(lrk_adapters_ranks(adapters, module, &ids, NULL, rank), LRK_OK);
    return ids;
}

int64_t sets_rank(const lrk_adapters *adapters, int32_t module)
{
    int64_t rank;
    identities(adapters, module, &rank);
    return rank;
}

/* Visits every parameter: writes its value, or compares. */
static void each_value(const lrk_adapters *adapters, bool write, uint64_t first_new)
{
    for (int32_t m = 0; m < sets_info(adapters).modules; m++) {
        int64_t rank;
        const uint64_t *ids = identities(adapters, m, &rank);
        for (int32_t which = LRK_TENSOR_A; which <= LRK_TENSOR_GATES; which++) {
            lrk_tensor t = sets_tensor(adapters, m, which);
            for (int64_t i = 0; i < t.rows * t.cols; i++) {
                uint64_t id = ids[i / t.cols];
                float value = sets_value(id, which, i % t.cols);
                if (write)
                    t.data[i] = value;
                else
                    ck_assert_msg(id >= first_new || t.data[i] == value, "module %d tensor %d element %lld",
                                  (int)m, (int)which, (long long)i);
            }
        }
    }
}

void sets_fill(lrk_adapters *adapters)
{
    each_value(adapters, true, 0);
}

void sets_check_filled(const lrk_adapters *adapters, uint64_t first_new)
{
    each_value(adapters, false, first_new);
}

static uint64_t mix(uint64_t hash, const void *bytes, size_t n)
{
    for (size_t i = 0; i < n; i++)
        hash = (hash ^ ((const unsigned char *)bytes)[i]) * 0x100000001b3u;
    return hash;
}

uint64_t sets_digest(const lrk_adapters *adapters)
{
    lrk_adapters_info info = sets_info(adapters);
    uint64_t counters[] = {info.generation, info.values_version, info.next_identity, (uint64_t)info.ranks};
    uint64_t hash = mix(0xcbf29ce484222325u, counters, sizeof counters);
    for (int32_t m = 0; m < info.modules; m++) {
        const uint64_t *ids;
        const int64_t *births;
        int64_t rank;
        ck_assert_int_eq(lrk_adapters_ranks(adapters, m, &ids, &births, &rank), LRK_OK);
        hash = mix(hash, &rank, sizeof rank);
        hash = mix(hash, ids, (size_t)rank * sizeof *ids);
        hash = mix(hash, births, (size_t)rank * sizeof *births);
        for (int32_t which = LRK_TENSOR_A; which <= LRK_TENSOR_GATES; which++) {
            lrk_tensor t = sets_tensor(adapters, m, which);
            hash = mix(hash, t.data, (size_t)(t.rows * t.cols) * sizeof *t.data);
        }
    }
    return hash;
}

void sets_each_fault(fault *f, lrk_status (*act)(void *user), void (*undo)(void *user), void *user)
{
    f->alloc.fail_at = -1;
    int64_t before = f->alloc.calls;
    ck_assert_int_eq(act(user), LRK_OK);
    int64_t total = f->alloc.calls - before;
    undo(user);
    ck_assert_int_gt(total, 0);
    for (int64_t i = 0; i < 2 * total; i++) {
        int64_t live = f->live;
        size_t bytes = f->live_bytes;
        f->alloc.sticky = i % 2;
        f->alloc.fail_at = f->alloc.calls + i / 2;
        ck_assert_int_eq(act(user), LRK_ERR_NOMEM);
        f->alloc.fail_at = -1;
        ck_assert_int_eq(f->live, live);
        ck_assert_uint_eq(f->live_bytes, bytes);
        ck_assert_int_eq(act(user), LRK_OK);
        undo(user);
    }
    ck_assert(!f->bad_release);
}

/* ---- a host that owns the storage -------------------------------------------------------------------------------- */

static float *nans(int64_t n)
{
    float *values = malloc((size_t)(n > 0 ? n : 1) * sizeof *values);
    ck_assert_ptr_nonnull(values);
    for (int64_t i = 0; i < n; i++)
        values[i] = NAN;
    return values;
}

static void note(sets_host *host, const char *what, int32_t module, int64_t rank)
{
    size_t used = strlen(host->log);
    char *end = host->log + used;
    if (rank >= 0)
        snprintf(end, sizeof host->log - used, "%s%d:%lld ", what, (int)module, (long long)rank);
    else
        snprintf(end, sizeof host->log - used, "%s%d ", what, (int)module);
    if (host->during != NULL) host->during(host->during_user);
}

static int32_t host_prepare(void *user, int32_t module, int64_t rank, lrk_module_buffers *buffers)
{
    sets_host *host = user;
    ck_assert_int_lt(module, SETS_MODULES);
    ck_assert_uint_eq(buffers->struct_size, sizeof *buffers);
    note(host, "p", module, rank);
    if (module == host->refuse) return 7;
    const lrk_module_spec *spec = &host->specs[module];
    int64_t capacity = rank + host->slack;
    buffers->capacity = host->too_small ? rank - 1 : capacity;
    buffers->a = nans(capacity * spec->n_in);
    buffers->b = nans(capacity * spec->n_out);
    buffers->gates = nans(capacity);
    if (!host->inference) {
        buffers->grad_a = nans(capacity * spec->n_in);
        if (!host->half) buffers->grad_b = nans(capacity * spec->n_out);
        buffers->grad_gates = nans(capacity);
    }
    host->next[module] = *buffers;
    return 0;
}

static void free_buffers(lrk_module_buffers *buffers)
{
    free(buffers->a);
    free(buffers->b);
    free(buffers->gates);
    free(buffers->grad_a);
    free(buffers->grad_b);
    free(buffers->grad_gates);
    *buffers = (lrk_module_buffers){0};
}

static void host_commit(void *user, int32_t module)
{
    sets_host *host = user;
    note(host, "c", module, -1);
    free_buffers(&host->now[module]);
    host->now[module] = host->next[module];
    host->next[module] = (lrk_module_buffers){0};
}

static void host_abandon(void *user, int32_t module)
{
    sets_host *host = user;
    note(host, "a", module, -1);
    free_buffers(&host->next[module]);
}

lrk_storage sets_host_storage(sets_host *host, const lrk_module_spec *specs, uint32_t flags)
{
    *host = (sets_host){.specs = specs, .refuse = -1};
    return (lrk_storage){.struct_size = sizeof(lrk_storage),
                         .flags = flags,
                         .user = host,
                         .prepare = host_prepare,
                         .commit = host_commit,
                         .abandon = host_abandon};
}

void sets_host_free(sets_host *host)
{
    for (int i = 0; i < SETS_MODULES; i++) {
        free_buffers(&host->now[i]);
        free_buffers(&host->next[i]);
    }
}
