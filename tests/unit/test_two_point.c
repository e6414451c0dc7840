/* SPDX-License-Identifier: MIT */
/*
 * Two-point scoring: minus the mask derivatives at both ends, modules that no backward reaches, derivatives that are not
 * finite.
 */
#include <check.h>
#include <math.h>

#include "table.h"

START_TEST(two_point_scores_are_minus_the_derivatives_at_both_ends)
{
    table *t = table_create();
    table_set(t, 0, 2.0);
    table_set(t, 1, 5.0);
    for (int i = 0; i < TABLE_RANKS; i++) {
        t->gradient[LRK_BASELINE_ALL][i] = 0.25 * i - 1;
        t->gradient[LRK_BASELINE_NONE][i] = 0.5 - i;
    }
    lrk_ablation_options options = table_options(LRK_ABLATION_TWO_POINT);
    lrk_estimator *estimator = table_estimator(t, &options);
    lrk_estimate cost = {.struct_size = sizeof cost};
    ck_assert_int_eq(lrk_estimator_estimate(estimator, &cost), LRK_OK);
    ck_assert_int_eq(cost.evaluations, 0);
    ck_assert_int_eq(cost.evaluations_most, 0);
    ck_assert_int_eq(cost.differentiations, 2);
    lrk_scores *scores = table_run(estimator);
    for (int i = 0; i < TABLE_RANKS; i++) {
        lrk_score s = table_score(scores, i);
        ck_assert_double_eq(s.t1, 1 - 0.25 * i);
        ck_assert_double_eq(s.t2, i - 0.5);
        ck_assert_double_eq(s.score, 0.5 + 0.75 * i);
        ck_assert_double_eq(s.estimate, s.score);
        ck_assert(isnan(s.noise));
        ck_assert_uint_eq(s.flags, 0);
    }
    lrk_scores_info info = table_info(scores);
    ck_assert_str_eq(info.estimator, "ablation.two_point");
    ck_assert_double_eq(info.loss_all, 2);
    ck_assert_double_eq(info.loss_none, 5);
    ck_assert_int_eq(info.n_exact, 0);
    ck_assert_int_eq(info.evaluations, 0);
    ck_assert_int_eq(info.differentiations, 2);
    ck_assert(isnan(info.split_correlation) && isnan(info.noise_floor));
    ck_assert_int_eq(t->n_log, 2);
    for (int i = 0; i < 2; i++) {
        ck_assert_int_eq(t->log[i].kind, 'D');
        ck_assert_int_eq(t->log[i].baseline, i == 0 ? LRK_BASELINE_ALL : LRK_BASELINE_NONE);
        ck_assert_int_eq(t->log[i].first_stage, LRK_NO_STAGE);
        ck_assert_int_eq(t->log[i].index, i);
        ck_assert_uint_eq(t->log[i].identity, 0);
    }
    lrk_scores_destroy(scores);
    lrk_estimator_destroy(estimator);
    table_destroy(t);
}
END_TEST

START_TEST(a_module_that_backward_does_not_reach_is_an_error)
{
    table *t = table_create();
    lrk_ablation_options options = table_options(LRK_ABLATION_TWO_POINT);
    lrk_estimator *estimator = table_estimator(t, &options);
    lrk_scores *scores;
    t->skip_module = 1;
    sets_expect(t->context, lrk_estimator_run(estimator, 0, &scores), LRK_ERR_NO_GRADIENT,
                "no backward of module 'm1'");
    t->skip_module = 4; /* has no ranks */
    lrk_scores_destroy(table_run(estimator));
    lrk_estimator_destroy(estimator);
    table_destroy(t);
}
END_TEST

static int32_t losses_only(void *user, const lrk_evaluation *e)
{
    (void)user;
    e->parts[0] = (lrk_loss_part){1, 1};
    return 0;
}

START_TEST(a_module_that_may_lack_a_gradient_is_then_estimated_as_zero)
{
    table *t = table_create();
    lrk_adapters *full = t->adapters;
    lrk_module_spec spec = sets_spec("expert", 4, 4, 2);
    spec.flags = LRK_MODULE_MAY_LACK_GRADIENT;
    t->adapters = sets_create(t->context, &spec, 1, NULL);
    lrk_evaluator evaluator = table_evaluator(t);
    evaluator.n_parts = 1;
    evaluator.differentiate = losses_only;
    lrk_ablation_options options = table_options(LRK_ABLATION_TWO_POINT);
    lrk_estimator *estimator;
    ck_assert_int_eq(lrk_estimator_create_ablation(t->adapters, &evaluator, &options, &estimator), LRK_OK);
    lrk_scores *scores = table_run(estimator);
    ck_assert_double_eq(table_score(scores, 1).score, 0);
    lrk_scores_destroy(scores);
    lrk_estimator_destroy(estimator);
    lrk_adapters_destroy(t->adapters);
    t->adapters = full;
    table_destroy(t);
}
END_TEST

START_TEST(a_derivative_that_is_not_finite_names_the_rank)
{
    table *t = table_create();
    lrk_ablation_options options = table_options(LRK_ABLATION_SCREENED);
    lrk_estimator *estimator = table_estimator(t, &options);
    lrk_scores *scores;
    t->gradient[LRK_BASELINE_NONE][6] = INFINITY;
    sets_expect(t->context, lrk_estimator_run(estimator, 0, &scores), LRK_ERR_NONFINITE,
                "rank 7 of module 'm3'");
    lrk_error_info where = {.struct_size = sizeof where};
    ck_assert_int_eq(lrk_context_error_info(t->context, &where), LRK_OK);
    ck_assert_int_eq(where.module, 3);
    ck_assert_uint_eq(where.identity, t->identities[6]);
    t->gradient[LRK_BASELINE_NONE][6] = 0;
    t->losses[1][1] = NAN;
    sets_expect(t->context, lrk_estimator_run(estimator, 0, &scores), LRK_ERR_NONFINITE, "nan with no rank");
    lrk_estimator_destroy(estimator);
    table_destroy(t);
}
END_TEST

Suite *two_point_suite(void);

Suite *two_point_suite(void)
{
    Suite *suite = suite_create("two_point");
    TCase *two = tcase_create("two-point");
    tcase_add_test(two, two_point_scores_are_minus_the_derivatives_at_both_ends);
    tcase_add_test(two, a_module_that_backward_does_not_reach_is_an_error);
    tcase_add_test(two, a_module_that_may_lack_a_gradient_is_then_estimated_as_zero);
    tcase_add_test(two, a_derivative_that_is_not_finite_names_the_rank);
    suite_add_tcase(suite, two);
    return suite;
}
