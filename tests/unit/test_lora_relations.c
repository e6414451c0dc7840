/* SPDX-License-Identifier: MIT */
/*
 * Relations between passes that must hold: scaling, splitting, permuting, grouping, keeping; what masks and dropout
 * leave out; what is not computed when it is not asked for.
 */
#include <check.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "fault.h"
#include "trial.h"

Suite *lora_relations_suite(void);

static fault f;
static lrk_context *counted;

static void setup(void)
{
    fault_reset(&f);
    counted = fault_context(&f);
}

static void teardown(void)
{
    lrk_context_destroy(counted);
    ck_assert_int_eq(f.live, 0);
    ck_assert(!f.bad_release);
}

/* False if the processor lacks the kernels; else `counted` has them. */
static bool use_kernels(int32_t kernels)
{
    if (lrki_skinny_find(kernels) == NULL) return false;
    lrk_context_destroy(counted);
    f.kernels = kernels;
    counted = fault_context(&f);
    return true;
}

/* ---- relations ------------------------------------------------------------------------------------------------------------ */

START_TEST(doubling_the_input_doubles_the_update)
{
    if (!use_kernels(_i)) return;
    trial t = group_trial(counted, 50);
    t.dropout = 0.2;
    run one = trial_begin(&t, 0), two = trial_begin(&t, 0);
    for (int64_t k = 0; k < t.rows * two.x.ld; k++)
        two.x.data[k] *= 2.0f;
    for (int32_t i = 0; i < t.n; i++) {
        memset(one.y[i].data, 0, (size_t)(t.rows * one.y[i].ld) * sizeof(float));
        memset(two.y[i].data, 0, (size_t)(t.rows * two.y[i].ld) * sizeof(float));
    }
    trial_forward(&t, &one);
    trial_forward(&t, &two);
    for (int32_t i = 0; i < t.n; i++)
        for (int64_t k = 0; k < t.rows * one.y[i].ld; k++)
            ck_assert_float_eq(2.0f * one.y[i].data[k],
                               two.y[i].data[k]); /* a power of two commutes with rounding */
    trial_end(&t, &one);
    trial_end(&t, &two);
}
END_TEST

/* The counting host's GEMM computes each row for itself, so that rows may be split without changing a bit. */
START_TEST(splitting_rows_changes_nothing_in_y_and_dx)
{
    trial t = group_trial(counted, 90);
    t.dropout = 0.2;
    run whole = trial_begin(&t, 0);
    trial_forward(&t, &whole);
    trial_backward(&t, &whole, true);
    for (int64_t first = 0, rows; first < 90; first += rows) {
        rows = first == 0 ? 37 : 53;
        trial part = t;
        part.rows = rows;
        part.first_row = t.first_row + first;
        run r = trial_begin(&part, 0);
        for (int64_t i = 0; i < rows; i++) {
            memcpy(r.x.data + i * r.x.ld, whole.x.data + (first + i) * whole.x.ld, 19 * sizeof(float));
            memcpy(r.dx.data + i * r.dx.ld, whole.dx_before.data + (first + i) * whole.dx.ld,
                   19 * sizeof(float));
            for (int32_t m = 0; m < t.n; m++) {
                size_t bytes = (size_t)t.shapes[m].n_out * sizeof(float);
                memcpy(r.y[m].data + i * r.y[m].ld, whole.y_before[m].data + (first + i) * whole.y[m].ld,
                       bytes);
                memcpy(r.dy[m].data + i * r.dy[m].ld, whole.dy[m].data + (first + i) * whole.dy[m].ld, bytes);
            }
        }
        trial_forward(&part, &r);
        trial_backward(&part, &r, true);
        for (int64_t i = 0; i < rows; i++) {
            ck_assert_mem_eq(r.dx.data + i * r.dx.ld, whole.dx.data + (first + i) * whole.dx.ld,
                             19 * sizeof(float));
            for (int32_t m = 0; m < t.n; m++)
                ck_assert_mem_eq(r.y[m].data + i * r.y[m].ld, whole.y[m].data + (first + i) * whole.y[m].ld,
                                 (size_t)t.shapes[m].n_out * sizeof(float));
        }
        trial_end(&part, &r);
    }
    trial_end(&t, &whole);
}
END_TEST

static void swap_rows(float *data, int64_t a, int64_t b, int64_t cols)
{
    for (int64_t k = 0; k < cols; k++) {
        float v = data[a * cols + k];
        data[a * cols + k] = data[b * cols + k];
        data[b * cols + k] = v;
    }
}

START_TEST(permuting_ranks_permutes_gradients_and_nothing_else)
{
    if (!use_kernels(_i)) return;
    trial t = {.context = counted,
               .rows = 25,
               .n = 1,
               .shapes = {{21, 18, 6, LRK_NO_GROUP, 0, 1.0}},
               .backwards = 1};
    run r = trial_begin(&t, EVERY), p = trial_begin(&t, EVERY);
    lrki_bank *bank = &p.set->modules[0].bank;
    swap_rows(bank->a, 1, 4, 21);
    swap_rows(bank->b, 1, 4, 18);
    swap_rows(bank->gates, 1, 4, 1);
    trial_forward(&t, &r);
    trial_forward(&t, &p);
    check_forward(&t, &r);
    check_forward(&t, &p); /* both within the bound of the same sum */
    trial_backward(&t, &r, true);
    trial_backward(&t, &p, true);
    lrk_tensor a = {.struct_size = sizeof a}, b = a;
    ck_assert_int_eq(lrk_sink_tensor(r.sink, 0, LRK_TENSOR_GRAD_A, &a), LRK_OK);
    ck_assert_int_eq(lrk_sink_tensor(p.sink, 0, LRK_TENSOR_GRAD_A, &b), LRK_OK);
    double scale = 0.0;
    for (int64_t k = 0; k < 6 * 21; k++)
        scale = fmax(scale, fabs((double)a.data[k]));
    swap_rows(b.data, 1, 4, 21);
    /* every factor is at most 1.5 in size: P 18, D 1.5 P, summed over 33 rows */
    double bound = 2.0 * oracle_gamma(18 + 33 + 8) * 33.0 * 18.0 * 1.5;
    for (int64_t k = 0; k < 6 * 21; k++)
        ck_assert_double_le(fabs((double)a.data[k] - (double)b.data[k]), bound);
    ck_assert_double_gt(scale, 100.0 * bound);
    trial_end(&t, &r);
    trial_end(&t, &p);
}
END_TEST

START_TEST(a_group_equals_its_modules_one_by_one)
{
    trial t = group_trial(counted, 60);
    t.dropout = _i ? 0.3 : 0.0;
    t.saved = _i;
    run together = trial_begin(&t, EVERY), apart = trial_begin(&t, EVERY);
    trial_forward(&t, &together);
    trial_backward(&t, &together, true);
    for (int32_t i = 0; i < t.n; i++) {
        lrk_matrix x = padded_view(&apart.x), dy = padded_view(&apart.dy[i]);
        lrk_matrix_mut y = padded_mut(&apart.y[i]), dx = padded_mut(&apart.dx);
        ck_assert_int_eq(lrk_forward(apart.pass, &i, 1, &x, &y, NULL, 0), LRK_OK);
        ck_assert_int_eq(lrk_backward(apart.pass, &i, 1, &x, NULL, 0, &dy, &dx), LRK_OK);
        ck_assert(padded_same(&together.y[i], &apart.y[i]));
    }
    if (t.dropout == 0.0)
        ck_assert(padded_same(&together.dx, &apart.dx)); /* with dropout the sum is masked once */
    ck_assert_mem_eq(together.sink->values, apart.sink->values,
                     (size_t)together.sink->offsets[t.n] * sizeof(float));
    ck_assert_mem_eq(together.sink->mask_gradients, apart.sink->mask_gradients, 8 * sizeof(double));
    trial_end(&t, &together);
    trial_end(&t, &apart);
}
END_TEST

/* _i: kernels, then rows */
START_TEST(saved_activations_change_no_bit)
{
    static const int64_t rows[] = {3, 50, 140};
    if (!use_kernels(_i % N_KERNELS)) return;
    trial t = group_trial(counted, rows[_i / N_KERNELS]);
    t.dropout = 0.3;
    t.mask = LRKI_MASK_WITHOUT;
    run computed = trial_begin(&t, EVERY);
    trial_forward(&t, &computed);
    trial_backward(&t, &computed, true);
    t.saved = true;
    run kept = trial_begin(&t, EVERY);
    trial_forward(&t, &kept);
    trial_backward(&t, &kept, true);
    ck_assert(padded_same(&computed.dx, &kept.dx));
    ck_assert_mem_eq(computed.sink->values, kept.sink->values,
                     (size_t)kept.sink->offsets[t.n] * sizeof(float));
    ck_assert_mem_eq(computed.sink->mask_gradients, kept.sink->mask_gradients, 8 * sizeof(double));
    trial_end(&t, &computed);
    trial_end(&t, &kept);
}
END_TEST

START_TEST(the_sets_own_gradients_equal_a_sinks)
{
    if (!use_kernels(_i)) return;
    trial t = group_trial(counted, 70);
    run r = trial_begin(&t, LRK_GRAD_PARAMETERS | LRK_GRAD_GATES);
    trial_forward(&t, &r);
    trial_backward(&t, &r, true);
    lrk_pass_options options = pass_options(70);
    options.gradients = LRK_GRAD_PARAMETERS | LRK_GRAD_GATES;
    options.nonce = t.nonce;
    lrk_pass *own = pass_open(r.set, options);
    lrk_matrix x = padded_view(&r.x), dy[3];
    for (int32_t i = 0; i < 3; i++)
        dy[i] = padded_view(&r.dy[i]);
    ck_assert(!r.set->modules[0].has_gradient);
    ck_assert_int_eq(lrk_backward(own, r.modules, 3, &x, NULL, 0, dy, NULL), LRK_OK);
    lrk_pass_end(own);
    for (int32_t i = 0; i < 3; i++) {
        ck_assert(r.set->modules[i].has_gradient); /* rank 0 counts too */
        for (int32_t which = LRK_TENSOR_GRAD_A; which <= LRK_TENSOR_GRAD_GATES; which++) {
            lrk_tensor mine = set_tensor(r.set, i, which), sinks = {.struct_size = sizeof sinks};
            ck_assert_int_eq(lrk_sink_tensor(r.sink, i, which, &sinks), LRK_OK);
            ck_assert_int_eq(sinks.rows, mine.rows);
            ck_assert_int_eq(sinks.cols, mine.cols);
            if (mine.rows > 0)
                ck_assert_mem_eq(mine.data, sinks.data, (size_t)(mine.rows * mine.cols) * sizeof(float));
        }
    }
    trial_end(&t, &r);
}
END_TEST

/* ---- masks: what takes no part ---------------------------------------------------------------------------------------------- */

START_TEST(a_silent_module_costs_nothing_and_stays_untouched)
{
    if (!use_kernels(_i)) return;
    trial t = group_trial(counted, 30);
    t.mask = LRKI_MASK_NONE;
    run r = trial_begin(&t, LRK_GRAD_PARAMETERS);
    r.x.data[5] = NAN;
    trial_forward(&t, &r);
    trial_backward(&t, &r, true);
    for (int32_t i = 0; i < t.n; i++)
        ck_assert(padded_same(&r.y[i], &r.y_before[i]));
    ck_assert(padded_same(&r.dx, &r.dx_before));
    ck_assert_int_eq(f.gemm.calls, 0);
    ck_assert_int_eq(f.loop.calls, 0);
    for (int64_t k = 0; k < r.sink->offsets[t.n]; k++)
        ck_assert_float_eq(r.sink->values[k], 0.0f);
    trial_end(&t, &r);
}
END_TEST

/* The counting host's GEMM gives an element the same bits whatever stands beside it. */
START_TEST(only_one_rank_derives_into_its_own_rows)
{
    trial t = group_trial(counted, 30);
    t.mask = LRKI_MASK_ONLY; /* identity 2: rank 1 of module 0 */
    run all = trial_begin(&t, EVERY), alone = trial_begin(&t, LRK_GRAD_PARAMETERS);
    trial_backward(&t, &all, true);
    trial_backward(&t, &alone, true);
    for (int32_t which = LRK_TENSOR_GRAD_A; which <= LRK_TENSOR_GRAD_B; which++) {
        lrk_tensor a = {.struct_size = sizeof a}, b = a;
        ck_assert_int_eq(lrk_sink_tensor(all.sink, 0, which, &a), LRK_OK);
        ck_assert_int_eq(lrk_sink_tensor(alone.sink, 0, which, &b), LRK_OK);
        for (int64_t k = 0; k < a.rows * a.cols; k++) {
            ck_assert_float_eq(a.data[k], b.data[k]);
            ck_assert((b.data[k] != 0.0f) == (k / a.cols == 1));
        }
    }
    trial_end(&t, &all);
    trial_end(&t, &alone);
}
END_TEST

START_TEST(group_zero_shares_its_dropout_like_any_other)
{
    if (!use_kernels(_i)) return;
    trial t = group_trial(counted, 30);
    t.dropout = 0.3;
    for (int32_t i = 0; i < t.n; i++)
        t.shapes[i].group = 0;
    check_trial(&t);
}
END_TEST

START_TEST(only_one_rank_costs_one_rank)
{
    trial t = group_trial(counted, 30);
    t.mask = LRKI_MASK_ONLY;
    run r = trial_begin(&t, LRK_GRAD_PARAMETERS);
    trial_forward(&t, &r);
    ck_assert_int_eq(f.multiply_adds, 30 * (19 + 40));
    f.multiply_adds = 0;
    trial_backward(&t, &r, true); /* H, P, dx, dA, dB */
    ck_assert_int_eq(f.multiply_adds, 30 * (3 * 19 + 2 * 40));
    ck_assert(padded_same(&r.y[2], &r.y_before[2]));
    trial_end(&t, &r);
}
END_TEST

START_TEST(what_is_not_asked_for_is_not_computed)
{
    trial t = group_trial(counted, 30);
    run r = trial_begin(&t, 0);
    trial_backward(&t, &r, true); /* P and dx alone */
    ck_assert_int_eq(f.multiply_adds, 30 * (5 * (40 + 19) + 3 * (150 + 19)));
    f.multiply_adds = 0;
    trial_backward(&t, &r, false);
    ck_assert_int_eq(f.multiply_adds, 0);
    trial_end(&t, &r);

    f.multiply_adds = 0;
    r = trial_begin(&t, LRK_GRAD_MASK);
    trial_backward(&t, &r, false); /* H and P */
    ck_assert_int_eq(f.multiply_adds, 30 * (5 * (40 + 19) + 3 * (150 + 19)));
    lrk_pass_end(r.pass);
    r.pass = NULL;
    ck_assert_int_eq(lrk_sink_accumulate(r.sink, 1.0),
                     LRK_OK); /* mask derivatives are no gradient of the set */
    ck_assert(!r.set->modules[0].has_gradient);
    trial_end(&t, &r);
}
END_TEST

START_TEST(a_silent_forward_that_saves_computes_h_alone)
{
    trial t = group_trial(counted, 30);
    t.mask = LRKI_MASK_NONE;
    t.saved = true;
    run r = trial_begin(&t, LRK_GRAD_MASK);
    r.set->modules[0].bank.b[0] = NAN;
    trial_forward(&t, &r);
    ck_assert_int_eq(f.multiply_adds, 30 * (5 + 3) * 19);
    for (int32_t i = 0; i < t.n; i++)
        ck_assert(padded_same(&r.y[i], &r.y_before[i]));
    trial_end(&t, &r);
}
END_TEST

START_TEST(a_masked_rank_gets_exactly_no_gradient)
{
    if (!use_kernels(_i)) return;
    trial t = group_trial(counted, 30);
    t.mask = LRKI_MASK_WITHOUT; /* identity 2: rank 1 of module 0 */
    run r = trial_begin(&t, EVERY);
    trial_backward(&t, &r, true);
    lrk_tensor a = {.struct_size = sizeof a}, b = a, g = a;
    ck_assert_int_eq(lrk_sink_tensor(r.sink, 0, LRK_TENSOR_GRAD_A, &a), LRK_OK);
    ck_assert_int_eq(lrk_sink_tensor(r.sink, 0, LRK_TENSOR_GRAD_B, &b), LRK_OK);
    ck_assert_int_eq(lrk_sink_tensor(r.sink, 0, LRK_TENSOR_GRAD_GATES, &g), LRK_OK);
    for (int64_t k = 0; k < 19; k++) {
        ck_assert_float_eq(a.data[19 + k], 0.0f);
        ck_assert_float_ne(a.data[k], 0.0f);
    }
    for (int64_t k = 0; k < 40; k++)
        ck_assert_float_eq(b.data[40 + k], 0.0f);
    ck_assert_float_eq(g.data[1], 0.0f);
    ck_assert_double_ne(r.sink->mask_gradients[1], 0.0);
    trial_end(&t, &r);
}
END_TEST

START_TEST(non_finite_values_propagate)
{
    if (!use_kernels(_i)) return;
    trial t = {
        .context = counted, .rows = 3, .n = 1, .shapes = {{4, 2, 2, LRK_NO_GROUP, 0, 1.0}}, .backwards = 1};
    run r = trial_begin(&t, LRK_GRAD_PARAMETERS);
    r.x.data[r.x.ld + 1] = INFINITY;
    trial_forward(&t, &r);
    trial_backward(&t, &r, true);
    ck_assert(!isfinite(r.y[0].data[r.y[0].ld]) && !isfinite(r.sink->values[1]));
    ck_assert(isfinite(r.y[0].data[0]) && isfinite(r.y[0].data[2 * r.y[0].ld]));
    trial_end(&t, &r);
}
END_TEST

/* ---- dropout ------------------------------------------------------------------------------------------------------------------ */

/* y of one module from zero, under a trial that may differ in dropout, nonce and place. */
static padded update_of(trial t, int32_t module)
{
    run r = trial_begin(&t, 0);
    lrk_matrix x = padded_view(&r.x);
    padded y = padded_make(t.rows, t.shapes[module].n_out, 0, 1);
    memset(y.data, 0, (size_t)(t.rows * y.ld) * sizeof(float));
    lrk_matrix_mut view = padded_mut(&y);
    ck_assert_int_eq(lrk_forward(r.pass, &module, 1, &x, &view, NULL, 0), LRK_OK);
    trial_end(&t, &r);
    return y;
}

static bool same_update(trial a, trial b)
{
    padded ya = update_of(a, 0), yb = update_of(b, 0);
    bool same = padded_same(&ya, &yb);
    padded_free(&ya);
    padded_free(&yb);
    return same;
}

START_TEST(dropout_depends_on_nonce_and_row_and_repeats)
{
    if (!use_kernels(_i)) return;
    trial t = group_trial(counted, 20);
    t.dropout = 0.5;
    trial other = t;
    ck_assert(same_update(t, other));
    other.nonce = t.nonce + 1;
    ck_assert(!same_update(t, other));
    other = t;
    other.first_row = t.first_row + 1;
    ck_assert(!same_update(t, other));
    other = t;
    other.shapes[0].group = other.shapes[1].group = other.shapes[2].group = 8;
    ck_assert(!same_update(t, other));
    other.shapes[0].group = LRK_NO_GROUP;
    ck_assert(!same_update(t, other));
}
END_TEST

START_TEST(evaluation_drops_nothing)
{
    if (!use_kernels(_i)) return;
    trial t = group_trial(counted, 20);
    t.dropout = 0.5;
    run r = trial_begin(&t, 0);
    lrk_pass *pass = pass_open(r.set, pass_options(20));
    lrk_matrix x = padded_view(&r.x);
    lrk_matrix_mut y[3] = {padded_mut(&r.y[0]), padded_mut(&r.y[1]), padded_mut(&r.y[2])};
    ck_assert_int_eq(lrk_forward(pass, r.modules, 3, &x, y, NULL, 0), LRK_OK);
    lrk_pass_end(pass);
    t.dropout = 0.0;
    check_forward(&t, &r);
    trial_end(&t, &r);
}
END_TEST

Suite *lora_relations_suite(void)
{
    Suite *suite = suite_create("lora_relations");
    TCase *tc = tcase_create("lora_relations");
    tcase_add_checked_fixture(tc, setup, teardown);
    tcase_set_timeout(tc, 60);
    tcase_add_loop_test(tc, doubling_the_input_doubles_the_update, 0, N_KERNELS);
    tcase_add_test(tc, splitting_rows_changes_nothing_in_y_and_dx);
    tcase_add_loop_test(tc, permuting_ranks_permutes_gradients_and_nothing_else, 0, N_KERNELS);
    tcase_add_loop_test(tc, a_group_equals_its_modules_one_by_one, 0, 2);
    tcase_add_loop_test(tc, saved_activations_change_no_bit, 0, 3 * N_KERNELS);
    tcase_add_loop_test(tc, the_sets_own_gradients_equal_a_sinks, 0, N_KERNELS);
    tcase_add_loop_test(tc, a_silent_module_costs_nothing_and_stays_untouched, 0, N_KERNELS);
    tcase_add_test(tc, only_one_rank_derives_into_its_own_rows);
    tcase_add_loop_test(tc, group_zero_shares_its_dropout_like_any_other, 0, N_KERNELS);
    tcase_add_test(tc, only_one_rank_costs_one_rank);
    tcase_add_test(tc, what_is_not_asked_for_is_not_computed);
    tcase_add_test(tc, a_silent_forward_that_saves_computes_h_alone);
    tcase_add_loop_test(tc, a_masked_rank_gets_exactly_no_gradient, 0, N_KERNELS);
    tcase_add_loop_test(tc, non_finite_values_propagate, 0, N_KERNELS);
    tcase_add_loop_test(tc, dropout_depends_on_nonce_and_row_and_repeats, 0, N_KERNELS);
    tcase_add_loop_test(tc, evaluation_drops_nothing, 0, N_KERNELS);
    suite_add_tcase(suite, tc);
    return suite;
}
