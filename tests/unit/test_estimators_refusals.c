/* SPDX-License-Identifier: MIT */
/* Estimators that observe steps or read parameters: what they refuse, and every lack of memory. */
#include <check.h>
#include <math.h>

#include "observed.h"
#include "sets.h"

/* ---- refusals -------------------------------------------------------------------------------------------------------------- */

START_TEST(what_is_out_of_range_is_refused_by_name)
{
    static const struct {
        uint32_t flags;
        int32_t form;
        double beta1, beta2;
        const char *words;
    } wrong[] = {
        {2, 0, 0.5, 0.5, "flags has unknown bits: 0x2"}, {0, 2, 0.5, 0.5, "form 2 is unknown"},
        {0, -1, 0.5, 0.5, "form -1 is unknown"},         {0, 0, 1, 0.5, "beta1 must be in [0, 1)"},
        {0, 0, -0.1, 0.5, "beta1 must be in [0, 1)"},    {0, 0, NAN, 0.5, "beta1 must be in [0, 1)"},
        {0, 0, 0.5, 1, "beta2 must be in [0, 1)"},       {0, 0, 0.5, NAN, "beta2 must be in [0, 1)"}};
    small_set s;
    small_set_open(&s, observed_shapes, 3, NULL);
    lrk_estimator *e = (lrk_estimator *)&s;
    lrk_sensitivity_options options;
    lrk_sensitivity_options_init(&options, sizeof options);
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        options.flags = wrong[i].flags;
        options.form = wrong[i].form;
        options.beta1 = wrong[i].beta1;
        options.beta2 = wrong[i].beta2;
        small_set_assert_failed(s.context, lrk_estimator_create_sensitivity(s.adapters, &options, &e),
                                LRK_ERR_ARGUMENT, wrong[i].words);
        ck_assert_ptr_null(e);
    }
    lrk_taylor_options by_taylor;
    lrk_taylor_options_init(&by_taylor, sizeof by_taylor);
    by_taylor.form = 2;
    small_set_assert_failed(s.context, lrk_estimator_create_taylor(s.adapters, &by_taylor, &e),
                            LRK_ERR_ARGUMENT, "form 2 is unknown");
    by_taylor.form = 0;
    by_taylor.flags = 1;
    small_set_assert_failed(s.context, lrk_estimator_create_taylor(s.adapters, &by_taylor, &e),
                            LRK_ERR_ARGUMENT, "flags has unknown bits: 0x1");
    small_set_assert_failed(s.context, lrk_estimator_create_magnitude(s.adapters, NULL), LRK_ERR_ARGUMENT,
                            "magnitude estimator: estimator must not be NULL");
    small_set_assert_failed(s.context, lrk_estimator_create_gate(s.adapters, NULL), LRK_ERR_ARGUMENT,
                            "gate estimator: estimator must not be NULL");
    ck_assert_int_eq(lrk_estimator_create_reversed(NULL, &e), LRK_ERR_ARGUMENT);
    ck_assert_int_eq(lrk_estimator_create_gate(NULL, &e), LRK_ERR_ARGUMENT);
    ck_assert_int_eq(lrk_estimator_observe(NULL), LRK_ERR_ARGUMENT);
    small_set_close(&s);
}
END_TEST

START_TEST(an_inference_only_set_has_nothing_to_observe)
{
    small_set s;
    lrk_adapters_options options;
    lrk_adapters_options_init(&options, sizeof options);
    options.flags = LRK_ADAPTERS_INFERENCE;
    small_set_open(&s, observed_shapes, 3, &options);
    lrk_estimator *e;
    small_set_assert_failed(s.context, lrk_estimator_create_sensitivity(s.adapters, NULL, &e),
                            LRK_ERR_UNSUPPORTED, "sensitivity estimator: an inference-only set");
    small_set_assert_failed(s.context, lrk_estimator_create_taylor(s.adapters, NULL, &e), LRK_ERR_UNSUPPORTED,
                            "Taylor estimator: an inference-only set");
    ck_assert_int_eq(lrk_estimator_create_magnitude(s.adapters, &e), LRK_OK);
    ck_assert_int_eq(lrk_estimator_observe(e), LRK_OK);
    lrk_estimator_destroy(e);
    small_set_close(&s);
}
END_TEST

START_TEST(gradients_that_cannot_be_observed_leave_the_averages)
{
    small_set s;
    uint64_t random = 5;
    small_set_open(&s, observed_shapes, 3, NULL);
    observed_fill(&s, &random);
    lrk_estimator *e = observed_sensitivity(&s, LRK_SENSITIVITY_TRIPLET, 0, 0.85, 0.85),
                  *t = observed_taylor(&s, 0);
    lrk_scores *scores;
    small_set_assert_failed(s.context, lrk_estimator_run(e, 0, &scores), LRK_ERR_STATE,
                            "sensitivity estimator: no gradient of a live rank was observed yet");
    small_set_assert_failed(s.context, lrk_estimator_run(t, 0, &scores), LRK_ERR_STATE,
                            "Taylor estimator: no gradient of a live rank was observed yet");
    small_set_assert_failed(s.context, lrk_estimator_observe(e), LRK_ERR_NO_GRADIENT,
                            "estimator: module 'm0' has no gradient to observe");
    small_set_write_gradients(&s, &random);
    small_set_tensor(&s, 1, LRK_TENSOR_GRAD_B).data[2] = INFINITY;
    small_set_assert_failed(s.context, lrk_estimator_observe(e), LRK_ERR_NONFINITE,
                            "estimator: a gradient of B of module 'm1' is not finite");
    small_set_tensor(&s, 1, LRK_TENSOR_GRAD_A).data[0] = NAN;
    small_set_assert_failed(s.context, lrk_estimator_observe(e), LRK_ERR_NONFINITE,
                            "estimator: a gradient of A of module 'm1' is not finite");
    ck_assert_int_eq(lrk_estimator_run(e, 0, &scores), LRK_ERR_STATE);
    small_set_write_gradients(&s, &random);
    ck_assert_int_eq(lrk_estimator_observe(e), LRK_OK);
    small_set_tensor(&s, 2, LRK_TENSOR_A).data[0] =
        NAN; /* a parameter, which nothing checks before the score */
    ck_assert_int_eq(lrk_estimator_observe(e), LRK_OK);
    small_set_assert_failed(s.context, lrk_estimator_run(e, 0, &scores), LRK_ERR_NONFINITE, "module 'm2'");
    lrk_estimator_destroy(e);
    lrk_estimator_destroy(t);
    small_set_close(&s);
}
END_TEST

/* ---- lack of memory --------------------------------------------------------------------------------------------------------- */

static lrk_status create_each(void *user)
{
    small_set *s = user;
    lrk_estimator *made[5] = {NULL};
    lrk_status status = lrk_estimator_create_sensitivity(s->adapters, NULL, &made[0]);
    if (status == LRK_OK) status = lrk_estimator_create_taylor(s->adapters, NULL, &made[1]);
    if (status == LRK_OK) status = lrk_estimator_create_magnitude(s->adapters, &made[2]);
    if (status == LRK_OK) status = lrk_estimator_create_gate(s->adapters, &made[3]);
    if (status == LRK_OK) status = lrk_estimator_create_reversed(made[3], &made[4]);
    for (int e = 0; e < 4 && status == LRK_OK; e++) {
        lrk_scores *scores;
        uint64_t random = 3;
        if (e == 0) small_set_write_gradients(s, &random);
        status = lrk_estimator_observe(made[e]);
        if (status == LRK_OK) status = lrk_estimator_run(e == 3 ? made[4] : made[e], 0, &scores);
        if (status == LRK_OK) lrk_scores_destroy(scores);
    }
    for (int e = 0; e < 5; e++)
        lrk_estimator_destroy(made[e]);
    return status;
}

static void nothing(void *user)
{
    (void)user;
}

START_TEST(every_lack_of_memory_is_reported_and_leaks_nothing)
{
    small_set s;
    uint64_t random = 5;
    small_set_open(&s, observed_shapes, 3, NULL);
    observed_fill(&s, &random);
    sets_each_fault(&s.host, create_each, nothing, &s);
    small_set_close(&s);
}
END_TEST

START_TEST(a_step_whose_estimator_lacks_memory_is_not_taken)
{
    small_set s;
    uint64_t random = 5;
    small_set_open(&s, observed_shapes, 3, NULL);
    observed_fill(&s, &random);
    lrk_estimator *first = observed_taylor(&s, LRK_TAYLOR_SIGNED),
                  *second = observed_taylor(&s, LRK_TAYLOR_SIGNED);
    lrk_optimizer *optimizer;
    ck_assert_int_eq(lrk_optimizer_create_adamw(s.adapters, NULL, &optimizer), LRK_OK);
    small_set_write_gradients(&s, &random);
    float before = small_set_tensor(&s, 0, LRK_TENSOR_A).data[0];
    int64_t failed = 0;
    for (lrk_status status = LRK_ERR_NOMEM; status != LRK_OK; failed++) {
        s.host.alloc.calls = 0;
        s.host.alloc.fail_at = failed;
        status = lrk_optimizer_step(optimizer, 0.01);
        s.host.alloc.fail_at = -1;
        ck_assert(status == LRK_OK || status == LRK_ERR_NOMEM);
        if (status != LRK_OK) ck_assert_float_eq(small_set_tensor(&s, 0, LRK_TENSOR_A).data[0], before);
    }
    ck_assert_int_gt(failed, 10);
    lrk_scores *a = observed_scores(first), *b = observed_scores(second);
    for (int64_t i = 0; i < 6; i++) /* observed once each */
        ck_assert_double_eq(observed_score(a, i).score, observed_score(b, i).score);
    lrk_scores_destroy(a);
    lrk_scores_destroy(b);
    lrk_optimizer_destroy(optimizer);
    lrk_estimator_destroy(second);
    lrk_estimator_destroy(first);
    small_set_close(&s);
}
END_TEST

Suite *estimators_refusals_suite(void)
{
    Suite *suite = suite_create("estimators_refusals");
    TCase *tests = tcase_create("estimators_refusals");
    tcase_add_test(tests, what_is_out_of_range_is_refused_by_name);
    tcase_add_test(tests, an_inference_only_set_has_nothing_to_observe);
    tcase_add_test(tests, gradients_that_cannot_be_observed_leave_the_averages);
    tcase_add_test(tests, every_lack_of_memory_is_reported_and_leaks_nothing);
    tcase_add_test(tests, a_step_whose_estimator_lacks_memory_is_not_taken);
    suite_add_tcase(suite, tests);
    return suite;
}
