/* SPDX-License-Identifier: MIT */
/*
 * Screened scoring on the toy model: what it finds of the exact lowest, what it costs, and a rank whose worth derivatives
 * do not show.
 */
#include <check.h>
#include <string.h>

#include "table.h"
#include "toy.h"

static bool is_exact(const lrk_scores *scores, int64_t i)
{
    return (table_score(scores, i).flags & LRK_SCORE_EXACT) != 0;
}

/* Stages of two modules, and what a round of them cuts: about 3 % of the ranks, and 7 of more than 1,000. */
static const struct depth {
    int32_t stages;
    int64_t rank; /* of a module */
    int64_t n_cut;
    int64_t models;
    double at_most; /* of what exact scores cost */
} depths[] = {{6, 14, 5, 6, 1.0 / 6}, {8, 14, 7, 6, 0.14}, {30, 17, 7, 2, 0.03}};
#define MOST_CUT 7

static toy_shape deep(const struct depth *depth, uint64_t seed)
{
    toy_shape shape = toy_default();
    shape.stages = depth->stages;
    shape.rank = depth->rank;
    shape.d = shape.f = 16;
    shape.rows = 32;
    shape.seed = seed;
    shape.size = 0.1f;
    return shape;
}

static int64_t cost_of(const toy *t)
{
    return t->stage_forwards + 2 * t->stage_backwards;
}

/* Ranks of low that are in guess too. */
static int64_t common(const int64_t *low, const int64_t *guess, int64_t n)
{
    int64_t found = 0;
    for (int64_t i = 0; i < n; i++)
        for (int64_t j = 0; j < n; j++)
            found += low[i] == guess[j];
    return found;
}

/* Over a few models, all from fixed seeds: what screening finds of the exact lowest, and what it costs. */
START_TEST(screening_finds_the_exact_lowest_at_a_part_of_the_cost)
{
    const struct depth *depth = &depths[_i];
    int64_t found = 0, cost_exact = 0, cost_screened = 0, n_cut = depth->n_cut, n = depth->stages;
    for (uint64_t seed = 1; seed <= (uint64_t)depth->models; seed++) {
        toy_shape shape = deep(depth, seed);
        toy *t = toy_create(&shape);
        t->differentiate_fills = true;
        lrk_ablation_options options = table_options(LRK_ABLATION_SCREENED);
        options.n_cut = n_cut;
        lrk_estimator *exact = toy_estimator(t, NULL), *screened = toy_estimator(t, &options);
        lrk_scores *all = table_run(exact);
        ck_assert_int_eq(cost_of(t),
                         2 * depth->rank * n * (n + 1) + 2 * n); /* two from its stage on for each rank */
        cost_exact += cost_of(t);
        t->stage_forwards = t->stage_backwards = 0;
        lrk_scores *some = table_run(screened);
        cost_screened += cost_of(t);
        int64_t low[MOST_CUT], guess[MOST_CUT];
        ck_assert_int_eq(lrk_scores_lowest(all, n_cut, low), LRK_OK);
        ck_assert_int_eq(lrk_scores_lowest(some, n_cut, guess), LRK_OK);
        found += common(low, guess, n_cut);
        for (int64_t i = 0; i < table_info(some).n; i++) {
            lrk_score a = table_score(all, i), b = table_score(some, i);
            if (is_exact(some, i)) ck_assert_double_eq(a.score, b.score);
        }
        lrk_scores_destroy(all);
        lrk_scores_destroy(some);
        lrk_estimator_destroy(exact);
        lrk_estimator_destroy(screened);
        toy_destroy(t);
    }
    ck_assert_int_ge(found * 20, n_cut * depth->models * 19);
    ck_assert_msg((double)cost_screened <= depth->at_most * (double)cost_exact, "%.4f of the cost",
                  (double)cost_screened / (double)cost_exact);
}
END_TEST

/* Adds factor * u a^T to V of the last stage. */
static void shift_last(toy *t, const float *u, const float *a, float factor)
{
    const toy_shape *s = &t->shape;
    float *v = t->v + (s->stages - 1) * s->d * s->f;
    for (int64_t o = 0; o < s->d; o++)
        for (int64_t i = 0; i < s->f; i++)
            v[o * s->f + i] += factor * u[o] * a[i];
}

/* Minimises loss(x) over x in [low, high] for a convex loss. */
static double minimise(double low, double high, double (*loss)(toy *t, double x, void *user), toy *t,
                       void *user)
{
    for (int i = 0; i < 80; i++) {
        double a = low + (high - low) / 3, b = high - (high - low) / 3;
        if (loss(t, a, user) < loss(t, b, user))
            high = b;
        else
            low = a;
    }
    return (low + high) / 2;
}

typedef struct planted {
    float u[16], a[16];
    float *b_vital; /* row of B of the vital rank */
} planted;

/* Loss of the base once V has moved by x u a^T. */
static double base_loss(toy *t, double x, void *user)
{
    planted *p = user;
    double none[64] = {0};
    shift_last(t, p->u, p->a, (float)x);
    double loss = toy_oracle_mean(t, none, NULL);
    shift_last(t, p->u, p->a, (float)-x);
    return loss;
}

/* Loss with all ranks once the vital rank is x times -u. */
static double full_loss(toy *t, double x, void *user)
{
    planted *p = user;
    double all[64];
    for (int i = 0; i < 64; i++)
        all[i] = 1;
    for (int64_t o = 0; o < t->shape.d; o++)
        p->b_vital[o] = (float)(-x * p->u[o]);
    return toy_oracle_mean(t, all, NULL);
}

/*
 * Ranks 0 and 1 of the last module read the same direction a and write 3 u and about -3 u: without either the other
 * does harm. The base is put at its optimum along u a^T and the model with all ranks at its own, so that the derivatives
 * by both masks are near 0 at both ends, for both ranks.
 */
static void plant(toy *t)
{
    planted p;
    uint64_t state = 77;
    int32_t last = 2 * t->shape.stages - 1;
    for (int i = 0; i < 16; i++) {
        p.u[i] = (float)(sets_random(&state) >> 40) / 8388608.0f - 1;
        p.a[i] = (float)(sets_random(&state) >> 40) / 8388608.0f - 1;
    }
    lrk_tensor a = sets_tensor(t->adapters, last, LRK_TENSOR_A),
               b = sets_tensor(t->adapters, last, LRK_TENSOR_B);
    memcpy(a.data, p.a, (size_t)a.cols * sizeof(float));
    memcpy(a.data + a.ld, p.a, (size_t)a.cols * sizeof(float));
    for (int64_t o = 0; o < b.cols; o++)
        b.data[o] = 3 * p.u[o];
    p.b_vital = b.data + b.ld;
    shift_last(t, p.u, p.a, (float)minimise(-8, 8, base_loss, t, &p));
    double x = minimise(-8, 8, full_loss, t, &p);
    (void)full_loss(t, x, &p);
    ck_assert_int_eq(lrk_adapters_values_changed(t->adapters), LRK_OK);
}

/* Turns the sign of each rank (but the planted two) that the two-point score finds harmful; true if any. */
static bool turn_harmful(toy *t, lrk_estimator *two_point)
{
    lrk_scores *scores = table_run(two_point);
    bool turned = false;
    for (int64_t i = 0; i < table_info(scores).n; i++) {
        lrk_score s = table_score(scores, i);
        if (s.score > 0 || (s.module == 2 * t->shape.stages - 1 && s.index < 2)) continue;
        lrk_tensor b = sets_tensor(t->adapters, s.module, LRK_TENSOR_B);
        for (int64_t o = 0; o < b.cols; o++)
            b.data[s.index * b.ld + o] *= -1;
        turned = true;
    }
    lrk_scores_destroy(scores);
    ck_assert_int_eq(lrk_adapters_values_changed(t->adapters), LRK_OK);
    return turned;
}

START_TEST(screening_sees_what_derivatives_do_not_on_a_real_model)
{
    toy_shape shape = toy_default();
    shape.size = 0.05f;
    shape.stages = 2;
    toy *t = toy_create(&shape);
    lrk_ablation_options options = table_options(LRK_ABLATION_TWO_POINT);
    lrk_estimator *two_point = toy_estimator(t, &options);
    for (int i = 0; i < 20; i++) {
        plant(t);
        if (!turn_harmful(t, two_point)) break;
        ck_assert_int_lt(i, 19);
    }
    const int64_t vital = t->n_ranks - 3, n_cut = 2;
    int64_t lowest[2], want[2];
    lrk_estimator *exact = toy_estimator(t, NULL);
    lrk_scores *all = table_run(exact), *guess = table_run(two_point);
    for (int64_t i = 0; i < t->n_ranks; i++) /* the planted rank is worth far more than any other */
        ck_assert(i == vital || table_score(all, i).score < table_score(all, vital).score / 10);
    ck_assert_int_eq(lrk_scores_lowest(guess, n_cut, lowest), LRK_OK);
    ck_assert(lowest[0] == vital || lowest[1] == vital); /* and two-point would cut it */

    options.mode = LRK_ABLATION_SCREENED;
    options.n_cut = n_cut;
    options.pool = 4;
    lrk_estimator *screened = toy_estimator(t, &options);
    lrk_scores *scores = table_run(screened);
    ck_assert_int_eq(lrk_scores_lowest(all, n_cut, want), LRK_OK);
    ck_assert_int_eq(lrk_scores_lowest(scores, n_cut, lowest), LRK_OK);
    for (int i = 0; i < n_cut; i++) {
        ck_assert_int_eq(lowest[i], want[i]);
        ck_assert_int_ne(lowest[i], vital);
    }
    ck_assert_int_lt(table_info(scores).n_exact, t->n_ranks);
    lrk_scores_destroy(all);
    lrk_scores_destroy(guess);
    lrk_scores_destroy(scores);
    lrk_estimator_destroy(two_point);
    lrk_estimator_destroy(screened);
    lrk_estimator_destroy(exact);
    toy_destroy(t);
}
END_TEST

Suite *screened_model_suite(void);

Suite *screened_model_suite(void)
{
    Suite *suite = suite_create("screened_model");
    TCase *model = tcase_create("toy");
    tcase_add_loop_test(model, screening_finds_the_exact_lowest_at_a_part_of_the_cost, 0, 3);
    tcase_add_test(model, screening_sees_what_derivatives_do_not_on_a_real_model);
    suite_add_tcase(suite, model);
    return suite;
}
