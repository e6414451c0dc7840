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
#include "kernels/lora.h"
#include "trial.h"

Suite *lora_kernels_suite(void);

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
static const int64_t some_rows[] = {1,  2,  3,  4,  5,  6,   7,   8,   9,   16, 17,
                                    25, 63, 64, 65, 96, 127, 128, 192, 193, 333};
static const int64_t some_dims[] = {1, 7, 16, 33, 65, 130, 800, 1030};

#define COUNT(array) (int)(sizeof(array) / sizeof(array)[0])
#define PARTS        4 /* of all pairs of ranks and rows */

/* A trial of one module: pair number `pair` of rank and rows; all other traits are drawn from it. */
static trial drawn(int pair)
{
    trial t = {.context = context, .rows = some_rows[pair / COUNT(some_ranks)], .n = 1, .backwards = 1};
    shape *s = &t.shapes[0];
    uint64_t draw = (uint64_t)(pair + 1) * 0x9E3779B97F4A7C15u >> 20;
    *s = (shape){.rank = some_ranks[pair % COUNT(some_ranks)], .group = LRK_NO_GROUP, .scale = 0.75};
    int in = (int)(draw % 8), out = (int)(draw / 8 % 8);
    /* the oracle's time: it takes the product of all four */
    while (t.rows * s->rank * (some_dims[in] + some_dims[out]) > 200000 && in + out > 0)
        *(in > out ? &in : &out) -= 1;
    s->n_in = some_dims[in];
    s->n_out = some_dims[out];
    t.x_type = (int32_t)(draw / 64 % 3);
    t.dx_type = (int32_t)(draw / 192 % 3);
    t.y_type = (int32_t)(draw / 576 % 3);
    t.dy_type = (int32_t)(draw / 1728 % 3);
    t.mask = s->rank > 1 ? (int32_t)(draw / 5184 % 5) : LRKI_MASK_ALL; /* masks of one rank mean the second */
    t.saved = draw / 25920 % 2;
    t.dropout = draw / 51840 % 3 == 0 ? 0.3 : 0.0;
    t.gradients = draw / 155520 % 2 ? LRK_GRAD_PARAMETERS : EVERY;
    return t;
}

/* _i: kernels, then a part of the pairs */
START_TEST(every_pair_of_rank_and_rows_agrees_with_the_oracle)
{
    open_kernels(_i % N_KERNELS);
    for (int pair = _i / N_KERNELS; pair < COUNT(some_ranks) * COUNT(some_rows) && context != NULL;
         pair += PARTS) {
        trial t = drawn(pair);
        check_trial(&t);
    }
    close_kernels();
}
END_TEST

/* Several blocks of columns, packed and not, of more ranks than a group. _i: kernels, then type */
START_TEST(wide_shapes_agree_with_the_oracle)
{
    static const int64_t rows[] = {4, 70}, ranks[] = {11, 67};
    open_kernels(_i % N_KERNELS);
    int32_t type = _i / N_KERNELS;
    for (int i = 0; i < 2 && context != NULL; i++) {
        trial t = {.context = context,
                   .rows = rows[i],
                   .n = 1,
                   .shapes = {{i == 0 ? 1543 : 787, i == 0 ? 787 : 1031, ranks[i], LRK_NO_GROUP, 0, 0.5}},
                   .backwards = 1,
                   .mask = i ? LRKI_MASK_VALUES : LRKI_MASK_ALL,
                   .dropout = type == 1 ? 0.25 : 0.0,
                   .x_type = type,
                   .dx_type = (type + i) % 3,
                   .y_type = (type + 1) % 3,
                   .dy_type = (type + 2) % 3};
        check_trial(&t);
    }
    close_kernels();
}
END_TEST

/* Every rank up to two groups and one, at rows of one chunk, of several, and of few. _i: kernels, then rows */
START_TEST(every_small_rank_agrees_with_the_oracle)
{
    static const int64_t rows[] = {1, 3, 40, 130};
    open_kernels(_i % N_KERNELS);
    for (int64_t rank = 1; rank <= 17 && context != NULL; rank++) {
        trial t = {.context = context,
                   .rows = rows[_i / N_KERNELS],
                   .n = 1,
                   .shapes = {{45, 61, rank, LRK_NO_GROUP, 0, -1.5}},
                   .saved = rank % 2,
                   .backwards = 2,
                   .x_type = (int32_t)(rank % 3),
                   .dx_type = (int32_t)(rank / 3 % 3),
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
    open_kernels(_i % N_KERNELS);
    if (context != NULL) {
        int choice = _i / N_KERNELS;
        trial t = group_trial(context, 97);
        t.mask = choice % 5;
        t.dropout = choice / 5 ? 0.4 : 0.0;
        t.saved = choice % 2;
        t.backwards = 2;
        t.x_type = t.dx_type = choice % 3;
        t.y_type = (choice + 1) % 3;
        t.dy_type = (choice + 2) % 3;
        check_trial(&t);
    }
    close_kernels();
}
END_TEST

/* Few rows: ranks of a group are taken some at a time, across its modules. _i: kernels, then rows */
START_TEST(groups_of_few_rows_agree_with_the_oracle)
{
    static const int64_t ranks[][3] = {{5, 9, 11}, {1, 2, 14}, {3, 0, 30}, {8, 8, 8}};
    open_kernels(_i % N_KERNELS);
    for (int i = 0; i < COUNT(ranks) && context != NULL; i++) {
        trial t = group_trial(context, 1 + _i / N_KERNELS);
        for (int m = 0; m < 3; m++)
            t.shapes[m].rank = ranks[i][m];
        t.mask = i == 1 ? LRKI_MASK_VALUES : LRKI_MASK_ALL;
        t.dx_type = i % 3;
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
                   .dx_type = type,
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

/* Tasks one after another: in reverse order for user 0, else in a random one. */
static int32_t other_order(void *user, int64_t n, void (*task)(void *data, int64_t index), void *data)
{
    uint64_t *state = user;
    int64_t order[LRKI_LORA_LANES];
    ck_assert_int_le(n, LRKI_LORA_LANES);
    for (int64_t i = 0; i < n; i++) {
        int64_t at = *state == 0 ? 0 : (int64_t)(fabs(random_unit(state)) * (double)(i + 1)) % (i + 1);
        memmove(order + at + 1, order + at, (size_t)(i - at) * sizeof order[0]);
        order[at] = i;
    }
    for (int64_t i = 0; i < n; i++)
        task(data, order[i]);
    return 0;
}

static void check_other_orders(trial t, const run *serial)
{
    for (uint64_t seed = 0; seed < 3; seed++) {
        lrk_host host = fault_host(&f);
        uint64_t state = seed;
        host.parallel_user = &state;
        host.parallel_for = other_order;
        t.context = NULL;
        ck_assert_int_eq(lrk_context_create(&host, &t.context, NULL, 0), LRK_OK);
        run other = whole_run(&t);
        check_same_run(&t, serial, &other);
        trial_end(&t, &other);
        lrk_context_destroy(t.context);
    }
}

/* _i: kernels, then type */
START_TEST(bits_do_not_depend_on_threads_or_the_order_of_tasks)
{
    static const int64_t rows[] = {33, 100, 400, 1100};
    open_kernels(_i % N_KERNELS);
    for (int i = 0; i < COUNT(rows) && context != NULL; i++) {
        f.threads = 1;
        trial t = wide_trial(_i / N_KERNELS, rows[i]);
        run serial = whole_run(&t);
        ck_assert(rows[i] < 100 || f.loop.calls > 0);
        for (f.threads = 2; f.threads <= 5; f.threads++) {
            run parallel = whole_run(&t);
            check_same_run(&t, &serial, &parallel);
            trial_end(&t, &parallel);
        }
        check_other_orders(t, &serial);
        trial_end(&t, &serial);
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
    static const char *const names[N_KERNELS] = {NULL, "blas", "generic", "avx2", "avx512", "neon"};
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

static bool multiplies_by_gemm(int64_t rows, int64_t n_in, int64_t n_out, int64_t rank)
{
    trial t = {.context = context,
               .rows = rows,
               .n = 1,
               .shapes = {{n_in, n_out, rank, LRK_NO_GROUP, 0, 1.0}},
               .backwards = 1};
    int64_t before = f.gemm.calls;
    run r = whole_run(&t);
    trial_end(&t, &r);
    return f.gemm.calls > before;
}

/* The GEMM is for many rows of many ranks: of fewer ranks where modules are wide. */
START_TEST(the_gemm_gets_what_it_is_faster_at)
{
    open_kernels(_i);
    if (context != NULL) {
        const lrki_skinny *kernels = lrki_skinny_in(context);
        bool always = _i == LRK_KERNELS_BLAS, chosen = _i <= LRK_KERNELS_BLAS;
        int64_t rank = kernels->many_wide + 1, edge = LRKI_WIDE - 100;
        ck_assert_int_eq(multiplies_by_gemm(LRKI_FEW_TOKENS, 90, 70, 200), always);
        ck_assert_int_eq(multiplies_by_gemm(LRKI_FEW_TOKENS + 1, 90, 70, 200), chosen);
        ck_assert_int_eq(multiplies_by_gemm(LRKI_FEW_TOKENS + 1, edge, 100, rank), chosen);
        ck_assert_int_eq(multiplies_by_gemm(LRKI_FEW_TOKENS + 1, edge, 100, rank - 1), always);
        ck_assert_int_eq(multiplies_by_gemm(LRKI_FEW_TOKENS + 1, edge, 99, rank),
                         always || (chosen && rank > kernels->many));
        ck_assert_int_eq(multiplies_by_gemm(LRKI_FEW_TOKENS + 1, LRKI_WIDE, 3, rank), chosen);
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
 * With mask derivatives a masked rank is worked on. Then a NaN in its A reaches neither y nor any gradient, one in its B
 * neither dx nor any gradient: a factor of 0 makes exact zeros. _i: kernels, then A or B
 */
START_TEST(a_factor_of_zero_stops_nan)
{
    open_kernels(_i % N_KERNELS);
    for (int64_t rows = 2; rows < 200 && context != NULL; rows += 64) {
        int32_t which = _i / N_KERNELS == 0 ? LRK_TENSOR_A : LRK_TENSOR_B;
        trial t = wide_trial(0, rows);
        t.mask = LRKI_MASK_WITHOUT; /* the second rank of the first module */
        run clean = trial_begin(&t, EVERY), poisoned = trial_begin(&t, EVERY);
        lrk_tensor tensor = set_tensor(poisoned.set, 0, which);
        for (int64_t k = 0; k < tensor.cols; k++)
            tensor.data[tensor.cols + k] = NAN;
        for (int i = 0; i < 2; i++) {
            trial_forward(&t, i ? &poisoned : &clean);
            trial_backward(&t, i ? &poisoned : &clean, true);
        }
        ck_assert(which == LRK_TENSOR_A ? padded_same(&clean.y[0], &poisoned.y[0])
                                        : padded_same(&clean.dx, &poisoned.dx));
        ck_assert_mem_eq(clean.sink->values, poisoned.sink->values,
                         (size_t)clean.sink->offsets[2] * sizeof(float));
        ck_assert(isnan(poisoned.sink->mask_gradients[1]) && !isnan(poisoned.sink->mask_gradients[0]));
        trial_end(&t, &clean);
        trial_end(&t, &poisoned);
    }
    close_kernels();
}
END_TEST

/* An infinity in x reaches its row of y and its column of dA, and nothing else. _i: kernels, then type */
START_TEST(infinity_stays_in_its_row_and_column)
{
    open_kernels(_i % N_KERNELS);
    for (int64_t rows = 3; rows < 200 && context != NULL; rows += 65) {
        trial t = wide_trial(_i / N_KERNELS, rows);
        t.dropout = 0.0;
        run r = trial_begin(&t, LRK_GRAD_PARAMETERS);
        const int64_t row = 2, col = 299;
        r.x.data[row * r.x.ld + col] = INFINITY;
        if (r.coded_x.bits != NULL)
            r.coded_x.bits[row * r.x.ld + col] = half_encode(t.x_type, (double)INFINITY);
        trial_forward(&t, &r);
        trial_backward(&t, &r, true);
        for (int64_t i = 0; i < rows; i++)
            for (int64_t j = 0; j < 1030; j++)
                if (isfinite(r.y[1].data[i * r.y[1].ld + j]) != (i != row))
                    ck_abort_msg("y[%d][%d] is %g", (int)i, (int)j, (double)r.y[1].data[i * r.y[1].ld + j]);
        lrk_tensor a = {.struct_size = sizeof a};
        ck_assert_int_eq(lrk_sink_tensor(r.sink, 0, LRK_TENSOR_GRAD_A, &a), LRK_OK);
        for (int64_t k = 0; k < a.rows * a.cols; k++)
            ck_assert(isfinite(a.data[k]) == (k % a.cols != col));
        for (int64_t k = 0; k < rows * r.dx.ld; k++)
            ck_assert(k % r.dx.ld >= 300 || isfinite(r.dx.data[k]));
        trial_end(&t, &r);
    }
    close_kernels();
}
END_TEST

/* More ranks than are added to an activation at once; 0: of one module, 1: of a group together. _i: kernels, then that */
START_TEST(very_many_ranks_agree_with_the_oracle)
{
    open_kernels(_i % N_KERNELS);
    for (int64_t rows = 2; rows < 100 && context != NULL; rows += 33) {
        trial t = {.context = context, .rows = rows, .n = 1, .backwards = 1, .saved = rows % 2};
        t.shapes[0] = (shape){11, 21, 600, LRK_NO_GROUP, 0, 0.1};
        if (_i / N_KERNELS == 1) {
            t.n = 3;
            t.shapes[0] = (shape){11, 7, 500, 2, 0, 0.1};
            t.shapes[1] = (shape){11, 5, 0, 2, 0, 0.1};
            t.shapes[2] = (shape){11, 13, 90, 2, 0, 0.1};
        }
        t.x_type = t.dx_type = (int32_t)(rows / 33 % 3);
        t.y_type = (int32_t)((rows / 33 + 1) % 3);
        check_trial(&t);
    }
    close_kernels();
}
END_TEST

/* ---- the workspace ------------------------------------------------------------------------------------------------------------ */

#define GUARD 256

/* A pass on a workspace of exactly the size asked for; calls of any modules of a group, in any order, under any mask. */
static void check_workspace(uint64_t *state, int64_t max_rows)
{
    trial t = {.context = context, .n = 3, .backwards = 1, .rows = max_rows};
    for (int i = 0; i < 3; i++)
        t.shapes[i] = (shape){37,
                              1 + (int64_t)(fabs(random_unit(state)) * 90),
                              (int64_t)(fabs(random_unit(state)) * (i == 1 ? 150 : 20)),
                              4,
                              0,
                              1.0};
    t.dropout = random_unit(state) > 0.0 ? 0.2 : 0.0;
    t.mask = t.shapes[0].rank > 1 ? (int32_t)(fabs(random_unit(state)) * 5) % 5 : LRKI_MASK_ALL;
    run r = trial_begin(&t, EVERY);
    size_t bytes, more;
    ck_assert_int_eq(lrk_workspace_size(r.set, max_rows, &bytes), LRK_OK);
    ck_assert_int_eq(lrk_workspace_size(r.set, max_rows + 1, &more), LRK_OK);
    ck_assert_uint_ge(more, bytes);
    unsigned char *workspace = aligned_alloc(64, (bytes + 63) / 64 * 64 + GUARD);
    lrk_pass_options options = pass_options(max_rows);
    options.gradients = EVERY;
    options.mask = r.mask;
    options.sink = r.sink;
    options.workspace = workspace;
    options.workspace_bytes = bytes;
    lrk_pass_end(r.pass);
    memset(workspace, 0xA5, (bytes + 63) / 64 * 64 + GUARD);
    r.pass = pass_open(r.set, options);
    for (int32_t first = 0; first < 3; first++)
        for (int32_t n = 1; n <= 3; n++) {
            int64_t rows = 1 + (int64_t)(fabs(random_unit(state)) * (double)max_rows) % max_rows;
            int32_t modules[3];
            lrk_matrix x = padded_view(&r.x), dy[3];
            lrk_matrix_mut y[3], dx = padded_mut(&r.dx);
            for (int32_t i = 0; i < n; i++) {
                modules[i] = (first + i) % 3;
                y[i] = padded_mut(&r.y[modules[i]]);
                dy[i] = padded_view(&r.dy[modules[i]]);
                y[i].rows = dy[i].rows = rows;
            }
            x.rows = dx.rows = rows;
            ck_assert_int_eq(lrk_forward(r.pass, modules, n, &x, y, NULL, 0), LRK_OK);
            ck_assert_int_eq(lrk_backward(r.pass, modules, n, &x, NULL, 0, dy, &dx), LRK_OK);
        }
    for (size_t b = bytes; b < (bytes + 63) / 64 * 64 + GUARD; b++)
        ck_assert_uint_eq(workspace[b], 0xA5);
    trial_end(&t, &r);
    free(workspace);
}

/* _i: kernels */
START_TEST(the_workspace_is_enough_for_any_call)
{
    uint64_t state = 77;
    open_kernels(_i);
    for (int i = 0; i < 25 && context != NULL; i++)
        check_workspace(&state, 1 + (int64_t)(fabs(random_unit(&state)) * (i % 4 == 0 ? 700 : 150)));
    close_kernels();
}
END_TEST

Suite *lora_kernels_suite(void)
{
    Suite *suite = suite_create("lora_kernels");
    TCase *tc = tcase_create("lora_kernels");
    tcase_set_timeout(tc, 60);
    tcase_add_loop_test(tc, every_pair_of_rank_and_rows_agrees_with_the_oracle, 0, PARTS * N_KERNELS);
    tcase_add_loop_test(tc, wide_shapes_agree_with_the_oracle, 0, 3 * N_KERNELS);
    tcase_add_loop_test(tc, groups_of_few_rows_agree_with_the_oracle, 0, 5 * N_KERNELS);
    tcase_add_loop_test(tc, every_small_rank_agrees_with_the_oracle, 0, 4 * N_KERNELS);
    tcase_add_loop_test(tc, groups_agree_with_the_oracle, 0, 10 * N_KERNELS);
    tcase_add_loop_test(tc, bits_do_not_depend_on_threads_or_the_order_of_tasks, 0, 3 * N_KERNELS);
    tcase_add_loop_test(tc, no_kernels_allocate_or_leave_their_workspace, 0, N_KERNELS);
    tcase_add_loop_test(tc, very_many_ranks_agree_with_the_oracle, 0, 2 * N_KERNELS);
    tcase_add_loop_test(tc, the_choice_is_readable_and_decides_who_multiplies, 0, N_KERNELS);
    tcase_add_loop_test(tc, the_gemm_gets_what_it_is_faster_at, 0, N_KERNELS);
    tcase_add_loop_test(tc, silent_ranks_are_not_read, 0, N_KERNELS);
    tcase_add_loop_test(tc, a_factor_of_zero_stops_nan, 0, 2 * N_KERNELS);
    tcase_add_loop_test(tc, infinity_stays_in_its_row_and_column, 0, 3 * N_KERNELS);
    tcase_add_loop_test(tc, the_workspace_is_enough_for_any_call, 0, N_KERNELS);
    suite_add_tcase(suite, tc);
    return suite;
}
