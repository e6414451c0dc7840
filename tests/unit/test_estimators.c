/* SPDX-License-Identifier: MIT */
/*
 * Estimators that observe steps or read parameters, against naive transcriptions of their formulas in double that know
 * ranks by identity alone; rank changes between steps, restores, checkpoints, refusals, lack of memory.
 */
#include <check.h>
#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "observed.h"
#include "resume.h"

#define MOST_IDS  64
#define MOST_COLS 8

/* ---- the oracle ------------------------------------------------------------------------------------------------------- */

/* One rank's averages in double: mean and deviation of A, B and the gate; sum of g1 since the last scoring. */
typedef struct record {
    double mean[2 * MOST_COLS + 1], deviation[2 * MOST_COLS + 1];
    double most, most_whole; /* the largest |w d| of an element, and of the gate */
    double g1;
    int64_t steps, window;
} record;

typedef struct oracle {
    record records[MOST_IDS];
    double beta1, beta2;
} oracle;

static void smooth(const oracle *o, record *r, int64_t at, double sensitivity)
{
    double *most = at == 2 * MOST_COLS ? &r->most_whole : &r->most;
    *most = fmax(*most, sensitivity);
    r->mean[at] = o->beta1 * r->mean[at] + (1 - o->beta1) * sensitivity;
    r->deviation[at] = o->beta2 * r->deviation[at] + (1 - o->beta2) * fabs(sensitivity - r->mean[at]);
}

static const uint64_t *identities_of(const small_set *s, int32_t module)
{
    const uint64_t *identities;
    int64_t n;
    ck_assert_int_eq(lrk_adapters_ranks(s->adapters, module, &identities, NULL, &n), LRK_OK);
    return identities;
}

static void oracle_observe(oracle *o, const small_set *s, int32_t n_modules)
{
    for (int32_t m = 0; m < n_modules; m++) {
        lrk_tensor a = small_set_tensor(s, m, LRK_TENSOR_A), b = small_set_tensor(s, m, LRK_TENSOR_B);
        lrk_tensor da = small_set_tensor(s, m, LRK_TENSOR_GRAD_A),
                   db = small_set_tensor(s, m, LRK_TENSOR_GRAD_B);
        for (int64_t i = 0; i < a.rows; i++) {
            ck_assert_uint_lt(identities_of(s, m)[i], MOST_IDS);
            record *r = &o->records[identities_of(s, m)[i]];
            double whole = 0;
            for (int64_t j = 0; j < a.cols; j++) {
                double product = (double)a.data[i * a.ld + j] * (double)da.data[i * da.ld + j];
                smooth(o, r, j, fabs(product));
                whole += product;
            }
            for (int64_t j = 0; j < b.cols; j++)
                smooth(o, r, MOST_COLS + j,
                       fabs((double)b.data[i * b.ld + j] * (double)db.data[i * db.ld + j]));
            smooth(o, r, 2 * MOST_COLS, fabs(whole));
            r->g1 -= whole;
            r->steps++;
            r->window++;
        }
    }
}

static double oracle_sensitivity(const oracle *o, const small_set *s, const lrk_score *score, bool triplet,
                                 bool corrected)
{
    const record *r = &o->records[score->identity];
    int64_t n_in = small_set_tensor(s, score->module, LRK_TENSOR_A).cols;
    int64_t n_out = small_set_tensor(s, score->module, LRK_TENSOR_B).cols;
    double of_a = 0, of_b = 0;
    for (int64_t j = 0; j < n_in; j++)
        of_a += r->mean[j] * r->deviation[j] / (double)n_in;
    for (int64_t j = 0; j < n_out; j++)
        of_b += r->mean[MOST_COLS + j] * r->deviation[MOST_COLS + j] / (double)n_out;
    double sum = of_a + of_b + (triplet ? r->mean[2 * MOST_COLS] * r->deviation[2 * MOST_COLS] : 0);
    double left1 = pow(o->beta1, (double)r->steps), left2 = pow(o->beta2, (double)r->steps);
    return corrected && r->steps > 0 ? sum / (1 - left1) / (1 - left2) : sum;
}

/*
 * Averages are rounded to float once a step, and older roundings fade: with M the largest |w d|, a mean is off by at most
 * e = 2^-24 M / (1 - beta1), a deviation by e + 2^-24 M / (1 - beta2), a product of both by M times the sum of the two:
 * 2^-24 M^2 (2 / (1 - beta1) + 1 / (1 - beta2)), to which double adds nothing that counts.
 */
static double bound_of(const oracle *o, const record *r, bool triplet, bool corrected)
{
    double factor = 0x1p-24 * (2 / (1 - o->beta1) + 1 / (1 - o->beta2));
    if (corrected && r->steps > 0)
        factor /= (1 - pow(o->beta1, (double)r->steps)) * (1 - pow(o->beta2, (double)r->steps));
    return factor * (2 * r->most * r->most + (triplet ? r->most_whole * r->most_whole : 0));
}

/* ---- a set whose ranks move ------------------------------------------------------------------------------------------------ */

static int64_t number_of(const lrk_scores *scores, const char *name)
{
    lrk_scores_info info = {.struct_size = sizeof info};
    ck_assert_int_eq(lrk_scores_info_get(scores, &info), LRK_OK);
    ck_assert_str_eq(info.estimator, name);
    ck_assert_int_eq(info.evaluations + info.differentiations + info.n_exact, 0);
    return info.n;
}

/* Two ranks of lowest random score go, new ones come. */
static void move_ranks(const small_set *s, lrk_allocator *allocator, const lrk_participant *optimizer,
                       uint64_t *random)
{
    double values[6];
    for (int i = 0; i < 6; i++)
        values[i] = small_random_real(random);
    lrk_scores *scores = small_set_scores(s, values);
    lrk_plan *plan = small_set_plan(allocator, scores);
    small_set_carry_out(plan, optimizer, optimizer != NULL);
    lrk_plan_destroy(plan);
    lrk_scores_destroy(scores);
}

static void check_sensitivity(const oracle *o, const small_set *s, lrk_estimator *estimator, int32_t form,
                              bool corrected)
{
    bool triplet = form == LRK_SENSITIVITY_TRIPLET;
    lrk_scores *scores = observed_scores(estimator);
    int64_t n = number_of(scores, triplet ? "sensitivity.triplet" : "sensitivity.pair");
    for (int64_t i = 0; i < n; i++) {
        lrk_score got = observed_score(scores, i);
        const record *r = &o->records[got.identity];
        ck_assert_double_eq_tol(got.score, oracle_sensitivity(o, s, &got, triplet, corrected),
                                bound_of(o, r, triplet, corrected));
        ck_assert((got.score > 0) == (r->steps > 0));
        ck_assert(isnan(got.t1) && isnan(got.noise) && got.flags == 0);
    }
    lrk_scores_destroy(scores);
}

static void check_taylor(oracle *o, lrk_estimator *absolute, lrk_estimator *sign)
{
    lrk_scores *a = observed_scores(absolute), *g = observed_scores(sign);
    int64_t n = number_of(a, "taylor.absolute");
    ck_assert_int_eq(number_of(g, "taylor.signed"), n);
    for (int64_t i = 0; i < n; i++) {
        lrk_score got = observed_score(g, i);
        const record *r = &o->records[got.identity];
        double want = r->window > 0 ? r->g1 / (double)r->window : 0;
        ck_assert_double_eq_tol(got.score, want, 64 * DBL_EPSILON);
        ck_assert_double_eq(observed_score(a, i).score, fabs(got.score));
    }
    for (int i = 0; i < MOST_IDS; i++) {
        o->records[i].g1 = 0;
        o->records[i].window = 0;
    }
    lrk_scores_destroy(a);
    lrk_scores_destroy(g);
}

/* Steps by the host's own optimizer (by_hand) or by lorank's, ranks moving in between: averages follow their ranks. */
static void observe_and_move(bool by_hand)
{
    small_set s;
    uint64_t random = 7;
    small_set_open(&s, observed_shapes, 3, NULL);
    observed_fill(&s, &random);
    lrk_estimator *all[4] = {
        observed_sensitivity(&s, LRK_SENSITIVITY_TRIPLET, 0, 0.85, 0.7),
        observed_sensitivity(&s, LRK_SENSITIVITY_PAIR, LRK_SENSITIVITY_CORRECTED, 0.85, 0.7),
        observed_taylor(&s, LRK_TAYLOR_ABSOLUTE), observed_taylor(&s, LRK_TAYLOR_SIGNED)};
    lrk_alora_options alora = small_set_alora(2);
    lrk_allocator *allocator = small_set_allocator(&s, &alora);
    lrk_optimizer *optimizer;
    ck_assert_int_eq(lrk_optimizer_create_adamw(s.adapters, NULL, &optimizer), LRK_OK);
    lrk_participant participant = {.struct_size = sizeof participant};
    ck_assert_int_eq(lrk_optimizer_participant(optimizer, &participant), LRK_OK);
    oracle *o = calloc(1, sizeof *o);
    ck_assert_ptr_nonnull(o);
    o->beta1 = 0.85;
    o->beta2 = 0.7;
    for (int step = 0; step < 12; step++) {
        small_set_write_gradients(&s, &random);
        oracle_observe(o, &s, 3);
        for (int e = 0; e < 4 && by_hand; e++)
            ck_assert_int_eq(lrk_estimator_observe(all[e]), LRK_OK);
        if (by_hand)
            observed_fill(&s, &random);
        else
            ck_assert_int_eq(lrk_optimizer_step(optimizer, 0.01), LRK_OK);
        if (step % 3 != 2) continue;
        for (int again = 0; again < 2; again++) { /* a run does not change what the next one sees */
            check_sensitivity(o, &s, all[0], LRK_SENSITIVITY_TRIPLET, false);
            check_sensitivity(o, &s, all[1], LRK_SENSITIVITY_PAIR, true);
        }
        check_taylor(o, all[2], all[3]);
        move_ranks(&s, allocator, &participant, &random);
    }
    free(o);
    for (int e = 0; e < 4; e++)
        lrk_estimator_destroy(all[e]);
    lrk_optimizer_destroy(optimizer);
    lrk_allocator_destroy(allocator);
    small_set_close(&s);
}

START_TEST(averages_follow_their_ranks_under_a_hosts_optimizer)
{
    observe_and_move(true);
}
END_TEST

START_TEST(loranks_optimizer_tells_every_estimator_of_its_set)
{
    observe_and_move(false);
}
END_TEST

START_TEST(magnitude_and_gate_are_read_off_the_parameters)
{
    small_set s;
    uint64_t random = 3;
    small_set_open(&s, observed_shapes, 3, NULL);
    observed_fill(&s, &random);
    lrk_estimator *magnitude, *gate, *reversed;
    ck_assert_int_eq(lrk_estimator_create_magnitude(s.adapters, &magnitude), LRK_OK);
    ck_assert_int_eq(lrk_estimator_create_gate(s.adapters, &gate), LRK_OK);
    ck_assert_int_eq(lrk_estimator_create_reversed(gate, &reversed), LRK_OK);
    lrk_scores *scores = observed_scores(magnitude), *gates = observed_scores(gate),
               *back = observed_scores(reversed);
    int64_t n = number_of(scores, "magnitude");
    ck_assert_int_eq(number_of(gates, "gate"), n);
    ck_assert_int_eq(number_of(back, "reversed.gate"), n);
    for (int64_t k = 0; k < n; k++) {
        lrk_score got = observed_score(scores, k);
        lrk_module_info info = {.struct_size = sizeof info};
        ck_assert_int_eq(lrk_adapters_module(s.adapters, got.module, &info), LRK_OK);
        lrk_tensor a = small_set_tensor(&s, got.module, LRK_TENSOR_A);
        lrk_tensor b = small_set_tensor(&s, got.module, LRK_TENSOR_B);
        double g = (double)small_set_tensor(&s, got.module, LRK_TENSOR_GATES).data[got.index], sum = 0;
        for (int64_t i = 0; i < b.cols; i++) /* the rank's part of the weight, element by element */
            for (int64_t j = 0; j < a.cols; j++)
                sum += pow(info.scale * g * (double)b.data[got.index * b.ld + i] *
                               (double)a.data[got.index * a.ld + j],
                           2);
        ck_assert_double_eq_tol(got.score, sqrt(sum), 64 * DBL_EPSILON * sqrt(sum));
        ck_assert_double_eq(observed_score(gates, k).score, fabs(g));
        ck_assert_double_eq(observed_score(back, k).score, -fabs(g));
    }
    lrk_scores_destroy(scores);
    lrk_scores_destroy(gates);
    lrk_scores_destroy(back);
    lrk_estimator_destroy(gate); /* the reversed one keeps it */
    back = observed_scores(reversed);
    lrk_scores_destroy(back);
    lrk_estimator_destroy(magnitude);
    lrk_estimator_destroy(reversed);
    small_set_close(&s);
}
END_TEST

/* ---- checkpoints ----------------------------------------------------------------------------------------------------------- */

typedef struct saved_set {
    small_set s;
    lrk_estimator *estimators[2];
    lrk_optimizer *optimizer;
    lrk_allocator *allocator;
    lrk_checkpoint *list;
} saved_set;

static void open_saved(saved_set *r, bool reversed)
{
    uint64_t random = 5;
    small_set_open(&r->s, observed_shapes, 3, NULL);
    observed_fill(&r->s, &random);
    r->estimators[0] = observed_sensitivity(&r->s, LRK_SENSITIVITY_TRIPLET, 0, 0.85, 0.85);
    r->estimators[1] = observed_taylor(&r->s, LRK_TAYLOR_SIGNED);
    if (reversed) {
        lrk_estimator *inner = r->estimators[0];
        ck_assert_int_eq(lrk_estimator_create_reversed(inner, &r->estimators[0]), LRK_OK);
        lrk_estimator_destroy(inner);
    }
    lrk_alora_options alora = small_set_alora(2);
    r->allocator = small_set_allocator(&r->s, &alora);
    ck_assert_int_eq(lrk_optimizer_create_adamw(r->s.adapters, NULL, &r->optimizer), LRK_OK);
    ck_assert_int_eq(lrk_checkpoint_create(r->s.context, &r->list), LRK_OK);
    ck_assert_int_eq(lrk_checkpoint_add_adapters(r->list, "set", r->s.adapters), LRK_OK);
    ck_assert_int_eq(lrk_checkpoint_add_optimizer(r->list, "set", r->optimizer), LRK_OK);
    ck_assert_int_eq(lrk_checkpoint_add_allocator(r->list, "set", r->allocator), LRK_OK);
    ck_assert_int_eq(lrk_checkpoint_add_estimator(r->list, "first", r->estimators[0]), LRK_OK);
    ck_assert_int_eq(lrk_checkpoint_add_estimator(r->list, "second", r->estimators[1]), LRK_OK);
}

static void close_saved(saved_set *r)
{
    lrk_checkpoint_destroy(r->list);
    for (int e = 0; e < 2; e++)
        lrk_estimator_destroy(r->estimators[e]);
    lrk_optimizer_destroy(r->optimizer);
    lrk_allocator_destroy(r->allocator);
    small_set_close(&r->s);
}

/* Steps first..last-1, ranks moving after every third; scores of both estimators go to `out` [12 a step]. */
static void go(saved_set *r, int first, int last, double *out)
{
    lrk_participant participant = {.struct_size = sizeof participant};
    ck_assert_int_eq(lrk_optimizer_participant(r->optimizer, &participant), LRK_OK);
    for (int step = first; step < last; step++) {
        uint64_t random = 100 + (uint64_t)step;
        small_set_write_gradients(&r->s, &random);
        ck_assert_int_eq(lrk_optimizer_step(r->optimizer, 0.01), LRK_OK);
        for (int e = 0; e < 2 && step % 2 == 0; e++) {
            lrk_scores *scores = observed_scores(r->estimators[e]);
            for (int64_t i = 0; i < 6; i++)
                out[12 * step + 6 * e + i] = observed_score(scores, i).score;
            lrk_scores_destroy(scores);
        }
        if (step % 3 == 2) move_ranks(&r->s, r->allocator, &participant, &random);
    }
}

static void load_saved(saved_set *r, const resume_bytes *kept)
{
    lrk_reader reader = {.struct_size = sizeof reader};
    lrk_checkpoint_file *file;
    ck_assert_int_eq(lrk_reader_memory(&reader, kept->data, kept->n), LRK_OK);
    ck_assert_int_eq(lrk_checkpoint_open_reader(r->s.context, &reader, NULL, &file), LRK_OK);
    ck_assert_int_eq(lrk_checkpoint_restore(file, r->list, NULL), LRK_OK);
    lrk_checkpoint_close(file);
}

static void resume_at(int step, int before, bool reversed)
{
    double whole[12 * 10] = {0}, parts[12 * 10] = {0};
    saved_set a, b;
    open_saved(&a, reversed);
    go(&a, 0, step, whole);
    resume_bytes kept = resume_save(a.list);
    memcpy(parts, whole, sizeof whole);
    go(&a, step, 10, whole);
    open_saved(&b, reversed);
    double other[12 * 10];
    go(&b, 0, before, other); /* something else was there */
    load_saved(&b, &kept);
    resume_bytes again = resume_save(b.list);
    ck_assert(before > 0 ||
              resume_same(&kept, &again)); /* a set that lived goes on counting its generations */
    go(&b, step, 10, parts);
    ck_assert_mem_eq(whole, parts, sizeof whole);
    resume_bytes end_a = resume_save(a.list), end_b = resume_save(b.list);
    ck_assert(before > 0 || resume_same(&end_a, &end_b));
    free(kept.data);
    free(again.data);
    free(end_a.data);
    free(end_b.data);
    close_saved(&a);
    close_saved(&b);
}

START_TEST(a_resumed_run_scores_bit_for_bit_the_same)
{
    for (int step = 0; step < 10; step++) {
        resume_at(step, 0, step % 2 == 0);
        resume_at(step, 2, step % 2 == 1); /* no rank was added yet: identities are never given twice */
    }
}
END_TEST

Suite *estimators_suite(void)
{
    Suite *suite = suite_create("estimators");
    TCase *tests = tcase_create("estimators");
    tcase_add_test(tests, averages_follow_their_ranks_under_a_hosts_optimizer);
    tcase_add_test(tests, loranks_optimizer_tells_every_estimator_of_its_set);
    tcase_add_test(tests, magnitude_and_gate_are_read_off_the_parameters);
    tcase_add_test(tests, a_resumed_run_scores_bit_for_bit_the_same);
    suite_add_tcase(suite, tests);
    return suite;
}
