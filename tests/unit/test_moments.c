/* SPDX-License-Identifier: MIT */
/*
 * AdamW's moments across rank changes: kept ranks keep moments and counts bit for bit, new ones start at zero with a
 * bias correction of their own, memory of dropped ones is freed, a missed change is noticed and can be made good.
 */
#include <check.h>
#include <math.h>
#include <string.h>

#include "small_set.h"

enum { N_IN = 4, N_OUT = 3 };

/* With these scores and n_move 2: m0 loses rank 1, m1 gains two, m2 loses rank 0. */
static const double VALUES[] = {0.9, 0.1, 0.5, 0.4, 0.6, 0.8, 0.2, 0.7, 0.3};

static small_set s;
static lrk_optimizer *optimizer;
static lrk_allocator *allocator;
static lrk_participant participant;

static void create(int32_t steps)
{
    lrk_adamw_options options;
    ck_assert_int_eq(lrk_adamw_options_init(&options, sizeof options), LRK_OK);
    options.steps = steps;
    ck_assert_int_eq(lrk_optimizer_create_adamw(s.adapters, &options, &optimizer), LRK_OK);
    ck_assert_int_eq(lrk_participant_init(&participant, sizeof participant), LRK_OK);
    ck_assert_int_eq(lrk_optimizer_participant(optimizer, &participant), LRK_OK);
}

static void setup(void)
{
    small_set_open_ranks(&s, 4, (const int64_t[]){3, 3, 3, 0});
    lrk_alora_options options = small_set_alora(2);
    const lrk_limit limit = {.struct_size = sizeof limit, .pattern = "m3", .floor = 0, .cap = 0};
    options.limits = &limit;
    options.n_limits = 1;
    allocator = small_set_allocator(&s, &options);
    create(LRK_STEPS_PER_RANK);
}

static void teardown(void)
{
    lrk_optimizer_destroy(optimizer);
    lrk_allocator_destroy(allocator);
    small_set_close(&s);
}

static int64_t count_of(int32_t module, int64_t rank)
{
    const int64_t *steps;
    int64_t n;
    ck_assert_int_eq(lrk_optimizer_rank_steps(optimizer, module, &steps, &n), LRK_OK);
    ck_assert_int_lt(rank, n);
    return steps[rank];
}

static void step(uint64_t *random)
{
    for (int32_t m = 0; m < 4; m++)
        for (int32_t which = LRK_TENSOR_GRAD_A; which <= LRK_TENSOR_GRAD_B; which++) {
            lrk_tensor g = small_set_tensor(&s, m, which);
            for (int64_t i = 0; i < g.rows * g.cols; i++)
                g.data[i] = (float)small_random_real(random);
        }
    ck_assert_int_eq(lrk_adapters_gradients_written(s.adapters), LRK_OK);
    ck_assert_int_eq(lrk_optimizer_step(optimizer, 0.125), LRK_OK);
}

static void train(int n)
{
    uint64_t random = 11;
    for (int i = 0; i < n; i++)
        step(&random);
}

static lrk_plan *plan_of(const double *values)
{
    lrk_scores *scores = small_set_scores(&s, values);
    lrk_plan *plan = small_set_plan(allocator, scores);
    lrk_scores_destroy(scores);
    return plan;
}

static size_t memory(void)
{
    lrk_optimizer_info info = {.struct_size = sizeof info};
    ck_assert_int_eq(lrk_optimizer_info_get(optimizer, &info), LRK_OK);
    return info.memory;
}

/* Rows of one module's moments, to be compared later. */
typedef struct copy {
    float rows[4][3][N_IN];
} copy;

static copy copy_of(int32_t module)
{
    copy c;
    memset(&c, 0, sizeof c);
    for (int32_t which = LRK_MOMENT_FIRST_A; which <= LRK_MOMENT_SECOND_B; which++) {
        lrk_tensor t = small_set_moment(optimizer, module, which);
        for (int64_t j = 0; j < t.rows && j < 3; j++)
            memcpy(c.rows[which][j], t.data + j * t.ld, (size_t)t.cols * sizeof(float));
    }
    return c;
}

static void assert_row(int32_t module, int64_t now, const copy *c, int64_t then)
{
    for (int32_t which = LRK_MOMENT_FIRST_A; which <= LRK_MOMENT_SECOND_B; which++) {
        lrk_tensor t = small_set_moment(optimizer, module, which);
        ck_assert_mem_eq(t.data + now * t.ld, c->rows[which][then], (size_t)t.cols * sizeof(float));
    }
}

static void assert_zero_row(int32_t module, int64_t row)
{
    const copy zero = {0};
    assert_row(module, row, &zero, 0);
}

/* ---- as a participant ---------------------------------------------------------------------------------------------------------- */

START_TEST(kept_ranks_keep_moments_and_counts_and_new_ones_start_at_zero)
{
    train(3);
    copy before[3] = {copy_of(0), copy_of(1), copy_of(2)};
    lrk_plan *plan = plan_of(VALUES);
    small_set_carry_out(plan, &participant, 1);
    assert_row(0, 0, &before[0], 0);
    assert_row(0, 1, &before[0], 2);
    for (int j = 0; j < 3; j++)
        assert_row(1, j, &before[1], j);
    assert_row(2, 0, &before[2], 1);
    assert_row(2, 1, &before[2], 2);
    assert_zero_row(1, 3);
    assert_zero_row(1, 4);
    ck_assert_int_eq(count_of(0, 1), 3);
    ck_assert_int_eq(count_of(1, 2), 3);
    ck_assert_int_eq(count_of(1, 3), 0);
    lrk_plan_destroy(plan);
    train(1);
    ck_assert_int_eq(count_of(1, 2), 4);
    ck_assert_int_eq(count_of(1, 3), 1);
}
END_TEST

/* A first step of its own moves B from 0 by lr, whatever the gradient; at the tenth global step by far less or more. */
START_TEST(a_late_rank_gets_the_bias_correction_of_a_fresh_one) /* _i: LRK_STEPS_... */
{
    lrk_optimizer_destroy(optimizer);
    create(_i);
    train(10);
    lrk_plan *plan = plan_of(VALUES);
    small_set_carry_out(plan, &participant, 1);
    lrk_plan_destroy(plan);
    ck_assert_int_eq(count_of(1, 4), _i == LRK_STEPS_GLOBAL ? 10 : 0);
    train(1);
    lrk_tensor b = small_set_tensor(&s, 1, LRK_TENSOR_B);
    double k = _i == LRK_STEPS_GLOBAL ? 11 : 1;
    double ratio = 0.1 / (1 - pow(0.9, k)) / sqrt(0.001 / (1 - pow(0.999, k)));
    for (int i = 0; i < N_OUT;
         i++) { /* eps is 1e-8 against sqrt(v / c2) >= 0.3 |gradient|, all above 1e-3 here */
        double moved = fabs(b.data[4 * N_OUT + i]);
        ck_assert_double_le(fabs(moved - 0.125 * ratio), 0.125 * ratio * 1e-8 / 0.3e-3);
    }
}
END_TEST

START_TEST(abandoning_leaves_moments_alone)
{
    train(2);
    copy before = copy_of(0);
    int64_t live = s.host.live;
    lrk_plan *plan = plan_of(VALUES);
    ck_assert_int_eq(lrk_plan_prepare(plan, &participant, 1), LRK_OK);
    ck_assert_int_eq(lrk_plan_abandon(plan), LRK_OK);
    lrk_plan_destroy(plan);
    ck_assert_int_eq(s.host.live, live);
    for (int j = 0; j < 3; j++)
        assert_row(0, j, &before, j);
    train(1);
}
END_TEST

START_TEST(modules_that_do_not_change_are_not_touched)
{
    const double values[] = {0.9, 0.1, 0.2, 0.7, 0.6, 0.8, 0.5, 0.7, 0.3};
    lrk_alora_options options = small_set_alora(1);
    lrk_allocator *one = small_set_allocator(&s, &options);
    lrk_scores *scores = small_set_scores(&s, values);
    lrk_plan *plan = small_set_plan(one, scores);
    small_set_assert_plan(plan, 4, "1 .+1 . .");
    float *data = small_set_moment(optimizer, 2, LRK_MOMENT_FIRST_A).data;
    int64_t calls = s.host.alloc.calls;
    ck_assert_int_eq(lrk_plan_prepare(plan, NULL, 0), LRK_OK);
    int64_t set_alone = s.host.alloc.calls - calls;
    ck_assert_int_eq(lrk_plan_abandon(plan), LRK_OK);
    lrk_plan_destroy(plan);
    plan = small_set_plan(one, scores);
    calls = s.host.alloc.calls;
    ck_assert_int_eq(lrk_plan_prepare(plan, &participant, 1), LRK_OK);
    ck_assert_int_eq(s.host.alloc.calls - calls, set_alone + 3); /* the array, and moments of m0 and m1 */
    ck_assert_int_eq(lrk_plan_commit(plan), LRK_OK);
    ck_assert_ptr_eq(small_set_moment(optimizer, 2, LRK_MOMENT_FIRST_A).data, data);
    lrk_plan_destroy(plan);
    lrk_scores_destroy(scores);
    lrk_allocator_destroy(one);
}
END_TEST

START_TEST(memory_of_dropped_ranks_is_freed)
{
    size_t before = memory();
    size_t rank = 2 * (N_IN + N_OUT) * sizeof(float) + sizeof(int64_t) + sizeof(uint64_t);
    lrk_alora_options options = small_set_alora(9);
    lrk_allocator *all = small_set_allocator(&s, &options);
    lrk_scores *scores = small_set_scores(&s, VALUES);
    lrk_plan *plan = small_set_plan(all, scores);
    lrk_plan_module part = {.struct_size = sizeof part};
    ck_assert_int_eq(lrk_plan_module_get(plan, 3, &part), LRK_OK);
    ck_assert_int_eq(part.n_added, 9); /* the only module left alone */
    ck_assert_int_eq(lrk_plan_abandon(plan), LRK_OK);
    lrk_plan_destroy(plan);
    const lrk_limit limit = {.struct_size = sizeof limit, .pattern = "m3", .floor = 0, .cap = 2};
    options.limits = &limit;
    options.n_limits = 1;
    lrk_allocator *few = small_set_allocator(&s, &options);
    plan = small_set_plan(few, scores);
    small_set_carry_out(plan, &participant, 1);
    ck_assert_uint_eq(memory(), before - 7 * rank);
    lrk_plan_destroy(plan);
    lrk_scores_destroy(scores);
    lrk_allocator_destroy(all);
    lrk_allocator_destroy(few);
}
END_TEST

START_TEST(steps_wait_for_a_prepared_plan)
{
    lrk_plan *plan = plan_of(VALUES);
    ck_assert_int_eq(lrk_adapters_gradients_written(s.adapters), LRK_OK);
    ck_assert_int_eq(lrk_plan_prepare(plan, &participant, 1), LRK_OK);
    ck_assert_int_eq(lrk_optimizer_step(optimizer, 0.1), LRK_ERR_BUSY);
    ck_assert_int_eq(lrk_optimizer_realign(optimizer), LRK_ERR_BUSY);
    ck_assert_int_eq(lrk_plan_abandon(plan), LRK_OK);
    ck_assert_int_eq(lrk_optimizer_step(optimizer, 0.1), LRK_OK);
    lrk_plan_destroy(plan);
}
END_TEST

START_TEST(taking_part_twice_is_refused)
{
    const lrk_participant twice[] = {participant, participant};
    int64_t live = s.host.live;
    lrk_plan *plan = plan_of(VALUES);
    small_set_assert_failed(s.context, lrk_plan_prepare(plan, twice, 2), LRK_ERR_REFUSED, "'adamw'");
    ck_assert_int_eq(lrk_plan_abandon(plan), LRK_OK);
    lrk_plan_destroy(plan);
    ck_assert_int_eq(s.host.live, live);
    train(1);
}
END_TEST

START_TEST(a_plan_of_another_set_is_refused)
{
    small_set other;
    small_set_open_ranks(&other, 3, (const int64_t[]){3, 3, 3});
    lrk_alora_options options = small_set_alora(2);
    lrk_allocator *foreign = small_set_allocator(&other, &options);
    lrk_scores *scores = small_set_scores(&other, VALUES);
    lrk_plan *plan = small_set_plan(foreign, scores);
    small_set_assert_failed(other.context, lrk_plan_prepare(plan, &participant, 1), LRK_ERR_REFUSED,
                            "'adamw'");
    ck_assert_int_eq(lrk_plan_abandon(plan), LRK_OK);
    lrk_plan_destroy(plan);
    lrk_scores_destroy(scores);
    lrk_allocator_destroy(foreign);
    small_set_close(&other);
}
END_TEST

/* ---- after a missed change ------------------------------------------------------------------------------------------------------- */

static void assert_stale(void)
{
    lrk_tensor tensor = {.struct_size = sizeof tensor};
    const int64_t *steps;
    int64_t n;
    ck_assert_int_eq(lrk_adapters_gradients_written(s.adapters), LRK_OK);
    small_set_assert_failed(s.context, lrk_optimizer_step(optimizer, 0.1), LRK_ERR_STALE,
                            "lrk_optimizer_realign()");
    ck_assert_int_eq(lrk_optimizer_moment(optimizer, 0, 0, &tensor), LRK_ERR_STALE);
    ck_assert_int_eq(lrk_optimizer_rank_steps(optimizer, 0, &steps, &n), LRK_ERR_STALE);
}

START_TEST(a_missed_plan_is_noticed_and_realigned_by_identity)
{
    train(4);
    copy before[3] = {copy_of(0), copy_of(1), copy_of(2)};
    lrk_plan *plan = plan_of(VALUES);
    small_set_carry_out(plan, NULL, 0);
    lrk_plan_destroy(plan);
    assert_stale();
    plan = plan_of(VALUES);
    small_set_assert_failed(s.context, lrk_plan_prepare(plan, &participant, 1), LRK_ERR_REFUSED, "'adamw'");
    ck_assert_int_eq(lrk_plan_abandon(plan), LRK_OK);
    lrk_plan_destroy(plan);
    ck_assert_int_eq(lrk_optimizer_realign(optimizer), LRK_OK);
    assert_row(0, 1, &before[0], 2);
    assert_row(1, 0, &before[1], 0);
    assert_row(2, 0, &before[2], 1);
    assert_zero_row(1, 3);
    ck_assert_int_eq(count_of(1, 2), 4);
    ck_assert_int_eq(count_of(1, 4), 0);
    train(1);
}
END_TEST

START_TEST(after_a_restore_known_ranks_keep_theirs_and_returned_ones_start_anew)
{
    lrk_snapshot *snapshot = NULL;
    train(4);
    ck_assert_int_eq(lrk_snapshot_create(s.adapters, &snapshot), LRK_OK);
    lrk_plan *plan = plan_of(VALUES);
    small_set_carry_out(plan, &participant, 1);
    lrk_plan_destroy(plan);
    train(1);
    copy before[2] = {copy_of(0), copy_of(1)};
    ck_assert_int_eq(lrk_snapshot_restore(snapshot, s.adapters), LRK_OK);
    lrk_snapshot_destroy(snapshot);
    assert_stale();
    ck_assert_int_eq(lrk_optimizer_realign(optimizer), LRK_OK);
    assert_row(0, 0, &before[0], 0);
    assert_zero_row(0, 1); /* it was dropped and came back */
    assert_row(0, 2, &before[0], 1);
    for (int j = 0; j < 3; j++)
        assert_row(1, j, &before[1], j);
    ck_assert_int_eq(count_of(0, 0), 5);
    ck_assert_int_eq(count_of(0, 1), 0);
}
END_TEST

START_TEST(realigning_what_fits_changes_nothing)
{
    train(2);
    copy before = copy_of(2);
    float *data = small_set_moment(optimizer, 2, LRK_MOMENT_FIRST_A).data;
    ck_assert_int_eq(lrk_optimizer_realign(optimizer), LRK_OK);
    ck_assert_ptr_eq(small_set_moment(optimizer, 2, LRK_MOMENT_FIRST_A).data, data);
    assert_row(2, 1, &before, 1);
}
END_TEST

START_TEST(moments_say_their_shape_and_generation)
{
    lrk_tensor t = small_set_moment(optimizer, 3, LRK_MOMENT_FIRST_A);
    ck_assert_int_eq(t.rows, 0);
    t = small_set_moment(optimizer, 1, LRK_MOMENT_SECOND_B);
    ck_assert_int_eq(t.rows, 3);
    ck_assert_int_eq(t.cols, N_OUT);
    ck_assert_int_eq(t.ld, N_OUT);
    lrk_adapters_info info = {.struct_size = sizeof info};
    ck_assert_int_eq(lrk_adapters_info_get(s.adapters, &info), LRK_OK);
    ck_assert_uint_eq(t.generation, info.generation);
    ck_assert_uint_ge(memory(), 9 * 2 * (N_IN + N_OUT) * sizeof(float));
}
END_TEST

/* ---- memory --------------------------------------------------------------------------------------------------------------------- */

static void arm(int64_t i, bool sticky)
{
    s.host.alloc = (fault_counter){.fail_at = i, .sticky = sticky};
}

START_TEST(creating_may_fail_at_every_allocation) /* _i: 0 once, 1 from there on */
{
    lrk_optimizer *second = NULL;
    int64_t before = s.host.alloc.calls;
    ck_assert_int_eq(lrk_optimizer_create_adamw(s.adapters, NULL, &second), LRK_OK);
    int64_t total = s.host.alloc.calls - before;
    lrk_optimizer_destroy(second);
    int64_t live = s.host.live;
    ck_assert_int_eq(total,
                     7); /* itself, two work arrays, the array of moments, three blocks: m3 has rank 0 */
    for (int64_t i = 0; i < total; i++) {
        second = (lrk_optimizer *)&s;
        arm(i, _i == 1);
        ck_assert_int_eq(lrk_optimizer_create_adamw(s.adapters, NULL, &second), LRK_ERR_NOMEM);
        ck_assert_ptr_null(second);
        ck_assert_int_eq(s.host.live, live);
    }
    arm(-1, false);
}
END_TEST

START_TEST(preparing_may_fail_at_every_allocation) /* _i: 0 once, 1 from there on */
{
    train(2);
    copy before = copy_of(1);
    lrk_plan *plan = plan_of(VALUES);
    int64_t calls = s.host.alloc.calls;
    ck_assert_int_eq(lrk_plan_prepare(plan, NULL, 0), LRK_OK);
    int64_t set_alone = s.host.alloc.calls - calls;
    ck_assert_int_eq(lrk_plan_abandon(plan), LRK_OK);
    lrk_plan_destroy(plan);
    plan = plan_of(VALUES);
    calls = s.host.alloc.calls;
    int64_t live = s.host.live;
    for (int64_t i = 0; i < 4; i++) { /* the array and three blocks */
        arm(set_alone + i, _i == 1);
        small_set_assert_failed(s.context, lrk_plan_prepare(plan, &participant, 1), LRK_ERR_REFUSED,
                                "'adamw'");
        ck_assert_int_eq(s.host.live, live);
    }
    arm(set_alone + 4, true);
    ck_assert_int_eq(lrk_plan_prepare(plan, &participant, 1), LRK_OK);
    ck_assert_int_eq(lrk_plan_commit(plan), LRK_OK);
    ck_assert_int_eq(s.host.alloc.calls, set_alone + 4); /* committing takes no memory */
    arm(-1, false);
    assert_row(1, 2, &before, 2);
    lrk_plan_destroy(plan);
    train(1);
}
END_TEST

START_TEST(realigning_may_fail_at_every_allocation) /* _i: 0 once, 1 from there on */
{
    train(2);
    copy before = copy_of(0);
    lrk_plan *plan = plan_of(VALUES);
    small_set_carry_out(plan, NULL, 0);
    lrk_plan_destroy(plan);
    int64_t live = s.host.live;
    for (int64_t i = 0; i < 4; i++) {
        arm(i, _i == 1);
        ck_assert_int_eq(lrk_optimizer_realign(optimizer), LRK_ERR_NOMEM);
        ck_assert_int_eq(s.host.live, live);
    }
    arm(4, true);
    ck_assert_int_eq(lrk_optimizer_realign(optimizer), LRK_OK);
    arm(-1, false);
    assert_row(0, 1, &before, 2);
}
END_TEST

Suite *moments_suite(void);

Suite *moments_suite(void)
{
    Suite *suite = suite_create("moments");
    TCase *tests = tcase_create("moments");
    tcase_add_checked_fixture(tests, setup, teardown);
    tcase_add_test(tests, kept_ranks_keep_moments_and_counts_and_new_ones_start_at_zero);
    tcase_add_loop_test(tests, a_late_rank_gets_the_bias_correction_of_a_fresh_one, 0, 2);
    tcase_add_test(tests, abandoning_leaves_moments_alone);
    tcase_add_test(tests, modules_that_do_not_change_are_not_touched);
    tcase_add_test(tests, memory_of_dropped_ranks_is_freed);
    tcase_add_test(tests, steps_wait_for_a_prepared_plan);
    tcase_add_test(tests, taking_part_twice_is_refused);
    tcase_add_test(tests, a_plan_of_another_set_is_refused);
    tcase_add_test(tests, a_missed_plan_is_noticed_and_realigned_by_identity);
    tcase_add_test(tests, after_a_restore_known_ranks_keep_theirs_and_returned_ones_start_anew);
    tcase_add_test(tests, realigning_what_fits_changes_nothing);
    tcase_add_test(tests, moments_say_their_shape_and_generation);
    tcase_add_loop_test(tests, creating_may_fail_at_every_allocation, 0, 2);
    tcase_add_loop_test(tests, preparing_may_fail_at_every_allocation, 0, 2);
    tcase_add_loop_test(tests, realigning_may_fail_at_every_allocation, 0, 2);
    suite_add_tcase(suite, tests);
    return suite;
}
