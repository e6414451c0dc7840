/* SPDX-License-Identifier: MIT */
/*
 * Passes under every choice of kernels that this processor runs: all types of activations, all ranks around the borders
 * of groups and of the GEMM, all numbers of rows around the borders of chunks, masks with holes; bits and memory.
 */
#include <check.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "fault.h"
#include "kernels/skinny.h"
#include "trial.h"

Suite *lora_kernels_suite(void);

#define KERNELS (LRK_KERNELS_NEON + 1)

static fault f;
static lrk_context *context; /* NULL: the processor lacks these kernels */

static void open_kernels(int32_t kernels)
{
    fault_reset(&f);
    f.kernels = kernels;
    context = lrki_skinny_find(kernels) != NULL ? fault_context(&f) : NULL;
}

static void close_kernels(void)
{
    lrk_context_destroy(context);
    ck_assert_int_eq(f.live, 0);
    ck_assert(!f.bad_release);
}

static const int64_t some_ranks[] = {1, 2, 3, 4, 5, 7, 8, 9, 11, 13, 16, 17, 24, 31, 33, 64, 65, 70, 129};
static const int64_t some_rows[] = {1, 2, 3, 4, 5, 8, 9, 16, 17, 63, 64, 65, 127, 128, 129, 200, 333};
static const int64_t some_dims[] = {1, 7, 16, 65, 130, 800, 1030};

#define COUNT(array) (int)(sizeof(array) / sizeof(array)[0])

/* A trial of one module, all of whose traits are drawn from `draw`. */
static trial drawn(uint64_t draw)
{
    trial t = {.context = context, .n = 1, .backwards = 1};
    t.rows = some_rows[draw % (uint64_t)COUNT(some_rows)];
    shape *s = &t.shapes[0];
    *s = (shape){
        .rank = some_ranks[draw / 17 % (uint64_t)COUNT(some_ranks)], .group = LRK_NO_GROUP, .scale = 0.75};
    s->n_in = some_dims[draw / 323 % (uint64_t)COUNT(some_dims)];
    s->n_out = some_dims[draw / 2261 % (uint64_t)COUNT(some_dims)];
    /* the oracle's time: it takes the product of all four */
    while (t.rows * s->rank * (s->n_in + s->n_out) > 400000) {
        if (s->n_in + s->n_out > 300)
            s->n_in = s->n_out = 65;
        else if (t.rows > 65)
            t.rows = 65;
        else
            s->rank = 17;
    }
    draw = draw * 0x9E3779B97F4A7C15u >> 20;
    t.x_type = (int32_t)(draw % 3);
    t.y_type = (int32_t)(draw / 3 % 3);
    t.dy_type = (int32_t)(draw / 9 % 3);
    t.mask = s->rank > 1 ? (int32_t)(draw / 27 % 5) : LRKI_MASK_ALL; /* masks of one rank mean the second */
    t.saved = draw / 135 % 2;
    t.dropout = draw / 270 % 3 == 0 ? 0.3 : 0.0;
    t.gradients = draw / 810 % 2 ? LRK_GRAD_PARAMETERS : EVERY;
    return t;
}

/* _i: kernels, then a part of the draws */
START_TEST(drawn_calls_agree_with_the_oracle)
{
    open_kernels(_i % KERNELS);
    for (uint64_t i = 0; i < 60 && context != NULL; i++) {
        trial t = drawn((uint64_t)(_i / KERNELS) * 1000003u + i * 7919u);
        check_trial(&t);
    }
    close_kernels();
}
END_TEST

/* Every rank up to two groups and one, at rows of one chunk, of several, and of few. _i: kernels, then rows */
START_TEST(every_small_rank_agrees_with_the_oracle)
{
    static const int64_t rows[] = {1, 3, 40, 130};
    open_kernels(_i % KERNELS);
    for (int64_t rank = 1; rank <= 17 && context != NULL; rank++) {
        trial t = {.context = context,
                   .rows = rows[_i / KERNELS],
                   .n = 1,
                   .shapes = {{45, 61, rank, LRK_NO_GROUP, 0, -1.5}},
                   .saved = rank % 2,
                   .backwards = 2,
                   .x_type = (int32_t)(rank % 3),
                   .y_type = (int32_t)(rank / 3 % 3),
                   .dy_type = (int32_t)(rank / 2 % 3)};
        check_trial(&t);
    }
    close_kernels();
}
END_TEST

/* _i: kernels, then mask form x dropout */
START_TEST(groups_agree_with_the_oracle)
{
    open_kernels(_i % KERNELS);
    if (context != NULL) {
        int choice = _i / KERNELS;
        trial t = group_trial(context, 129);
        t.mask = choice % 5;
        t.dropout = choice / 5 ? 0.4 : 0.0;
        t.saved = choice % 2;
        t.backwards = 2;
        t.x_type = choice % 3;
        t.y_type = (choice + 1) % 3;
        t.dy_type = (choice + 2) % 3;
        check_trial(&t);
    }
    close_kernels();
}
END_TEST

/* ---- bits ------------------------------------------------------------------------------------------------------------------ */

static trial wide_trial(int32_t type, int64_t rows)
{
    return (trial){.context = context,
                   .rows = rows,
                   .n = 2,
                   .shapes = {{300, 200, 11, 1, 0, 1.0}, {300, 1030, 3, 1, 0, 1.0}},
                   .dropout = rows % 2 ? 0.2 : 0.0,
                   .saved = true,
                   .backwards = 1,
                   .x_type = type,
                   .y_type = type,
                   .dy_type = type};
}

static run whole_run(const trial *t)
{
    run r = trial_begin(t, EVERY);
    trial_forward(t, &r);
    trial_backward(t, &r, true);
    return r;
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

/* Tasks in reverse order, one after another. */
static int32_t backwards_for(void *user, int64_t n, void (*task)(void *data, int64_t index), void *data)
{
    (void)user;
    for (int64_t i = n; i > 0; i--)
        task(data, i - 1);
    return 0;
}

/* _i: kernels, then type */
START_TEST(bits_do_not_depend_on_threads_or_the_order_of_tasks)
{
    static const int64_t rows[] = {33, 100, 400, 1100};
    open_kernels(_i % KERNELS);
    for (int i = 0; i < COUNT(rows) && context != NULL; i++) {
        f.threads = 1;
        trial t = wide_trial(_i / KERNELS, rows[i]);
        run serial = whole_run(&t);
        ck_assert(rows[i] < 100 || f.loop.calls > 0);
        for (f.threads = 2; f.threads <= 5; f.threads++) {
            run parallel = whole_run(&t);
            check_same_run(&t, &serial, &parallel);
            trial_end(&t, &parallel);
        }
        lrk_host host = fault_host(&f);
        lrk_context *other = NULL;
        host.parallel_for = backwards_for;
        ck_assert_int_eq(lrk_context_create(&host, &other, NULL, 0), LRK_OK);
        t.context = other;
        run reversed = whole_run(&t);
        check_same_run(&t, &serial, &reversed);
        trial_end(&t, &reversed);
        trial_end(&t, &serial);
        lrk_context_destroy(other);
    }
    close_kernels();
}
END_TEST

START_TEST(no_kernels_allocate_or_leave_their_workspace)
{
    static const int64_t rows[] = {1, 7, 64, 130, 700};
    open_kernels(_i);
    for (int i = 0; i < COUNT(rows) && context != NULL; i++) {
        trial t = wide_trial(i % 3, rows[i]);
        t.mask = i;
        run r = trial_begin(&t, EVERY);
        size_t bytes;
        ck_assert_int_eq(lrk_workspace_size(r.set, rows[i], &bytes), LRK_OK);
        unsigned char *workspace = aligned_alloc(64, (bytes + 127) / 64 * 64);
        memset(workspace, 0xA5, (bytes + 127) / 64 * 64);
        lrk_pass_options options = pass_options(rows[i]);
        options.mode = LRK_PASS_TRAIN;
        options.gradients = EVERY;
        options.mask = r.mask;
        options.sink = r.sink;
        options.workspace = workspace;
        options.workspace_bytes = bytes;
        lrk_pass_end(r.pass);
        r.pass = pass_open(r.set, options);
        int64_t before = f.alloc.calls;
        trial_forward(&t, &r);
        trial_backward(&t, &r, true);
        ck_assert_int_eq(f.alloc.calls, before);
        for (size_t b = bytes; b < (bytes + 127) / 64 * 64; b++)
            ck_assert_uint_eq(workspace[b], 0xA5);
        trial_end(&t, &r);
        free(workspace);
    }
    close_kernels();
}
END_TEST

/* ---- the choice -------------------------------------------------------------------------------------------------------------- */

START_TEST(the_choice_is_readable_and_decides_who_multiplies)
{
    static const char *const names[KERNELS] = {NULL, "blas", "generic", "avx2", "avx512", "neon"};
    char text[256];
    open_kernels(_i);
    if (context != NULL) {
        const char *name = _i == LRK_KERNELS_AUTO ? lrki_skinny_find(LRK_KERNELS_AUTO)->name : names[_i];
        lrk_context_describe(context, text, sizeof text);
        ck_assert_msg(strncmp(strstr(text, "kernels="), "kernels=", 8) == 0 &&
                          strcmp(strstr(text, "kernels=") + 8, name) == 0,
                      "%s", text);
        trial t = wide_trial(0, 100);
        run r = whole_run(&t);
        ck_assert_int_eq(f.gemm.calls > 0, _i == LRK_KERNELS_BLAS);
        trial_end(&t, &r);
        t.shapes[0].rank = 200; /* more than any kernels but forced ones take */
        int64_t before = f.gemm.calls;
        r = whole_run(&t);
        ck_assert_int_eq(f.gemm.calls > before, _i <= LRK_KERNELS_BLAS);
        trial_end(&t, &r);
    }
    close_kernels();
}
END_TEST

/* What a masked rank holds does not reach anything, unless its derivative is asked for. */
START_TEST(silent_ranks_are_not_read)
{
    open_kernels(_i);
    if (context != NULL) {
        trial t = wide_trial(0, 70);
        t.mask = LRKI_MASK_WITHOUT; /* the second rank of the first module */
        run clean = trial_begin(&t, LRK_GRAD_PARAMETERS), poisoned = trial_begin(&t, LRK_GRAD_PARAMETERS);
        for (int64_t k = 0; k < 300; k++)
            set_tensor(poisoned.set, 0, LRK_TENSOR_A).data[300 + k] = NAN;
        for (int64_t k = 0; k < 200; k++)
            set_tensor(poisoned.set, 0, LRK_TENSOR_B).data[200 + k] = NAN;
        for (int i = 0; i < 2; i++) {
            trial_forward(&t, i ? &poisoned : &clean);
            trial_backward(&t, i ? &poisoned : &clean, true);
        }
        ck_assert(padded_same(&clean.dx, &poisoned.dx) && padded_same(&clean.y[0], &poisoned.y[0]));
        ck_assert_mem_eq(clean.sink->values, poisoned.sink->values,
                         (size_t)clean.sink->offsets[2] * sizeof(float));
        trial_end(&t, &clean);
        trial_end(&t, &poisoned);
    }
    close_kernels();
}
END_TEST

/*
 * Where the derivative of a masked rank is asked for, the rank is read, but its columns of H diag(f) and D are exact zeros:
 * a NaN in its A does not reach y, one in its B not dx and dA. _i: kernels, then which of the two
 */
START_TEST(factors_of_zero_give_zeros_whatever_they_meet)
{
    bool in_b = _i / KERNELS;
    open_kernels(_i % KERNELS);
    if (context != NULL) {
        trial t = wide_trial(0, 70);
        t.mask = LRKI_MASK_WITHOUT; /* the second rank of the first module */
        run clean = trial_begin(&t, EVERY), poisoned = trial_begin(&t, EVERY);
        int64_t width = in_b ? 200 : 300;
        for (int64_t k = 0; k < width; k++)
            set_tensor(poisoned.set, 0, in_b ? LRK_TENSOR_B : LRK_TENSOR_A).data[width + k] = NAN;
        for (int i = 0; i < 2; i++) {
            trial_forward(&t, i ? &poisoned : &clean);
            trial_backward(&t, i ? &poisoned : &clean, true);
        }
        if (in_b)
            ck_assert(padded_same(&clean.dx, &poisoned.dx));
        else
            ck_assert(padded_same(&clean.y[0], &poisoned.y[0]));
        int32_t which = in_b ? LRK_TENSOR_GRAD_A : LRK_TENSOR_GRAD_B;
        lrk_tensor a = {.struct_size = sizeof a}, b = {.struct_size = sizeof b};
        ck_assert_int_eq(lrk_sink_tensor(clean.sink, 0, which, &a), LRK_OK);
        ck_assert_int_eq(lrk_sink_tensor(poisoned.sink, 0, which, &b), LRK_OK);
        ck_assert_mem_eq(a.data, b.data, (size_t)(a.rows * a.cols) * sizeof(float));
        trial_end(&t, &clean);
        trial_end(&t, &poisoned);
    }
    close_kernels();
}
END_TEST

Suite *lora_kernels_suite(void)
{
    Suite *suite = suite_create("lora_kernels");
    TCase *tc = tcase_create("lora_kernels");
    tcase_set_timeout(tc, 60);
    tcase_add_loop_test(tc, drawn_calls_agree_with_the_oracle, 0, 4 * KERNELS);
    tcase_add_loop_test(tc, every_small_rank_agrees_with_the_oracle, 0, 4 * KERNELS);
    tcase_add_loop_test(tc, groups_agree_with_the_oracle, 0, 10 * KERNELS);
    tcase_add_loop_test(tc, bits_do_not_depend_on_threads_or_the_order_of_tasks, 0, 3 * KERNELS);
    tcase_add_loop_test(tc, no_kernels_allocate_or_leave_their_workspace, 0, KERNELS);
    tcase_add_loop_test(tc, the_choice_is_readable_and_decides_who_multiplies, 0, KERNELS);
    tcase_add_loop_test(tc, silent_ranks_are_not_read, 0, KERNELS);
    tcase_add_loop_test(tc, factors_of_zero_give_zeros_whatever_they_meet, 0, 2 * KERNELS);
    suite_add_tcase(suite, tc);
    return suite;
}
