/* SPDX-License-Identifier: MIT */
/*
 * Bits that must not depend on threads, on concurrency or on the way; the hot path asks for no memory.
 */
#include <check.h>
#include <pthread.h>
#include <string.h>

#ifdef _OPENMP
#include <omp.h>
#endif

#include "fault.h"
#include "kernels/kernels.h"
#include "trial.h"

Suite *lora_determinism_suite(void);

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

/* ---- determinism ---------------------------------------------------------------------------------------------------------------- */

static trial wide_trial(lrk_context *context, int64_t rows, bool dropout)
{
    return (trial){.context = context,
                   .rows = rows,
                   .n = 2,
                   .shapes = {{300, 200, 6, 1, 0, 1.0}, {300, 130, 3, 1, 0, 1.0}},
                   .dropout = dropout ? 0.2 : 0.0,
                   .saved = true,
                   .backwards = 1};
}

static void check_same_run(const trial *t, const run *a, const run *b)
{
    ck_assert(padded_same(&a->dx, &b->dx));
    for (int32_t i = 0; i < t->n; i++)
        ck_assert(padded_same(&a->y[i], &b->y[i]));
    ck_assert_mem_eq(a->sink->values, b->sink->values, (size_t)a->sink->offsets[t->n] * sizeof(float));
    ck_assert_mem_eq(a->sink->mask_gradients, b->sink->mask_gradients,
                     (size_t)a->sink->n_mask * sizeof(double));
}

static run whole_run(const trial *t)
{
    run r = trial_begin(t, EVERY);
    trial_forward(t, &r);
    trial_backward(t, &r, true);
    return r;
}

START_TEST(bits_do_not_depend_on_the_hosts_threads)
{
    static const int64_t rows[] = {3, 100, 400};
    trial t = wide_trial(counted, rows[_i % 3], _i / 3);
    run serial = whole_run(&t);
    for (f.threads = 2; f.threads <= 3; f.threads++) {
        run parallel = whole_run(&t);
        check_same_run(&t, &serial, &parallel);
        trial_end(&t, &parallel);
    }
    trial_end(&t, &serial);
}
END_TEST

#ifdef _OPENMP
static void check_widths_of_openmp(const trial *t)
{
    static const int widths[] = {2, 3, 5};
    if (t->context == NULL || lrki_blas_has_own_threads()) return;
    omp_set_num_threads(1);
    run serial = whole_run(t);
    for (int i = 0; i < 3; i++) {
        omp_set_num_threads(widths[i]);
        run parallel = whole_run(t);
        check_same_run(t, &serial, &parallel);
        trial_end(t, &parallel);
    }
    trial_end(t, &serial);
}

/* _i: kernels, then rows and dropout */
START_TEST(bits_do_not_depend_on_the_width_of_openmp)
{
    static const int64_t rows[] = {3, 100, 400};
    lrk_context *context = context_of_kernels(_i % N_KERNELS);
    trial t = wide_trial(context, rows[_i / N_KERNELS % 3], _i / N_KERNELS / 3);
    check_widths_of_openmp(&t);
    lrk_context_destroy(context);
}
END_TEST

/* Products that OpenBLAS would split, with other bits, if a small call ran them outside of a parallel loop. */
START_TEST(bits_of_small_products_do_not_depend_on_the_width_of_openmp)
{
    lrk_context *context = context_of_kernels(LRK_KERNELS_BLAS);
    trial t = {.context = context,
               .rows = 6,
               .n = 1,
               .shapes = {{371, 1, 210, LRK_NO_GROUP, 0, 1.0}},
               .saved = true,
               .backwards = 1};
    for (; t.shapes[0].rank < 230; t.shapes[0].rank += 4)
        check_widths_of_openmp(&t);
    lrk_context_destroy(context);
}
END_TEST
#endif

#define WORKERS 3

typedef struct worker {
    lrk_adapters *set;
    lrk_sink *sink;
    uint64_t number;
    lrk_status status;
} worker;

/* One micro-batch into the worker's own sink. */
static void *train(void *argument)
{
    worker *w = argument;
    lrk_pass *pass = NULL;
    int32_t modules[2] = {0, 1};
    lrk_pass_options options = {.struct_size = sizeof options,
                                .mode = LRK_PASS_TRAIN,
                                .gradients = EVERY,
                                .max_rows = 150,
                                .nonce = w->number,
                                .sink = w->sink};
    padded x = padded_make(150, 300, 0, w->number), y0 = padded_make(150, 200, 0, 2),
           y1 = padded_make(150, 130, 0, 3);
    lrk_matrix view = padded_view(&x), dy[2] = {padded_view(&y0), padded_view(&y1)};
    lrk_matrix_mut y[2] = {padded_mut(&y0), padded_mut(&y1)};
    w->status = lrk_pass_begin(w->set, &options, &pass);
    if (w->status == LRK_OK) w->status = lrk_forward(pass, modules, 2, &view, y, NULL, 0);
    if (w->status == LRK_OK) w->status = lrk_backward(pass, modules, 2, &view, NULL, 0, dy, NULL);
    lrk_pass_end(pass);
    padded_free(&x);
    padded_free(&y0);
    padded_free(&y1);
    return NULL;
}

static void train_all(lrk_adapters *set, worker *workers, bool concurrent)
{
    pthread_t threads[WORKERS];
    for (uint64_t i = 0; i < WORKERS; i++) {
        workers[i] = (worker){.set = set, .number = i + 1, .status = LRK_ERR_STATE};
        ck_assert_int_eq(lrk_sink_create(set, EVERY, &workers[i].sink), LRK_OK);
        if (concurrent)
            ck_assert_int_eq(pthread_create(&threads[i], NULL, train, &workers[i]), 0);
        else
            train(&workers[i]);
    }
    for (int i = 0; i < WORKERS; i++) {
        if (concurrent) pthread_join(threads[i], NULL);
        ck_assert_int_eq(workers[i].status, LRK_OK);
    }
}

/* _i: kernels */
START_TEST(concurrent_passes_equal_serial_ones)
{
    if (lrki_skinny_find(_i) == NULL) return;
    lrk_context_destroy(counted);
    f.kernels = _i;
    counted = fault_context(&f);
    trial t = wide_trial(counted, 1, true);
    lrk_adapters *set = set_make(counted, t.shapes, 2, 0.2, 0);
    set_fill(set, 3);
    worker serial[WORKERS], concurrent[WORKERS];
    f.threads = 2;
    train_all(set, serial, false);
    train_all(set, concurrent, true);
    int64_t n = serial[0].sink->offsets[2];
    for (int i = 0; i < WORKERS; i++) {
        ck_assert_mem_eq(serial[i].sink->values, concurrent[i].sink->values, (size_t)n * sizeof(float));
        ck_assert_mem_eq(serial[i].sink->mask_gradients, concurrent[i].sink->mask_gradients,
                         9 * sizeof(double));
    }
    ck_assert(!set->modules[0].has_gradient);
    for (int i = 0; i < WORKERS; i++)
        ck_assert_int_eq(lrk_sink_accumulate(concurrent[i].sink, 0.5), LRK_OK);
    float sum = 0.0f;
    for (int i = 0; i < WORKERS; i++)
        sum = (float)((double)sum + 0.5 * (double)serial[i].sink->values[0]);
    ck_assert_float_eq(set->modules[0].bank.grad_a[0], sum);
    ck_assert(set->modules[0].has_gradient && set->modules[1].has_gradient);
    ck_assert_int_eq(set->open_passes, 0);
    for (int i = 0; i < WORKERS; i++) {
        lrk_sink_destroy(serial[i].sink);
        lrk_sink_destroy(concurrent[i].sink);
    }
    lrk_adapters_destroy(set);
}
END_TEST

START_TEST(the_hot_path_does_not_allocate)
{
    trial t = wide_trial(counted, 200, true);
    run r = trial_begin(&t, EVERY);
    int64_t before = f.alloc.calls;
    trial_forward(&t, &r);
    trial_backward(&t, &r, true);
    ck_assert_int_eq(f.alloc.calls, before);
    lrk_pass_options options = pass_options(200);
    options.mask = r.mask;
    lrk_pass_end(r.pass);
    r.pass = pass_open(r.set, options); /* the ended pass and its workspace serve again */
    ck_assert_int_eq(f.alloc.calls, before);
    trial_end(&t, &r);
}
END_TEST

/* A second lane of backward costs sums as large as dA and dB; it is worth them from 17 rows on. */
START_TEST(backward_of_few_rows_is_one_task)
{
    static const int64_t rows[] = {16, 17};
    lrk_host host = fault_host(&f);
    lrk_context *context = NULL;
    host.kernels = LRK_KERNELS_AUTO;
    ck_assert_int_eq(lrk_context_create(&host, &context, NULL, 0), LRK_OK);
    for (int i = 0; i < 2; i++) {
        trial t = {.context = context,
                   .rows = rows[i],
                   .n = 1,
                   .shapes = {{1100, 900, 24, LRK_NO_GROUP, 0, 1.0}},
                   .saved = true,
                   .backwards = 1};
        run r = trial_begin(&t, EVERY);
        trial_forward(&t, &r);
        int64_t before = f.loop.calls;
        trial_backward(&t, &r, true);
        ck_assert_int_eq(f.loop.calls > before, rows[i] > 16);
        trial_end(&t, &r);
        check_trial(&t);
    }
    lrk_context_destroy(context);
}
END_TEST

static void expect_loops_above(int64_t limit, shape wide)
{
    lrk_host host = fault_host(&f);
    lrk_context *context = NULL;
    host.kernels = LRK_KERNELS_AUTO;
    ck_assert_int_eq(lrk_context_create(&host, &context, NULL, 0), LRK_OK);
    for (int64_t rows = limit; rows <= limit + 1; rows++) {
        trial t = {.context = context, .rows = rows, .n = 1, .shapes = {wide}, .saved = true};
        run r = trial_begin(&t, EVERY);
        int64_t before = f.loop.calls;
        trial_forward(&t, &r);
        ck_assert_int_eq(f.loop.calls > before, rows > limit);
        trial_end(&t, &r);
    }
    lrk_context_destroy(context);
}

/* One chunk is not worth a loop, however wide it is. */
START_TEST(a_lone_chunk_is_no_loop)
{
    expect_loops_above(8, (shape){4900, 4700, 24, LRK_NO_GROUP, 0, 1.0});
}
END_TEST

/* Of few rows a second thread reads all rank rows for little, so that twice the work stays on one. */
START_TEST(few_rows_are_split_later)
{
    expect_loops_above(16, (shape){1300, 1100, 24, LRK_NO_GROUP, 0, 1.0});
}
END_TEST

Suite *lora_determinism_suite(void)
{
    Suite *suite = suite_create("lora_determinism");
    TCase *tc = tcase_create("lora_determinism");
    tcase_add_checked_fixture(tc, setup, teardown);
    tcase_set_timeout(tc, 60);
    tcase_add_loop_test(tc, bits_do_not_depend_on_the_hosts_threads, 0, 6);
#ifdef _OPENMP
    tcase_add_loop_test(tc, bits_do_not_depend_on_the_width_of_openmp, 0, 6 * N_KERNELS);
    tcase_add_test(tc, bits_of_small_products_do_not_depend_on_the_width_of_openmp);
#endif
    tcase_add_loop_test(tc, concurrent_passes_equal_serial_ones, 0, N_KERNELS);
    tcase_add_test(tc, the_hot_path_does_not_allocate);
    tcase_add_test(tc, backward_of_few_rows_is_one_task);
    tcase_add_test(tc, a_lone_chunk_is_no_loop);
    tcase_add_test(tc, few_rows_are_split_later);
    suite_add_tcase(suite, tc);
    return suite;
}
