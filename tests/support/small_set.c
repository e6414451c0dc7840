/* SPDX-License-Identifier: MIT */
/*
 * Small adapter sets (small_set.h).
 */
#include "small_set.h"

#include <check.h>
#include <stdio.h>
#include <string.h>

void small_set_open(small_set *s, const small_module *modules, int64_t n, const lrk_adapters_options *options)
{
    lrk_module_spec specs[SMALL_SET_MOST];
    char names[SMALL_SET_MOST][8];
    lrk_adapters_options defaults;
    ck_assert_int_le(n, SMALL_SET_MOST);
    for (int64_t i = 0; i < n; i++) {
        ck_assert_int_eq(lrk_module_spec_init(&specs[i], sizeof specs[i]), LRK_OK);
        snprintf(names[i], sizeof names[i], "m%d", (int)i);
        specs[i].name = names[i];
        specs[i].n_in = modules[i].n_in;
        specs[i].n_out = modules[i].n_out;
        specs[i].rank = modules[i].rank;
        specs[i].stage = modules[i].stage;
        specs[i].flags = modules[i].flags;
    }
    ck_assert_int_eq(lrk_adapters_options_init(&defaults, sizeof defaults), LRK_OK);
    defaults.seed = 1;
    fault_reset(&s->host);
    s->context = fault_context(&s->host);
    ck_assert_int_eq(
        lrk_adapters_create(s->context, specs, n, options != NULL ? options : &defaults, &s->adapters),
        LRK_OK);
}

void small_set_open_ranks(small_set *s, int64_t n, const int64_t *ranks)
{
    small_module modules[SMALL_SET_MOST];
    ck_assert_int_le(n, SMALL_SET_MOST);
    for (int64_t i = 0; i < n; i++)
        modules[i] = (small_module){.n_in = 4, .n_out = 3, .rank = ranks[i]};
    small_set_open(s, modules, n, NULL);
}

void small_set_close(small_set *s)
{
    lrk_adapters_destroy(s->adapters);
    lrk_context_destroy(s->context);
    ck_assert_int_eq(s->host.live, 0);
    ck_assert(!s->host.bad_release);
}

int64_t small_set_rank(const small_set *s, int32_t module)
{
    lrk_module_info info = {.struct_size = sizeof info};
    ck_assert_int_eq(lrk_adapters_module(s->adapters, module, &info), LRK_OK);
    return info.rank;
}

lrk_scores *small_set_scores(const small_set *s, const double *values)
{
    lrk_adapters_info info = {.struct_size = sizeof info};
    lrk_scores *scores = NULL;
    ck_assert_int_eq(lrk_adapters_info_get(s->adapters, &info), LRK_OK);
    ck_assert_int_eq(lrk_scores_create(s->adapters, values, info.ranks, &scores), LRK_OK);
    return scores;
}

lrk_alora_options small_set_alora(int64_t n_move)
{
    lrk_alora_options options;
    ck_assert_int_eq(lrk_alora_options_init(&options, sizeof options), LRK_OK);
    options.n_move = n_move;
    return options;
}

lrk_allocator *small_set_allocator(const small_set *s, const lrk_alora_options *options)
{
    lrk_allocator *allocator = NULL;
    lrk_status status = lrk_allocator_create_alora(s->adapters, options, &allocator);
    char detail[256];
    lrk_context_error(s->context, detail, sizeof detail);
    ck_assert_msg(status == LRK_OK, "%s", detail);
    return allocator;
}

lrk_plan *small_set_plan(lrk_allocator *allocator, const lrk_scores *scores)
{
    lrk_plan *plan = NULL;
    ck_assert_int_eq(lrk_allocator_plan(allocator, scores, 7, &plan), LRK_OK);
    return plan;
}

void small_set_carry_out(lrk_plan *plan, const lrk_participant *participants, int64_t n)
{
    ck_assert_int_eq(lrk_plan_prepare(plan, participants, n), LRK_OK);
    ck_assert_int_eq(lrk_plan_commit(plan), LRK_OK);
}

const char *small_set_text(const lrk_plan *plan, int32_t n_modules, char *text, size_t size)
{
    size_t at = 0;
    text[0] = '\0';
    for (int32_t m = 0; m < n_modules; m++) {
        lrk_plan_module part = {.struct_size = sizeof part};
        ck_assert_int_eq(lrk_plan_module_get(plan, m, &part), LRK_OK);
        if (m > 0) at += (size_t)snprintf(text + at, size - at, " ");
        if (part.n_dropped == 0) at += (size_t)snprintf(text + at, size - at, ".");
        for (int64_t i = 0; i < part.n_dropped; i++)
            at += (size_t)snprintf(text + at, size - at, "%s%d", i > 0 ? "," : "", (int)part.dropped[i]);
        if (part.n_added > 0) at += (size_t)snprintf(text + at, size - at, "+%d", (int)part.n_added);
        ck_assert_uint_lt(at, size);
    }
    return text;
}

void small_set_assert_plan_of(const small_set *s, lrk_allocator *allocator, int32_t n_modules,
                              const double *values, const char *expected)
{
    lrk_scores *scores = small_set_scores(s, values);
    lrk_plan *plan = small_set_plan(allocator, scores);
    small_set_assert_plan(plan, n_modules, expected);
    ck_assert_int_eq(lrk_plan_abandon(plan), LRK_OK);
    lrk_plan_destroy(plan);
    lrk_scores_destroy(scores);
}

void small_set_move(const small_set *s, lrk_allocator *allocator, int32_t n_modules, const double *values,
                    const char *expected)
{
    lrk_scores *scores = small_set_scores(s, values);
    lrk_plan *plan = small_set_plan(allocator, scores);
    small_set_assert_plan(plan, n_modules, expected);
    small_set_carry_out(plan, NULL, 0);
    lrk_plan_destroy(plan);
    lrk_scores_destroy(scores);
}

lrk_tensor small_set_tensor(const small_set *s, int32_t module, int32_t which)
{
    lrk_tensor tensor = {.struct_size = sizeof tensor};
    ck_assert_int_eq(lrk_adapters_tensor(s->adapters, module, which, &tensor), LRK_OK);
    return tensor;
}

lrk_tensor small_set_moment(const lrk_optimizer *optimizer, int32_t module, int32_t which)
{
    lrk_tensor tensor = {.struct_size = sizeof tensor};
    ck_assert_int_eq(lrk_optimizer_moment(optimizer, module, which, &tensor), LRK_OK);
    return tensor;
}

lrk_optimizer_info small_set_info(const lrk_optimizer *optimizer)
{
    lrk_optimizer_info info = {.struct_size = sizeof info};
    ck_assert_int_eq(lrk_optimizer_info_get(optimizer, &info), LRK_OK);
    return info;
}

void small_set_write_gradients(const small_set *s, uint64_t *random)
{
    for (int32_t m = 0; m < 3; m++)
        for (int32_t which = LRK_TENSOR_GRAD_A; which <= LRK_TENSOR_GRAD_B; which++) {
            lrk_tensor g = small_set_tensor(s, m, which);
            for (int64_t i = 0; i < g.rows * g.cols; i++)
                g.data[i] = (float)(small_random_real(random) * (i % 3 == 0 ? 1e-3 : 1));
        }
    ck_assert_int_eq(lrk_adapters_gradients_written(s->adapters), LRK_OK);
}

void small_set_assert_failed(const lrk_context *context, lrk_status status, lrk_status expected,
                             const char *words)
{
    char detail[512];
    lrk_context_error(context, detail, sizeof detail);
    ck_assert_int_eq(status, expected);
    ck_assert_msg(strstr(detail, words) != NULL, "'%s' does not say '%s'", detail, words);
}

uint64_t small_random(uint64_t *state)
{
    uint64_t z = *state += 0x9e3779b97f4a7c15u;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
}

int64_t small_random_below(uint64_t *state, int64_t n)
{
    return (int64_t)(small_random(state) % (uint64_t)n);
}

double small_random_real(uint64_t *state)
{
    return (double)(small_random(state) >> 11) * 0x1p-52 - 1;
}
