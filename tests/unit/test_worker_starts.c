/* SPDX-License-Identifier: MIT */
/*
 * Starts with several workers, each fed its own share: what they gather against sums and additions in the workers' order, the
 * same plan bit for bit by every start, every difference found, and every failure (an exchange, memory, a loop) brought to all,
 * with sets and what was fed as before.
 */
#include <check.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "adapters/pca.h"
#include "adapters/set.h"
#include "adapters/sketch.h"
#include "configs.h"
#include "core/context.h"
#include "material.h"
#include "pca_rig.h"
#include "ring.h"
#include "sketch_rig.h"

#define N    4
#define ROWS 30
#define K    12 /* directions */

/* More words than an exchange holds, in the sums as in the components of the first input. */
static const shape shapes[N] = {{600, 30, 2, 0, 0, 1.0},
                                {600, 24, 2, 0, 0, 1.0},
                                {15, 15, 2, LRK_NO_GROUP, 1, 0.5},
                                {24, 30, 2, LRK_NO_GROUP, 1, 2.0}};

enum kind {
    GRADIENT,
    GRADIENT_OF_CONFIG,
    LORA_GA,
    LORA_ONE,
    GORA,
    EVA,
    EVA_OF_CONFIG,
    GELORA,
    GELORA_OF_CONFIG,
    PISSA,
    OLORA,
    ORTHOGONAL,
    N_KINDS
};

/* A worker's own set, and what it makes a plan of. */
typedef struct worker {
    lrk_adapters *set;
    lrk_sketch *sketch;
    lrk_pca *pca;
    lrk_config *config;
    float *weights[N];
    double dimensions[3];
    uint64_t seed;
    int64_t step;
    bool gathered; /* or: need not be */
    lrk_plan *plan;
    uint64_t digest;
} worker;

static worker workers[RING_MOST];
static enum kind kind;

static bool is_sketched(void)
{
    return kind <= GORA;
}

static bool is_pca(void)
{
    return kind == EVA || kind == EVA_OF_CONFIG;
}

static void feed(worker *w, int32_t share)
{
    for (int32_t i = 0; i < N; i++) {
        uint64_t seed = 10 * (uint64_t)share + (shapes[i].group == 0 ? 0 : (uint64_t)i);
        padded x = pca_rows(ROWS, shapes[i].n_in < PCA_MOST ? shapes[i].n_in : PCA_MOST, 0.9, seed);
        padded wide = padded_make(ROWS, shapes[i].n_in, 0, seed);
        padded dy = padded_make(ROWS, shapes[i].n_out, 0, 100 + seed + (uint64_t)i);
        const padded *rows = shapes[i].n_in > PCA_MOST ? &wide : &x;
        if (is_sketched()) ck_assert_int_eq(sketch_feed_one(w->set, w->sketch, i, rows, &dy), LRK_OK);
        if (is_pca() && i != 1) ck_assert_int_eq(pca_feed_one(w->set, w->pca, i, rows), LRK_OK);
        padded_free(&dy);
        padded_free(&wide);
        padded_free(&x);
    }
}

static lrk_config *parse(lrk_context *context)
{
    const char *name = kind == EVA_OF_CONFIG ? "eva" : kind == GELORA_OF_CONFIG ? "gelora" : "gradient";
    char text[256];
    snprintf(text, sizeof text,
             "start: {kind: %s}\nallocation: {policy: fixed, limits: [{pattern: \"m*\", cap: 9}]}\n", name);
    return configs_parse(context, text, NULL, 0);
}

static void open_worker(worker *w, lrk_context *context, int32_t share)
{
    *w = (worker){.dimensions = {3, 5, 6}, .seed = 4, .gathered = true};
    w->set = set_make(context, shapes, N, 0, 0);
    set_fill(w->set, 1);
    w->config = parse(context);
    for (int i = 0; i < N; i++) {
        w->weights[i] = malloc((size_t)(shapes[i].n_in * shapes[i].n_out) * sizeof(float));
        random_floats(w->weights[i], shapes[i].n_in * shapes[i].n_out, 50 + (uint64_t)i);
    }
    lrk_sketch_options o = sketch_options(K);
    if (is_sketched()) w->sketch = sketch_make(w->set, &o);
    if (is_pca()) ck_assert_int_eq(lrk_pca_create(w->set, NULL, &w->pca), LRK_OK);
    if (is_sketched() || is_pca()) w->gathered = false;
    feed(w, share);
}

static void close_worker(worker *w)
{
    if (w->plan != NULL) (void)lrk_plan_abandon(w->plan);
    lrk_plan_destroy(w->plan);
    for (int i = 0; i < N; i++)
        free(w->weights[i]);
    lrk_config_destroy(w->config);
    lrk_sketch_destroy(w->sketch);
    lrk_pca_destroy(w->pca);
    lrk_adapters_destroy(w->set);
}

static ring *open_ring(int32_t n, enum kind of)
{
    kind = of;
    ring *r = ring_create(n);
    for (int32_t w = 0; w < n; w++)
        open_worker(&workers[w], r->seats[w].table->context, w);
    return r;
}

static void close_ring(ring *r)
{
    for (int32_t w = 0; w < r->n; w++)
        close_worker(&workers[w]);
    ring_destroy(r);
}

/* ---- the calls --------------------------------------------------------------------------------------------------------- */

static int32_t give_weight(void *user, int32_t module, lrk_weight *weight)
{
    weight->data = ((const worker *)user)->weights[module];
    return 0;
}

static lrk_status gather_fed(worker *w)
{
    lrk_status status = LRK_OK;
    if (!w->gathered) status = is_sketched() ? lrk_sketch_gather(w->sketch) : lrk_pca_gather(w->pca);
    if (status == LRK_OK) w->gathered = true;
    return status;
}

static lrk_status plan_of(worker *w, lrk_plan **plan)
{
    lrk_gradient_init_options init;
    lrk_weight_start_options from;
    lrk_gora_options gora;
    (void)lrk_gora_options_init(&gora, sizeof gora);
    (void)lrk_gradient_init_options_init(&init, sizeof init);
    (void)lrk_weight_start_options_init(&from, sizeof from);
    init.method = kind == LORA_GA ? LRK_GRADIENT_INIT_LORA_GA : LRK_GRADIENT_INIT_LORA_ONE;
    from.method = (int32_t)kind - PISSA + LRK_WEIGHT_START_PISSA;
    from.weight = give_weight;
    from.user = w;
    from.seed = w->seed;
    gora.weight = give_weight;
    gora.user = w;
    switch (kind) {
    case GRADIENT:
        return lrk_gradient_start_plan(w->sketch, NULL, w->step, plan);
    case GRADIENT_OF_CONFIG:
        return lrk_config_plan_start(w->config, w->sketch, w->step, plan);
    case LORA_GA:
    case LORA_ONE:
        return lrk_gradient_init_plan(w->sketch, &init, w->step, plan);
    case GORA:
        return lrk_gora_plan(w->sketch, &gora, w->step, plan);
    case EVA:
        return lrk_eva_plan(w->pca, NULL, w->step, plan);
    case EVA_OF_CONFIG:
        return lrk_config_plan_eva(w->config, w->pca, w->step, plan);
    case GELORA:
        return lrk_gelora_plan(w->set, w->dimensions, 3, NULL, w->step, plan);
    case GELORA_OF_CONFIG:
        return lrk_config_plan_gelora(w->config, w->set, w->dimensions, 3, w->step, plan);
    default:
        return lrk_weight_start_plan(w->set, &from, w->step, plan);
    }
}

static lrk_status start(worker *w)
{
    lrk_status status = gather_fed(w);
    if (status == LRK_OK && w->plan == NULL) status = plan_of(w, &w->plan);
    if (status == LRK_OK) status = lrk_plan_digest(w->plan, &w->digest);
    if (status == LRK_OK) status = lrk_plan_prepare(w->plan, NULL, 0);
    return status == LRK_OK ? lrk_plan_commit(w->plan) : status;
}

static void run(ring_seat *seat)
{
    seat->statuses[0] = start(&workers[seat->worker]);
    lrk_context_error(seat->table->context, seat->words[0], sizeof seat->words[0]);
}

/* All have begun, with the same ranks and values. */
static uint64_t expect_started(ring *r)
{
    for (int32_t w = 0; w < r->n; w++) {
        ck_assert_msg(r->seats[w].statuses[0] == LRK_OK, "kind %d, worker %d of %d: %s", (int)kind, (int)w,
                      (int)r->n, r->seats[w].words[0]);
        ck_assert_uint_eq(workers[w].digest, workers[0].digest);
        ck_assert_uint_eq(sets_digest(workers[w].set), sets_digest(workers[0].set));
    }
    return workers[0].digest;
}

/* What must be as it was after a failure. */
static uint64_t held_by(const worker *w)
{
    uint64_t hash = sets_digest(w->set);
    if (w->sketch != NULL) {
        hash = lrki_hash_floats(hash, w->sketch->sums, w->sketch->n_sums);
        hash = lrki_hash_doubles(hash, w->sketch->measures, N * LRKI_MEASURES);
    }
    return w->pca != NULL ? lrki_hash_doubles(hash, w->pca->state, w->pca->n_state) : hash;
}

/* ---- the same plan ------------------------------------------------------------------------------------------------------ */

START_TEST(every_start_is_the_same_on_all_workers)
{
    for (int32_t n = 1; n <= RING_MOST; n++) {
        ring *r = open_ring(n, (enum kind)_i);
        uint64_t before = sets_digest(workers[0].set);
        ring_each(r, run);
        expect_started(r);
        ck_assert_uint_ne(sets_digest(workers[0].set), before);
        close_ring(r);
    }
}
END_TEST

START_TEST(sketches_are_added_in_double_in_the_order_of_workers)
{
    ring *r = open_ring(3, GRADIENT);
    int64_t n = workers[0].sketch->n_sums, n_measures = N * LRKI_MEASURES;
    ck_assert_int_gt(n, 4096);
    float *sums = malloc((size_t)n * sizeof *sums);
    double measures[N * LRKI_MEASURES] = {0};
    for (int64_t i = 0; i < n; i++) {
        double sum = 0;
        for (int w = 0; w < 3; w++)
            sum += (double)workers[w].sketch->sums[i];
        sums[i] = (float)sum;
    }
    for (int64_t i = 0; i < n_measures; i++)
        for (int w = 0; w < 3; w++)
            measures[i] += workers[w].sketch->measures[i];
    ring_each(r, run);
    expect_started(r);
    for (int w = 0; w < 3; w++) {
        ck_assert_int_eq(memcmp(workers[w].sketch->sums, sums, (size_t)n * sizeof *sums), 0);
        ck_assert_int_eq(memcmp(workers[w].sketch->measures, measures, sizeof measures), 0);
    }
    ck_assert(workers[0].sketch->measures[0] == 3 * ROWS);
    free(sums);
    close_ring(r);
}
END_TEST

START_TEST(components_are_added_in_the_order_of_workers)
{
    ring *r = open_ring(3, EVA);
    lrk_pca *wanted;
    ck_assert_int_eq(lrk_pca_create(workers[0].set, NULL, &wanted), LRK_OK);
    ck_assert_int_gt(LRKI_PCA_SCALARS + wanted->groups[0].n_in * (1 + wanted->groups[0].k), 2048);
    for (int w = 0; w < 3; w++)
        ck_assert_int_eq(lrk_pca_add(wanted, workers[w].pca->state, wanted->n_state), LRK_OK);
    ring_each(r, run);
    expect_started(r);
    for (int w = 0; w < 3; w++)
        ck_assert_int_eq(
            memcmp(workers[w].pca->state, wanted->state, (size_t)wanted->n_state * sizeof(double)), 0);
    lrk_pca_destroy(wanted);
    close_ring(r);
}
END_TEST

START_TEST(one_worker_that_was_fed_all_differs_by_rounding_alone)
{
    const int64_t take = 4; /* singular values of the first module */
    double alone[4], many[4];
    ring *r = open_ring(1, GRADIENT);
    for (int32_t share = 1; share < 3; share++)
        feed(&workers[0], share);
    ck_assert_int_eq(lrk_sketch_spectrum(workers[0].sketch, 0, take, alone, NULL, NULL, NULL), LRK_OK);
    ring_each(r, run);
    expect_started(r);
    int64_t ranks[N];
    for (int32_t i = 0; i < N; i++)
        ranks[i] = sets_rank(workers[0].set, i);
    double rows = workers[0].sketch->measures[0], x2 = workers[0].sketch->measures[2],
           dy2 = workers[0].sketch->measures[3];
    close_ring(r);
    r = open_ring(3, GRADIENT);
    ring_each(r, run);
    expect_started(r);
    for (int32_t i = 0; i < N; i++)
        ck_assert_int_eq(sets_rank(workers[1].set, i), ranks[i]);
    ck_assert_int_eq(lrk_sketch_spectrum(workers[2].sketch, 0, take, many, NULL, NULL, NULL), LRK_OK);
    /* both sums err by no more than what sketch.h counts as rounding, of the sketches of either run */
    double bound = 2 * 8 * 0x1p-24 * fmax(sqrt(x2 * dy2), sqrt(rows + 630) * alone[0]);
    for (int64_t i = 0; i < take; i++)
        ck_assert_double_le(fabs(many[i] - alone[i]), bound);
    close_ring(r);
}
END_TEST

START_TEST(what_is_not_finite_travels_and_is_refused_on_all)
{
    ring *r = open_ring(3, GRADIENT);
    workers[1].sketch->sums[5000] = NAN;
    workers[2].sketch->measures[2] = INFINITY;
    ring_each(r, run);
    for (int32_t w = 0; w < 3; w++)
        ck_assert_int_eq(r->seats[w].statuses[0], LRK_ERR_NONFINITE);
    close_ring(r);
    r = open_ring(2, EVA);
    workers[1].pca->groups[0].scalars[1] = NAN;
    ring_each(r, run);
    for (int32_t w = 0; w < 2; w++)
        ck_assert_int_eq(r->seats[w].statuses[0], LRK_ERR_NONFINITE);
    close_ring(r);
}
END_TEST

/* ---- differences --------------------------------------------------------------------------------------------------------- */

/* Nobody began, and all say so with these words. */
static void expect_difference(ring *r, const char *words)
{
    uint64_t before[RING_MOST];
    for (int32_t w = 0; w < r->n; w++)
        before[w] = held_by(&workers[w]);
    ring_each(r, run);
    for (int32_t w = 0; w < r->n; w++) {
        ck_assert_ptr_null(workers[w].plan);
        ck_assert_uint_eq(held_by(&workers[w]), before[w]);
        ck_assert_int_eq(r->seats[w].statuses[0], LRK_ERR_WORKERS);
        ck_assert_msg(strstr(r->seats[w].words[0], "worker 1 differs from worker 0 in") != NULL &&
                          strstr(r->seats[w].words[0], words) != NULL,
                      "%s", r->seats[w].words[0]);
    }
}

static void gather_all(ring_seat *seat)
{
    seat->statuses[0] = gather_fed(&workers[seat->worker]);
}

START_TEST(an_altered_worker_is_found_by_all_and_none_begins)
{
    static const char *const words[N_KINDS] = {"what the sketch was fed",
                                               "what the sketch was fed",
                                               "what the sketch was fed",
                                               "what the sketch was fed",
                                               "what the sketch was fed",
                                               "what the components were fed",
                                               "what the components were fed",
                                               "the dimensions",
                                               "the dimensions",
                                               "the plan",
                                               "the plan",
                                               "the plan"};
    ring *r = open_ring(3, (enum kind)_i);
    worker *w = &workers[1];
    ring_each(r, gather_all);
    float *sum = w->sketch != NULL ? &w->sketch->sums[w->sketch->n_sums - 1] : NULL, held = 0;
    double *value = w->pca != NULL ? &w->pca->state[w->pca->n_state - 1] : &w->dimensions[1], kept = *value;
    if (sum != NULL) {
        held = *sum;
        *sum = nextafterf(held, 1e9f);
    }
    *value = nextafter(kept, 1e9);
    w->weights[3][7] *= 1.5f;
    w->seed = 5;
    expect_difference(r, words[_i]);
    if (sum != NULL) *sum = held;
    *value = kept;
    w->weights[3][7] = workers[0].weights[3][7];
    w->seed = 4;
    w->step = 9;
    expect_difference(r, "the step");
    w->step = 0;
    ring_each(r, run);
    expect_started(r);
    close_ring(r);
}
END_TEST

START_TEST(workers_that_did_not_gather_are_told)
{
    for (int i = 0; i < 2; i++) {
        ring *r = open_ring(2, i == 0 ? GRADIENT : EVA);
        workers[0].gathered = workers[1].gathered = true;
        expect_difference(r, i == 0 ? "what the sketch was fed" : "what the components were fed");
        workers[0].gathered = workers[1].gathered = false;
        ring_each(r, run);
        expect_started(r);
        close_ring(r);
    }
}
END_TEST

START_TEST(objects_of_another_kind_are_not_added)
{
    ring *r;
    for (int i = 0; i < 3; i++) {
        lrk_sketch_options o = sketch_options(i == 0 ? K - 1 : K);
        o.samples = 2 * K + (i == 1 ? 2 : 1);
        o.seed += i == 2;
        r = open_ring(2, GRADIENT);
        lrk_sketch_destroy(workers[1].sketch);
        workers[1].sketch = sketch_make(workers[1].set, &o);
        expect_difference(r, "the sketch's seed, directions, samples or modules");
        close_ring(r);
    }
    r = open_ring(2, EVA);
    lrk_pca_options p;
    (void)lrk_pca_options_init(&p, sizeof p);
    p.rho = 1;
    lrk_pca_destroy(workers[1].pca);
    ck_assert_int_eq(lrk_pca_create(workers[1].set, &p, &workers[1].pca), LRK_OK);
    expect_difference(r, "the modules or their numbers of components");
    close_ring(r);
}
END_TEST

START_TEST(nothing_is_gathered_twice)
{
    for (int32_t n = 1; n <= 2; n++)
        for (int i = 0; i < 2; i++) {
            ring *r = open_ring(n, i == 0 ? GRADIENT : EVA);
            ring_each(r, gather_all);
            uint64_t before = held_by(&workers[0]);
            workers[0].gathered = workers[1].gathered = false;
            ring_each(r, run);
            for (int32_t w = 0; w < n; w++) {
                ck_assert_int_eq(r->seats[w].statuses[0], LRK_ERR_STATE);
                ck_assert_ptr_nonnull(strstr(r->seats[w].words[0], "already holds"));
                ck_assert_uint_eq(held_by(&workers[w]), before);
            }
            for (int32_t w = 0; w < n && i == 0; w++) { /* zero: from the beginning */
                ck_assert_int_eq(lrk_sketch_zero(workers[w].sketch), LRK_OK);
                feed(&workers[w], w);
            }
            if (i == 0) ring_each(r, run);
            if (i == 0) expect_started(r);
            close_ring(r);
        }
    ck_assert_int_eq(lrk_sketch_gather(NULL), LRK_ERR_ARGUMENT);
    ck_assert_int_eq(lrk_pca_gather(NULL), LRK_ERR_ARGUMENT);
}
END_TEST

START_TEST(what_an_open_pass_feeds_is_busy_for_all)
{
    ring *r = open_ring(2, GRADIENT);
    lrk_pass *pass = sketch_pass(workers[1].set, workers[1].sketch, ROWS);
    ring_each(r, run);
    ck_assert_int_eq(r->seats[1].statuses[0], LRK_ERR_BUSY);
    ck_assert_int_eq(r->seats[0].statuses[0], LRK_ERR_WORKERS);
    lrk_pass_end(pass);
    ring_each(r, run);
    expect_started(r);
    close_ring(r);
}
END_TEST

/* ---- failures ------------------------------------------------------------------------------------------------------------- */

static uint64_t clean_digest(int32_t n, enum kind of)
{
    ring *r = open_ring(n, of);
    ring_each(r, run);
    uint64_t digest = expect_started(r);
    close_ring(r);
    return digest;
}

/* Sets are as before; so is what was fed, unless it was gathered by now, the same on all; then all begin as ever. */
static void expect_unharmed(ring *r, const uint64_t *held, const uint64_t *sets, uint64_t wanted)
{
    for (int32_t w = 0; w < r->n; w++) {
        ck_assert_uint_eq(sets_digest(workers[w].set), sets[w]);
        ck_assert_int_eq(workers[w].gathered, workers[0].gathered);
        if (!workers[w].gathered) ck_assert_uint_eq(held_by(&workers[w]), held[w]);
        ck_assert_int_eq(workers[w].plan == NULL, workers[0].plan == NULL);
    }
    ring_each(r, run);
    ck_assert_uint_eq(expect_started(r), wanted);
}

static void remember(const ring *r, uint64_t *held, uint64_t *sets)
{
    for (int32_t w = 0; w < r->n; w++) {
        held[w] = held_by(&workers[w]);
        sets[w] = sets_digest(workers[w].set);
    }
}

START_TEST(every_exchange_may_break)
{
    uint64_t wanted = clean_digest(2, (enum kind)_i), held[2], sets[2];
    int32_t k = 0;
    for (bool failed = true; failed; k++) {
        ring *r = open_ring(2, (enum kind)_i);
        remember(r, held, sets);
        r->seats[0].fail_gather = r->seats[1].fail_gather = k;
        ring_each(r, run);
        failed = r->seats[0].fail_gather == -1;
        for (int32_t w = 0; w < 2 && failed; w++)
            ck_assert_int_eq(r->seats[w].statuses[0], LRK_ERR_HOST);
        if (failed) expect_unharmed(r, held, sets, wanted);
        close_ring(r);
    }
    ck_assert_int_gt(k,
                     _i <= EVA_OF_CONFIG ? 5 : 3); /* the plan's, two of prepare; and of what is gathered */
}
END_TEST

static void fail_one_by_one(enum kind of, bool loops, lrk_status own)
{
    uint64_t wanted = clean_digest(2, of), held[2], sets[2];
    int64_t failures = 0;
    for (bool failed = true; failed; failures += failed) {
        ring *r = open_ring(2, of);
        fault *host = &r->seats[1].table->fault;
        fault_counter *counter = loops ? &host->loop : &host->alloc;
        remember(r, held, sets);
        counter->fail_at = counter->calls + failures;
        ring_each(r, run);
        failed = counter->calls > counter->fail_at;
        counter->fail_at = -1;
        if (failed) {
            ck_assert_msg(r->seats[1].statuses[0] == own, "%s", r->seats[1].words[0]);
            ck_assert_msg(r->seats[0].statuses[0] == LRK_ERR_WORKERS, "%s", r->seats[0].words[0]);
            ck_assert_ptr_nonnull(strstr(r->seats[0].words[0], "worker 1 of 2 failed"));
            expect_unharmed(r, held, sets, wanted);
        }
        close_ring(r);
    }
    ck_assert_int_gt(failures, 2);
}

START_TEST(memory_that_one_worker_lacks_fails_for_all)
{
    fail_one_by_one((enum kind)_i, false, LRK_ERR_NOMEM);
}
END_TEST

START_TEST(a_loop_that_fails_on_one_worker_fails_for_all)
{
    fail_one_by_one((enum kind)_i, true, LRK_ERR_HOST);
}
END_TEST

Suite *worker_starts_suite(void)
{
    Suite *suite = suite_create("worker_starts");
    TCase *same = tcase_create("same");
    tcase_add_loop_test(same, every_start_is_the_same_on_all_workers, 0, N_KINDS);
    tcase_add_test(same, sketches_are_added_in_double_in_the_order_of_workers);
    tcase_add_test(same, components_are_added_in_the_order_of_workers);
    tcase_add_test(same, one_worker_that_was_fed_all_differs_by_rounding_alone);
    tcase_add_test(same, what_is_not_finite_travels_and_is_refused_on_all);
    suite_add_tcase(suite, same);
    TCase *differences = tcase_create("differences");
    tcase_add_loop_test(differences, an_altered_worker_is_found_by_all_and_none_begins, 0, N_KINDS);
    tcase_add_test(differences, workers_that_did_not_gather_are_told);
    tcase_add_test(differences, objects_of_another_kind_are_not_added);
    tcase_add_test(differences, nothing_is_gathered_twice);
    tcase_add_test(differences, what_an_open_pass_feeds_is_busy_for_all);
    suite_add_tcase(suite, differences);
    TCase *failures = tcase_create("failures");
    tcase_set_timeout(failures, 120);
    tcase_add_loop_test(failures, every_exchange_may_break, 0, N_KINDS);
    tcase_add_loop_test(failures, memory_that_one_worker_lacks_fails_for_all, 0, N_KINDS);
    tcase_add_loop_test(failures, a_loop_that_fails_on_one_worker_fails_for_all, EVA, GELORA);
    suite_add_tcase(suite, failures);
    return suite;
}
