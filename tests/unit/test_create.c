/* SPDX-License-Identifier: MIT */
/*
 * Creating adapter sets: what is accepted and refused, struct_size, initial values, failing memory.
 */
#include <check.h>
#include <math.h>
#include <string.h>

#include "core/core.h"
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

static void expect_refused(const lrk_module_spec *specs, int64_t n, const lrk_adapters_options *options,
                           lrk_status want, const char *words)
{
    lrk_adapters *adapters = (lrk_adapters *)&host;
    int64_t live = host.live;
    sets_expect(context, lrk_adapters_create(context, specs, n, options, &adapters), want, words);
    ck_assert_ptr_null(adapters);
    ck_assert_int_eq(host.live, live);
}

/* ---- refused specs ----------------------------------------------------------------------------------------------- */

typedef struct wrong_spec {
    const char *title;
    lrk_status want;
    const char *words;
    void (*spoil)(lrk_module_spec *spec);
} wrong_spec;

#define SPOIL(name, assignment)                                                                              \
    static void name(lrk_module_spec *s)                                                                     \
    {                                                                                                        \
        s->assignment;                                                                                       \
    }
SPOIL(no_name, name = NULL)
SPOIL(empty_name, name = "")
SPOIL(latin1_name, name = "caf\xe9")
SPOIL(overlong_name, name = "a\xc0\xaf")
SPOIL(surrogate_name, name = "\xed\xa0\x80")
SPOIL(too_high_name, name = "\xf4\x90\x80\x80")
SPOIL(cut_name, name = "\xe2\x82")
SPOIL(twin_name, name = "a")
SPOIL(bad_kind, kind = 1)
SPOIL(bad_flags, flags = 2)
SPOIL(bad_stage, stage = -1)
SPOIL(bad_group, input_group = -2)
SPOIL(bad_rule, scale_rule = 3)
SPOIL(below_rule, scale_rule = -1)
SPOIL(nan_scale, scale = NAN)
SPOIL(infinite_scale, scale = INFINITY)
SPOIL(huge_scale, scale = 1e300)
SPOIL(bad_scale_rank, scale_rank = -1)
SPOIL(no_in, n_in = 0)
SPOIL(no_out, n_out = 0)
SPOIL(below_in, n_in = -4)
SPOIL(negative_rank, rank = -1)
SPOIL(huge_rank, rank = INT64_MAX / 2)
SPOIL(huge_in, n_in = INT64_MAX)
static void alpha_without_rank(lrk_module_spec *s)
{
    s->scale_rule = LRK_SCALE_ALPHA;
    s->rank = 0;
}

static const wrong_spec wrong_specs[] = {
    {"no name", LRK_ERR_ARGUMENT, "module 1 has no name", no_name},
    {"empty name", LRK_ERR_ARGUMENT, "module 1 has no name", empty_name},
    {"Latin-1", LRK_ERR_ARGUMENT, "not UTF-8", latin1_name},
    {"overlong", LRK_ERR_ARGUMENT, "not UTF-8", overlong_name},
    {"surrogate", LRK_ERR_ARGUMENT, "not UTF-8", surrogate_name},
    {"past U+10FFFF", LRK_ERR_ARGUMENT, "not UTF-8", too_high_name},
    {"cut sequence", LRK_ERR_ARGUMENT, "not UTF-8", cut_name},
    {"twin", LRK_ERR_ARGUMENT, "module 'a': modules 0 and 1 have the same name", twin_name},
    {"kind", LRK_ERR_ARGUMENT, "module 'b': unknown kind 1", bad_kind},
    {"flags", LRK_ERR_ARGUMENT, "module 'b': unknown flags 0x2", bad_flags},
    {"stage", LRK_ERR_ARGUMENT, "module 'b': stage -1", bad_stage},
    {"group", LRK_ERR_ARGUMENT, "module 'b': input_group -2", bad_group},
    {"rule 3", LRK_ERR_ARGUMENT, "module 'b': unknown scale rule", bad_rule},
    {"rule -1", LRK_ERR_ARGUMENT, "module 'b': unknown scale rule", below_rule},
    {"NaN scale", LRK_ERR_ARGUMENT, "module 'b': scale is not finite", nan_scale},
    {"infinite scale", LRK_ERR_ARGUMENT, "module 'b': scale is not finite", infinite_scale},
    {"scale past f32", LRK_ERR_ARGUMENT, "module 'b': scale is not finite", huge_scale},
    {"scale_rank", LRK_ERR_ARGUMENT, "module 'b': scale_rank is negative", bad_scale_rank},
    {"alpha without rank", LRK_ERR_ARGUMENT, "module 'b': the alpha rule needs", alpha_without_rank},
    {"n_in 0", LRK_ERR_SHAPE, "module 'b': n_in 0", no_in},
    {"n_out 0", LRK_ERR_SHAPE, "module 'b': n_out 0", no_out},
    {"n_in -4", LRK_ERR_SHAPE, "module 'b': n_in -4", below_in},
    {"rank -1", LRK_ERR_SHAPE, "module 'b': rank -1", negative_rank},
    {"rank overflows", LRK_ERR_SHAPE, "module 'b': the size of rank", huge_rank},
    {"n_in overflows", LRK_ERR_SHAPE, "module 'b': n_in + n_out overflows", huge_in},
};

START_TEST(create_refuses_a_spec_that_breaks_its_contract)
{
    lrk_module_spec specs[3];
    sets_three(specs);
    wrong_specs[_i].spoil(&specs[1]);
    expect_refused(specs, 3, NULL, wrong_specs[_i].want, wrong_specs[_i].words);
    lrk_error_info info = {.struct_size = sizeof info};
    ck_assert_int_eq(lrk_context_error_info(context, &info), LRK_OK);
    ck_assert_msg(info.module == 1, "%s: module %d", wrong_specs[_i].title, (int)info.module);
}
END_TEST

START_TEST(create_refuses_missing_arguments)
{
    lrk_module_spec specs[3];
    lrk_adapters *adapters = (lrk_adapters *)&host;
    sets_three(specs);
    ck_assert_int_eq(lrk_adapters_create(NULL, specs, 3, NULL, &adapters), LRK_ERR_ARGUMENT);
    ck_assert_ptr_null(adapters);
    ck_assert_int_eq(lrk_adapters_create(context, specs, 3, NULL, NULL), LRK_ERR_ARGUMENT);
    expect_refused(NULL, 3, NULL, LRK_ERR_ARGUMENT, "NULL or no modules");
    expect_refused(specs, 0, NULL, LRK_ERR_ARGUMENT, "NULL or no modules");
    expect_refused(specs, INT32_MAX, NULL, LRK_ERR_SHAPE, "too many modules");
}
END_TEST

START_TEST(create_refuses_options_that_break_their_contract)
{
    lrk_module_spec specs[3];
    sets_three(specs);
    lrk_adapters_options options = options_default();
    options.flags = 4;
    expect_refused(specs, 3, &options, LRK_ERR_ARGUMENT, "unknown flag");
    options = options_default();
    options.gates = 3;
    expect_refused(specs, 3, &options, LRK_ERR_ARGUMENT, "unknown gates 3");
    const double dropouts[] = {-0.1, 1.0, NAN};
    for (int i = 0; i < 3; i++) {
        options = options_default();
        options.dropout = dropouts[i];
        expect_refused(specs, 3, &options, LRK_ERR_ARGUMENT, "dropout");
    }
    for (int32_t init = -1; init <= 5; init += 6) {
        options = options_default();
        options.init = init;
        expect_refused(specs, 3, &options, LRK_ERR_ARGUMENT, "unknown init");
    }
}
END_TEST

START_TEST(create_refuses_storage_that_breaks_its_contract)
{
    lrk_module_spec specs[3];
    sets_host owner;
    sets_three(specs);
    lrk_storage storage = sets_host_storage(&owner, specs, 2);
    lrk_adapters_options options = options_default();
    options.storage = &storage;
    expect_refused(specs, 3, &options, LRK_ERR_ARGUMENT, "lrk_storage: unknown flags 0x2");
    storage = sets_host_storage(&owner, specs, 0);
    storage.prepare = NULL;
    expect_refused(specs, 3, &options, LRK_ERR_ARGUMENT, "must be given");
    storage = sets_host_storage(&owner, specs, 0);
    storage.commit = NULL;
    expect_refused(specs, 3, &options, LRK_ERR_ARGUMENT, "must be given");
    storage = sets_host_storage(&owner, specs, 0);
    storage.abandon = NULL;
    expect_refused(specs, 3, &options, LRK_ERR_ARGUMENT, "must be given");
    storage.struct_size = 4;
    expect_refused(specs, 3, &options, LRK_ERR_ARGUMENT, "lrk_storage: struct_size");
    ck_assert_str_eq(owner.log, "");
}
END_TEST

START_TEST(create_refuses_an_input_group_of_two_widths)
{
    lrk_module_spec specs[3];
    sets_three(specs);
    specs[0].input_group = specs[1].input_group = specs[2].input_group = 4;
    expect_refused(specs, 3, NULL, LRK_ERR_SHAPE,
                   "module 'b': n_in 4 differs from 5 of 'a' in input group 4");
    specs[1].n_in = 5;
    specs[2].input_group = 0;
    lrk_adapters_destroy(sets_create(context, specs, 3, NULL));
}
END_TEST

/* ---- struct_size ------------------------------------------------------------------------------------------------- */

typedef struct longer_spec {
    lrk_module_spec known;
    uint64_t tail;
} longer_spec;

START_TEST(a_longer_spec_steps_the_array_and_must_have_a_zero_tail)
{
    lrk_module_spec specs[3];
    longer_spec longer[3] = {0};
    sets_three(specs);
    for (int i = 0; i < 3; i++) {
        longer[i].known = specs[i];
        longer[i].known.struct_size = sizeof longer[i];
    }
    lrk_adapters *adapters = sets_create(context, &longer[0].known, 3, NULL);
    ck_assert_int_eq(sets_info(adapters).ranks, 5);
    lrk_adapters_destroy(adapters);
    longer[2].tail = 1;
    expect_refused(&longer[0].known, 3, NULL, LRK_ERR_VERSION, "lrk_module_spec");
    longer[2].tail = 0;
    longer[1].known.struct_size = sizeof specs[0];
    expect_refused(&longer[0].known, 3, NULL, LRK_ERR_ARGUMENT, "lrk_module_spec 1: struct_size differs");
}
END_TEST

START_TEST(a_shorter_spec_means_defaults_for_the_rest)
{
    lrk_module_spec spec = sets_spec("a", 5, 3, 2);
    spec.struct_size = offsetof(lrk_module_spec, input_group);
    spec.input_group = 9;
    spec.scale_rule = 77;
    spec.scale = NAN;
    lrk_adapters *adapters = sets_create(context, &spec, 1, NULL);
    lrk_module_info info = {.struct_size = sizeof info};
    ck_assert_int_eq(lrk_adapters_module(adapters, 0, &info), LRK_OK);
    ck_assert_int_eq(info.input_group, LRK_NO_GROUP);
    ck_assert(info.scale == 1.0);
    lrk_adapters_destroy(adapters);
    spec.struct_size = 4;
    expect_refused(&spec, 1, NULL, LRK_ERR_ARGUMENT, "struct_size 4 cannot be: set it");
}
END_TEST

START_TEST(shorter_and_longer_options_follow_the_rule)
{
    lrk_module_spec spec = sets_spec("a", 5, 3, 2);
    lrk_adapters_options options = options_default();
    options.struct_size = offsetof(lrk_adapters_options, dropout);
    options.dropout = 7;
    lrk_adapters_destroy(sets_create(context, &spec, 1, &options));
    struct {
        lrk_adapters_options known;
        uint64_t tail;
    } longer = {.known = options_default()};
    longer.known.struct_size = sizeof longer;
    lrk_adapters_destroy(sets_create(context, &spec, 1, &longer.known));
    longer.tail = 1;
    expect_refused(&spec, 1, &longer.known, LRK_ERR_VERSION, "lrk_adapters_options");
    options.struct_size = 0;
    expect_refused(&spec, 1, &options, LRK_ERR_ARGUMENT, "lrk_adapters_options");
}
END_TEST

START_TEST(inits_set_the_documented_defaults)
{
    lrk_module_spec spec;
    memset(&spec, 0xff, sizeof spec);
    ck_assert_int_eq(lrk_module_spec_init(&spec, sizeof spec), LRK_OK);
    ck_assert_uint_eq(spec.struct_size, sizeof spec);
    ck_assert_ptr_null(spec.name);
    ck_assert(spec.flags == 0 && spec.kind == LRK_KIND_LINEAR && spec.stage == 0 && spec.rank == 0);
    ck_assert(spec.n_in == 0 && spec.n_out == 0 && spec.input_group == LRK_NO_GROUP);
    ck_assert(spec.scale_rule == LRK_SCALE_EXPLICIT && spec.scale == 1.0 && spec.scale_rank == 0);
    lrk_adapters_options options;
    memset(&options, 0xff, sizeof options);
    ck_assert_int_eq(lrk_adapters_options_init(&options, sizeof options), LRK_OK);
    ck_assert(options.flags == 0 && options.seed == 0 && options.dropout == 0);
    ck_assert(options.init == LRK_INIT_KAIMING_UNIFORM && options.gates == LRK_GATES_ONE &&
              options.storage == NULL);
    ck_assert_int_eq(lrk_module_spec_init(NULL, sizeof spec), LRK_ERR_ARGUMENT);
    ck_assert_int_eq(lrk_module_spec_init(&spec, 4), LRK_ERR_ARGUMENT);
    ck_assert_int_eq(lrk_adapters_options_init(NULL, sizeof options), LRK_ERR_ARGUMENT);
    ck_assert_int_eq(lrk_adapters_options_init(&options, 7), LRK_ERR_ARGUMENT);
}
END_TEST

/* ---- initial values ---------------------------------------------------------------------------------------------- */

static void expect_fresh_row(const lrk_adapters *adapters, int32_t module, int64_t j, uint64_t identity,
                             uint64_t seed, int32_t init)
{
    lrk_tensor a = sets_tensor(adapters, module, LRK_TENSOR_A),
               b = sets_tensor(adapters, module, LRK_TENSOR_B);
    float expected[64] = {0}, scale = (float)(1.0 / sqrt((double)a.cols));
    lrki_stream stream = lrki_stream_make(seed, LRKI_STREAM_INIT_A, identity, 0);
    if (init == LRK_INIT_KAIMING_UNIFORM) lrki_stream_fill_uniform(&stream, scale, expected, a.cols);
    if (init == LRK_INIT_GAUSSIAN) lrki_stream_fill_normal(&stream, scale, expected, a.cols);
    ck_assert_mem_eq(a.data + j * a.cols, expected, (size_t)a.cols * sizeof(float));
    for (int64_t i = 0; i < b.cols; i++)
        ck_assert(b.data[j * b.cols + i] == 0.0f);
    ck_assert(sets_tensor(adapters, module, LRK_TENSOR_GATES).data[j] == 1.0f);
}

START_TEST(initial_rows_come_from_the_stream_of_seed_and_identity)
{
    lrk_module_spec specs[3];
    sets_three(specs);
    lrk_adapters_options options = options_default();
    options.init = _i;
    options.seed = 42;
    lrk_adapters *adapters = sets_create(context, specs, 3, &options);
    for (int64_t j = 0; j < 2; j++)
        expect_fresh_row(adapters, 0, j, (uint64_t)j + 1, 42, _i);
    for (int64_t j = 0; j < 3; j++)
        expect_fresh_row(adapters, 1, j, (uint64_t)j + 3, 42, _i);
    for (int32_t m = 0; m < 3; m++)
        for (int32_t which = LRK_TENSOR_GRAD_A; which <= LRK_TENSOR_GRAD_GATES; which++) {
            lrk_tensor t = sets_tensor(adapters, m, which);
            for (int64_t i = 0; i < t.rows * t.cols; i++)
                ck_assert(t.data[i] == 0.0f);
        }
    lrk_adapters_destroy(adapters);
}
END_TEST

/*
 * Moments of n independent draws of variance v = 1 / (3 n_in) (uniform) or 1 / n_in (normal): the mean of n has standard
 * deviation sqrt(v / n); the mean square has v sqrt(k / n), k = 4/5 (uniform) or 2 (normal). Five of each: 6e-7 by chance.
 */
START_TEST(initial_values_have_the_documented_distribution)
{
    enum { IN = 50, RANK = 400, N = IN * RANK };
    lrk_module_spec spec = sets_spec("a", IN, 1, RANK);
    lrk_adapters_options options = options_default();
    options.init = _i;
    options.seed = 7;
    lrk_adapters *adapters = sets_create(context, &spec, 1, &options);
    const float *a = sets_tensor(adapters, 0, LRK_TENSOR_A).data;
    bool uniform = _i == LRK_INIT_KAIMING_UNIFORM;
    double sum = 0, squares = 0, variance = 1.0 / IN / (uniform ? 3 : 1);
    for (int i = 0; i < N; i++) {
        sum += a[i];
        squares += (double)a[i] * a[i];
        if (uniform) ck_assert(fabs(a[i]) <= 1.0 / sqrt(IN) * (1 + 1e-6));
    }
    ck_assert_double_le(fabs(sum / N), 5 * sqrt(variance / N));
    ck_assert_double_le(fabs(squares / N - variance), 5 * variance * sqrt((uniform ? 0.8 : 2.0) / N));
    lrk_adapters_destroy(adapters);
}
END_TEST

START_TEST(initial_values_do_not_depend_on_other_modules)
{
    lrk_module_spec specs[3];
    sets_three(specs);
    lrk_adapters *three = sets_create(context, specs, 3, NULL);
    specs[0].n_in = 9; /* the same identities, other draws */
    lrk_adapters *other = sets_create(context, specs, 2, NULL);
    lrk_tensor x = sets_tensor(three, 1, LRK_TENSOR_A), y = sets_tensor(other, 1, LRK_TENSOR_A);
    ck_assert_mem_eq(x.data, y.data, (size_t)(x.rows * x.cols) * sizeof(float));
    lrk_adapters_destroy(three);
    lrk_adapters_destroy(other);
}
END_TEST

/* ---- failing memory ----------------------------------------------------------------------------------------------- */

static lrk_adapters *made;

static lrk_status make_set(void *user)
{
    lrk_module_spec specs[3];
    (void)user;
    sets_three(specs);
    specs[0].input_group = 1;
    made = (lrk_adapters *)&host;
    lrk_status status = lrk_adapters_create(context, specs, 3, NULL, &made);
    ck_assert((status == LRK_OK) == (made != NULL));
    return status;
}

static void drop_set(void *user)
{
    (void)user;
    lrk_adapters_destroy(made);
}

START_TEST(create_unwinds_when_any_request_fails)
{
    sets_each_fault(&host, make_set, drop_set, NULL);
}
END_TEST

Suite *create_suite(void);

Suite *create_suite(void)
{
    Suite *suite = suite_create("create");
    TCase *tcase = tcase_create("creation");
    tcase_add_checked_fixture(tcase, setup, teardown);
    tcase_add_loop_test(tcase, create_refuses_a_spec_that_breaks_its_contract, 0,
                        (int)(sizeof wrong_specs / sizeof *wrong_specs));
    tcase_add_test(tcase, create_refuses_missing_arguments);
    tcase_add_test(tcase, create_refuses_options_that_break_their_contract);
    tcase_add_test(tcase, create_refuses_storage_that_breaks_its_contract);
    tcase_add_test(tcase, create_refuses_an_input_group_of_two_widths);
    tcase_add_test(tcase, a_longer_spec_steps_the_array_and_must_have_a_zero_tail);
    tcase_add_test(tcase, a_shorter_spec_means_defaults_for_the_rest);
    tcase_add_test(tcase, shorter_and_longer_options_follow_the_rule);
    tcase_add_test(tcase, inits_set_the_documented_defaults);
    tcase_add_loop_test(tcase, initial_rows_come_from_the_stream_of_seed_and_identity, 0, 3);
    tcase_add_loop_test(tcase, initial_values_have_the_documented_distribution, 0, 2);
    tcase_add_test(tcase, initial_values_do_not_depend_on_other_modules);
    tcase_add_test(tcase, create_unwinds_when_any_request_fails);
    suite_add_tcase(suite, tcase);
    return suite;
}
