/* SPDX-License-Identifier: MIT */
/* Kernels: the GEMM and the parallel loop over defaults and hosts, dropout tiles, scratch. The LoRA kernels themselves
 * are tested through passes (test_lora.c). */
#include <check.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#ifdef _OPENMP
#include <omp.h>
#endif

#include "fault.h"
#include "kernels/lora_pack.h"
#include "lorank/pass.h"
#include "material.h"
#include "oracle.h"

Suite *kernels_suite(void);

static fault f;
static lrk_context *counted; /* services of f          */
static lrk_context *plain;   /* lorank's own services   */

static void setup(void)
{
    fault_reset(&f);
    counted = fault_context(&f);
    ck_assert_int_eq(lrk_context_create(NULL, &plain, NULL, 0), LRK_OK);
}

static void teardown(void)
{
    lrk_context_destroy(counted);
    lrk_context_destroy(plain);
    ck_assert_int_eq(f.live, 0);
}

/* ---- GEMM ----------------------------------------------------------------------------------------------------------- */

static float element(const padded *matrix, bool trans, int64_t i, int64_t j)
{
    return trans ? matrix->data[j * matrix->ld + i] : matrix->data[i * matrix->ld + j];
}

static void check_gemm(lrk_context *context, bool ta, bool tb, int64_t m, int64_t n, int64_t k, float beta)
{
    const float alpha = 0.75f;
    padded a = ta ? padded_make(k, m, 3, 1) : padded_make(m, k, 3, 1);
    padded b = tb ? padded_make(n, k, 2, 2) : padded_make(k, n, 2, 2);
    padded c = padded_make(m, n, 1, 3);
    padded before = padded_copy(&c);
    if (beta == 0.0f)
        for (int64_t i = 0; i < m; i++)
            for (int64_t j = 0; j < n; j++)
                c.data[i * c.ld + j] = NAN; /* not read */
    ck_assert_int_eq(
        lrki_gemm(context, ta, tb, m, n, k, alpha, a.data, a.ld, b.data, b.ld, beta, c.data, c.ld), LRK_OK);
    for (int64_t i = 0; i < m; i++)
        for (int64_t j = 0; j < n; j++) {
            double want = (double)beta * (double)before.data[i * c.ld + j], size = fabs(want);
            for (int64_t l = 0; l < k; l++) {
                double term = (double)alpha * (double)element(&a, ta, i, l) * (double)element(&b, tb, l, j);
                want += term;
                size += fabs(term);
            }
            if (!oracle_within((double)c.data[i * c.ld + j], want, size, k + 3)) /* ck_assert writes a file */
                ck_abort_msg("C[%d][%d] is %.9g, not %.9g", (int)i, (int)j, (double)c.data[i * c.ld + j],
                             want);
        }
    ck_assert(padded_intact(&c));
    padded_free(&a);
    padded_free(&b);
    padded_free(&c);
    padded_free(&before);
}

START_TEST(gemm_multiplies_in_every_orientation)
{
    static const int64_t sizes[] = {0, 1, 2, 7, 33};
    static const float betas[] = {0.0f, 1.0f, -0.5f};
    for (int i = 0; i < 125; i++)
        for (int b = 0; b < 3; b++)
            check_gemm(_i & 4 ? counted : plain, _i & 1, _i & 2, sizes[i % 5], sizes[i / 5 % 5],
                       sizes[i / 25], betas[b]);
}
END_TEST

START_TEST(gemm_failure_of_the_host_is_told)
{
    float a = 2.0f, c = 1.0f;
    char text[128];
    f.gemm.fail_at = 0;
    ck_assert_int_eq(lrki_gemm(counted, false, false, 1, 1, 1, 1.0f, &a, 1, &a, 1, 0.0f, &c, 1),
                     LRK_ERR_HOST);
    lrk_context_error(counted, text, sizeof text);
    ck_assert_ptr_nonnull(strstr(text, "gemm"));
    ck_assert_int_eq(lrki_gemm(counted, false, false, 1, 1, 1, 1.0f, &a, 1, &a, 1, 0.0f, &c, 1), LRK_OK);
    ck_assert_float_eq(c, 4.0f);
    ck_assert_int_eq(f.gemm.calls, 2);
}
END_TEST

START_TEST(gemm_without_work_asks_nobody)
{
    float c[2] = {3.0f, 5.0f};
    f.gemm.fail_at = 0;
    ck_assert_int_eq(lrki_gemm(counted, false, false, 0, 2, 2, 1.0f, c, 2, c, 2, 0.0f, c, 2), LRK_OK);
    ck_assert_int_eq(lrki_gemm(counted, false, false, 1, 2, 0, 1.0f, c, 1, c, 2, 1.0f, c, 2), LRK_OK);
    ck_assert_float_eq(c[0], 3.0f);
    ck_assert_int_eq(lrki_gemm(counted, false, false, 1, 2, 0, 1.0f, c, 1, c, 2, 2.0f, c, 2), LRK_OK);
    ck_assert_float_eq(c[1], 10.0f);
    ck_assert_int_eq(f.gemm.calls, 0);
}
END_TEST

START_TEST(dimensions_beyond_the_blas_integer_are_refused)
{
    float v = 0.0f;
    char text[128];
    const int64_t huge = (int64_t)INT32_MAX + 1;
    ck_assert_int_eq(lrki_gemm(plain, false, false, huge, 1, 1, 1.0f, &v, 1, &v, 1, 0.0f, &v, 1),
                     LRK_ERR_SHAPE);
    lrk_context_error(plain, text, sizeof text);
    ck_assert_ptr_nonnull(strstr(text, "BLAS integer of 32 bits"));
    ck_assert_int_eq(lrki_gemm(plain, false, false, 1, 1, 1, 1.0f, &v, huge, &v, 1, 0.0f, &v, 1),
                     LRK_ERR_SHAPE);
    ck_assert_int_eq(lrki_gemm(plain, false, false, 1, 1, 1, 1.0f, &v, 1, &v, 1, 0.0f, &v, huge),
                     LRK_ERR_SHAPE);
}
END_TEST

/* ---- loops ---------------------------------------------------------------------------------------------------------- */

static void count_once(void *data, int64_t index)
{
    __atomic_add_fetch(&((int32_t *)data)[index], 1, __ATOMIC_RELAXED);
}

START_TEST(loops_run_each_task_once)
{
    static const int64_t sizes[] = {0, 1, 2, 3, 100};
    for (int i = 0; i < 5; i++)
        for (int32_t threads = 1; threads <= 3; threads++) {
            int32_t runs[101] = {0};
            f.threads = threads;
            ck_assert_int_eq(lrki_parallel_for(_i ? counted : plain, sizes[i], count_once, runs), LRK_OK);
            for (int64_t t = 0; t < 101; t++)
                ck_assert_int_eq(runs[t], t < sizes[i] ? 1 : 0);
        }
    ck_assert_int_eq(lrki_parallel_for(plain, -1, count_once, NULL), LRK_OK);
}
END_TEST

START_TEST(a_failing_loop_is_told)
{
    int32_t runs[4] = {0};
    char text[128];
    f.loop.fail_at = 0;
    ck_assert_int_eq(lrki_parallel_for(counted, 4, count_once, runs), LRK_ERR_HOST);
    lrk_context_error(counted, text, sizeof text);
    ck_assert_ptr_nonnull(strstr(text, "parallel_for"));
}
END_TEST

static void loop_inside(void *data, int64_t index)
{
    (void)index;
    ck_assert_int_eq(lrki_parallel_for(plain, 5, count_once, data), LRK_OK);
}

START_TEST(loops_may_be_nested)
{
    int32_t runs[5] = {0};
    ck_assert_int_eq(lrki_parallel_for(plain, 3, loop_inside, runs), LRK_OK);
    for (int i = 0; i < 5; i++)
        ck_assert_int_eq(runs[i], 3);
}
END_TEST

START_TEST(the_width_is_the_hosts_word_or_the_default)
{
    ck_assert_int_ge(lrki_parallel_width(plain), 1);
#ifdef _OPENMP
    if (!lrki_blas_has_own_threads()) ck_assert_int_eq(lrki_parallel_width(plain), omp_get_max_threads());
#endif
    ck_assert_int_eq(lrki_parallel_width(counted), 1);
    f.threads = 7;
    lrk_context *seven = fault_context(&f);
    ck_assert_int_eq(lrki_parallel_width(seven), 7);
    lrk_context_destroy(seven);
}
END_TEST

#ifdef _OPENMP
static void see_team(void *data, int64_t index)
{
    (void)index;
    *(int *)data = omp_in_parallel();
}

START_TEST(a_lone_task_runs_inside_a_team)
{
    int inside = -1;
    if (lrki_blas_has_own_threads() || omp_get_max_threads() < 2) return;
    ck_assert_int_eq(lrki_parallel_for(plain, 1, see_team, &inside), LRK_OK);
    ck_assert_int_eq(inside, 1);
}
END_TEST
#endif

/* ---- dropout and scratch -------------------------------------------------------------------------------------------- */

/* Tiles of x in every type, with and without dropout; 1: dropout. */
START_TEST(tiles_agree_with_single_elements)
{
    const int64_t n_in = 1301, rows = 9;
    const lrki_skinny *kernels = lrki_skinny_find(LRK_KERNELS_AUTO);
    lrki_dropout d = lrki_dropout_make(lrki_stream_make(1, LRKI_STREAM_DROPOUT, 2, 3), 0.3, 1000, n_in);
    padded x = padded_make(rows, n_in, 5, 4), dx = padded_make(rows, n_in, 2, 5), before = padded_copy(&dx);
    lrki_tile tile = {.row = 2, .n_rows = 6, .col = 37, .n_cols = LRKI_TILE_COLS};
    padded out = padded_make(tile.n_rows, tile.n_cols, 1, 6);
    const lrki_activations from = {x.data, x.ld, LRK_DTYPE_F32}, to = {dx.data, dx.ld, LRK_DTYPE_F32};
    x.data[3 * x.ld + 40] = NAN;
    lrki_tile_read(kernels, &from, _i ? &d : NULL, tile, out.data, out.ld);
    lrki_tile_add(kernels, &to, _i ? &d : NULL, tile, out.data, out.ld);
    int64_t kept = 0;
    for (int64_t i = 0; i < tile.n_rows; i++)
        for (int64_t j = 0; j < tile.n_cols; j++) {
            int64_t row = tile.row + i, col = tile.col + j;
            bool keeps = !_i || lrki_dropout_keeps(&d, row, col);
            float scale = _i ? d.scale : 1.0f, want = keeps ? x.data[row * x.ld + col] * scale : 0.0f;
            float added = before.data[row * dx.ld + col] + (keeps ? want * scale : 0.0f);
            ck_assert_mem_eq(&out.data[i * out.ld + j], &want, sizeof want);
            if (!isnan(want)) ck_assert_float_eq(dx.data[row * dx.ld + col], added);
            kept += keeps;
        }
    ck_assert(padded_intact(&out) && padded_intact(&dx));
    ck_assert_mem_eq(dx.data, before.data, (size_t)(2 * dx.ld + 37) * sizeof(float));
    ck_assert_int_gt(kept, 0);
    if (_i)
        ck_assert_int_lt(kept, tile.n_rows * tile.n_cols);
    else
        ck_assert_int_eq(kept, tile.n_rows * tile.n_cols);
    padded_free(&x);
    padded_free(&dx);
    padded_free(&before);
    padded_free(&out);
}
END_TEST

START_TEST(dropout_keeps_the_asked_share)
{
    static const double probabilities[] = {0.0, 0.05, 0.5, 0.9};
    const int64_t n = 100000;
    double p = probabilities[_i];
    lrki_dropout d = lrki_dropout_make(lrki_stream_make(9, LRKI_STREAM_DROPOUT, 2, 3), p, 0, n);
    int64_t dropped = 0;
    for (int64_t j = 0; j < n; j++)
        dropped += !lrki_dropout_keeps(&d, 0, j);
    /* 5 standard errors; none at all for p = 0 */
    ck_assert_double_le(fabs((double)dropped - p * (double)n), 5.0 * sqrt((double)n * p * (1.0 - p)));
    ck_assert_float_eq(d.scale, (float)(1.0 / (1.0 - p)));
}
END_TEST

static size_t scratch_bytes(int64_t rows, int64_t n_parts, int64_t ranks, int64_t most, bool tiles)
{
    lrki_lora_size size = {.rows = rows, .tiles = tiles};
    size_t bytes = 0;
    for (int64_t p = 0; p < n_parts; p++)
        ck_assert(lrki_lora_size_add(&size, most, 100, 50, ranks));
    ck_assert(lrki_lora_scratch_size(&size, &bytes));
    ck_assert_uint_eq(bytes % LRKI_ALIGN, 0);
    return bytes;
}

START_TEST(scratch_grows_with_each_argument_and_notices_overflow)
{
    size_t base = scratch_bytes(100, 2, 4, 32, false), unused;
    ck_assert_uint_gt(scratch_bytes(129, 2, 4, 32, false), base);
    ck_assert_uint_gt(scratch_bytes(100, 3, 4, 32, false), base);
    ck_assert_uint_gt(scratch_bytes(100, 2, 40, 32, false), base);
    ck_assert_uint_gt(scratch_bytes(100, 2, 4, 32, true), base);
    for (int64_t rows = 1; rows < 400; rows++)
        ck_assert_uint_ge(scratch_bytes(rows + 1, 2, 5, 32, false), scratch_bytes(rows, 2, 5, 32, false));
    for (int64_t rows = INT64_MAX; rows > INT64_MAX / 256; rows /= 16) {
        lrki_lora_size size = {.rows = rows, .n_parts = 1, .ranks = 300};
        ck_assert(!lrki_lora_scratch_size(&size, &unused));
    }
    lrki_lora_size size = {.rows = 100};
    ck_assert(!lrki_lora_size_add(&size, 32, INT64_MAX / 4, INT64_MAX / 4, 32));
}
END_TEST

/* A pass may be measured for ranks that the GEMM gets, and then be called with so few rows that the fused kernels get them. */
START_TEST(calls_of_few_tokens_fit_where_more_do)
{
    for (int64_t rows = 1; rows <= LRKI_FEW_TOKENS; rows++)
        for (int64_t ranks = 33; ranks < 600; ranks += 90) {
            lrki_lora_size few = {.rows = rows, .tiles = true}, more = {.rows = rows + 1, .tiles = true};
            size_t need, have;
            ck_assert(lrki_lora_size_add(&few, INT64_MAX, 100, 50, ranks));
            ck_assert(lrki_lora_size_add(&more, 32, 100, 50, ranks));
            ck_assert(lrki_lora_scratch_size(&few, &need) && lrki_lora_scratch_size(&more, &have));
            ck_assert_uint_le(need, have);
        }
}
END_TEST

/* 0: the fused kernels alone; 1: the GEMM alone, whose calls have tiles */
START_TEST(scratch_pieces_are_aligned_and_apart)
{
    lrki_lora_size size = {.rows = 130};
    size_t bytes;
    for (int p = 0; p < 3; p++)
        ck_assert(lrki_lora_size_add(&size, _i ? 0 : INT64_MAX, 70, 30, p));
    ck_assert_int_eq(size.tiles, _i);
    ck_assert(lrki_lora_scratch_size(&size, &bytes));
    unsigned char *memory = aligned_alloc(LRKI_ALIGN, bytes);
    lrki_lora_scratch s = lrki_lora_scratch_cut(memory, &size);
    unsigned char *at[] = {(void *)s.parts,    (void *)s.lists,   (void *)s.gradient_lists, (void *)s.factors,
                           (void *)s.products, (void *)s.h,       (void *)s.scaled_h,       (void *)s.d,
                           (void *)s.coef,     (void *)s.partial, (void *)s.packed,         (void *)s.sums,
                           (void *)s.lanes,    memory + bytes};
    const size_t need[] = {3 * sizeof(lrki_lora_part),
                           6 * sizeof(float *),
                           6 * sizeof(float *),
                           3 * sizeof(float),
                           3 * sizeof(double),
                           390 * sizeof(float),
                           390 * sizeof(float),
                           390 * sizeof(float),
                           390 * sizeof(float),
                           33 * sizeof(double), /* 11 chunks of at least 12 rows but the last */
                           _i ? 0 : 3 * (70 + 30) * sizeof(float),
                           _i ? 0 : 3 * (70 + 30) * sizeof(float), /* 2 lanes */
                           _i ? (size_t)LRKI_LORA_LANES * LRKI_TILE_FLOATS * sizeof(float) : 0};
    ck_assert_ptr_eq(at[0], memory);
    for (int i = 0; i < 13; i++) {
        ck_assert_uint_eq((uintptr_t)at[i] % LRKI_ALIGN, 0);
        ck_assert_uint_ge((size_t)(at[i + 1] - at[i]), need[i]);
    }
    free(memory);
}
END_TEST

/* Rank rows of any length packed as any implementation packs them. */
START_TEST(packed_rows_fit_their_scratch)
{
    static const int32_t all[] = {LRK_KERNELS_GENERIC, LRK_KERNELS_AVX2, LRK_KERNELS_AVX512,
                                  LRK_KERNELS_NEON};
    for (int i = 0; i < 4; i++) {
        const lrki_skinny *kernels = lrki_skinny_find(all[i]);
        for (int64_t n = 1; n <= 5000 && kernels != NULL; n++) {
            int64_t step = lrki_block_cols(kernels, n);
            ck_assert(step >= (n < 16 ? n : 16) && step <= LRKI_TILE_COLS);
            ck_assert_int_ge(lrki_packed_floats(n), (n + step - 1) / step * (step + LRKI_SKEW));
        }
    }
}
END_TEST

Suite *kernels_suite(void)
{
    Suite *suite = suite_create("kernels");
    TCase *tc = tcase_create("kernels");
    tcase_add_checked_fixture(tc, setup, teardown);
    tcase_add_loop_test(tc, gemm_multiplies_in_every_orientation, 0, 8);
    tcase_add_test(tc, gemm_failure_of_the_host_is_told);
    tcase_add_test(tc, gemm_without_work_asks_nobody);
    tcase_add_test(tc, dimensions_beyond_the_blas_integer_are_refused);
    tcase_add_loop_test(tc, loops_run_each_task_once, 0, 2);
    tcase_add_test(tc, a_failing_loop_is_told);
    tcase_add_test(tc, loops_may_be_nested);
    tcase_add_test(tc, the_width_is_the_hosts_word_or_the_default);
#ifdef _OPENMP
    tcase_add_test(tc, a_lone_task_runs_inside_a_team);
#endif
    tcase_add_loop_test(tc, tiles_agree_with_single_elements, 0, 2);
    tcase_add_loop_test(tc, dropout_keeps_the_asked_share, 0, 4);
    tcase_add_test(tc, scratch_grows_with_each_argument_and_notices_overflow);
    tcase_add_test(tc, calls_of_few_tokens_fit_where_more_do);
    tcase_add_loop_test(tc, scratch_pieces_are_aligned_and_apart, 0, 2);
    tcase_add_test(tc, packed_rows_fit_their_scratch);
    suite_add_tcase(suite, tc);
    return suite;
}
