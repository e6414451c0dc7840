/* SPDX-License-Identifier: MIT */
/*
 * Salience against a naive transcription of its formulas in double, that keeps all gates by identity, all slopes in a matrix, and
 * breaks cycles as the published code does; traces by hand at the thresholds; windows; ranks that move; properties.
 */
#include <check.h>
#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "observed.h"

enum { IDS = 64, RANKS = 32, STEPS = 64, MODULES = 3 };

/* ---- the oracle ------------------------------------------------------------------------------------------------------ */

/* What was observed since the last scoring. */
typedef struct trace {
    int64_t n;
    bool read;
    double gates[STEPS][IDS];
    bool there[STEPS][IDS];
    double defects[STEPS];
} trace;

typedef struct result {
    int64_t n, cycles, edges;
    double share[RANKS], influence[RANKS];
} result;

static double norm_of(lrk_tensor w)
{
    double sum = 0;
    for (int64_t i = 0; i < w.rows; i++)
        for (int64_t j = 0; j < w.rows; j++) {
            double p = i == j ? -1 : 0;
            for (int64_t k = 0; k < w.cols; k++)
                p += (double)w.data[i * w.ld + k] * (double)w.data[j * w.ld + k];
            sum += p * p;
        }
    return sqrt(sum);
}

/* Flat ranks in module order: identity and module of each. */
static int64_t live_ranks(const small_set *s, uint64_t *ids, int32_t *modules)
{
    int64_t n = 0;
    for (int32_t m = 0; m < MODULES; m++) {
        const uint64_t *own;
        int64_t rank;
        ck_assert_int_eq(lrk_adapters_ranks(s->adapters, m, &own, NULL, &rank), LRK_OK);
        for (int64_t i = 0; i < rank; i++, n++) {
            ck_assert(n < RANKS && own[i] < IDS);
            ids[n] = own[i];
            modules[n] = m;
        }
    }
    return n;
}

static void record(trace *o, const small_set *s)
{
    if (o->read) *o = (trace){0};
    ck_assert_int_lt(o->n, STEPS);
    int64_t matrices = 0;
    for (int32_t m = 0; m < MODULES; m++) {
        lrk_tensor gates = small_set_tensor(s, m, LRK_TENSOR_GATES);
        const uint64_t *ids;
        int64_t rank;
        ck_assert_int_eq(lrk_adapters_ranks(s->adapters, m, &ids, NULL, &rank), LRK_OK);
        for (int64_t i = 0; i < rank; i++) {
            o->gates[o->n][ids[i]] = (double)gates.data[i];
            o->there[o->n][ids[i]] = true;
        }
        if (rank == 0) continue;
        o->defects[o->n] += norm_of(small_set_tensor(s, m, LRK_TENSOR_A));
        o->defects[o->n] += norm_of(small_set_tensor(s, m, LRK_TENSOR_B));
        matrices += 2;
    }
    o->defects[o->n++] /= (double)matrices;
}

/* Depth first; true if a cycle was found, which path[*from..*n) then holds. */
static bool walk(double w[RANKS][RANKS], int64_t n, int64_t *path, int64_t *length, bool *done, int64_t *from)
{
    int64_t at = path[*length - 1];
    for (int64_t next = 0; next < n; next++) {
        if (w[at][next] == 0 || done[next]) continue;
        for (*from = 0; *from < *length; ++*from)
            if (path[*from] == next) return true;
        path[(*length)++] = next;
        if (walk(w, n, path, length, done, from)) return true;
        --*length;
    }
    done[at] = true;
    return false;
}

/* Takes the lightest edge out of cycles until there are none; how many it took. */
static int64_t break_cycles(double w[RANKS][RANKS], int64_t n)
{
    for (int64_t broken = 0;; broken++) {
        int64_t path[RANKS + 1], length = 0, from = 0;
        bool done[RANKS] = {false}, found = false;
        for (int64_t i = 0; i < n && !found; i++) {
            path[0] = i;
            length = 1;
            found = !done[i] && walk(w, n, path, &length, done, &from);
        }
        if (!found) return broken;
        int64_t a = path[length - 1], b = path[from];
        for (int64_t k = from; k + 1 < length; k++)
            if (w[path[k]][path[k + 1]] < w[a][b]) {
                a = path[k];
                b = path[k + 1];
            }
        w[a][b] = 0;
    }
}

static double influence_of(double w[RANKS][RANKS], int64_t n, int64_t i, bool as_target)
{
    double sum = 0;
    for (int64_t j = 0; j < n; j++)
        if (w[i][j] != 0) sum += w[i][j] * influence_of(w, n, j, true);
    return sum == 0 && as_target ? 1 : sum;
}

/* The scores of a run in round `round`; the trace counts as read. */
static result oracle(trace *o, const small_set *s, const lrk_salience_options *options, int64_t round)
{
    static double w[RANKS][RANKS];
    uint64_t ids[RANKS];
    int32_t modules[RANKS];
    int64_t n = live_ranks(s, ids, modules), window = options->window_last;
    if (round < options->n_rounds)
        window = llround(options->window_last - (options->window_last - options->window) *
                                                    pow(1 - (double)round / options->n_rounds, 3));
    if (window > o->n) window = o->n;
    int64_t first = o->n - window;
    result r = {.n = n};
    double u[STEPS], least = INFINITY, most = 0, total[MODULES] = {0}, all = 0;
    memset(w, 0, sizeof w);
    o->read = true;
    for (int64_t t = first; t < o->n; t++) {
        u[t] = 1 / o->defects[t];
        least = fmin(least, u[t]);
        most = fmax(most, u[t]);
    }
    for (int64_t t = first; t < o->n; t++)
        u[t] = most > least ? (u[t] - least) / (most - least) : 1;
    for (int64_t i = 0; i < n; i++) {
        for (int64_t t = first; t < o->n; t++)
            r.share[i] += u[t] * fabs(o->gates[t][ids[i]]);
        total[modules[i]] += r.share[i];
        for (int64_t j = 0; j < n; j++) {
            double mi = 0, mj = 0, c = 0, vi = 0, vj = 0;
            bool whole = true;
            for (int64_t t = first; t < o->n; t++) {
                mi += o->gates[t][ids[i]] / (double)window;
                mj += o->gates[t][ids[j]] / (double)window;
                whole &= o->there[t][ids[i]] && o->there[t][ids[j]];
            }
            for (int64_t t = first; t < o->n; t++) {
                c += (o->gates[t][ids[i]] - mi) * (o->gates[t][ids[j]] - mj);
                vi += pow(o->gates[t][ids[i]] - mi, 2);
                vj += pow(o->gates[t][ids[j]] - mj, 2);
            }
            double correlation = c / (sqrt(vi * vj) + 1e-15), slope = c / (vi + 1e-15);
            if (whole && correlation >= options->correlation && slope >= options->slope) w[i][j] = slope;
            r.edges += w[i][j] != 0;
        }
    }
    r.cycles = break_cycles(w, n);
    for (int64_t i = 0; i < n; i++) {
        r.share[i] = total[modules[i]] > 0 ? r.share[i] / total[modules[i]] : 0;
        r.influence[i] = influence_of(w, n, i, false);
        all += r.influence[i];
    }
    for (int64_t i = 0; i < n && all > 0; i++)
        r.influence[i] /= all;
    return r;
}

/* ---- helpers --------------------------------------------------------------------------------------------------------- */

static small_set set;
static trace seen;

static void setup(void)
{
    static const small_module shapes[MODULES] = {{.n_in = 5, .n_out = 3, .rank = 4},
                                                 {.n_in = 4, .n_out = 6, .rank = 3},
                                                 {.n_in = 7, .n_out = 2, .rank = 1}};
    small_set_open(&set, shapes, MODULES, NULL);
    seen = (trace){0};
}

static void teardown(void)
{
    small_set_close(&set);
}

static lrk_salience_options defaults(void)
{
    lrk_salience_options options;
    ck_assert_int_eq(lrk_salience_options_init(&options, sizeof options), LRK_OK);
    return options;
}

static lrk_estimator *create(const lrk_salience_options *options)
{
    lrk_estimator *made;
    ck_assert_int_eq(lrk_estimator_create_salience(set.adapters, options, &made), LRK_OK);
    return made;
}

/* Gate of flat rank i. */
static float *gate(int64_t i)
{
    int32_t m = 0;
    for (; i >= small_set_rank(&set, m); m++)
        i -= small_set_rank(&set, m);
    return &small_set_tensor(&set, m, LRK_TENSOR_GATES).data[i];
}

static void observe(lrk_estimator *e)
{
    ck_assert_int_eq(lrk_adapters_gradients_written(set.adapters), LRK_OK);
    record(&seen, &set);
    ck_assert_int_eq(lrk_estimator_observe(e), LRK_OK);
}

static lrk_scores *run(lrk_estimator *e, int64_t round)
{
    lrk_scores *scores;
    ck_assert_int_eq(lrk_estimator_run(e, (uint64_t)round, &scores), LRK_OK);
    return scores;
}

/*
 * Sums of n <= STEPS terms, of deviations that are at least 2^-10 of their gates, are off by 2^10 (n + 2) eps of themselves, a
 * slope by twice that, a chain of at most RANKS slopes by as many times more; a share by far less.
 */
static const double bound = 2.0 * RANKS * 1024 * (STEPS + 2) * DBL_EPSILON;

static result check_run(lrk_estimator *e, const lrk_salience_options *options, int64_t round)
{
    result want = oracle(&seen, &set, options, round);
    lrk_scores *scores = run(e, round);
    for (int64_t i = 0; i < want.n; i++) {
        lrk_score got = observed_score(scores, i);
        ck_assert_double_eq_tol(got.t1, want.share[i], bound);
        ck_assert_double_eq_tol(got.t2, want.influence[i], bound);
        ck_assert(got.score == got.t1 + got.t2);
    }
    lrk_scores_destroy(scores);
    ck_assert_int_eq(want.cycles, 0);
    return want;
}

/* ---- traces ---------------------------------------------------------------------------------------------------------- */

/* Gates that walk at random, some of them along with others; A and B at random. */
static void wander(uint64_t *random, bool first)
{
    lrk_adapters_info info = {.struct_size = sizeof info};
    ck_assert_int_eq(lrk_adapters_info_get(set.adapters, &info), LRK_OK);
    float *leader = gate(0), before = *leader;
    observed_fill(&set, random);
    *leader = (first ? 0 : before) + (float)small_random_real(random);
    for (int64_t i = 1; i < info.ranks; i++)
        *gate(i) =
            (float)(1 << i % 4) * (*leader * (i % 3 == 0 ? -1 : 1) + 0.5F * (float)small_random_real(random));
}

START_TEST(scores_follow_their_formulas)
{
    int64_t edges = 0;
    for (uint64_t random = 1; random < 40; random++) {
        lrk_salience_options options = defaults();
        options.slope = random % 2 == 0 ? 2 : 1.0625;
        options.correlation = (double)(random % 4) * 0.3;
        lrk_estimator *e = create(&options);
        uint64_t state = random;
        for (int64_t step = 0; step < 24; step++) {
            wander(&state, step == 0);
            observe(e);
            if (step == 3 || step % 8 == 7) edges += check_run(e, &options, step).edges;
        }
        lrk_estimator_destroy(e);
        seen.read = true;
    }
    ck_assert_int_gt(edges, 20);
}
END_TEST

/* A ring in which every rank runs after the one before and moves further than it would need slopes that multiply to 1. */
START_TEST(ranks_that_run_after_each_other_form_no_cycle)
{
    for (int variant = 0; variant < 52; variant++) {
        lrk_salience_options options = defaults();
        options.slope = 1 + pow(2, -variant);
        options.correlation = 0.5;
        lrk_estimator *e = create(&options);
        uint64_t random = 3;
        for (int64_t t = 0; t < 40; t++) {
            observed_fill(&set, &random);
            for (int64_t i = 0; i < 8; i++)
                *gate(i) =
                    (float)((1 + 0.01 * (double)(i * variant % 7)) * sin(0.3 * (double)t - 0.2 * (double)i));
            observe(e);
        }
        (void)check_run(e, &options, 0);
        lrk_estimator_destroy(e);
    }
    double ring[RANKS][RANKS] = {{0}};
    ring[0][1] = 3;
    ring[1][2] = 2;
    ring[2][0] = 4;
    ring[2][3] = 5;
    ck_assert_int_eq(break_cycles(ring, 4), 1); /* that the oracle would break one */
    ck_assert(ring[1][2] == 0 && ring[0][1] == 3 && ring[2][0] == 4 && ring[2][3] == 5);
}
END_TEST

/* Waves of mean 0 that are orthogonal to each other over any 4 steps. */
static double wave(int which, int64_t t)
{
    static const int waves[2][4] = {{1, -1, 1, -1}, {1, 1, -1, -1}};
    return 64.0 * waves[which][t % 4];
}

/* Parameters at random, all gates the same. */
static void fill_with_gates(uint64_t *random, float value)
{
    observed_fill(&set, random);
    for (int64_t i = 0; i < 8; i++)
        *gate(i) = value;
}

START_TEST(a_chain_is_worth_the_product_of_its_slopes)
{
    lrk_salience_options options = defaults();
    lrk_estimator *e = create(&options);
    uint64_t random = 5;
    for (int64_t t = 0; t < 8; t++) {
        fill_with_gates(&random, 7); /* they stand still */
        *gate(0) = (float)wave(0, t);
        *gate(4) = (float)(2 * wave(0, t)) + 5;
        *gate(7) = (float)(8 * wave(0, t)) - 300;
        observe(e);
    }
    result want = check_run(e, &options, 0);
    ck_assert_int_eq(want.edges, 3);
    ck_assert_double_eq_tol(want.influence[0], (2 * 4 + 8) / (2 * 4 + 8 + 4.0), bound);
    ck_assert_double_eq_tol(want.influence[4], 4 / (2 * 4 + 8 + 4.0), bound);
    ck_assert(want.influence[7] == 0 && want.influence[1] == 0);
    lrk_estimator_destroy(e);
}
END_TEST

/* Edges at the thresholds: a slope is the factor, a correlation a / sqrt(a^2 + b^2) of the wave and the one across it. */
START_TEST(thresholds_are_reached_from_above)
{
    static const struct {
        double along, across;
        bool edge;
    } cases[] = {{2, 0, true},
                 {1.9999, 0, false},
                 {2.0001, 0, true},
                 {-2, 0, false},
                 {2, 61.9375 / 64, true},
                 {2, 62.0 / 64, false},
                 {8, 8 * 0.484, true},
                 {8, 8 * 0.4847, false},
                 {0, 0, false},
                 {0.4999, 0, true /* back */},
                 {1, 0, false}};
    for (size_t c = 0; c < sizeof cases / sizeof *cases; c++) {
        lrk_salience_options options = defaults();
        lrk_estimator *e = create(&options);
        uint64_t random = 5;
        for (int64_t t = 0; t < 8; t++) {
            fill_with_gates(&random, 0);
            *gate(2) = (float)wave(0, t);
            *gate(5) = (float)(cases[c].along * wave(0, t) + cases[c].across * wave(1, t));
            observe(e);
        }
        result want = check_run(e, &options, 0);
        ck_assert_int_eq(want.edges, cases[c].edge);
        ck_assert(want.influence[2] + want.influence[5] == cases[c].edge);
        lrk_estimator_destroy(e);
    }
}
END_TEST

START_TEST(gates_that_stand_still_leave_shares)
{
    lrk_salience_options options = defaults();
    lrk_estimator *e = create(&options);
    for (int64_t t = 0; t < 3; t++) { /* parameters stand still too: all steps weigh the same */
        for (int64_t i = 0; i < 8; i++)
            *gate(i) = i < 4 ? 0 : i == 6 ? -0.3F : 0.1F;
        observe(e);
    }
    lrk_scores *scores = run(e, 0);
    for (int64_t i = 0; i < 8; i++) {
        lrk_score got = observed_score(scores, i);
        ck_assert(got.t2 == 0 && got.score == got.t1);
        ck_assert_double_eq_tol(got.t1, i < 4 ? 0 : i < 6 ? 0.2 : i == 6 ? 0.6 : 1, 1e-7);
    }
    ck_assert(observed_score(scores, 4).score == observed_score(scores, 5).score);
    ck_assert(observed_score(scores, 7).t1 == 1); /* the only rank of its module */
    lrk_scores_destroy(scores);
    lrk_estimator_destroy(e);
}
END_TEST

/* Rows of which some are orthonormal exactly at the second of three steps. */
START_TEST(a_step_of_orthonormal_rows_alone_weighs_where_others_are_not)
{
    lrk_salience_options options = defaults();
    lrk_adapters *whole = set.adapters;
    small_module shape = {.n_in = 2, .n_out = 2, .rank = 2};
    small_set s;
    small_set_open(&s, &shape, 1, NULL);
    set.adapters = s.adapters;
    lrk_estimator *e = create(&options);
    for (int t = 0; t < 3; t++) {
        for (int32_t which = LRK_TENSOR_A; which <= LRK_TENSOR_B; which++)
            for (int i = 0; i < 4; i++)
                small_set_tensor(&s, 0, which).data[i] = i == 0 || i == 3 ? (t == 1 ? 1 : 2) : 0;
        float *gates = small_set_tensor(&s, 0, LRK_TENSOR_GATES).data;
        gates[0] = t == 1 ? 3 : 100;
        gates[1] = 1;
        ck_assert_int_eq(lrk_adapters_gradients_written(s.adapters), LRK_OK);
        ck_assert_int_eq(lrk_estimator_observe(e), LRK_OK);
    }
    lrk_scores *scores = run(e, 0);
    ck_assert(observed_score(scores, 0).t1 == 0.75 && observed_score(scores, 1).t1 == 0.25);
    lrk_scores_destroy(scores);
    lrk_estimator_destroy(e);
    set.adapters = whole;
    small_set_close(&s);
}
END_TEST

/* ---- windows --------------------------------------------------------------------------------------------------------- */

START_TEST(the_window_grows_and_forgets_what_is_older)
{
    lrk_salience_options options = defaults();
    options.window = 3;
    options.window_last = 11;
    options.n_rounds = 5;
    options.correlation = 0.5;
    options.slope = 1.5;
    lrk_estimator *e = create(&options);
    uint64_t random = 11;
    for (int64_t round = 0; round < 7; round++)
        for (int64_t step = 0; step < (round == 4 ? 5 : 30); step++) {
            wander(&random, step == 0);
            observe(e);
            if (step != (round == 4 ? 4 : 29)) continue;
            (void)check_run(e, &options, round);
            (void)check_run(e, &options, round); /* again on the same window */
        }
    lrk_estimator_destroy(e);
}
END_TEST

/* ---- ranks that move ------------------------------------------------------------------------------------------------- */

START_TEST(gates_follow_their_ranks)
{
    lrk_salience_options options = defaults();
    options.window = 3;
    options.window_last = 9;
    options.correlation = 0.25;
    options.slope = 1.125;
    lrk_estimator *e = create(&options);
    lrk_alora_options alora = small_set_alora(2);
    lrk_allocator *allocator = small_set_allocator(&set, &alora);
    uint64_t random = 17;
    int64_t edges = 0;
    for (int64_t step = 0; step < 36; step++) {
        wander(&random, step == 0);
        observe(e);
        if (step % 6 == 5) edges += check_run(e, &options, step).edges;
        if (step % 4 != 3) continue;
        double values[8];
        for (int i = 0; i < 8; i++)
            values[i] = small_random_real(&random);
        lrk_scores *scores = small_set_scores(&set, values);
        lrk_plan *plan = small_set_plan(allocator, scores);
        small_set_carry_out(plan, NULL, 0);
        lrk_plan_destroy(plan);
        lrk_scores_destroy(scores);
    }
    ck_assert_int_gt(edges, 5);
    lrk_allocator_destroy(allocator);
    lrk_estimator_destroy(e);
}
END_TEST

START_TEST(shares_of_a_module_and_influences_of_the_set_sum_to_one)
{
    lrk_salience_options options = defaults();
    options.slope = 1.25;
    options.correlation = 0.5;
    lrk_estimator *e = create(&options);
    uint64_t random = 23;
    for (int64_t step = 0; step < 12; step++) {
        wander(&random, step == 0);
        observe(e);
    }
    lrk_scores *scores = run(e, 0);
    double shares[MODULES] = {0}, influence = 0;
    for (int64_t i = 0; i < 8; i++) {
        lrk_score got = observed_score(scores, i);
        shares[got.module] += got.t1;
        influence += got.t2;
    }
    for (int m = 0; m < MODULES; m++)
        ck_assert_double_eq_tol(shares[m], 1, 8 * DBL_EPSILON);
    ck_assert_double_eq_tol(influence, 1, 8 * DBL_EPSILON);
    lrk_scores_destroy(scores);
    lrk_estimator_destroy(e);
}
END_TEST

Suite *salience_suite(void);

Suite *salience_suite(void)
{
    Suite *suite = suite_create("salience");
    TCase *tests = tcase_create("salience");
    tcase_add_checked_fixture(tests, setup, teardown);
    tcase_add_test(tests, scores_follow_their_formulas);
    tcase_add_test(tests, ranks_that_run_after_each_other_form_no_cycle);
    tcase_add_test(tests, a_chain_is_worth_the_product_of_its_slopes);
    tcase_add_test(tests, thresholds_are_reached_from_above);
    tcase_add_test(tests, gates_that_stand_still_leave_shares);
    tcase_add_test(tests, a_step_of_orthonormal_rows_alone_weighs_where_others_are_not);
    tcase_add_test(tests, the_window_grows_and_forgets_what_is_older);
    tcase_add_test(tests, gates_follow_their_ranks);
    tcase_add_test(tests, shares_of_a_module_and_influences_of_the_set_sum_to_one);
    suite_add_tcase(suite, tests);
    return suite;
}
