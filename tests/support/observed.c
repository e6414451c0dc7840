/* SPDX-License-Identifier: MIT */
/* Sets and estimators for tests of what estimators observe (observed.h). */
#include "observed.h"

#include <check.h>

const small_module observed_shapes[3] = {{.n_in = 5, .n_out = 3, .rank = 2},
                                         {.n_in = 4, .n_out = 6, .rank = 3},
                                         {.n_in = 7, .n_out = 2, .rank = 1}};

void observed_fill(const small_set *s, uint64_t *random)
{
    for (int32_t m = 0; m < 3; m++)
        for (int32_t which = LRK_TENSOR_A; which <= LRK_TENSOR_GATES; which++) {
            lrk_tensor t = small_set_tensor(s, m, which);
            for (int64_t i = 0; i < t.rows * t.cols; i++)
                t.data[i] = (float)small_random_real(random);
        }
    ck_assert_int_eq(lrk_adapters_values_changed(s->adapters), LRK_OK);
}

lrk_scores *observed_scores(lrk_estimator *estimator)
{
    lrk_scores *scores;
    ck_assert_int_eq(lrk_estimator_run(estimator, 0, &scores), LRK_OK);
    return scores;
}

lrk_score observed_score(const lrk_scores *scores, int64_t i)
{
    lrk_score score = {.struct_size = sizeof score};
    ck_assert_int_eq(lrk_scores_get(scores, i, &score), LRK_OK);
    return score;
}

lrk_estimator *observed_sensitivity(const small_set *s, int32_t form, uint32_t flags, double b1, double b2)
{
    lrk_sensitivity_options options;
    lrk_estimator *made;
    ck_assert_int_eq(lrk_sensitivity_options_init(&options, sizeof options), LRK_OK);
    ck_assert_double_eq(options.beta1, 0.85);
    ck_assert_double_eq(options.beta2, 0.85);
    options.form = form;
    options.flags = flags;
    options.beta1 = b1;
    options.beta2 = b2;
    ck_assert_int_eq(lrk_estimator_create_sensitivity(s->adapters, &options, &made), LRK_OK);
    return made;
}

lrk_estimator *observed_taylor(const small_set *s, int32_t form)
{
    lrk_taylor_options options;
    lrk_estimator *made;
    ck_assert_int_eq(lrk_taylor_options_init(&options, sizeof options), LRK_OK);
    options.form = form;
    ck_assert_int_eq(lrk_estimator_create_taylor(s->adapters, &options, &made), LRK_OK);
    return made;
}
