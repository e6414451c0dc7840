/* SPDX-License-Identifier: MIT */
/*
 * Adapter sets: what a set tells, its views, and the life of handles. Creation is tested in test_create.c.
 */
#include <check.h>
#include <stdio.h>
#include <string.h>

#include "sets.h"

static fault host;
static lrk_context *context;

static void setup(void)
{
    fault_reset(&host);
    context = fault_context(&host);
}

static void teardown(void)
{
    lrk_context_destroy(context);
    ck_assert_int_eq(host.live, 0);
    ck_assert(!host.bad_release);
}

static lrk_adapters_options options_default(void)
{
    lrk_adapters_options options;
    ck_assert_int_eq(lrk_adapters_options_init(&options, sizeof options), LRK_OK);
    return options;
}

/* ---- what a set tells -------------------------------------------------------------------------------------------- */

START_TEST(info_tells_totals_and_the_memory_that_the_set_really_holds)
{
    lrk_module_spec specs[3];
    sets_three(specs);
    size_t before = host.live_bytes, memory[2];
    lrk_adapters_options options = options_default();
    for (uint32_t flags = 0; flags <= LRK_ADAPTERS_INFERENCE; flags++) {
        options.flags = flags;
        lrk_adapters *adapters = sets_create(context, specs, 3, &options);
        lrk_adapters_info info = sets_info(adapters);
        ck_assert_uint_eq(info.flags, flags);
        ck_assert_int_eq(info.modules, 3);
        ck_assert_int_eq(info.ranks, 5);
        ck_assert_int_eq(info.parameters, 2 * (5 + 3) + 3 * (4 + 6));
        ck_assert_uint_eq(info.next_identity, 6);
        ck_assert_uint_eq(info.memory, host.live_bytes - before);
        memory[flags] = info.memory;
        lrk_adapters_destroy(adapters);
    }
    ck_assert_uint_eq(memory[0] - memory[1],
                      (2 * (5 + 3 + 1) + 3 * (4 + 6 + 1)) * sizeof(float)); /* gradients */
    ck_assert_int_eq(lrk_adapters_info_get(NULL, &(lrk_adapters_info){.struct_size = 8}), LRK_ERR_ARGUMENT);
}
END_TEST

START_TEST(a_set_may_begin_without_ranks)
{
    lrk_module_spec spec = sets_spec("a", 5, 3, 0);
    lrk_adapters *adapters = sets_create(context, &spec, 1, NULL);
    lrk_adapters_info info = sets_info(adapters);
    ck_assert(info.ranks == 0 && info.parameters == 0 && info.next_identity == 1);
    ck_assert_ptr_null(sets_tensor(adapters, 0, LRK_TENSOR_A).data);
    lrk_adapters_destroy(adapters);
}
END_TEST

START_TEST(info_structs_follow_struct_size)
{
    lrk_module_spec specs[3];
    sets_three(specs);
    lrk_adapters *adapters = sets_create(context, specs, 3, NULL);
    lrk_adapters_info info = {.struct_size = offsetof(lrk_adapters_info, ranks), .ranks = -5};
    ck_assert_int_eq(lrk_adapters_info_get(adapters, &info), LRK_OK);
    ck_assert_int_eq(info.modules, 3);
    ck_assert_int_eq(info.ranks, -5);
    info.struct_size = 0;
    sets_expect(context, lrk_adapters_info_get(adapters, &info), LRK_ERR_ARGUMENT, "lrk_adapters_info");
    sets_expect(context, lrk_adapters_info_get(adapters, NULL), LRK_ERR_ARGUMENT, "lrk_adapters_info");
    sets_expect(context, lrk_adapters_module(adapters, 0, NULL), LRK_ERR_ARGUMENT, "lrk_module_info");
    lrk_tensor *none = NULL;
    sets_expect(context, lrk_adapters_tensor(adapters, 0, LRK_TENSOR_A, none), LRK_ERR_ARGUMENT,
                "lrk_tensor");
    lrk_adapters_destroy(adapters);
}
END_TEST

START_TEST(module_tells_what_its_spec_said)
{
    char name[] = "layer.0.\xc3\xa4";
    lrk_module_spec spec = sets_spec(name, 5, 3, 4);
    spec.flags = LRK_MODULE_MAY_LACK_GRADIENT;
    spec.stage = 6;
    spec.input_group = 11;
    spec.scale = -0.5;
    lrk_adapters *adapters = sets_create(context, &spec, 1, NULL);
    name[0] = '!'; /* copied */
    lrk_module_info info = {.struct_size = sizeof info};
    ck_assert_int_eq(lrk_adapters_module(adapters, 0, &info), LRK_OK);
    ck_assert_str_eq(info.name, "layer.0.\xc3\xa4");
    ck_assert_uint_eq(info.flags, LRK_MODULE_MAY_LACK_GRADIENT);
    ck_assert_int_eq(info.kind, LRK_KIND_LINEAR);
    ck_assert_int_eq(info.stage, 6);
    ck_assert_int_eq(info.input_group, 11);
    ck_assert(info.n_in == 5 && info.n_out == 3);
    ck_assert(info.rank == 4 && info.initial_rank == 4 && info.capacity == 4);
    ck_assert(info.scale == -0.5);
    sets_expect(context, lrk_adapters_module(adapters, 1, &info), LRK_ERR_ARGUMENT, "no module 1");
    sets_expect(context, lrk_adapters_module(adapters, -1, &info), LRK_ERR_ARGUMENT, "no module -1");
    ck_assert_int_eq(lrk_adapters_module(NULL, 0, &info), LRK_ERR_ARGUMENT);
    lrk_adapters_destroy(adapters);
}
END_TEST

START_TEST(scale_rules_give_s)
{
    const struct {
        int32_t rule;
        double scale;
        int64_t scale_rank, rank;
        double s;
    } cases[] = {
        {LRK_SCALE_EXPLICIT, 3, 0, 0, 3},     {LRK_SCALE_EXPLICIT, 3, 8, 4, 3},
        {LRK_SCALE_ALPHA, 16, 0, 4, 4},       {LRK_SCALE_ALPHA, 16, 8, 4, 2},
        {LRK_SCALE_ALPHA, 16, 1, 0, 16},      {LRK_SCALE_ALPHA_SQRT, 16, 0, 4, 8},
        {LRK_SCALE_ALPHA_SQRT, 16, 64, 4, 2},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        lrk_module_spec spec = sets_spec("a", 5, 3, cases[i].rank);
        spec.scale_rule = cases[i].rule;
        spec.scale = cases[i].scale;
        spec.scale_rank = cases[i].scale_rank;
        lrk_adapters *adapters = sets_create(context, &spec, 1, NULL);
        lrk_module_info info = {.struct_size = sizeof info};
        ck_assert_int_eq(lrk_adapters_module(adapters, 0, &info), LRK_OK);
        ck_assert_double_eq(info.scale, cases[i].s);
        lrk_adapters_destroy(adapters);
    }
}
END_TEST

enum { MANY = 3000 };

START_TEST(find_gives_every_module_and_no_other)
{
    static char names[MANY][16];
    static lrk_module_spec specs[MANY];
    for (int i = 0; i < MANY; i++) {
        snprintf(names[i], sizeof names[i], "m%d", i);
        specs[i] = sets_spec(names[i], 2, 2, 0);
        specs[i].input_group = i % 700;
    }
    lrk_adapters *adapters = sets_create(context, specs, MANY, NULL);
    int32_t index;
    for (int i = 0; i < MANY; i++) {
        ck_assert_int_eq(lrk_adapters_find(adapters, names[i], &index), LRK_OK);
        ck_assert_int_eq(index, i);
    }
    sets_expect(context, lrk_adapters_find(adapters, "m3000", &index), LRK_ERR_NOT_FOUND, "'m3000'");
    ck_assert_int_eq(index, -1);
    sets_expect(context, lrk_adapters_find(adapters, NULL, &index), LRK_ERR_ARGUMENT, "NULL");
    sets_expect(context, lrk_adapters_find(adapters, "m1", NULL), LRK_ERR_ARGUMENT, "NULL");
    ck_assert_int_eq(lrk_adapters_find(NULL, "m1", &index), LRK_ERR_ARGUMENT);
    lrk_adapters_destroy(adapters);
}
END_TEST

START_TEST(ranks_begin_with_identities_from_1_in_module_order)
{
    lrk_module_spec specs[3];
    sets_three(specs);
    lrk_adapters *adapters = sets_create(context, specs, 3, NULL);
    uint64_t expected = 1;
    for (int32_t m = 0; m < 3; m++) {
        const uint64_t *ids;
        const int64_t *births;
        int64_t n;
        ck_assert_int_eq(lrk_adapters_ranks(adapters, m, &ids, &births, &n), LRK_OK);
        ck_assert_int_eq(n, specs[m].rank);
        for (int64_t j = 0; j < n; j++, expected++) {
            int32_t module;
            int64_t index;
            ck_assert_uint_eq(ids[j], expected);
            ck_assert_int_eq(births[j], 0);
            ck_assert_int_eq(lrk_adapters_find_rank(adapters, expected, &module, &index), LRK_OK);
            ck_assert(module == m && index == j);
        }
    }
    int32_t module;
    int64_t index, n;
    sets_expect(context, lrk_adapters_find_rank(adapters, 6, &module, &index), LRK_ERR_NOT_FOUND,
                "identity 6");
    sets_expect(context, lrk_adapters_find_rank(adapters, 0, &module, &index), LRK_ERR_NOT_FOUND,
                "identity 0");
    sets_expect(context, lrk_adapters_find_rank(adapters, 1, NULL, &index), LRK_ERR_ARGUMENT, "NULL");
    sets_expect(context, lrk_adapters_find_rank(adapters, 1, &module, NULL), LRK_ERR_ARGUMENT, "NULL");
    ck_assert_int_eq(lrk_adapters_find_rank(NULL, 1, &module, &index), LRK_ERR_ARGUMENT);
    ck_assert_int_eq(lrk_adapters_ranks(adapters, 0, NULL, NULL, &n), LRK_OK);
    sets_expect(context, lrk_adapters_ranks(adapters, 0, NULL, NULL, NULL), LRK_ERR_ARGUMENT, "NULL");
    sets_expect(context, lrk_adapters_ranks(adapters, 3, NULL, NULL, &n), LRK_ERR_ARGUMENT, "no module 3");
    lrk_adapters_destroy(adapters);
}
END_TEST

/* ---- views --------------------------------------------------------------------------------------------------------- */

START_TEST(tensors_are_tight_views_of_live_rows)
{
    lrk_module_spec specs[3];
    sets_three(specs);
    lrk_adapters *adapters = sets_create(context, specs, 3, NULL);
    for (int32_t m = 0; m < 3; m++)
        for (int32_t which = LRK_TENSOR_A; which <= LRK_TENSOR_GRAD_GATES; which++) {
            const int64_t cols[] = {specs[m].n_in, specs[m].n_out, 1};
            lrk_tensor t = sets_tensor(adapters, m, which);
            ck_assert_int_eq(t.rows, specs[m].rank);
            ck_assert(t.cols == cols[which % 3] && t.ld == t.cols);
            ck_assert_uint_eq(t.generation, sets_info(adapters).generation);
            for (int64_t i = 0; i < t.rows * t.cols; i++)
                t.data[i] = (float)(100 * m + which); /* must not reach another tensor */
        }
    for (int32_t m = 0; m < 3; m++)
        for (int32_t which = LRK_TENSOR_A; which <= LRK_TENSOR_GRAD_GATES; which++) {
            lrk_tensor t = sets_tensor(adapters, m, which);
            for (int64_t i = 0; i < t.rows * t.cols; i++)
                ck_assert(t.data[i] == (float)(100 * m + which));
        }
    lrk_tensor t = {.struct_size = sizeof t};
    sets_expect(context, lrk_adapters_tensor(adapters, 3, LRK_TENSOR_A, &t), LRK_ERR_ARGUMENT, "no module 3");
    sets_expect(context, lrk_adapters_tensor(adapters, 0, 6, &t), LRK_ERR_ARGUMENT, "unknown tensor 6");
    sets_expect(context, lrk_adapters_tensor(adapters, 0, -1, &t), LRK_ERR_ARGUMENT, "unknown tensor -1");
    lrk_adapters_destroy(adapters);
}
END_TEST

START_TEST(an_inference_only_set_has_parameters_and_no_gradients)
{
    lrk_module_spec specs[3];
    sets_three(specs);
    lrk_adapters_options options = options_default();
    options.flags = LRK_ADAPTERS_INFERENCE;
    lrk_adapters *adapters = sets_create(context, specs, 3, &options);
    lrk_tensor t = {.struct_size = sizeof t};
    for (int32_t which = LRK_TENSOR_A; which <= LRK_TENSOR_GATES; which++)
        ck_assert_int_eq(lrk_adapters_tensor(adapters, 0, which, &t), LRK_OK);
    for (int32_t which = LRK_TENSOR_GRAD_A; which <= LRK_TENSOR_GRAD_GATES; which++)
        sets_expect(context, lrk_adapters_tensor(adapters, 0, which, &t), LRK_ERR_UNSUPPORTED, "inference");
    int64_t n;
    ck_assert_int_eq(lrk_adapters_flat(adapters, LRK_FLAT_PARAMETERS, NULL, 0, &n), LRK_OK);
    sets_expect(context, lrk_adapters_flat(adapters, LRK_FLAT_GRADIENTS, NULL, 0, &n), LRK_ERR_UNSUPPORTED,
                "infer");
    lrk_adapters_destroy(adapters);
}
END_TEST

typedef struct longer_segment {
    lrk_segment known;
    uint64_t tail;
} longer_segment;

START_TEST(flat_gives_one_run_a_module_in_library_memory)
{
    lrk_module_spec specs[3];
    sets_three(specs);
    lrk_adapters *adapters = sets_create(context, specs, 3, NULL);
    longer_segment runs[3] = {{.known.struct_size = sizeof runs[0], .tail = 9}};
    int64_t n;
    for (int32_t which = LRK_FLAT_PARAMETERS; which <= LRK_FLAT_GRADIENTS; which++) {
        ck_assert_int_eq(lrk_adapters_flat(adapters, which, &runs[0].known, 3, &n), LRK_OK);
        ck_assert_int_eq(n, 3);
        for (int32_t m = 0; m < 3; m++) {
            lrk_tensor a =
                sets_tensor(adapters, m, which == LRK_FLAT_PARAMETERS ? LRK_TENSOR_A : LRK_TENSOR_GRAD_A);
            lrk_tensor b =
                sets_tensor(adapters, m, which == LRK_FLAT_PARAMETERS ? LRK_TENSOR_B : LRK_TENSOR_GRAD_B);
            ck_assert_int_eq(runs[m].known.module, m);
            ck_assert_int_eq(runs[m].known.count, specs[m].rank * (specs[m].n_in + specs[m].n_out));
            ck_assert_ptr_eq(runs[m].known.data, a.data);
            ck_assert_ptr_eq(b.data, a.data == NULL ? NULL : a.data + a.rows * a.cols);
            ck_assert_uint_eq(runs[m].tail, 0);
        }
    }
    lrk_adapters_destroy(adapters);
}
END_TEST

START_TEST(flat_gives_two_runs_a_module_in_host_memory)
{
    lrk_module_spec specs[3];
    sets_host owner;
    sets_three(specs);
    lrk_storage storage = sets_host_storage(&owner, specs, 0);
    lrk_adapters_options options = options_default();
    options.storage = &storage;
    owner.slack = 2;
    lrk_adapters *adapters = sets_create(context, specs, 3, &options);
    lrk_segment runs[6] = {{.struct_size = sizeof runs[0]}};
    int64_t n;
    ck_assert_int_eq(lrk_adapters_flat(adapters, LRK_FLAT_GRADIENTS, runs, 6, &n), LRK_OK);
    ck_assert_int_eq(n, 6);
    for (int32_t m = 0; m < 3; m++) {
        ck_assert_ptr_eq(runs[2 * m].data, owner.now[m].grad_a);
        ck_assert_ptr_eq(runs[2 * m + 1].data, owner.now[m].grad_b);
        ck_assert_int_eq(runs[2 * m].count, specs[m].rank * specs[m].n_in);
        ck_assert_int_eq(runs[2 * m + 1].count, specs[m].rank * specs[m].n_out);
    }
    lrk_adapters_destroy(adapters);
    sets_host_free(&owner);
}
END_TEST

START_TEST(flat_counts_beyond_its_capacity_and_refuses_nonsense)
{
    lrk_module_spec specs[3];
    sets_three(specs);
    lrk_adapters *adapters = sets_create(context, specs, 3, NULL);
    lrk_segment runs[3] = {{.struct_size = sizeof runs[0]}, {.module = -7}, {.module = -7}};
    int64_t n = 0;
    ck_assert_int_eq(lrk_adapters_flat(adapters, LRK_FLAT_PARAMETERS, runs, 1, &n), LRK_OK);
    ck_assert_int_eq(n, 3);
    ck_assert(runs[0].data != NULL && runs[1].module == -7);
    sets_expect(context, lrk_adapters_flat(adapters, 2, runs, 3, &n), LRK_ERR_ARGUMENT,
                "unknown flat view 2");
    sets_expect(context, lrk_adapters_flat(adapters, 0, NULL, 3, &n), LRK_ERR_ARGUMENT, "segments");
    sets_expect(context, lrk_adapters_flat(adapters, 0, runs, -1, &n), LRK_ERR_ARGUMENT, "segments");
    sets_expect(context, lrk_adapters_flat(adapters, 0, runs, 3, NULL), LRK_ERR_ARGUMENT, "NULL");
    runs[0].struct_size = 4;
    sets_expect(context, lrk_adapters_flat(adapters, 0, runs, 3, &n), LRK_ERR_ARGUMENT, "struct_size 4");
    ck_assert_int_eq(lrk_adapters_flat(NULL, 0, NULL, 0, &n), LRK_ERR_ARGUMENT);
    lrk_adapters_destroy(adapters);
}
END_TEST

START_TEST(values_changed_is_counted_and_refused_while_a_pass_is_open)
{
    lrk_module_spec specs[3];
    sets_three(specs);
    lrk_adapters *adapters = sets_create(context, specs, 3, NULL);
    uint64_t before = sets_info(adapters).values_version;
    ck_assert_int_eq(lrk_adapters_values_changed(adapters), LRK_OK);
    ck_assert_uint_eq(sets_info(adapters).values_version, before + 1);
    lrk_pass_options options;
    lrk_pass *pass;
    ck_assert_int_eq(lrk_pass_options_init(&options, sizeof options), LRK_OK);
    options.max_rows = 1;
    ck_assert_int_eq(lrk_pass_begin(adapters, &options, &pass), LRK_OK);
    sets_expect(context, lrk_adapters_values_changed(adapters), LRK_ERR_BUSY,
                "a pass is open; lrk_pass_end()");
    lrk_pass_end(pass);
    ck_assert_uint_eq(sets_info(adapters).values_version, before + 1);
    ck_assert_int_eq(lrk_adapters_values_changed(NULL), LRK_ERR_ARGUMENT);
    lrk_adapters_destroy(adapters);
}
END_TEST

/* ---- lifetime ------------------------------------------------------------------------------------------------------ */

START_TEST(handles_die_in_any_order)
{
    enum { N = 4 };
    int order[N], left[N] = {0, 1, 2, 3};
    for (int i = 0, code = _i; i < N; i++) { /* permutation number _i of 24 */
        int at = code % (N - i);
        code /= N - i;
        order[i] = left[at];
        left[at] = left[N - 1 - i];
    }
    fault own;
    fault_reset(&own);
    lrk_context *parent = fault_context(&own);
    lrk_module_spec specs[3];
    sets_three(specs);
    lrk_adapters *adapters = sets_create(parent, specs, 3, NULL);
    float values[5] = {1, 0, 1, 0, 1};
    lrk_mask *mask;
    lrk_snapshot *snapshot;
    ck_assert_int_eq(lrk_mask_create_values(adapters, values, 5, &mask), LRK_OK);
    ck_assert_int_eq(lrk_snapshot_create(adapters, &snapshot), LRK_OK);
    for (int i = 0; i < N; i++) {
        ck_assert_int_gt(own.live, 0);
        if (order[i] == 0) lrk_context_destroy(parent);
        if (order[i] == 1) lrk_adapters_destroy(adapters);
        if (order[i] == 2) lrk_mask_destroy(mask);
        if (order[i] == 3) lrk_snapshot_destroy(snapshot);
    }
    ck_assert_int_eq(own.live, 0);
    ck_assert(!own.bad_release);
}
END_TEST

START_TEST(destroying_nothing_does_nothing)
{
    lrk_adapters_destroy(NULL);
    lrk_mask_destroy(NULL);
    lrk_snapshot_destroy(NULL);
    ck_assert_int_gt(host.live, 0);
}
END_TEST

Suite *adapters_suite(void);

Suite *adapters_suite(void)
{
    Suite *suite = suite_create("adapters");
    TCase *tcase = tcase_create("sets");
    tcase_add_checked_fixture(tcase, setup, teardown);
    tcase_add_test(tcase, info_tells_totals_and_the_memory_that_the_set_really_holds);
    tcase_add_test(tcase, a_set_may_begin_without_ranks);
    tcase_add_test(tcase, info_structs_follow_struct_size);
    tcase_add_test(tcase, module_tells_what_its_spec_said);
    tcase_add_test(tcase, scale_rules_give_s);
    tcase_add_test(tcase, find_gives_every_module_and_no_other);
    tcase_add_test(tcase, ranks_begin_with_identities_from_1_in_module_order);
    tcase_add_test(tcase, tensors_are_tight_views_of_live_rows);
    tcase_add_test(tcase, an_inference_only_set_has_parameters_and_no_gradients);
    tcase_add_test(tcase, flat_gives_one_run_a_module_in_library_memory);
    tcase_add_test(tcase, flat_gives_two_runs_a_module_in_host_memory);
    tcase_add_test(tcase, flat_counts_beyond_its_capacity_and_refuses_nonsense);
    tcase_add_test(tcase, values_changed_is_counted_and_refused_while_a_pass_is_open);
    tcase_add_loop_test(tcase, handles_die_in_any_order, 0, 24);
    tcase_add_test(tcase, destroying_nothing_does_nothing);
    suite_add_tcase(suite, tcase);
    return suite;
}
