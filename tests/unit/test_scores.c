/* SPDX-License-Identifier: MIT */
/*
 * Scores, their order, the statistics over parts, and the estimators that ask for no evaluation (random, custom).
 */
#include <check.h>
#include <math.h>
#include <stdlib.h>

#include "importance/importance.h"
#include "table.h"

static lrk_scores *make_scores(table *t, const double *values)
{
    lrk_scores *scores;
    ck_assert_int_eq(lrk_scores_create(t->adapters, values, TABLE_RANKS, &scores), LRK_OK);
    return scores;
}

START_TEST(scores_from_the_host_say_which_rank_is_which)
{
    table *t = table_create();
    double values[TABLE_RANKS] = {8, 7, 6, 5, 4, 3, 2, 1};
    static const int32_t modules[TABLE_RANKS] = {0, 0, 1, 1, 1, 2, 3, 3};
    static const int64_t indices[TABLE_RANKS] = {0, 1, 0, 1, 2, 0, 0, 1};
    lrk_scores *scores = make_scores(t, values);
    for (int64_t i = 0; i < TABLE_RANKS; i++) {
        lrk_score s = table_score(scores, i);
        ck_assert_uint_eq(s.identity, t->identities[i]);
        ck_assert_int_eq(s.module, modules[i]);
        ck_assert_int_eq(s.index, indices[i]);
        ck_assert_double_eq(s.score, values[i]);
        ck_assert(isnan(s.t1) && isnan(s.t2) && isnan(s.noise) && isnan(s.estimate));
        ck_assert_uint_eq(s.flags, 0);
    }
    lrk_scores_info info = table_info(scores);
    ck_assert_str_eq(info.estimator, "host");
    ck_assert_int_eq(info.n, TABLE_RANKS);
    ck_assert_int_eq(info.n_exact, 0);
    ck_assert_int_eq(info.evaluations, 0);
    ck_assert(isnan(info.loss_all) && isnan(info.loss_none) && isnan(info.noise_floor));
    ck_assert(isnan(info.split_correlation));
    ck_assert_uint_eq(info.generation, sets_info(t->adapters).generation);
    ck_assert_uint_eq(info.values_version, sets_info(t->adapters).values_version);
    lrk_scores_destroy(scores);
    table_destroy(t);
}
END_TEST

START_TEST(scores_outlive_the_set_that_they_are_of)
{
    table *t = table_create();
    double values[TABLE_RANKS] = {0};
    lrk_scores *scores = make_scores(t, values);
    lrk_adapters_destroy(t->adapters);
    lrk_context_destroy(t->context);
    ck_assert_uint_eq(table_score(scores, 7).identity, t->identities[7]);
    lrk_scores_destroy(scores);
    ck_assert_int_eq(t->fault.live, 0);
    free(t);
}
END_TEST

START_TEST(scores_from_the_host_are_checked)
{
    table *t = table_create();
    double values[TABLE_RANKS] = {0};
    lrk_scores *scores = (lrk_scores *)t;
    ck_assert_int_eq(lrk_scores_create(NULL, values, TABLE_RANKS, &scores), LRK_ERR_ARGUMENT);
    ck_assert_ptr_null(scores);
    sets_expect(t->context, lrk_scores_create(t->adapters, values, TABLE_RANKS, NULL), LRK_ERR_ARGUMENT,
                "scores");
    sets_expect(t->context, lrk_scores_create(t->adapters, NULL, TABLE_RANKS, &scores), LRK_ERR_ARGUMENT,
                "values");
    sets_expect(t->context, lrk_scores_create(t->adapters, values, 7, &scores), LRK_ERR_SHAPE,
                "7 values for 8");
    values[5] = NAN;
    scores = (lrk_scores *)t;
    sets_expect(t->context, lrk_scores_create(t->adapters, values, TABLE_RANKS, &scores), LRK_ERR_NONFINITE,
                "module 'm2'");
    ck_assert_ptr_null(scores);
    lrk_error_info where = {.struct_size = sizeof where};
    ck_assert_int_eq(lrk_context_error_info(t->context, &where), LRK_OK);
    ck_assert_int_eq(where.module, 2);
    ck_assert_uint_eq(where.identity, t->identities[5]);
    table_destroy(t);
}
END_TEST

START_TEST(queries_of_scores_are_checked)
{
    table *t = table_create();
    double values[TABLE_RANKS] = {0};
    lrk_scores *scores = make_scores(t, values);
    lrk_score score = {.struct_size = sizeof score};
    lrk_scores_info info = {.struct_size = sizeof info};
    int64_t indices[TABLE_RANKS + 1];
    ck_assert_int_eq(lrk_scores_get(NULL, 0, &score), LRK_ERR_ARGUMENT);
    ck_assert_int_eq(lrk_scores_info_get(NULL, &info), LRK_ERR_ARGUMENT);
    ck_assert_int_eq(lrk_scores_lowest(NULL, 1, indices), LRK_ERR_ARGUMENT);
    sets_expect(t->context, lrk_scores_get(scores, -1, &score), LRK_ERR_ARGUMENT, "no score -1");
    sets_expect(t->context, lrk_scores_get(scores, TABLE_RANKS, &score), LRK_ERR_ARGUMENT, "no score 8");
    ck_assert_int_eq(lrk_scores_get(scores, 0, NULL), LRK_ERR_ARGUMENT);
    ck_assert_int_eq(lrk_scores_info_get(scores, NULL), LRK_ERR_ARGUMENT);
    sets_expect(t->context, lrk_scores_lowest(scores, -1, indices), LRK_ERR_ARGUMENT, "n must");
    sets_expect(t->context, lrk_scores_lowest(scores, 1, NULL), LRK_ERR_ARGUMENT, "indices");
    sets_expect(t->context, lrk_scores_lowest(scores, TABLE_RANKS + 1, indices), LRK_ERR_SHAPE,
                "9 lowest of 8");
    ck_assert_int_eq(lrk_scores_lowest(scores, 0, NULL), LRK_OK);
    lrk_scores_destroy(scores);
    lrk_scores_destroy(NULL);
    table_destroy(t);
}
END_TEST

START_TEST(a_shorter_struct_gets_its_part_of_a_score)
{
    table *t = table_create();
    double values[TABLE_RANKS] = {0};
    lrk_scores *scores = make_scores(t, values);
    lrk_score score = {.struct_size = offsetof(lrk_score, t1), .t1 = 5};
    ck_assert_int_eq(lrk_scores_get(scores, 3, &score), LRK_OK);
    ck_assert_uint_eq(score.identity, t->identities[3]);
    ck_assert_double_eq(score.t1, 5);
    lrk_scores_destroy(scores);
    table_destroy(t);
}
END_TEST

START_TEST(the_lowest_come_by_score_then_module_then_identity)
{
    table *t = table_create();
    double values[TABLE_RANKS] = {2, 1, 1, 0, 1, 2, 0, -3};
    static const int64_t want[TABLE_RANKS] = {7, 3, 6, 1, 2, 4, 0, 5};
    lrk_scores *scores = make_scores(t, values);
    int64_t indices[TABLE_RANKS];
    for (int64_t n = 0; n <= TABLE_RANKS; n++) {
        ck_assert_int_eq(lrk_scores_lowest(scores, n, indices), LRK_OK);
        for (int64_t i = 0; i < n; i++)
            ck_assert_int_eq(indices[i], want[i]);
    }
    lrk_scores_destroy(scores);
    table_destroy(t);
}
END_TEST

/* ---- statistics ------------------------------------------------------------------------------------------------------- */

static double spearman(table *t, const double *x, const double *y, int64_t n)
{
    double rho;
    ck_assert_int_eq(lrki_spearman(t->context, x, y, n, &rho), LRK_OK);
    return rho;
}

/* By definition: the correlation of mean ranks, each found by counting. */
static double naive_spearman(const double *x, const double *y, int n)
{
    double rx[64], ry[64], mx = 0, my = 0, xx = 0, yy = 0, xy = 0;
    for (int i = 0; i < n; i++) {
        rx[i] = ry[i] = 0.5;
        for (int j = 0; j < n; j++) {
            rx[i] += x[j] < x[i] ? 1 : x[j] == x[i] ? 0.5 : 0;
            ry[i] += y[j] < y[i] ? 1 : y[j] == y[i] ? 0.5 : 0;
        }
        mx += rx[i] / n;
        my += ry[i] / n;
    }
    for (int i = 0; i < n; i++) {
        xx += (rx[i] - mx) * (rx[i] - mx);
        yy += (ry[i] - my) * (ry[i] - my);
        xy += (rx[i] - mx) * (ry[i] - my);
    }
    return xy / sqrt(xx * yy);
}

START_TEST(spearman_gives_ties_their_mean_rank)
{
    table *t = table_create();
    double up[5] = {1, 2, 3, 4, 5}, down[5] = {50, 40, 30, 20, 10}, flat[5] = {3, 3, 3, 3, 3};
    ck_assert_double_eq_tol(spearman(t, up, up, 5), 1, 1e-15);
    ck_assert_double_eq_tol(spearman(t, up, down, 5), -1, 1e-15);
    ck_assert(isnan(spearman(t, up, flat, 5)));
    ck_assert(isnan(spearman(t, up, up, 1)));
    ck_assert(isnan(spearman(t, up, up, 0)));
    double x[4] = {1, 1, 2, 3}, y[4] = {1, 2, 2, 2}; /* ranks 1.5 1.5 3 4 and 1 3 3 3: 2 / sqrt(4.5 * 3) */
    ck_assert_double_eq_tol(spearman(t, x, y, 4), 2 / sqrt(13.5), 1e-15);
    uint64_t state = 5;
    double a[40], b[40];
    for (int i = 0; i < 40; i++) {
        a[i] = (double)(sets_random(&state) % 9);
        b[i] = a[i] + (double)(sets_random(&state) % 7);
    }
    ck_assert_double_eq_tol(spearman(t, a, b, 40), naive_spearman(a, b, 40), 40 * 40 * 0x1p-52);
    table_destroy(t);
}
END_TEST

START_TEST(the_error_of_a_ratio_is_the_usual_one_for_equal_weights)
{
    double parts[4] = {1, 3, 2, 6}, weights[4] = {2, 2, 2, 2};
    /* values 0.5 1.5 1 3: mean 1.5, squares 1 + 0 + 0.25 + 2.25, over 3, over 4 */
    ck_assert_double_eq_tol(lrki_ratio_error(parts, weights, 4), sqrt(3.5 / 3 / 4), 1e-15);
    ck_assert_double_eq(lrki_ratio_mean(parts, weights, 4, 0, 1), 1.5);
    ck_assert_double_eq(lrki_ratio_mean(parts, weights, 4, 0, 2), 0.75);
    ck_assert_double_eq(lrki_ratio_mean(parts, weights, 4, 1, 2), 2.25);
    ck_assert(isnan(lrki_ratio_error(parts, weights, 1)));
}
END_TEST

START_TEST(the_error_of_a_ratio_weighs_parts)
{
    double parts[3] = {1, 8, 1}, weights[3] = {1, 3, 1};
    /* mean 2; residuals -1, 2, -1; 3/2 * 6 = 9; over 5 */
    ck_assert_double_eq_tol(lrki_ratio_error(parts, weights, 3), 3.0 / 5, 1e-15);
}
END_TEST

/* ---- estimators without evaluations ------------------------------------------------------------------------------------- */

static lrk_scores *run(lrk_estimator *estimator, uint64_t nonce)
{
    lrk_scores *scores;
    ck_assert_int_eq(lrk_estimator_run(estimator, nonce, &scores), LRK_OK);
    return scores;
}

START_TEST(random_scores_are_keyed_by_seed_identity_and_nonce)
{
    table *t = table_create();
    lrk_estimator *one, *other;
    ck_assert_int_eq(lrk_estimator_create_random(t->adapters, 1, &one), LRK_OK);
    ck_assert_int_eq(lrk_estimator_create_random(t->adapters, 2, &other), LRK_OK);
    lrk_scores *a = run(one, 0), *again = run(one, 0), *b = run(one, 1), *c = run(other, 0);
    table_same_scores(a, again);
    ck_assert_str_eq(table_info(a).estimator, "random");
    for (int64_t i = 0; i < TABLE_RANKS; i++) {
        double score = table_score(a, i).score;
        ck_assert(score >= 0 && score < 1);
        ck_assert_double_ne(score, table_score(b, i).score);
        ck_assert_double_ne(score, table_score(c, i).score);
        for (int64_t j = 0; j < i; j++)
            ck_assert_double_ne(score, table_score(a, j).score);
        lrki_stream stream = lrki_stream_make(1, LRKI_STREAM_SCORE, t->identities[i], 0);
        ck_assert_double_eq(score, lrki_stream_uniform(&stream, 0));
    }
    lrk_scores_destroy(a);
    lrk_scores_destroy(again);
    lrk_scores_destroy(b);
    lrk_scores_destroy(c);
    lrk_estimator_destroy(one);
    lrk_estimator_destroy(other);
    table_destroy(t);
}
END_TEST

typedef struct own {
    table *t;
    int32_t answer;
    int64_t bad; /* index that gets no score, -1 */
    lrk_estimator *self;
    lrk_status nested;
    lrk_snapshot *snapshot;
    lrk_status restored;
} own;

static int32_t own_score(void *user, const uint64_t *identities, double *scores, int64_t n)
{
    own *o = user;
    ck_assert_int_eq(n, TABLE_RANKS);
    for (int64_t i = 0; i < n; i++) {
        ck_assert_uint_eq(identities[i], o->t->identities[i]);
        if (i != o->bad) scores[i] = (double)identities[i] / 2;
    }
    lrk_scores *nested = NULL;
    o->nested = lrk_estimator_run(o->self, 0, &nested);
    if (o->snapshot != NULL) o->restored = lrk_snapshot_restore(o->snapshot, o->t->adapters);
    return o->answer;
}

static lrk_custom_estimator custom_of(own *o)
{
    return (lrk_custom_estimator){
        .struct_size = sizeof(lrk_custom_estimator), .user = o, .name = "by_identity", .score = own_score};
}

START_TEST(a_custom_estimator_scores_by_callback)
{
    table *t = table_create();
    own o = {.t = t, .bad = -1};
    char name[] = "by_identity";
    ck_assert_int_eq(lrk_snapshot_create(t->adapters, &o.snapshot), LRK_OK);
    lrk_custom_estimator custom = custom_of(&o);
    custom.name = name;
    ck_assert_int_eq(lrk_estimator_create_custom(t->adapters, &custom, &o.self), LRK_OK);
    name[0] = 'X'; /* it was copied */
    lrk_estimate cost = {.struct_size = sizeof cost, .evaluations = 3};
    ck_assert_int_eq(lrk_estimator_estimate(o.self, &cost), LRK_OK);
    ck_assert_int_eq(cost.evaluations, 0);
    ck_assert_int_eq(cost.differentiations, 0);
    ck_assert_int_eq(cost.ranks, TABLE_RANKS);
    lrk_scores *scores = run(o.self, 4);
    ck_assert_str_eq(table_info(scores).estimator, "by_identity");
    for (int64_t i = 0; i < TABLE_RANKS; i++)
        ck_assert_double_eq(table_score(scores, i).score, (double)t->identities[i] / 2);
    ck_assert_int_eq(o.nested, LRK_ERR_BUSY);
    ck_assert_int_eq(o.restored, LRK_ERR_BUSY);
    ck_assert_int_eq(lrk_snapshot_restore(o.snapshot, t->adapters), LRK_OK);
    lrk_snapshot_destroy(o.snapshot);
    lrk_scores_destroy(scores);
    lrk_estimator_reset(o.self);
    lrk_estimator_destroy(o.self);
    table_destroy(t);
}
END_TEST

START_TEST(a_custom_estimator_that_fails_or_forgets_a_rank_is_an_error)
{
    table *t = table_create();
    own o = {.t = t, .bad = -1, .answer = 3};
    lrk_custom_estimator custom = custom_of(&o);
    ck_assert_int_eq(lrk_estimator_create_custom(t->adapters, &custom, &o.self), LRK_OK);
    lrk_scores *scores = (lrk_scores *)t;
    sets_expect(t->context, lrk_estimator_run(o.self, 0, &scores), LRK_ERR_HOST,
                "'by_identity': score() returned 3; last failure in it: estimator: run from");
    ck_assert_ptr_null(scores);
    o.answer = 0;
    o.bad = 6;
    sets_expect(t->context, lrk_estimator_run(o.self, 0, &scores), LRK_ERR_NONFINITE, "module 'm3'");
    o.bad = -1;
    lrk_scores_destroy(run(o.self, 0));
    lrk_estimator_destroy(o.self);
    table_destroy(t);
}
END_TEST

START_TEST(arguments_of_estimators_are_checked)
{
    table *t = table_create();
    own o = {.t = t};
    lrk_estimator *e = (lrk_estimator *)t;
    lrk_custom_estimator custom = custom_of(&o);
    ck_assert_int_eq(lrk_estimator_create_random(NULL, 0, &e), LRK_ERR_ARGUMENT);
    ck_assert_ptr_null(e);
    ck_assert_int_eq(lrk_estimator_create_random(t->adapters, 0, NULL), LRK_ERR_ARGUMENT);
    ck_assert_int_eq(lrk_estimator_create_custom(NULL, &custom, &e), LRK_ERR_ARGUMENT);
    ck_assert_int_eq(lrk_estimator_create_custom(t->adapters, NULL, &e), LRK_ERR_ARGUMENT);
    ck_assert_int_eq(lrk_estimator_create_custom(t->adapters, &custom, NULL), LRK_ERR_ARGUMENT);
    custom.flags = 1;
    sets_expect(t->context, lrk_estimator_create_custom(t->adapters, &custom, &e), LRK_ERR_ARGUMENT, "flags");
    custom = custom_of(&o);
    custom.score = NULL;
    sets_expect(t->context, lrk_estimator_create_custom(t->adapters, &custom, &e), LRK_ERR_ARGUMENT, "score");
    custom = custom_of(&o);
    custom.name = "";
    sets_expect(t->context, lrk_estimator_create_custom(t->adapters, &custom, &e), LRK_ERR_ARGUMENT, "name");
    struct {
        lrk_custom_estimator known;
        uint64_t tail;
    } longer = {.known = custom_of(&o), .tail = 1};
    longer.known.struct_size = sizeof longer;
    ck_assert_int_eq(lrk_estimator_create_custom(t->adapters, &longer.known, &e), LRK_ERR_VERSION);

    ck_assert_int_eq(lrk_estimator_create_random(t->adapters, 0, &e), LRK_OK);
    lrk_estimate cost = {.struct_size = sizeof cost};
    ck_assert_int_eq(lrk_estimator_estimate(NULL, &cost), LRK_ERR_ARGUMENT);
    ck_assert_int_eq(lrk_estimator_estimate(e, NULL), LRK_ERR_ARGUMENT);
    ck_assert_int_eq(lrk_estimator_estimate(e, &cost), LRK_OK);
    ck_assert_int_eq(cost.ranks, TABLE_RANKS);
    lrk_scores *scores;
    ck_assert_int_eq(lrk_estimator_run(NULL, 0, &scores), LRK_ERR_ARGUMENT);
    ck_assert_int_eq(lrk_estimator_run(e, 0, NULL), LRK_ERR_ARGUMENT);
    lrk_estimator_reset(NULL);
    lrk_estimator_reset(e);
    lrk_estimator_destroy(NULL);
    lrk_estimator_destroy(e);
    table_destroy(t);
}
END_TEST

/* ---- memory ---------------------------------------------------------------------------------------------------------------- */

typedef struct attempt {
    table *t;
    own o;
    lrk_estimator *estimator;
    lrk_scores *scores;
} attempt;

static lrk_status act(void *user)
{
    attempt *a = user;
    lrk_custom_estimator custom = custom_of(&a->o);
    a->estimator = NULL;
    a->scores = NULL;
    lrk_status status = lrk_estimator_create_custom(a->t->adapters, &custom, &a->estimator);
    a->o.self = a->estimator;
    if (status == LRK_OK) status = lrk_estimator_run(a->estimator, 0, &a->scores);
    int64_t lowest[2];
    if (status == LRK_OK) status = lrk_scores_lowest(a->scores, 2, lowest);
    if (status == LRK_OK) return LRK_OK;
    lrk_scores_destroy(a->scores);
    lrk_estimator_destroy(a->estimator);
    return status;
}

static lrk_status act_random(void *user)
{
    attempt *a = user;
    double values[TABLE_RANKS] = {0};
    lrk_status status = lrk_estimator_create_random(a->t->adapters, 0, &a->estimator);
    if (status != LRK_OK) return status;
    status = lrk_scores_create(a->t->adapters, values, TABLE_RANKS, &a->scores);
    lrk_scores_destroy(a->scores);
    if (status == LRK_OK) status = lrk_estimator_run(a->estimator, 0, &a->scores);
    if (status != LRK_OK) lrk_estimator_destroy(a->estimator);
    return status;
}

static void undo(void *user)
{
    attempt *a = user;
    lrk_scores_destroy(a->scores);
    lrk_estimator_destroy(a->estimator);
}

static lrk_status act_spearman(void *user)
{
    double x[3] = {1, 2, 3}, rho;
    return lrki_spearman(((attempt *)user)->t->context, x, x, 3, &rho);
}

static void undo_nothing(void *user)
{
    (void)user;
}

START_TEST(each_lack_of_memory_is_reported_and_leaves_nothing)
{
    attempt a = {.t = table_create()};
    a.o = (own){.t = a.t, .bad = -1};
    sets_each_fault(&a.t->fault, act, undo, &a);
    sets_each_fault(&a.t->fault, act_random, undo, &a);
    sets_each_fault(&a.t->fault, act_spearman, undo_nothing, &a);
    table_destroy(a.t);
}
END_TEST

Suite *scores_suite(void);

Suite *scores_suite(void)
{
    Suite *suite = suite_create("scores");
    TCase *tests = tcase_create("scores");
    tcase_add_test(tests, scores_from_the_host_say_which_rank_is_which);
    tcase_add_test(tests, scores_outlive_the_set_that_they_are_of);
    tcase_add_test(tests, scores_from_the_host_are_checked);
    tcase_add_test(tests, queries_of_scores_are_checked);
    tcase_add_test(tests, a_shorter_struct_gets_its_part_of_a_score);
    tcase_add_test(tests, the_lowest_come_by_score_then_module_then_identity);
    tcase_add_test(tests, spearman_gives_ties_their_mean_rank);
    tcase_add_test(tests, the_error_of_a_ratio_is_the_usual_one_for_equal_weights);
    tcase_add_test(tests, the_error_of_a_ratio_weighs_parts);
    tcase_add_test(tests, random_scores_are_keyed_by_seed_identity_and_nonce);
    tcase_add_test(tests, a_custom_estimator_scores_by_callback);
    tcase_add_test(tests, a_custom_estimator_that_fails_or_forgets_a_rank_is_an_error);
    tcase_add_test(tests, arguments_of_estimators_are_checked);
    tcase_add_test(tests, each_lack_of_memory_is_reported_and_leaves_nothing);
    suite_add_tcase(suite, tests);
    return suite;
}
