/* SPDX-License-Identifier: MIT */
/*
 * Components of inputs: against a naive incremental analysis in double, batch by batch; groups, rows that count, convergence,
 * several workers, threads.
 */
#include <check.h>
#include <float.h>
#include <math.h>
#include <string.h>

#include "adapters/pca.h"
#include "half.h"
#include "pca_rig.h"
#include "sets.h"

#define K 6 /* components of modules of rank 3 */

static void setup(void)
{
    pca_rig_open(1);
}

static lrk_pca_info info_of(const lrk_pca *pca, int32_t module)
{
    lrk_pca_info info = {.struct_size = sizeof info};
    ck_assert_int_eq(lrk_pca_info_get(pca, module, &info), LRK_OK);
    return info;
}

/*
 * lambda of M M^T errs by about n eps sigma_1^2 (Weyl; the products' and LAPACK's rounding, n rows), so sigma_i by that over
 * 2 sigma_i, and component i by that over the gap to its neighbours; 32 leaves room for the constants and for the batches.
 */
static void check_against(const lrk_pca *pca, int32_t module, const pca_oracle *o, int64_t n_rows)
{
    double values[PCA_MOST], shares[PCA_MOST], components[PCA_MOST * PCA_MOST];
    int64_t n = o->k, d = o->n_in;
    ck_assert_int_eq(lrk_pca_components(pca, module, n, values, shares, components), LRK_OK);
    double unit = 32 * (double)n_rows * DBL_EPSILON * values[0] * values[0];
    for (int64_t i = 0; i < n; i++) {
        double apart = unit / values[i], gap = values[i] * values[i], cosine = 0;
        if (i + 1 < n) gap = fmin(gap, values[i] * values[i] - values[i + 1] * values[i + 1]);
        if (i > 0) gap = fmin(gap, values[i - 1] * values[i - 1] - values[i] * values[i]);
        ck_assert_double_eq_tol(values[i], o->values[i], apart);
        ck_assert_double_eq_tol(shares[i], pca_oracle_share(o, i), 2 * apart * values[i] / values[0] + 1e-12);
        for (int64_t c = 0; c < d; c++)
            cosine += components[i * d + c] * o->components[i * d + c];
        ck_assert_msg(fabs(cosine) > 1 - unit / gap - 1e-9, "component %d: cosine %.12f", (int)i, cosine);
        int64_t at = 0;
        for (int64_t c = 1; c < d; c++)
            if (fabs(components[i * d + c]) > fabs(components[i * d + at])) at = c;
        ck_assert_double_gt(components[i * d + at], 0);
    }
}

/* Batches of 50, 90 and 13 rows; with at most 40 of them at once 25 + 25, 30 + 30 + 30, 13. */
START_TEST(components_are_those_of_a_naive_incremental_analysis)
{
    lrk_pca_options options = pca_usual_options();
    if (_i == 1) options.batch_rows = 256;
    lrk_pca *pca = pca_make(&options);
    pca_oracle o = {.n_in = 37, .k = K};
    const int64_t rows[] = {50, 90, 13}, whole[] = {1, 1, 1}, cut[] = {2, 3, 1};
    for (int b = 0; b < 3; b++) {
        padded x = pca_rows(rows[b], 37, 0.7, 5 + (uint64_t)b);
        ck_assert_int_eq(pca_feed_one(pca_rig.set, pca, 2, &x), LRK_OK);
        int64_t n = _i == 1 ? whole[b] : cut[b];
        for (int64_t i = 0; i < n; i++)
            pca_oracle_feed(&o, &x, rows[b] / n * i, rows[b] / n, NULL);
        check_against(pca, 2, &o, K + rows[b] + 1);
        ck_assert(padded_intact(&x));
        padded_free(&x);
    }
    ck_assert_double_eq(info_of(pca, 2).rows, 153);
    double variance = 0;
    for (int64_t c = 0; c < 37; c++)
        variance += o.variance[c];
    ck_assert_double_eq_tol(info_of(pca, 2).variance, variance, 1e-12 * variance);
    lrk_pca_destroy(pca);
}
END_TEST

START_TEST(activations_of_16_bits_are_read_as_they_are)
{
    int32_t dtype = _i == 0 ? LRK_DTYPE_BF16 : LRK_DTYPE_F16, module = 2;
    lrk_pca *pca = pca_make_usual();
    padded x = pca_rows(33, 37, 0.8, 3);
    coded narrow = coded_make(dtype, &x); /* and x becomes what it says */
    lrk_matrix view = coded_view(&narrow, &x);
    pca_oracle o = {.n_in = 37, .k = K};
    ck_assert_int_eq(pca_forward(pca_rig.set, pca, &module, 1, &view), LRK_OK);
    pca_oracle_feed(&o, &x, 0, 33, NULL);
    check_against(pca, 2, &o, 33 + 1);
    coded_free(&narrow);
    padded_free(&x);
    lrk_pca_destroy(pca);
}
END_TEST

/* One decomposition, whether its modules are called together or one by one. */
START_TEST(modules_of_one_input_share_its_components)
{
    lrk_pca *together = pca_make_usual(), *apart = pca_make_usual();
    padded x = pca_rows(30, 24, 0.7, 3);
    lrk_matrix view = padded_view(&x);
    const int32_t both[2] = {1, 0};
    ck_assert_int_eq(pca_forward(pca_rig.set, together, both, 2, &view), LRK_OK);
    ck_assert_int_eq(pca_feed_one(pca_rig.set, apart, 0, &x), LRK_OK);
    ck_assert_int_eq(pca_feed_one(pca_rig.set, apart, 1, &x), LRK_OK);
    ck_assert_double_eq(info_of(apart, 1).rows, 30);
    ck_assert_int_eq(info_of(apart, 1).components, K); /* module 0 asks for more than module 1 */
    const double *a, *b;
    int64_t n, m;
    ck_assert_int_eq(lrk_pca_state(together, &a, &n), LRK_OK);
    ck_assert_int_eq(lrk_pca_state(apart, &b, &m), LRK_OK);
    ck_assert_int_eq(n, m);
    ck_assert_mem_eq(a, b, (size_t)n * sizeof *a);
    padded_free(&x);
    lrk_pca_destroy(together);
    lrk_pca_destroy(apart);
}
END_TEST

START_TEST(a_module_asks_for_rho_times_its_ranks)
{
    lrk_pca_options options = pca_usual_options();
    lrk_pca *pca = pca_make(&options);
    ck_assert_int_eq(info_of(pca, 2).components, 6);
    ck_assert_int_eq(info_of(pca, 3).components, 0);
    ck_assert_int_eq(info_of(pca, 4).components, 5); /* n_in */
    ck_assert_int_eq(pca->modules[1].asked, 6);      /* as the group */
    lrk_pca_destroy(pca);
    options.rho = 0.5;
    pca = pca_make(&options); /* 1.5 and 1 */
    ck_assert_int_eq(info_of(pca, 2).components, 2);
    ck_assert_int_eq(pca->modules[3].asked, 0);
    lrk_pca_destroy(pca);
    const shape mixed[2] = {{9, 4, 3, 0, 0, 1.0}, {9, 4, 0, 0, 0, 1.0}};
    lrk_adapters *two = set_make(pca_rig.context, mixed, 2, 0, 0);
    ck_assert_int_eq(lrk_pca_create(two, NULL, &pca), LRK_OK);
    ck_assert_int_eq(pca->modules[0].asked, 6);
    ck_assert_int_eq(pca->modules[1].asked, 0); /* rank 0 gets none of what others ask for */
    lrk_pca_destroy(pca);
    lrk_adapters_destroy(two);
    padded x = padded_make(3, 6, 0, 1);
    pca = pca_make(&options);
    ck_assert_int_eq(pca_feed_one(pca_rig.set, pca, 3, &x), LRK_OK); /* rank 0: not looked at */
    ck_assert_double_eq(info_of(pca, 3).rows, 0);
    padded_free(&x);
    lrk_pca_destroy(pca);
}
END_TEST

START_TEST(only_rows_that_count_are_looked_at)
{
    lrk_pca *pca = pca_make_usual();
    padded x = pca_rows(90, 37, 0.7, 9);
    uint8_t counts[90];
    pca_oracle o = {.n_in = 37, .k = K};
    for (int i = 0; i < 90; i++)
        counts[i] = i % 3 != 1;
    for (int64_t c = 0; c < 37; c++)
        x.data[1 * x.ld + c] = NAN; /* padding may be anything */
    ck_assert_int_eq(lrk_pca_select(pca, counts, 90), LRK_OK);
    ck_assert_int_eq(pca_feed_one(pca_rig.set, pca, 2, &x), LRK_OK);
    ck_assert_double_eq(info_of(pca, 2).rows, 60);
    pca_oracle_feed(&o, &x, 0, 45, counts);
    pca_oracle_feed(&o, &x, 45, 45, counts);
    check_against(pca, 2, &o, 37);
    padded shorter = pca_rows(89, 37, 0.7, 9);
    sets_expect(pca_rig.context, pca_feed_one(pca_rig.set, pca, 2, &shorter), LRK_ERR_SHAPE,
                "x has 89 rows where lrk_pca_select() told of 90");
    ck_assert_double_eq(info_of(pca, 2).rows, 60);
    ck_assert_int_eq(lrk_pca_select(pca, NULL, 0), LRK_OK);
    ck_assert_int_eq(pca_feed_one(pca_rig.set, pca, 2, &shorter), LRK_OK);
    ck_assert_double_eq(info_of(pca, 2).rows, 149);
    memset(counts, 0, sizeof counts);
    ck_assert_int_eq(lrk_pca_select(pca, counts, 89), LRK_OK);
    ck_assert_int_eq(pca_feed_one(pca_rig.set, pca, 2, &shorter), LRK_OK);
    ck_assert_double_eq(info_of(pca, 2).rows, 149);
    padded_free(&x);
    padded_free(&shorter);
    lrk_pca_destroy(pca);
}
END_TEST

/* y has the bits that it has without, and nothing else changes. */
START_TEST(feeding_leaves_the_pass_alone)
{
    lrk_pca *pca = pca_make_usual();
    padded x = pca_rows(30, 37, 0.9, 4), y[2];
    int32_t module = 2;
    uint64_t digest = sets_digest(pca_rig.set);
    lrk_matrix vx = padded_view(&x);
    for (int i = 0; i < 2; i++) {
        lrk_pass_options options = pass_options(30);
        options.mode = LRK_PASS_TRAIN; /* with dropout, which it does not see */
        options.pca = i == 0 ? NULL : pca;
        y[i] = padded_make(30, 24, 1, 5);
        lrk_matrix_mut vy = padded_mut(&y[i]);
        lrk_pass *pass = pass_open(pca_rig.set, options);
        ck_assert_int_eq(lrk_forward(pass, &module, 1, &vx, &vy, NULL, 0), LRK_OK);
        lrk_pass_end(pass);
    }
    ck_assert(padded_same(&y[0], &y[1]));
    ck_assert_uint_eq(sets_digest(pca_rig.set), digest);
    pca_oracle o = {.n_in = 37, .k = K};
    pca_oracle_feed(&o, &x, 0, 30, NULL);
    check_against(pca, 2, &o, 31);
    padded_free(&x);
    padded_free(&y[0]);
    padded_free(&y[1]);
    lrk_pca_destroy(pca);
}
END_TEST

/* The same rows again turn nothing; an input that has converged is not fed any more. */
START_TEST(components_converge_when_a_call_does_not_turn_them)
{
    lrk_pca *pca = pca_make_usual();
    padded x = pca_rows(40, 37, 0.6, 4), other = padded_make(40, 37, 0, 77);
    ck_assert_int_eq(pca_feed_one(pca_rig.set, pca, 2, &x), LRK_OK);
    ck_assert_int_eq(info_of(pca, 2).converged, 0);
    ck_assert_int_eq(pca_feed_one(pca_rig.set, pca, 2, &other), LRK_OK);
    ck_assert_int_lt(info_of(pca, 2).converged, K);
    for (int i = 0; i < 9 && info_of(pca, 2).converged < K; i++)
        ck_assert_int_eq(pca_feed_one(pca_rig.set, pca, 2, &x), LRK_OK);
    ck_assert_int_eq(info_of(pca, 2).converged, K);
    double rows = info_of(pca, 2).rows;
    ck_assert_int_eq(pca_feed_one(pca_rig.set, pca, 2, &other), LRK_OK);
    ck_assert_double_eq(info_of(pca, 2).rows, rows);
    padded_free(&x);
    padded_free(&other);
    lrk_pca_destroy(pca);
}
END_TEST

START_TEST(what_does_not_vary_has_no_components)
{
    lrk_pca *pca = pca_make_usual();
    double values[K], shares[K], components[K * 37];
    padded x = pca_rows(3, 37, 0.8, 4), same = pca_rows(3, 37, 0.8, 5);
    for (int64_t t = 1; t < 3; t++)
        memcpy(same.data + t * same.ld, same.data, 37 * sizeof(float));
    ck_assert_int_eq(pca_feed_one(pca_rig.set, pca, 2, &same), LRK_OK);
    ck_assert_int_eq(lrk_pca_components(pca, 2, K, values, shares, components), LRK_OK);
    for (int i = 0; i < K; i++)
        ck_assert(values[i] == 0 && shares[i] == 0 && components[i * 37] == 0);
    ck_assert_int_eq(pca_feed_one(pca_rig.set, pca, 2, &x),
                     LRK_OK); /* 3 rows around their mean, and the way to the old one */
    ck_assert_int_eq(lrk_pca_components(pca, 2, K, values, shares, components), LRK_OK);
    ck_assert_double_gt(values[2], 0);
    ck_assert_double_eq(values[3], 0);
    ck_assert_double_eq(components[3 * 37], 0);
    padded_free(&x);
    padded_free(&same);
    lrk_pca_destroy(pca);
}
END_TEST

START_TEST(inputs_that_are_not_finite_are_refused_by_name)
{
    lrk_pca *pca = pca_make_usual();
    double values[K];
    padded x = pca_rows(12, 37, 0.8, 4);
    x.data[5 * x.ld + 3] = _i == 0 ? NAN : INFINITY;
    ck_assert_int_eq(pca_feed_one(pca_rig.set, pca, 2, &x), LRK_OK);
    x.data[5 * x.ld + 3] = 0;
    ck_assert_int_eq(pca_feed_one(pca_rig.set, pca, 2, &x), LRK_OK); /* it stays as it is */
    sets_expect(pca_rig.context, lrk_pca_components(pca, 2, 1, values, NULL, NULL), LRK_ERR_NONFINITE,
                "module 'm2': its input is not finite");
    padded_free(&x);
    lrk_pca_destroy(pca);
}
END_TEST

/* ---- workers ------------------------------------------------------------------------------------------------------- */

/* Rows that two directions span: k holds all, so that the way they are cut up changes nothing but rounding. */
static padded plane(int64_t rows, uint64_t seed)
{
    padded x = padded_make(rows, 37, 0, seed);
    for (int64_t t = 0; t < rows; t++) {
        double u = (double)x.data[t * x.ld], v = (double)x.data[t * x.ld + 1];
        for (int64_t c = 0; c < 37; c++)
            x.data[t * x.ld + c] = (float)(u * (double)(c % 4) + 0.5 * v * (double)(c % 3) + 0.25);
    }
    return x;
}

START_TEST(states_of_workers_add_up_to_what_one_would_see)
{
    lrk_pca *workers[2] = {pca_make_usual(), pca_make_usual()}, *all = pca_make_usual(),
            *sum[2] = {pca_make_usual(), pca_make_usual()};
    padded x[2] = {plane(31, 5), plane(45, 6)};
    const double *state, *states[2];
    int64_t n;
    pca_oracle o = {.n_in = 37, .k = K};
    for (int i = 0; i < 2; i++) {
        ck_assert_int_eq(pca_feed_one(pca_rig.set, workers[i], 2, &x[i]), LRK_OK);
        ck_assert_int_eq(pca_feed_one(pca_rig.set, all, 2, &x[i]), LRK_OK);
        pca_oracle_feed(&o, &x[i], 0, x[i].rows, NULL);
    }
    for (int i = 0; i < 4; i++) { /* every worker adds both, in their order */
        ck_assert_int_eq(lrk_pca_state(workers[i % 2], &state, &n), LRK_OK);
        ck_assert_int_eq(lrk_pca_add(sum[i / 2], state, n), LRK_OK);
    }
    for (int i = 0; i < 2; i++)
        ck_assert_int_eq(lrk_pca_state(sum[i], &states[i], &n), LRK_OK);
    ck_assert_mem_eq(states[0], states[1], (size_t)n * sizeof(double));
    double one[K], other[K];
    ck_assert_int_eq(lrk_pca_components(all, 2, K, one, NULL, NULL), LRK_OK);
    ck_assert_int_eq(lrk_pca_components(sum[0], 2, K, other, NULL, NULL), LRK_OK);
    for (int i = 0; i < 2; i++) {
        ck_assert_double_eq_tol(one[i], o.values[i], 1e-9 * one[0]);
        ck_assert_double_eq_tol(other[i], o.values[i], 1e-9 * one[0]);
    }
    ck_assert_double_eq(info_of(sum[0], 2).rows, 76);
    ck_assert_double_eq_tol(info_of(sum[0], 2).variance, info_of(all, 2).variance, 1e-12);
    for (int64_t c = 0; c < 37; c++)
        ck_assert_double_eq_tol(sum[0]->groups[1].mean[c], o.mean[c], 1e-12);
    sets_expect(pca_rig.context, lrk_pca_add(sum[0], states[0], n), LRK_ERR_ARGUMENT, "object's own");
    sets_expect(pca_rig.context, lrk_pca_add(sum[0], NULL, n), LRK_ERR_ARGUMENT, "state is NULL");
    sets_expect(pca_rig.context, lrk_pca_add(sum[0], states[1], n - 1), LRK_ERR_ARGUMENT, "a state of");
    ck_assert_int_eq(lrk_pca_add(NULL, states[1], n), LRK_ERR_ARGUMENT);
    sets_expect(pca_rig.context, lrk_pca_state(all, NULL, &n), LRK_ERR_ARGUMENT, "NULL");
    for (int i = 0; i < 2; i++) {
        padded_free(&x[i]);
        lrk_pca_destroy(workers[i]);
        lrk_pca_destroy(sum[i]);
    }
    lrk_pca_destroy(all);
}
END_TEST

/* The first state that comes brings its own count; what comes later is judged by what it turns, wherever it had settled before. */
START_TEST(components_have_converged_when_a_state_does_not_turn_them)
{
    lrk_pca *once = pca_make_usual(), *often = pca_make_usual(), *sum = pca_make_usual(),
            *copy = pca_make_usual();
    padded x = pca_rows(40, 37, 0.6, 4), other = padded_make(40, 37, 0, 77);
    const double *state;
    int64_t n;
    ck_assert_int_eq(pca_feed_one(pca_rig.set, once, 2, &x), LRK_OK);
    for (int i = 0; i < 4; i++)
        ck_assert_int_eq(pca_feed_one(pca_rig.set, often, 2, &other), LRK_OK);
    ck_assert_int_eq(info_of(often, 2).converged, K);
    ck_assert_int_eq(lrk_pca_state(once, &state, &n), LRK_OK);
    ck_assert_int_eq(lrk_pca_add(sum, state, n), LRK_OK);
    ck_assert_int_eq(info_of(sum, 2).converged, 0);
    ck_assert_int_eq(lrk_pca_add(sum, state, n), LRK_OK); /* the same rows turn nothing */
    ck_assert_int_eq(info_of(sum, 2).converged, K);
    ck_assert_int_eq(lrk_pca_state(often, &state, &n), LRK_OK);
    ck_assert_int_eq(lrk_pca_add(sum, state, n), LRK_OK);
    ck_assert_int_lt(info_of(sum, 2).converged, K);
    ck_assert_int_eq(lrk_pca_add(copy, state, n), LRK_OK);
    ck_assert_int_eq(info_of(copy, 2).converged, K);
    padded_free(&x);
    padded_free(&other);
    lrk_pca_destroy(copy);
    lrk_pca_destroy(once);
    lrk_pca_destroy(often);
    lrk_pca_destroy(sum);
}
END_TEST

/* ---- threads ------------------------------------------------------------------------------------------------------- */

static void state_at(int32_t threads, int32_t module, double *copy, int64_t most)
{
    const shape wide = {600, 8, 4, LRK_NO_GROUP, 0, 1.0};
    fault_reset(&pca_rig.host);
    pca_rig.host.threads = threads;
    pca_rig.context = fault_context(&pca_rig.host);
    pca_rig.set = set_make(pca_rig.context, &wide, 1, 0, 0);
    lrk_pca *pca = pca_make_usual();
    const double *state;
    int64_t n;
    padded x = padded_make(90, 600, 0, 3);
    ck_assert_int_eq(pca_feed_one(pca_rig.set, pca, module, &x), LRK_OK);
    ck_assert_int_eq(lrk_pca_state(pca, &state, &n), LRK_OK);
    ck_assert_int_le(n, most);
    memcpy(copy, state, (size_t)n * sizeof *copy);
    padded_free(&x);
    lrk_pca_destroy(pca);
    pca_rig_close();
}

START_TEST(the_number_of_threads_changes_no_bit)
{
    static double one[8000], more[8000];
    pca_rig_close();
    state_at(1, 0, one, 8000);
    for (int32_t threads = 2; threads < 6; threads += 3) {
        state_at(threads, 0, more, 8000);
        ck_assert_mem_eq(one, more, sizeof one);
    }
    pca_rig_open(1);
}
END_TEST

Suite *pca_suite(void);

Suite *pca_suite(void)
{
    Suite *suite = suite_create("pca");
    TCase *tests = tcase_create("pca");
    tcase_set_timeout(tests, 60);
    tcase_add_checked_fixture(tests, setup, pca_rig_close);
    tcase_add_loop_test(tests, components_are_those_of_a_naive_incremental_analysis, 0, 2);
    tcase_add_loop_test(tests, activations_of_16_bits_are_read_as_they_are, 0, 2);
    tcase_add_test(tests, modules_of_one_input_share_its_components);
    tcase_add_test(tests, a_module_asks_for_rho_times_its_ranks);
    tcase_add_test(tests, only_rows_that_count_are_looked_at);
    tcase_add_test(tests, feeding_leaves_the_pass_alone);
    tcase_add_test(tests, components_converge_when_a_call_does_not_turn_them);
    tcase_add_test(tests, what_does_not_vary_has_no_components);
    tcase_add_loop_test(tests, inputs_that_are_not_finite_are_refused_by_name, 0, 2);
    tcase_add_test(tests, states_of_workers_add_up_to_what_one_would_see);
    tcase_add_test(tests, components_have_converged_when_a_state_does_not_turn_them);
    tcase_add_test(tests, the_number_of_threads_changes_no_bit);
    suite_add_tcase(suite, tests);
    return suite;
}
