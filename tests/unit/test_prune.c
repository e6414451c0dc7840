/* SPDX-License-Identifier: MIT */
/*
 * The policy that starts large and prunes: its budget against the formula, exact counts in order of scores, floors and
 * protection, both units, what it refuses, and its state in a checkpoint.
 */
#include <check.h>
#include <math.h>
#include <string.h>

#include "sets.h"
#include "small_set.h"

#define MOST 64

static small_set s;
static lrk_prune_options options;

static void setup(void)
{
    memset(&s, 0, sizeof s);
    ck_assert_int_eq(lrk_prune_options_init(&options, sizeof options), LRK_OK);
}

static void teardown(void)
{
    small_set_close(&s);
}

static lrk_allocator *create(void)
{
    lrk_allocator *allocator = NULL;
    ck_assert_int_eq(lrk_allocator_create_prune(s.adapters, &options, &allocator), LRK_OK);
    return allocator;
}

static void refuse(lrk_status want, const char *words)
{
    lrk_allocator *allocator = (lrk_allocator *)&s;
    small_set_assert_failed(s.context, lrk_allocator_create_prune(s.adapters, &options, &allocator), want,
                            words);
    ck_assert_ptr_null(allocator);
}

/* Carries a round out with these scores. */
static void prune(lrk_allocator *allocator, const double *values)
{
    lrk_scores *scores = small_set_scores(&s, values);
    lrk_plan *plan = small_set_plan(allocator, scores);
    small_set_carry_out(plan, NULL, 0);
    lrk_plan_destroy(plan);
    lrk_scores_destroy(scores);
}

static int64_t held(bool parameters)
{
    lrk_adapters_info info = sets_info(s.adapters);
    return parameters ? info.parameters : info.ranks;
}

static double formula(double first, double last, int64_t t, int64_t rounds)
{
    return floor(last + (first - last) * pow(1 - (double)t / (double)rounds, 3));
}

/* ---- the budget ---------------------------------------------------------------------------------------------------- */

START_TEST(each_round_leaves_what_the_formula_says)
{
    const int64_t rounds = 1 + _i;
    double values[MOST];
    uint64_t random = 1;
    small_set_open_ranks(&s, 4, (const int64_t[]){12, 12, 12, 12});
    options.n_rounds = rounds;
    options.budget = 17;
    lrk_allocator *allocator = create();
    for (int64_t t = 1; t <= rounds + 2; t++) {
        for (int i = 0; i < 48; i++)
            values[i] = small_random_real(&random);
        int64_t before = held(false), n = -1;
        ck_assert_int_eq(lrk_allocator_n_move(allocator, &n), LRK_OK);
        prune(allocator, values);
        double want = t < rounds ? formula(48, 17, t, rounds) : 17;
        ck_assert_int_eq(held(false), (int64_t)want);
        ck_assert_int_eq(n, before - held(false));
    }
    lrk_allocator_destroy(allocator);
}
END_TEST

/* With a budget in parameters the next rank goes while more than the budget is held; n_move is a bound. */
START_TEST(a_budget_in_parameters_is_met_by_less_than_a_rank)
{
    const small_module modules[] = {{10, 10, 9, 0, 0}, {10, 3, 9, 0, 0}, {5, 3, 9, 0, 0}};
    double values[MOST];
    uint64_t random = 1;
    small_set_open(&s, modules, 3, NULL);
    options.n_rounds = 5;
    options.budget = 100;
    options.budget_unit = LRK_BUDGET_PARAMETERS;
    lrk_allocator *allocator = create();
    for (int64_t t = 1; t <= 5; t++) {
        for (int i = 0; i < 27; i++)
            values[i] = small_random_real(&random);
        int64_t before = held(false), n = -1;
        ck_assert_int_eq(lrk_allocator_n_move(allocator, &n), LRK_OK);
        prune(allocator, values);
        double want = formula(9 * 41, 100, t, 5);
        ck_assert_int_le(held(true), (int64_t)want);
        ck_assert_int_gt(held(true), (int64_t)want - 20);
        ck_assert_int_le(before - held(false), n);
    }
    lrk_allocator_destroy(allocator);
}
END_TEST

START_TEST(a_multiple_speaks_of_a_start_that_is_still_to_come)
{
    int64_t n = -1;
    small_set_open_ranks(&s, 2, (const int64_t[]){2, 2});
    options.n_rounds = 2;
    options.multiple = 3;
    lrk_allocator *allocator = create(); /* 12 -> 4 */
    ck_assert_int_eq(lrk_allocator_n_move(allocator, &n), LRK_OK);
    ck_assert_int_eq(n, 7);                         /* to 4 + 8 / 8 */
    prune(allocator, (const double[]){1, 2, 3, 4}); /* 4 are held: fewer than 5 */
    ck_assert_int_eq(held(false), 4);
    prune(allocator, (const double[]){1, 2, 3, 4});
    ck_assert_int_eq(held(false), 4);
    lrk_allocator_destroy(allocator);
    options.multiple = 1.9; /* 7, and what is held is more: from there */
    options.budget = 1;
    allocator = create();
    prune(allocator, (const double[]){1, 2, 3, 4});
    ck_assert_int_eq(held(false), 1);
    lrk_allocator_destroy(allocator);
}
END_TEST

/* ---- which ranks --------------------------------------------------------------------------------------------------- */

START_TEST(the_lowest_go_in_exact_numbers_and_ties_by_module)
{
    small_set_open_ranks(&s, 3, (const int64_t[]){3, 2, 2});
    options.n_rounds = 1;
    options.budget = 4;
    lrk_allocator *allocator = create();
    small_set_assert_plan_of(&s, allocator, 3, (const double[]){5, 1, 4, 2, 3, 6, 7}, "1 0,1 .");
    small_set_assert_plan_of(&s, allocator, 3, (const double[]){5, 5, 5, 5, 5, 5, 5}, "0,1,2 . .");
    small_set_assert_plan_of(&s, allocator, 3, (const double[]){5, 5, 0, 5, 5, -1, 5}, "0,2 . 0");
    lrk_allocator_destroy(allocator);
}
END_TEST

START_TEST(floors_hold_and_what_they_keep_is_made_up_for_elsewhere)
{
    const lrk_limit limit = {sizeof limit, 0, "m1", 2, LRK_NO_CAP};
    small_set_open_ranks(&s, 3, (const int64_t[]){3, 3, 2});
    options.n_rounds = 1;
    options.budget = 3;
    options.limits = &limit;
    options.n_limits = 1;
    lrk_allocator *allocator = create();
    small_set_assert_plan_of(&s, allocator, 3, (const double[]){5, 6, 7, 1, 2, 3, 8, 9}, "0,1,2 0 0");
    lrk_allocator_destroy(allocator);
}
END_TEST

START_TEST(protected_ranks_stay_until_their_time)
{
    lrk_alora_options growing = small_set_alora(1);
    small_set_open_ranks(&s, 2, (const int64_t[]){3, 1});
    growing.budget = 6;
    growing.flags = LRK_ALORA_REFILL;
    options.n_rounds = 1;
    options.budget = 2;
    options.protect_rounds = 1;
    lrk_allocator *allocator = create(), *other = small_set_allocator(&s, &growing);
    prune(allocator, (const double[]){1, 2, 3, 4}); /* a round to have a mark */
    ck_assert_int_eq(held(false), 2);
    small_set_move(&s, other, 2, (const double[]){1, 2}, "0 .+5"); /* newborn of another allocator */
    small_set_assert_plan_of(&s, allocator, 2, (const double[]){9, 1, 2, 3, 4, 5}, ". 0");
    prune(allocator, (const double[]){9, 1, 2, 3, 4, 5}); /* too many are kept: no error */
    ck_assert_int_eq(held(false), 5);
    prune(allocator, (const double[]){1, 2, 3, 4, 5}); /* old now */
    ck_assert_int_eq(held(false), 2);
    lrk_allocator_destroy(other);
    lrk_allocator_destroy(allocator);
}
END_TEST

/* ---- refusals ------------------------------------------------------------------------------------------------------ */

START_TEST(options_out_of_range_are_refused)
{
    const lrk_limit nothing = {sizeof nothing, 0, "x*", 0, LRK_NO_CAP};
    small_set_open_ranks(&s, 2, (const int64_t[]){2, 2});
    refuse(LRK_ERR_ARGUMENT, "n_rounds must be >= 1");
    options.n_rounds = 2;
    const lrk_prune_options good = options;
    const double bad[] = {0.99, -1, NAN, INFINITY};
    for (int i = 0; i < 4; i++) {
        options.multiple = bad[i];
        refuse(LRK_ERR_ARGUMENT, "multiple must be >= 1");
    }
    options.multiple = 1e300;
    refuse(LRK_ERR_ARGUMENT, "multiple 1e+300 of budget 4 is too large");
    options = good;
    options.flags = 2;
    refuse(LRK_ERR_ARGUMENT, "flags has an unknown bit");
    options = good;
    options.budget = -2;
    refuse(LRK_ERR_ARGUMENT, "budget must be >= 0");
    options = good;
    options.budget_unit = 7;
    refuse(LRK_ERR_ARGUMENT, "budget_unit is unknown");
    options = good;
    options.protect_rounds = -1;
    refuse(LRK_ERR_ARGUMENT, "protect_rounds");
    options = good;
    options.limits = &nothing;
    options.n_limits = 1;
    refuse(LRK_ERR_NOT_FOUND, "limit 'x*' decides no module");
    lrk_allocator *allocator;
    small_set_assert_failed(s.context, lrk_allocator_create_prune(s.adapters, NULL, &allocator),
                            LRK_ERR_ARGUMENT, "must not be NULL");
    small_set_assert_failed(s.context, lrk_allocator_create_prune(s.adapters, &good, NULL), LRK_ERR_ARGUMENT,
                            "must not be NULL");
    ck_assert_int_eq(lrk_allocator_create_prune(NULL, &good, &allocator), LRK_ERR_ARGUMENT);
    ck_assert_int_eq(lrk_prune_options_init(NULL, 8), LRK_ERR_ARGUMENT);
    struct {
        lrk_prune_options known;
        uint64_t tail;
    } longer = {good, 1};
    longer.known.struct_size = sizeof longer;
    ck_assert_int_eq(lrk_allocator_create_prune(s.adapters, &longer.known, &allocator), LRK_ERR_VERSION);
}
END_TEST

START_TEST(floors_above_the_budget_are_refused)
{
    const lrk_limit limit = {sizeof limit, 0, "*", 2, LRK_NO_CAP};
    small_set_open_ranks(&s, 2, (const int64_t[]){2, 2});
    options.n_rounds = 1;
    options.budget = 3;
    options.limits = &limit;
    options.n_limits = 1;
    refuse(LRK_ERR_BUDGET, "module 'm1': with its floor of 2 the floors exceed the budget of 3");
    options.budget = 4;
    lrk_allocator_destroy(create());
}
END_TEST

/* ---- faults and checkpoints ---------------------------------------------------------------------------------------- */

static lrk_allocator *made;
static lrk_plan *planned;

static lrk_status act_create(void *user)
{
    (void)user;
    return lrk_allocator_create_prune(s.adapters, &options, &made);
}

static void undo_create(void *user)
{
    (void)user;
    lrk_allocator_destroy(made);
}

static lrk_status act_plan(void *user)
{
    return lrk_allocator_plan(made, user, 0, &planned);
}

static void undo_plan(void *user)
{
    (void)user;
    ck_assert_int_eq(lrk_plan_abandon(planned), LRK_OK);
    lrk_plan_destroy(planned);
}

START_TEST(creating_and_planning_unwind_when_any_request_fails)
{
    small_set_open_ranks(&s, 2, (const int64_t[]){4, 2});
    options.n_rounds = 2;
    options.budget = 3;
    sets_each_fault(&s.host, act_create, undo_create, NULL);
    made = create();
    lrk_scores *scores = small_set_scores(&s, (const double[]){1, 2, 3, 4, 5, 6});
    sets_each_fault(&s.host, act_plan, undo_plan, scores);
    lrk_scores_destroy(scores);
    lrk_allocator_destroy(made);
}
END_TEST

typedef struct memory {
    unsigned char bytes[65536];
    size_t n;
} memory;

static memory saved;

static int32_t write_bytes(void *user, const void *data, size_t n)
{
    memory *m = user;
    ck_assert_uint_le(m->n + n, sizeof m->bytes);
    memcpy(m->bytes + m->n, data, n);
    m->n += n;
    return 0;
}

static lrk_checkpoint *list(const small_set *of, lrk_allocator *allocator)
{
    lrk_checkpoint *checkpoint;
    ck_assert_int_eq(lrk_checkpoint_create(of->context, &checkpoint), LRK_OK);
    ck_assert_int_eq(lrk_checkpoint_add_adapters(checkpoint, "main", of->adapters), LRK_OK);
    ck_assert_int_eq(lrk_checkpoint_add_allocator(checkpoint, "main", allocator), LRK_OK);
    return checkpoint;
}

static lrk_status load(const small_set *into, lrk_allocator *allocator)
{
    lrk_reader reader = {.struct_size = sizeof reader};
    lrk_checkpoint_file *file;
    lrk_checkpoint *checkpoint = list(into, allocator);
    ck_assert_int_eq(lrk_reader_memory(&reader, saved.bytes, saved.n), LRK_OK);
    ck_assert_int_eq(lrk_checkpoint_open_reader(into->context, &reader, NULL, &file), LRK_OK);
    lrk_status status = lrk_checkpoint_restore(file, checkpoint, NULL);
    lrk_checkpoint_close(file);
    lrk_checkpoint_destroy(checkpoint);
    return status;
}

static const double scores_of_12[] = {3, 9, 1, 7, 5, 11, 2, 8, 4, 10, 6, 12};

/* A run goes on where it was, in a set that was created as the first one was. */
START_TEST(a_checkpoint_keeps_the_round)
{
    const lrk_writer writer = {.struct_size = sizeof writer, .user = &saved, .write = write_bytes};
    small_set second;
    small_set_open_ranks(&s, 3, (const int64_t[]){4, 4, 4});
    memset(&second, 0, sizeof second);
    small_set_open_ranks(&second, 3, (const int64_t[]){4, 4, 4});
    options.n_rounds = 3;
    options.budget = 3;
    lrk_allocator *allocator = create(), *resumed;
    prune(allocator, scores_of_12);
    ck_assert_int_eq(held(false), 5); /* 3 + 9 (2/3)^3 */
    saved.n = 0;
    lrk_checkpoint *checkpoint = list(&s, allocator);
    ck_assert_int_eq(lrk_checkpoint_write(checkpoint, &writer, NULL), LRK_OK);
    lrk_checkpoint_destroy(checkpoint);

    lrk_prune_options other = options;
    other.n_rounds = 4;
    ck_assert_int_eq(lrk_allocator_create_prune(second.adapters, &other, &resumed), LRK_OK);
    small_set_assert_failed(second.context, load(&second, resumed), LRK_ERR_ARGUMENT, "n_rounds");
    lrk_allocator_destroy(resumed);
    other = options;
    other.multiple = 5;
    ck_assert_int_eq(lrk_allocator_create_prune(second.adapters, &other, &resumed), LRK_OK);
    small_set_assert_failed(second.context, load(&second, resumed), LRK_ERR_ARGUMENT, "budget");
    lrk_allocator_destroy(resumed);

    ck_assert_int_eq(lrk_allocator_create_prune(second.adapters, &options, &resumed), LRK_OK);
    ck_assert_int_eq(load(&second, resumed), LRK_OK);
    ck_assert_uint_eq(sets_digest(s.adapters), sets_digest(second.adapters));
    int64_t n[2];
    ck_assert_int_eq(lrk_allocator_n_move(allocator, &n[0]), LRK_OK);
    ck_assert_int_eq(lrk_allocator_n_move(resumed, &n[1]), LRK_OK);
    ck_assert_int_eq(n[0], n[1]);
    small_set_assert_plan_of(&s, allocator, 3, (const double[]){5, 1, 4, 2, 3}, ". 0 0");
    small_set_assert_plan_of(&second, resumed, 3, (const double[]){5, 1, 4, 2, 3}, ". 0 0");
    lrk_allocator_destroy(allocator);
    lrk_allocator_destroy(resumed);
    small_set_close(&second);
}
END_TEST

Suite *prune_suite(void);

Suite *prune_suite(void)
{
    Suite *suite = suite_create("prune");
    TCase *tcase = tcase_create("prune");
    tcase_add_checked_fixture(tcase, setup, teardown);
    tcase_add_loop_test(tcase, each_round_leaves_what_the_formula_says, 0, 9);
    tcase_add_test(tcase, a_budget_in_parameters_is_met_by_less_than_a_rank);
    tcase_add_test(tcase, a_multiple_speaks_of_a_start_that_is_still_to_come);
    tcase_add_test(tcase, the_lowest_go_in_exact_numbers_and_ties_by_module);
    tcase_add_test(tcase, floors_hold_and_what_they_keep_is_made_up_for_elsewhere);
    tcase_add_test(tcase, protected_ranks_stay_until_their_time);
    tcase_add_test(tcase, options_out_of_range_are_refused);
    tcase_add_test(tcase, floors_above_the_budget_are_refused);
    tcase_add_test(tcase, creating_and_planning_unwind_when_any_request_fails);
    tcase_add_test(tcase, a_checkpoint_keeps_the_round);
    suite_add_tcase(suite, tcase);
    return suite;
}
