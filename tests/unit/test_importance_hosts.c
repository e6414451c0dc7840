/* SPDX-License-Identifier: MIT */
/*
 * Exact AB-LoRA and its host: answers that cannot be used, what a callback may do, what is refused when an estimator is made, and
 * handles given up in any order.
 */
#include <check.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "importance/importance.h"
#include "table.h"

/* ---- hosts that misbehave --------------------------------------------------------------------------------------------------- */

START_TEST(a_loss_that_is_not_finite_names_module_and_rank)
{
    table *t = table_create();
    lrk_estimator *estimator = table_estimator(t, NULL);
    lrk_scores *scores;
    lrk_error_info where = {.struct_size = sizeof where};
    double kept = t->losses[2 + 2 * 5][1];
    t->losses[2 + 2 * 5][1] = INFINITY;
    sets_expect(t->context, lrk_estimator_run(estimator, 0, &scores), LRK_ERR_NONFINITE,
                "inf with all but rank 6 of module 'm2'");
    ck_assert_int_eq(lrk_context_error_info(t->context, &where), LRK_OK);
    ck_assert_int_eq(where.module, 2);
    ck_assert_uint_eq(where.identity, t->identities[5]);
    t->losses[2 + 2 * 5][1] = kept;
    kept = t->losses[3 + 2 * 7][3];
    t->losses[3 + 2 * 7][3] = NAN;
    sets_expect(t->context, lrk_estimator_run(estimator, 0, &scores), LRK_ERR_NONFINITE,
                "nan with only rank 8 of module 'm3'");
    t->losses[3 + 2 * 7][3] = kept;
    scores = table_run(estimator);
    ck_assert_int_eq(table_info(scores).evaluations, 2 * TABLE_RANKS + 2);
    lrk_scores_destroy(scores);
    t->losses[1][0] = -INFINITY;
    sets_expect(t->context, lrk_estimator_run(estimator, 0, &scores), LRK_ERR_NONFINITE, "-inf with no rank");
    ck_assert_int_eq(lrk_context_error_info(t->context, &where), LRK_OK);
    ck_assert_int_eq(where.module, -1);
    lrk_estimator_destroy(estimator);
    table_destroy(t);
}
END_TEST

START_TEST(losses_whose_sum_overflows_are_an_error)
{
    table *t = table_create();
    for (int p = 0; p < TABLE_PARTS; p++)
        t->losses[2 + 2 * 4][p] = 1e308;
    lrk_estimator *estimator = table_estimator(t, NULL);
    lrk_scores *scores;
    sets_expect(t->context, lrk_estimator_run(estimator, 0, &scores), LRK_ERR_NONFINITE, "module 'm1'");
    lrk_estimator_destroy(estimator);
    table_destroy(t);
}
END_TEST

static int32_t fill_nothing(void *user, const lrk_evaluation *evaluations, int32_t n)
{
    (void)user;
    (void)evaluations;
    (void)n;
    return 0;
}

START_TEST(parts_that_nobody_fills_are_an_error)
{
    table *t = table_create();
    lrk_evaluator evaluator = table_evaluator(t);
    evaluator.evaluate = fill_nothing;
    lrk_estimator *estimator;
    lrk_scores *scores;
    ck_assert_int_eq(lrk_estimator_create_ablation(t->adapters, &evaluator, NULL, &estimator), LRK_OK);
    sets_expect(t->context, lrk_estimator_run(estimator, 0, &scores), LRK_ERR_NONFINITE,
                "nan with all ranks");
    lrk_estimator_destroy(estimator);
    table_destroy(t);
}
END_TEST

START_TEST(a_weight_must_be_positive_and_stay)
{
    static const double bad[] = {0, -1, NAN, INFINITY};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        table *t = table_create();
        t->weights[2] = bad[i];
        lrk_estimator *estimator = table_estimator(t, NULL);
        lrk_scores *scores;
        sets_expect(t->context, lrk_estimator_run(estimator, 0, &scores), LRK_ERR_NONFINITE, "a weight is");
        t->weights[2] = 1;
        table_pause_at(t, estimator, 6);
        t->weights[1] = 3;
        sets_expect(t->context, lrk_estimator_run(estimator, 0, &scores), LRK_ERR_HOST,
                    "part 1 of the validation batch weighs 3 now and weighed 2");
        t->weights[1] = 2;
        lrk_scores_destroy(table_run(estimator));
        lrk_estimator_destroy(estimator);
        table_destroy(t);
    }
}
END_TEST

/* ---- what a callback may do -------------------------------------------------------------------------------------------------- */

typedef struct intruder {
    lrk_estimator *self;
    lrk_estimator *other;
    lrk_optimizer *optimizer;
    lrk_allocator *allocator;
    lrk_snapshot *snapshot;
    bool destroy; /* give up the estimator from within */
} intruder;

static void intrude(table *t, const lrk_evaluation *evaluations)
{
    intruder *in = t->during_user;
    lrk_scores *scores;
    lrk_plan *plan;
    double values[TABLE_RANKS] = {0};
    ck_assert_int_eq(lrk_estimator_run(in->other, 0, &scores), LRK_OK); /* whose callback ends before ours */
    lrk_scores_destroy(scores);
    sets_expect(t->context, lrk_estimator_run(in->self, 0, &scores), LRK_ERR_BUSY, "own callbacks");
    ck_assert_int_eq(lrk_optimizer_step(in->optimizer, 0.1), LRK_ERR_BUSY);
    ck_assert_int_eq(lrk_snapshot_restore(in->snapshot, t->adapters), LRK_ERR_BUSY);
    if (evaluations != NULL) ck_assert_int_eq(lrk_adapters_values_changed(t->adapters), LRK_ERR_BUSY);
    lrk_estimator_reset(in->self); /* a running one is left alone */

    ck_assert_int_eq(lrk_scores_create(t->adapters, values, TABLE_RANKS, &scores), LRK_OK);
    ck_assert_int_eq(lrk_allocator_plan(in->allocator, scores, 1, &plan), LRK_ERR_BUSY);
    lrk_scores_destroy(scores);
    ck_assert_int_eq(sets_info(t->adapters).ranks, TABLE_RANKS);
    if (in->destroy) lrk_estimator_destroy(in->self);
    in->destroy = false;
}

static void intrude_progress(table *t)
{
    intrude(t, NULL);
}

static int32_t score_zero(void *user, const uint64_t *identities, double *scores, int64_t n)
{
    (void)user;
    (void)identities;
    for (int64_t i = 0; i < n; i++)
        scores[i] = 0;
    return 0;
}

START_TEST(callbacks_may_read_the_set_and_not_change_it)
{
    table *t = table_create();
    intruder in = {.destroy = true};
    lrk_custom_estimator custom = {.struct_size = sizeof custom, .name = "zero", .score = score_zero};
    ck_assert_int_eq(lrk_estimator_create_custom(t->adapters, &custom, &in.other), LRK_OK);
    ck_assert_int_eq(lrk_allocator_create_fixed(t->adapters, &in.allocator), LRK_OK);
    ck_assert_int_eq(lrk_optimizer_create_adamw(t->adapters, NULL, &in.optimizer), LRK_OK);
    ck_assert_int_eq(lrk_snapshot_create(t->adapters, &in.snapshot), LRK_OK);
    lrk_ablation_options options = table_options(LRK_ABLATION_SCREENED);
    in.self = table_estimator(t, &options);
    t->during = intrude;
    t->during_progress = intrude_progress;
    t->during_user = &in;
    uint64_t before = sets_digest(t->adapters);
    lrk_scores *scores;
    lrk_estimator *estimator = lrki_estimator_ref(in.self);
    ck_assert_int_eq(lrk_estimator_run(estimator, 0, &scores), LRK_OK);
    ck_assert_uint_eq(sets_digest(t->adapters), before);
    ck_assert_int_eq(lrk_snapshot_restore(in.snapshot, t->adapters), LRK_OK); /* free again */
    lrk_scores_destroy(scores);
    lrk_estimator_destroy(estimator);
    lrk_estimator_destroy(in.other);
    lrk_optimizer_destroy(in.optimizer);
    lrk_allocator_destroy(in.allocator);
    lrk_snapshot_destroy(in.snapshot);
    table_destroy(t);
}
END_TEST

START_TEST(no_run_while_a_plan_is_prepared)
{
    table *t = table_create();
    lrk_estimator *estimator = table_estimator(t, NULL);
    lrk_allocator *allocator;
    lrk_plan *plan;
    double values[TABLE_RANKS] = {0};
    lrk_scores *scores;
    ck_assert_int_eq(lrk_allocator_create_fixed(t->adapters, &allocator), LRK_OK);
    ck_assert_int_eq(lrk_scores_create(t->adapters, values, TABLE_RANKS, &scores), LRK_OK);
    ck_assert_int_eq(lrk_allocator_plan(allocator, scores, 1, &plan), LRK_OK);
    lrk_scores_destroy(scores);
    ck_assert_int_eq(lrk_plan_prepare(plan, NULL, 0), LRK_OK);
    sets_expect(t->context, lrk_estimator_run(estimator, 0, &scores), LRK_ERR_BUSY, "prepared");
    ck_assert_int_eq(t->calls, 0);
    lrk_estimator *random;
    ck_assert_int_eq(lrk_estimator_create_random(t->adapters, 1, &random), LRK_OK);
    sets_expect(t->context, lrk_estimator_run(random, 0, &scores), LRK_ERR_BUSY, "prepared");
    lrk_estimator_destroy(random);
    ck_assert_int_eq(lrk_plan_abandon(plan), LRK_OK);
    lrk_scores_destroy(table_run(estimator));
    lrk_plan_destroy(plan);
    lrk_allocator_destroy(allocator);
    lrk_estimator_destroy(estimator);
    table_destroy(t);
}
END_TEST

/* ---- creation ------------------------------------------------------------------------------------------------------------------ */

static void refuse(table *t, const lrk_evaluator *evaluator, const lrk_ablation_options *options,
                   const char *words)
{
    lrk_estimator *estimator = (lrk_estimator *)t;
    sets_expect(t->context, lrk_estimator_create_ablation(t->adapters, evaluator, options, &estimator),
                LRK_ERR_ARGUMENT, words);
    ck_assert_ptr_null(estimator);
}

START_TEST(the_evaluator_is_checked)
{
    table *t = table_create();
    lrk_evaluator good = table_evaluator(t), bad = good;
    lrk_ablation_options exact = table_options(LRK_ABLATION_EXACT);
    lrk_estimator *estimator;
    ck_assert_int_eq(lrk_evaluator_init(NULL, sizeof good), LRK_ERR_ARGUMENT);
    ck_assert_int_eq(lrk_ablation_options_init(NULL, sizeof exact), LRK_ERR_ARGUMENT);
    ck_assert_int_eq(lrk_estimator_create_ablation(NULL, &good, &exact, &estimator), LRK_ERR_ARGUMENT);
    ck_assert_int_eq(lrk_estimator_create_ablation(t->adapters, &good, &exact, NULL), LRK_ERR_ARGUMENT);
    refuse(t, NULL, &exact, "evaluator");
    bad.evaluate = NULL;
    refuse(t, &bad, &exact, "evaluate must");
    bad = good;
    bad.flags = 2;
    refuse(t, &bad, &exact, "flags");
    bad = good;
    bad.max_rows = 0;
    refuse(t, &bad, &exact, "max_rows");
    for (int32_t parts = 0; parts < 4098; parts += 4097) {
        bad = good;
        bad.n_parts = parts;
        refuse(t, &bad, &exact, "n_parts");
    }
    for (int32_t calls = 0; calls < 1026; calls += 1025) {
        bad = good;
        bad.max_per_call = calls;
        refuse(t, &bad, &exact, "max_per_call");
    }
    bad = good;
    bad.struct_size = 4;
    refuse(t, &bad, &exact, "struct_size");
    bad = good;
    bad.differentiate = NULL;
    for (int32_t mode = LRK_ABLATION_SCREENED; mode <= LRK_ABLATION_TWO_POINT; mode++) {
        lrk_ablation_options options = table_options(mode);
        refuse(t, &bad, &options, "differentiate");
    }
    good.n_parts = 4096;
    good.max_per_call = 1024;
    ck_assert_int_eq(lrk_estimator_create_ablation(t->adapters, &good, &exact, &estimator), LRK_OK);
    lrk_estimator_destroy(estimator);
    bad.n_parts = 1;
    ck_assert_int_eq(lrk_estimator_create_ablation(t->adapters, &bad, &exact, &estimator), LRK_OK);
    lrk_estimator_destroy(estimator);
    table_destroy(t);
}
END_TEST

START_TEST(the_options_are_checked)
{
    table *t = table_create();
    lrk_evaluator e = table_evaluator(t);
    lrk_ablation_options good = table_options(LRK_ABLATION_SCREENED), bad;
#define REFUSE(member, value)                                                                                \
    bad = good;                                                                                              \
    bad.member = value;                                                                                      \
    refuse(t, &e, &bad, #member)
    REFUSE(flags, 1);
    REFUSE(mode, 3);
    REFUSE(mode, -1);
    REFUSE(noise_floor_repeats, -1);
    REFUSE(n_cut, 0);
    REFUSE(n_cut, -1);
    REFUSE(pool, 0);
    REFUSE(pool, -2);
    REFUSE(pool_step, 0);
    REFUSE(pool_limit, 0);
    REFUSE(pool_limit, -2);
    good.n_cut = 4;
    REFUSE(pool, 3);
    REFUSE(pool_limit, 3);
    good.pool = 6;
    REFUSE(pool_limit, 5);
    good = table_options(LRK_ABLATION_TWO_POINT);
    REFUSE(noise_floor_repeats, 1);
#undef REFUSE
    struct {
        lrk_ablation_options known;
        uint64_t tail;
    } longer = {.known = table_options(LRK_ABLATION_EXACT), .tail = 1};
    longer.known.struct_size = sizeof longer;
    lrk_estimator *estimator;
    ck_assert_int_eq(lrk_estimator_create_ablation(t->adapters, &e, &longer.known, &estimator),
                     LRK_ERR_VERSION);
    longer.tail = 0;
    ck_assert_int_eq(lrk_estimator_create_ablation(t->adapters, &e, &longer.known, &estimator), LRK_OK);
    lrk_estimator_destroy(estimator);
    table_destroy(t);
}
END_TEST

START_TEST(an_inference_only_set_can_be_scored_exactly_and_not_by_derivatives)
{
    table *t = table_create();
    lrk_adapters *with_gradients = t->adapters;
    lrk_adapters_options options;
    ck_assert_int_eq(lrk_adapters_options_init(&options, sizeof options), LRK_OK);
    options.flags = LRK_ADAPTERS_INFERENCE;
    lrk_module_spec spec = sets_spec("only", 4, 4, 3);
    t->adapters = sets_create(t->context, &spec, 1, &options);
    lrk_evaluator evaluator = table_evaluator(t);
    for (int32_t mode = LRK_ABLATION_SCREENED; mode <= LRK_ABLATION_TWO_POINT; mode++) {
        lrk_ablation_options ablation = table_options(mode);
        lrk_estimator *estimator;
        sets_expect(t->context, lrk_estimator_create_ablation(t->adapters, &evaluator, &ablation, &estimator),
                    LRK_ERR_UNSUPPORTED, "inference-only");
    }
    lrk_estimator *exact = table_estimator(t, NULL);
    lrk_scores *scores = table_run(exact);
    ck_assert_int_eq(table_info(scores).evaluations, 8);
    lrk_scores_destroy(scores);
    lrk_estimator_destroy(exact);
    lrk_adapters_destroy(t->adapters);
    t->adapters = with_gradients;
    table_destroy(t);
}
END_TEST

static int32_t constant(void *user, const lrk_evaluation *evaluations, int32_t n)
{
    (void)user;
    for (int32_t i = 0; i < n; i++)
        evaluations[i].parts[0] = (lrk_loss_part){3, 2};
    return 0;
}

static int32_t constant_too(void *user, const lrk_evaluation *evaluation)
{
    return constant(user, evaluation, 1);
}

START_TEST(a_set_without_ranks_has_two_baselines_and_no_scores)
{
    table *t = table_create();
    lrk_adapters *full = t->adapters;
    lrk_module_spec spec = sets_spec("empty", 4, 4, 0);
    t->adapters = sets_create(t->context, &spec, 1, NULL);
    for (int32_t mode = LRK_ABLATION_EXACT; mode <= LRK_ABLATION_TWO_POINT; mode++) {
        lrk_evaluator evaluator = table_evaluator(t);
        evaluator.n_parts = 1;
        evaluator.evaluate = constant;
        evaluator.differentiate = constant_too;
        lrk_ablation_options options = table_options(mode);
        lrk_estimator *estimator;
        ck_assert_int_eq(lrk_estimator_create_ablation(t->adapters, &evaluator, &options, &estimator),
                         LRK_OK);
        lrk_scores *scores = table_run(estimator);
        ck_assert_int_eq(table_info(scores).n, 0);
        ck_assert_int_eq(table_info(scores).evaluations, mode == LRK_ABLATION_TWO_POINT ? 0 : 2);
        ck_assert_int_eq(table_info(scores).differentiations, mode == LRK_ABLATION_EXACT ? 0 : 2);
        ck_assert_double_eq(table_info(scores).loss_all, 1.5);
        lrk_scores_destroy(scores);
        lrk_estimator_destroy(estimator);
    }
    lrk_adapters_destroy(t->adapters);
    t->adapters = full;
    table_destroy(t);
}
END_TEST

START_TEST(handles_may_be_given_up_in_any_order)
{
    table *t = table_create();
    lrk_estimator *estimator = table_estimator(t, NULL);
    lrk_adapters_destroy(t->adapters);
    lrk_context_destroy(t->context);
    lrk_scores *scores;
    ck_assert_int_eq(lrk_estimator_run(estimator, 0, &scores), LRK_OK);
    lrk_estimator_destroy(estimator);
    ck_assert_int_eq(table_info(scores).n, TABLE_RANKS);
    lrk_scores_destroy(scores);
    ck_assert_int_eq(t->fault.live, 0);
    free(t);
}
END_TEST

Suite *importance_hosts_suite(void);

Suite *importance_hosts_suite(void)
{
    Suite *suite = suite_create("importance_hosts");
    TCase *host = tcase_create("host");
    tcase_add_test(host, a_loss_that_is_not_finite_names_module_and_rank);
    tcase_add_test(host, losses_whose_sum_overflows_are_an_error);
    tcase_add_test(host, parts_that_nobody_fills_are_an_error);
    tcase_add_test(host, a_weight_must_be_positive_and_stay);
    tcase_add_test(host, callbacks_may_read_the_set_and_not_change_it);
    tcase_add_test(host, no_run_while_a_plan_is_prepared);
    tcase_add_test(host, the_evaluator_is_checked);
    tcase_add_test(host, the_options_are_checked);
    tcase_add_test(host, an_inference_only_set_can_be_scored_exactly_and_not_by_derivatives);
    tcase_add_test(host, a_set_without_ranks_has_two_baselines_and_no_scores);
    tcase_add_test(host, handles_may_be_given_up_in_any_order);
    suite_add_tcase(suite, host);
    return suite;
}
