/* SPDX-License-Identifier: MIT */
/*
 * Gates under AdamW: steps against a double-precision transcription, one step at a time from the stored state; thresholds and
 * their schedule by hand; refusals. Rank changes, checkpoints and a whole run are in test_gates_run.c.
 */
#include <check.h>
#include <float.h>
#include <math.h>
#include <string.h>

#include "sets.h"
#include "small_set.h"

static const double UNIT = FLT_EPSILON / 2; /* of a float rounded to nearest */

static small_set s;
static lrk_optimizer *optimizer;
static lrk_adamw_options options;

static void set_usual(void)
{
    ck_assert_int_eq(lrk_adamw_options_init(&options, sizeof options), LRK_OK);
    options.flags = LRK_ADAMW_GATES;
}

static void setup(void)
{
    small_set_open_ranks(&s, 3, (const int64_t[]){5, 0, 3});
    set_usual();
    optimizer = NULL;
}

static void teardown(void)
{
    lrk_optimizer_destroy(optimizer);
    small_set_close(&s);
}

static void create(void)
{
    ck_assert_int_eq(lrk_optimizer_create_adamw(s.adapters, &options, &optimizer), LRK_OK);
}

static double threshold_now(void)
{
    double c = -1;
    ck_assert_int_eq(lrk_optimizer_gate_threshold(optimizer, &c), LRK_OK);
    return c;
}

static float *gates_of(int32_t module)
{
    return small_set_tensor(&s, module, LRK_TENSOR_GATES).data;
}

static void write_gradients(uint64_t *random)
{
    small_set_write_gradients(&s, random);
    for (int32_t m = 0; m < 3; m++) {
        lrk_tensor g = small_set_tensor(&s, m, LRK_TENSOR_GRAD_GATES);
        for (int64_t j = 0; j < g.rows; j++)
            g.data[j] = (float)small_random_real(random);
    }
}

static void step(double lr)
{
    ck_assert_int_eq(lrk_optimizer_step(optimizer, lr), LRK_OK);
}

/* ---- the transcription ----------------------------------------------------------------------------------------------- */

typedef struct gate_state {
    double g, u, v, d; /* gate, moments and derivative before the step */
} gate_state;

static int read_states(gate_state states[8])
{
    int n = 0;
    for (int32_t m = 0; m < 3; m++) {
        lrk_tensor g = small_set_tensor(&s, m, LRK_TENSOR_GATES);
        lrk_tensor d = small_set_tensor(&s, m, LRK_TENSOR_GRAD_GATES);
        lrk_tensor u = small_set_moment(optimizer, m, LRK_MOMENT_FIRST_GATES);
        lrk_tensor v = small_set_moment(optimizer, m, LRK_MOMENT_SECOND_GATES);
        ck_assert(u.cols == 1 && v.cols == 1 && u.rows == g.rows && v.rows == g.rows);
        for (int64_t j = 0; j < g.rows; j++)
            states[n++] = (gate_state){g.data[j], u.data[j], v.data[j], d.data[j]};
    }
    return n;
}

/* The published code's three lines, on one gate. */
static double shrink_as_code(double g, double c)
{
    if (g > c) g -= c;
    if (g < -c) g += c;
    if (fabs(g) < c) g = 0;
    return g;
}

static double shrink_exactly(double g, double c)
{
    return g > c ? g - c : g < -c ? g + c : 0;
}

/*
 * One step from a stored state. The library rounds the derivative, the moved gate and the shrunk one to float, each by UNIT
 * of itself; the first enters the direction u / (sqrt(v) + eps) at most three times its relative size.
 */
static double transcribe(const gate_state *e, double lr, double k, double clip, double c, double *bound)
{
    double sign = e->g > 0 ? 1 : e->g < 0 ? -1 : 0;
    double d = clip * (e->d + options.gate_l1 / 8 * sign);
    double u = e->u + (1 - options.beta1) * (d - e->u);
    double v = options.beta2 * e->v + (1 - options.beta2) * d * d;
    double root = sqrt(v) / sqrt(1 - pow(options.beta2, k)) + options.epsilon;
    double rate = lr * options.gate_ratio;
    double g = e->g - rate / (1 - pow(options.beta1, k)) * u / root;
    double most = rate / (1 - pow(options.beta1, k)) * (fabs(u) + fabs(d)) / root;
    *bound = UNIT * (2 * fabs(g) + 4 * most) + 1e-12;
    return options.gate_rule == LRK_GATE_SOFT ? shrink_exactly(g, c) : shrink_as_code(g, c);
}

static double clip_of(const gate_state *states, int n)
{
    double norm2 = 0;
    for (int32_t m = 0; m < 3; m++)
        for (int32_t which = LRK_TENSOR_GRAD_A; which <= LRK_TENSOR_GRAD_B; which++) {
            lrk_tensor t = small_set_tensor(&s, m, which);
            for (int64_t i = 0; i < t.rows * t.cols; i++)
                norm2 += (double)t.data[i] * (double)t.data[i];
        }
    for (int i = 0; i < n; i++) {
        double sign = states[i].g > 0 ? 1 : states[i].g < 0 ? -1 : 0;
        double d = states[i].d + options.gate_l1 / 8 * sign;
        norm2 += d * d;
    }
    return sqrt(norm2) > options.max_norm ? options.max_norm / sqrt(norm2) : 1;
}

static void set_case(int which)
{
    options.gate_threshold = 0.02;
    options.gate_rule = which == 1 ? LRK_GATE_TWICE : LRK_GATE_SOFT;
    if (which == 2) options.gate_l1 = 0.5;
    if (which == 3) options.flags |= LRK_ADAMW_GATE_SCALED;
    if (which == 3) options.gate_threshold = 1.5;
    if (which == 3) options.gate_ratio = 2;
    if (which == 4) options.gate_ratio = 5;
    if (which == 5) options.max_norm = 0.5;
    if (which == 6) options.weight_decay = 0.3;
    options.gate_dense_steps = 10;
    options.gate_rise_steps = 30;
    options.gate_stairs = 4;
}

START_TEST(sixty_steps_agree_with_the_transcription) /* _i: which option is not at its default */
{
    uint64_t random = 11;
    int zeros = 0, moved = 0;
    set_case(_i);
    create();
    for (int32_t m = 0; m < 3; m += 2)
        for (int64_t j = 0; j < small_set_rank(&s, m); j++)
            gates_of(m)[j] = (float)small_random_real(&random);
    for (int k = 1; k <= 60; k++) {
        gate_state states[8];
        double lr = 0.02;
        write_gradients(&random);
        int n = read_states(states);
        double c = threshold_now();
        if (options.flags & LRK_ADAMW_GATE_SCALED) c *= lr * options.gate_ratio;
        double clip = clip_of(states, n);
        step(lr);
        gate_state after[8];
        read_states(after);
        for (int i = 0; i < n; i++) {
            double bound, cliff;
            double g = transcribe(&states[i], lr, k, clip, c, &bound);
            cliff = fabs(fabs(after[i].g - g) - c); /* the rule of published code jumps by c at 2 c */
            if (options.gate_rule == LRK_GATE_TWICE && cliff <= bound) continue;
            ck_assert_double_le(fabs(after[i].g - g), bound);
            ck_assert_double_lt(bound, 1e-6);
            zeros += after[i].g == 0;
            moved += after[i].g != states[i].g;
        }
    }
    ck_assert_int_gt(moved, 200);
    ck_assert_int_gt(zeros, 10);
}
END_TEST

/* ---- by hand --------------------------------------------------------------------------------------------------------- */

static void shrink_one(int32_t rule, float from, float to)
{
    options.gate_rule = rule;
    options.gate_threshold = 0.25;
    create();
    uint64_t random = 1;
    write_gradients(&random);
    gates_of(0)[0] = from;
    gates_of(0)[1] = -from;
    step(0);
    ck_assert_float_eq(gates_of(0)[0], to);
    ck_assert_float_eq(gates_of(0)[1], -to);
    ck_assert(to != 0 || (!signbit(gates_of(0)[0]) && !signbit(gates_of(0)[1])));
    lrk_optimizer_destroy(optimizer);
    optimizer = NULL;
}

START_TEST(thresholds_do_what_their_rules_say)
{
    static const float soft[][2] = {{0.75f, 0.5f}, {0.5f, 0.25f}, {0.375f, 0.125f},
                                    {0.25f, 0},    {0.125f, 0},   {0, 0}};
    static const float twice[][2] = {{0.75f, 0.5f},  {0.5f, 0.25f}, {0.375f, 0},
                                     {0.25f, 0.25f}, {0.125f, 0},   {0, 0}};
    for (int i = 0; i < 6; i++) {
        shrink_one(LRK_GATE_SOFT, soft[i][0], soft[i][1]);
        shrink_one(LRK_GATE_TWICE, twice[i][0], twice[i][1]);
    }
}
END_TEST

START_TEST(the_threshold_rises_in_stairs)
{
    uint64_t random = 1;
    options.gate_threshold = 8;
    options.gate_dense_steps = 10;
    options.gate_rise_steps = 20;
    options.gate_stairs = 5;
    create();
    for (int t = 0; t < 40; t++) {
        double expected = t < 14 ? 0 : t < 18 ? 2 : t < 22 ? 4 : t < 26 ? 6 : 8;
        ck_assert(threshold_now() == expected);
        write_gradients(&random);
        step(0.01);
    }
}
END_TEST

START_TEST(one_stair_is_the_whole_threshold_at_once)
{
    uint64_t random = 1;
    options.gate_threshold = 8;
    options.gate_dense_steps = 2;
    options.gate_rise_steps = 20;
    create();
    for (int t = 0; t < 4; t++) {
        ck_assert(threshold_now() == (t < 2 ? 0 : 8));
        write_gradients(&random);
        step(0.01);
    }
    options.gate_stairs = 3;
    options.gate_rise_steps = 0;
    lrk_optimizer_destroy(optimizer);
    create();
    ck_assert(threshold_now() == 0);
    write_gradients(&random);
    step(0.01);
    write_gradients(&random);
    step(0.01);
    ck_assert(threshold_now() == 8);
}
END_TEST

START_TEST(the_penalty_pulls_to_zero_and_leaves_zero_alone)
{
    options.gate_l1 = 4;
    create();
    gates_of(0)[0] = 0.5f;
    gates_of(0)[1] = -0.5f;
    gates_of(0)[2] = 0;
    ck_assert_int_eq(lrk_adapters_gradients_written(s.adapters), LRK_OK);
    step(0.125); /* the first step of Adam is the learning rate times a sign, up to epsilon */
    ck_assert_float_eq_tol(gates_of(0)[0], 0.375f, 1e-7f);
    ck_assert_float_eq_tol(gates_of(0)[1], -0.375f, 1e-7f);
    ck_assert_float_eq(gates_of(0)[2], 0);
    lrk_tensor u = small_set_moment(optimizer, 0, LRK_MOMENT_FIRST_GATES);
    ck_assert_float_eq(u.data[0], (float)((1 - 0.9) * 0.5)); /* 4 over 8 ranks */
}
END_TEST

START_TEST(what_trains_gates_trains_a_and_b_as_before)
{
    uint64_t digest[2];
    for (int trained = 0; trained < 2; trained++) {
        small_set_close(&s);
        small_set_open_ranks(&s, 3, (const int64_t[]){5, 0, 3});
        options.flags = trained ? LRK_ADAMW_GATES : 0;
        create();
        uint64_t random = 3;
        for (int k = 0; k < 5; k++) {
            write_gradients(&random);
            step(0.01);
        }
        ck_assert((gates_of(0)[0] != 1) == trained);
        for (int32_t m = 0; m < 3; m += 2)
            for (int64_t j = 0; j < small_set_rank(&s, m); j++)
                gates_of(m)[j] = 1;
        digest[trained] = sets_digest(s.adapters);
        lrk_optimizer_destroy(optimizer);
        optimizer = NULL;
    }
    ck_assert_uint_eq(digest[0], digest[1]);
}
END_TEST

START_TEST(the_norm_counts_gates)
{
    create();
    small_set_tensor(&s, 0, LRK_TENSOR_GRAD_A).data[0] = 3;
    small_set_tensor(&s, 2, LRK_TENSOR_GRAD_GATES).data[1] = 4;
    ck_assert_int_eq(lrk_adapters_gradients_written(s.adapters), LRK_OK);
    step(0.01);
    ck_assert_double_eq(small_set_info(optimizer).gradient_norm, 5);
}
END_TEST

/* ---- refusals and faults --------------------------------------------------------------------------------------------- */

static void assert_refused(const char *words)
{
    lrk_optimizer *none = (lrk_optimizer *)&s;
    small_set_assert_failed(s.context, lrk_optimizer_create_adamw(s.adapters, &options, &none),
                            LRK_ERR_ARGUMENT, words);
    ck_assert_ptr_null(none);
    set_usual();
}

static void refuse_each(double *member, const double *bad, int n, const char *name)
{
    for (int i = 0; i < n; i++) {
        *member = bad[i];
        assert_refused(name);
    }
}

START_TEST(options_out_of_range_are_refused_by_name)
{
    refuse_each(&options.gate_ratio, (const double[]){0, -1, NAN, INFINITY}, 4, "gate_ratio must be > 0");
    refuse_each(&options.gate_l1, (const double[]){-1, NAN, INFINITY}, 3, "gate_l1 must be >= 0");
    refuse_each(&options.gate_threshold, (const double[]){-1, NAN, INFINITY}, 3,
                "gate_threshold must be >= 0");
    options.gate_dense_steps = -1;
    assert_refused("gate_dense_steps must be >= 0");
    options.gate_rise_steps = -1;
    assert_refused("gate_rise_steps must be >= 0");
    options.gate_stairs = 0;
    assert_refused("gate_stairs must be >= 1");
    options.gate_rule = 2;
    assert_refused("gate_rule is unknown");
    options.flags = 8;
    assert_refused("flags has an unknown bit");
    options.flags = 0;
    options.gate_l1 = 1;
    assert_refused("gate_l1 needs LRK_ADAMW_GATES");
    options.flags = 0;
    options.gate_threshold = 1;
    assert_refused("gate_threshold needs LRK_ADAMW_GATES");
}
END_TEST

START_TEST(a_derivative_that_is_not_finite_is_named_and_nothing_changes)
{
    uint64_t random = 1;
    create();
    write_gradients(&random);
    small_set_tensor(&s, 2, LRK_TENSOR_GRAD_GATES).data[1] = INFINITY;
    uint64_t before = sets_digest(s.adapters);
    small_set_assert_failed(s.context, lrk_optimizer_step(optimizer, 0.1), LRK_ERR_NONFINITE,
                            "the gradient of gates of module 'm2' is not finite");
    ck_assert_uint_eq(before, sets_digest(s.adapters));
    ck_assert_int_eq(small_set_info(optimizer).steps, 0);
}
END_TEST

START_TEST(wrong_calls_are_refused)
{
    lrk_tensor tensor = {.struct_size = sizeof tensor};
    double c;
    create();
    ck_assert_int_eq(lrk_optimizer_gate_threshold(NULL, &c), LRK_ERR_ARGUMENT);
    ck_assert_int_eq(lrk_optimizer_gate_threshold(optimizer, NULL), LRK_ERR_ARGUMENT);
    uint32_t kinds;
    ck_assert_int_eq(lrk_optimizer_gradients(NULL, &kinds), LRK_ERR_ARGUMENT);
    ck_assert_int_eq(lrk_optimizer_gradients(optimizer, NULL), LRK_ERR_ARGUMENT);
    ck_assert_int_eq(lrk_optimizer_gradients(optimizer, &kinds), LRK_OK);
    ck_assert_uint_eq(kinds, LRK_GRAD_PARAMETERS | LRK_GRAD_GATES);
    ck_assert_int_eq(lrk_optimizer_moment(optimizer, 0, 6, &tensor), LRK_ERR_ARGUMENT);
    lrk_optimizer_destroy(optimizer);
    options.flags = 0;
    create();
    small_set_assert_failed(s.context, lrk_optimizer_moment(optimizer, 0, LRK_MOMENT_FIRST_GATES, &tensor),
                            LRK_ERR_ARGUMENT, "no moment 4");
    ck_assert(threshold_now() == 0);
    ck_assert_int_eq(lrk_optimizer_gradients(optimizer, &kinds), LRK_OK);
    ck_assert_uint_eq(kinds, LRK_GRAD_PARAMETERS);
}
END_TEST

static lrk_status create_one(void *user)
{
    return lrk_optimizer_create_adamw(s.adapters, &options, user);
}

static void destroy_one(void *user)
{
    lrk_optimizer_destroy(*(lrk_optimizer **)user);
}

START_TEST(every_failed_request_for_memory_leaves_nothing_behind)
{
    lrk_optimizer *made = NULL;
    sets_each_fault(&s.host, create_one, destroy_one, &made);
}
END_TEST

START_TEST(gates_can_start_at_random)
{
    lrk_adapters_options set;
    double sum = 0, squares = 0;
    enum { RANK = 400 };
    const small_module module = {.n_in = 2, .n_out = 2, .rank = RANK};
    small_set_close(&s);
    lrk_adapters_options_init(&set, sizeof set);
    set.seed = 4;
    set.gates = LRK_GATES_GAUSSIAN;
    small_set_open(&s, &module, 1, &set);
    for (int j = 0; j < RANK; j++) {
        sum += gates_of(0)[j];
        squares += (double)gates_of(0)[j] * gates_of(0)[j];
    }
    /* five standard deviations of the mean of 400 draws, and of their mean square: 5 / 20 and 5 sqrt(2) / 20 */
    ck_assert_double_lt(fabs(sum / RANK), 0.25);
    ck_assert_double_lt(fabs(squares / RANK - 1), 0.354);
    small_set t = {0};
    const small_module fewer = {.n_in = 3, .n_out = 1, .rank = 2};
    small_set_open(&t, &fewer, 1, &set);
    lrk_tensor gates = small_set_tensor(&t, 0, LRK_TENSOR_GATES);
    ck_assert(gates.data[0] == gates_of(0)[0] && gates.data[1] == gates_of(0)[1]);
    small_set_close(&t);
}
END_TEST

Suite *gates_suite(void);
Suite *gates_suite(void)
{
    Suite *suite = suite_create("gates");
    TCase *tests = tcase_create("gates");
    tcase_add_checked_fixture(tests, setup, teardown);
    tcase_add_loop_test(tests, sixty_steps_agree_with_the_transcription, 0, 7);
    tcase_add_test(tests, thresholds_do_what_their_rules_say);
    tcase_add_test(tests, the_threshold_rises_in_stairs);
    tcase_add_test(tests, one_stair_is_the_whole_threshold_at_once);
    tcase_add_test(tests, the_penalty_pulls_to_zero_and_leaves_zero_alone);
    tcase_add_test(tests, what_trains_gates_trains_a_and_b_as_before);
    tcase_add_test(tests, the_norm_counts_gates);
    tcase_add_test(tests, options_out_of_range_are_refused_by_name);
    tcase_add_test(tests, a_derivative_that_is_not_finite_is_named_and_nothing_changes);
    tcase_add_test(tests, wrong_calls_are_refused);
    tcase_add_test(tests, every_failed_request_for_memory_leaves_nothing_behind);
    tcase_add_test(tests, gates_can_start_at_random);
    suite_add_tcase(suite, tests);
    return suite;
}
