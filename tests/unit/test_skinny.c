/* SPDX-License-Identifier: MIT */
/*
 * The two products of skinny.h and its conversions, for every implementation that this processor runs, against naive
 * double arithmetic within the bounds of docs/numerics.md.
 */
#include <check.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "half.h"
#include "kernels/skinny.h"
#include "oracle.h"

Suite *skinny_suite(void);

#define KERNELS (LRK_KERNELS_NEON - LRK_KERNELS_GENERIC + 1)

/* The implementation of a loop test that counts through all of them first; NULL: not here. */
static const lrki_skinny *implementation(int i)
{
    return lrki_skinny_find(LRK_KERNELS_GENERIC + i % KERNELS);
}

/* ---- lists of rows ----------------------------------------------------------------------------------------------------- */

typedef struct rows {
    padded values;
    coded code;
    void *list[LRKI_SKINNY_ROWS];
} rows;

/* n rows of `cols` values in a type, behind each other in reverse order, so that nothing but the list tells their places. */
static rows rows_make(int32_t dtype, int64_t n, int64_t cols, uint64_t seed)
{
    rows r = {.values = padded_make(n, cols, 1 + (int64_t)(seed % 3), seed)};
    r.code = coded_make(dtype, &r.values);
    for (int64_t i = 0; i < n; i++) {
        int64_t at = (n - 1 - i) * r.values.ld;
        r.list[i] = dtype == LRK_DTYPE_F32 ? (void *)(r.values.data + at) : (void *)(r.code.bits + at);
    }
    return r;
}

static double value_at(const rows *r, int64_t i, int64_t k)
{
    return (double)r->values.data[(r->values.rows - 1 - i) * r->values.ld + k];
}

static void rows_free(rows *r)
{
    padded_free(&r->values);
    coded_free(&r->code);
}

/* ---- fetching ahead ------------------------------------------------------------------------------------------------------ */

static int64_t fetches_left(const lrki_fetch *fetch)
{
    if (fetch->rows <= 0) return 0;
    return (fetch->rows + LRKI_FETCH_ROWS - 1) / LRKI_FETCH_ROWS * fetch->lines -
           (fetch->lines - fetch->left);
}

/* As many rows as the list has, while so much is multiplied and added. */
static lrki_fetch fetch_of(const rows *r, int64_t lines, int64_t multiply_adds)
{
    lrki_fetch fetch = {
        .next = (uintptr_t)r->list[0], .stride = 4096, .lines = lines, .left = lines, .rows = r->values.rows};
    int64_t pace = multiply_adds / fetches_left(&fetch);
    fetch.pace = pace > 0 ? pace : 1;
    return fetch;
}

/* ---- dot ---------------------------------------------------------------------------------------------------------------- */

static void check_dot(const lrki_skinny *kernels, int32_t dtype, int32_t n_rows, int32_t n_ranks, int64_t n,
                      bool add)
{
    rows left = rows_make(dtype, n_rows, n, 1), right = rows_make(LRK_DTYPE_F32, n_ranks, n, 2);
    padded out = padded_make(n_rows, n_ranks, 2, 3), before = padded_copy(&out);
    lrki_fetch fetch = fetch_of(&left, 7, (int64_t)n_rows * n_ranks * n);
    const lrki_dot_args args = {.rows = (const void *const *)left.list,
                                .ranks = (const float *const *)right.list,
                                .dtype = dtype,
                                .n_rows = n_rows,
                                .n_ranks = n_ranks,
                                .add = add,
                                .n = n,
                                .fetch = n % 2 ? &fetch : NULL, /* changes nothing */
                                .out = out.data,
                                .ld_out = out.ld};
    kernels->dot(&args);
    for (int64_t i = 0; i < n_rows; i++)
        for (int64_t j = 0; j < n_ranks; j++) {
            double old = add ? (double)before.data[i * out.ld + j] : 0.0, want = old, size = fabs(old);
            for (int64_t k = 0; k < n; k++) {
                want += value_at(&left, i, k) * value_at(&right, j, k);
                size += fabs(value_at(&left, i, k) * value_at(&right, j, k));
            }
            if (!oracle_within((double)out.data[i * out.ld + j], want, size, n + 1))
                ck_abort_msg("%s dot of %d: %d x %d, n %d, (%d, %d)", kernels->name, dtype, n_rows, n_ranks,
                             (int)n, (int)i, (int)j);
        }
    ck_assert(padded_intact(&out));
    padded_free(&out);
    padded_free(&before);
    rows_free(&left);
    rows_free(&right);
}

/* _i: implementation, then type */
START_TEST(dot_agrees_with_the_sum)
{
    const lrki_skinny *kernels = implementation(_i);
    int32_t dtype = _i / KERNELS;
    if (kernels == NULL) return;
    for (int32_t ranks = 1; ranks <= 2 * kernels->group + 3; ranks++) {
        for (int64_t n = 0; n <= 70; n++)
            check_dot(kernels, dtype, 1 + (int32_t)(n + ranks) % 17, ranks, n, n % 3 == 0);
        for (int32_t count = 1; count <= LRKI_SKINNY_ROWS; count += count < 18 ? 1 : 23)
            check_dot(kernels, dtype, count, ranks, 300 + ranks, ranks % 2);
    }
}
END_TEST

/* ---- update --------------------------------------------------------------------------------------------------------------- */

static void check_update(const lrki_skinny *kernels, int32_t dest_type, int32_t src_type, int32_t n_dest,
                         int32_t n_src, int64_t n)
{
    rows dest = rows_make(dest_type, n_dest, n, 4), src = rows_make(src_type, n_src, n, 5);
    padded before = padded_copy(&dest.values), coef = padded_make(n_src, n_dest, 2, 6);
    lrki_fetch fetch = fetch_of(&dest, 7, (int64_t)n_dest * n_src * n);
    const lrki_update_args args = {.dest = dest.list,
                                   .src = (const void *const *)src.list,
                                   .dest_dtype = dest_type,
                                   .src_dtype = src_type,
                                   .n_dest = n_dest,
                                   .n_src = n_src,
                                   .n = n,
                                   .fetch = n % 2 ? &fetch : NULL,
                                   .coef = coef.data,
                                   .ld_coef = coef.ld};
    kernels->update(&args);
    coded_take(&dest.code, &dest.values);
    for (int64_t i = 0; i < n_dest; i++)
        for (int64_t k = 0; k < n; k++) {
            double want = (double)before.data[(n_dest - 1 - i) * before.ld + k], size = fabs(want);
            for (int64_t j = 0; j < n_src; j++) {
                double product = (double)coef.data[j * coef.ld + i] * value_at(&src, j, k);
                want += product;
                size += fabs(product);
            }
            double off = oracle_gamma(n_src + 1) * size;
            off += half_unit(dest_type) * (fabs(want) + off) + half_tiny(dest_type);
            if (!(fabs(value_at(&dest, i, k) - want) <= off))
                ck_abort_msg("%s update of %d by %d: %d from %d, n %d, (%d, %d)", kernels->name, dest_type,
                             src_type, n_dest, n_src, (int)n, (int)i, (int)k);
        }
    ck_assert(padded_intact(&dest.values) && padded_intact(&src.values));
    padded_free(&before);
    padded_free(&coef);
    rows_free(&dest);
    rows_free(&src);
}

/* _i: implementation, then the types: one of dest and src is f32 */
START_TEST(update_agrees_with_the_sum)
{
    static const int32_t types[][2] = {{LRK_DTYPE_F32, LRK_DTYPE_F32},
                                       {LRK_DTYPE_BF16, LRK_DTYPE_F32},
                                       {LRK_DTYPE_F16, LRK_DTYPE_F32},
                                       {LRK_DTYPE_F32, LRK_DTYPE_BF16},
                                       {LRK_DTYPE_F32, LRK_DTYPE_F16}};
    const lrki_skinny *kernels = implementation(_i);
    const int32_t *type = types[_i / KERNELS];
    if (kernels == NULL) return;
    for (int32_t count = 1; count <= LRKI_SKINNY_ROWS; count += count < 18 ? 1 : 23) {
        for (int64_t n = count % 2; n <= 70; n += 3)
            check_update(kernels, type[0], type[1], count, 1 + (int32_t)(n + count) % 19, n);
        check_update(kernels, type[0], type[1], count, LRKI_SKINNY_ROWS, 300 + count);
    }
}
END_TEST

/* ---- fetching evenly ------------------------------------------------------------------------------------------------------- */

/* dot and update fetch in the proportion of their work, here a quarter each. _i: implementation */
START_TEST(a_block_is_fetched_evenly)
{
    const lrki_skinny *kernels = implementation(_i);
    if (kernels == NULL) return;
    for (int32_t n_rows = 1; n_rows <= LRKI_SKINNY_ROWS; n_rows += n_rows < 18 ? 1 : 23)
        for (int32_t n_ranks = 1; n_ranks <= 17; n_ranks += 4) {
            const int64_t n = 320, lines = n_rows % 2 ? 7 : 400; /* fewer than loops have steps, and more */
            rows left = rows_make(LRK_DTYPE_F32, n_rows, n, 1),
                 right = rows_make(LRK_DTYPE_F32, n_ranks, n, 2);
            padded out = padded_make(n_rows, n_ranks, 0, 3);
            lrki_fetch fetch = fetch_of(&left, lines, 4 * n_rows * n_ranks * n);
            const int64_t all = fetches_left(&fetch);
            const uintptr_t first = fetch.next;
            const lrki_dot_args dot = {.rows = (const void *const *)left.list,
                                       .ranks = (const float *const *)right.list,
                                       .n_rows = n_rows,
                                       .n_ranks = n_ranks,
                                       .n = n,
                                       .fetch = &fetch,
                                       .out = out.data,
                                       .ld_out = out.ld};
            const lrki_update_args update = {.dest = left.list,
                                             .src = (const void *const *)right.list,
                                             .n_dest = n_rows,
                                             .n_src = n_ranks,
                                             .n = n,
                                             .fetch = &fetch,
                                             .coef = out.data,
                                             .ld_coef = n_rows};
            kernels->dot(&dot);
            const int64_t work = n_rows * n_ranks * n;
            int64_t due = work / fetch.pace, fetched = all - fetches_left(&fetch);
            if (fetched != (due < all ? due : all))
                ck_abort_msg("%s: %d x %d, %d of %d fetched by dot", kernels->name, n_rows, n_ranks,
                             (int)fetched, (int)all);
            int64_t stripes = fetched / lines, rest = fetched % lines;
            ck_assert(fetch.rows <= 0 ||
                      fetch.next == first + (uintptr_t)(stripes * LRKI_FETCH_ROWS * 4096 + rest * LRKI_LINE));
            kernels->update(&update);
            due = 2 * work / fetch.pace;
            ck_assert_int_eq(all - fetches_left(&fetch), due < all ? due : all);
            padded_free(&out);
            rows_free(&left);
            rows_free(&right);
        }
}
END_TEST

/* ---- what is not finite ------------------------------------------------------------------------------------------------ */

/* Puts a value into row i of a list, column k. */
static void put(rows *r, int64_t i, int64_t k, float value)
{
    int64_t at = (r->values.rows - 1 - i) * r->values.ld + k;
    r->values.data[at] = value;
    if (r->code.bits != NULL) r->code.bits[at] = half_encode(r->code.dtype, (double)value);
}

/* NaN and infinity of one row and one column reach the sums of that row, every one of them. _i: implementation, then type */
START_TEST(dot_propagates_what_is_not_finite)
{
    const lrki_skinny *kernels = implementation(_i);
    if (kernels == NULL) return;
    for (int64_t n = 1; n <= 67; n++)
        for (int64_t k = n - 1; k >= 0; k -= 13) {
            int32_t dtype = _i / KERNELS, n_ranks = 1 + (int32_t)n % kernels->group;
            rows left = rows_make(dtype, 11, n, 1), right = rows_make(LRK_DTYPE_F32, n_ranks, n, 2);
            padded out = padded_make(11, n_ranks, 1, 3);
            put(&left, 2, k, NAN);
            put(&left, 9, k, -INFINITY);
            for (int32_t j = 0; j < n_ranks; j++)
                put(&right, j, k, 0.5f);
            const lrki_dot_args args = {.rows = (const void *const *)left.list,
                                        .ranks = (const float *const *)right.list,
                                        .dtype = dtype,
                                        .n_rows = 11,
                                        .n_ranks = n_ranks,
                                        .n = n,
                                        .out = out.data,
                                        .ld_out = out.ld};
            kernels->dot(&args);
            for (int64_t i = 0; i < 11; i++)
                for (int64_t j = 0; j < n_ranks; j++) {
                    float is = out.data[i * out.ld + j];
                    if (!(i == 2 ? isnan(is) : i == 9 ? is == -INFINITY : isfinite(is)))
                        ck_abort_msg("%s: n %d, k %d, (%d, %d) is %g", kernels->name, (int)n, (int)k, (int)i,
                                     (int)j, (double)is);
                }
            padded_free(&out);
            rows_free(&left);
            rows_free(&right);
        }
}
END_TEST

/* A NaN in src reaches its column of all dest, an infinite coef all of its row. _i: implementation, then type of dest */
START_TEST(update_propagates_what_is_not_finite)
{
    const lrki_skinny *kernels = implementation(_i);
    if (kernels == NULL) return;
    for (int64_t n = 1; n <= 67; n++) {
        const int64_t k = n / 2, odd = 1;
        int32_t dtype = _i / KERNELS, n_dest = 2 + (int32_t)n % 9;
        rows dest = rows_make(dtype, n_dest, n, 1), src = rows_make(LRK_DTYPE_F32, 5, n, 2);
        padded coef = padded_make(5, n_dest, 1, 3);
        put(&src, 3, k, NAN);
        coef.data[2 * coef.ld + odd] = INFINITY;
        for (int64_t c = 0; c < n; c++)
            put(&src, 2, c, 0.25f);
        const lrki_update_args args = {.dest = dest.list,
                                       .src = (const void *const *)src.list,
                                       .dest_dtype = dtype,
                                       .src_dtype = LRK_DTYPE_F32,
                                       .n_dest = n_dest,
                                       .n_src = 5,
                                       .n = n,
                                       .coef = coef.data,
                                       .ld_coef = coef.ld};
        kernels->update(&args);
        coded_take(&dest.code, &dest.values);
        for (int64_t i = 0; i < n_dest; i++)
            for (int64_t c = 0; c < n; c++) {
                double is = value_at(&dest, i, c);
                if (!(c == k ? isnan(is) : i == odd ? is == (double)INFINITY : isfinite(is)))
                    ck_abort_msg("%s: n %d, (%d, %d) is %g", kernels->name, (int)n, (int)i, (int)c, is);
            }
        padded_free(&coef);
        rows_free(&dest);
        rows_free(&src);
    }
}
END_TEST

/* ---- conversion ------------------------------------------------------------------------------------------------------------ */

static uint32_t bits_of(float value)
{
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    return bits;
}

/* Both types, every value, at every length of a remainder. _i: implementation, then type */
START_TEST(widening_is_exact)
{
    const lrki_skinny *kernels = implementation(_i);
    int32_t dtype = LRK_DTYPE_BF16 + _i / KERNELS;
    if (kernels == NULL) return;
    uint16_t half[40];
    float wide[41];
    for (uint32_t first = 0, n = 1; first < 65536; first += n, n = n % 40 + 1) {
        for (uint32_t i = 0; i < n; i++)
            half[i] = (uint16_t)(first + i);
        wide[n] = 123.0f;
        kernels->widen(half, dtype, n, wide);
        ck_assert(wide[n] == 123.0f);
        for (uint32_t i = 0; i < n; i++) {
            double want = half_decode(dtype, half[i]);
            bool same = isnan(want) ? isnan(wide[i]) : bits_of(wide[i]) == bits_of((float)want);
            if (!same) ck_abort_msg("%s: %04x widens to %g", kernels->name, half[i], (double)wide[i]);
        }
    }
}
END_TEST

static void check_narrow(const lrki_skinny *kernels, int32_t dtype, const float *wide, int64_t n)
{
    uint16_t half[40];
    half[n] = 0x1234;
    kernels->narrow(wide, dtype, n, half);
    ck_assert_uint_eq(half[n], 0x1234);
    for (int64_t i = 0; i < n; i++) {
        uint16_t want = half_encode(dtype, (double)wide[i]);
        bool same = isnan(wide[i]) ? isnan(half_decode(dtype, half[i])) : half[i] == want;
        if (!same)
            ck_abort_msg("%s: %a narrows to %04x, not %04x", kernels->name, (double)wide[i], half[i], want);
    }
}

/* Every value of the type, what lies just below and above it, and the ties between neighbours. */
START_TEST(narrowing_rounds_to_nearest_even)
{
    const lrki_skinny *kernels = implementation(_i);
    int32_t dtype = LRK_DTYPE_BF16 + _i / KERNELS;
    float wide[5];
    if (kernels == NULL) return;
    for (uint32_t bits = 0; bits < 65536; bits++) {
        float value = (float)half_decode(dtype, (uint16_t)bits),
              next = (float)half_decode(dtype, (uint16_t)(bits + 1));
        float tie = (float)(((double)value + (double)next) / 2);
        wide[0] = value;
        wide[1] = nextafterf(value, INFINITY);
        wide[2] = nextafterf(value, -INFINITY);
        wide[3] = tie;
        wide[4] = nextafterf(tie, value);
        check_narrow(kernels, dtype, wide, 5);
    }
}
END_TEST

/* NaNs whose payload is all in bits that a narrower type drops. _i: implementation, then type */
START_TEST(narrowing_keeps_nan)
{
    static const uint32_t patterns[] = {0x7F800001, 0xFF800001, 0x7F801FFF, 0x7F80FFFF,
                                        0x7FBFFFFF, 0x7FFFFFFF, 0xFFFFFFFF, 0x7FFF8000};
    const lrki_skinny *kernels = implementation(_i);
    float wide[20];
    if (kernels == NULL) return;
    for (int i = 0; i < 20; i++)
        memcpy(&wide[i], &patterns[i % 8], sizeof wide[i]);
    for (int64_t n = 1; n <= 20; n++)
        check_narrow(kernels, LRK_DTYPE_BF16 + _i / KERNELS, wide, n);
}
END_TEST

START_TEST(narrowing_knows_the_edges)
{
    static const float edges[] = {
        0.0f,       -0.0f,        65504.0f,     65519.0f,      65520.0f,   -65520.0f, 65536.0f,  1e30f,
        3.4e38f,    -3.4e38f,     INFINITY,     -INFINITY,     NAN,        -NAN,      0x1p-24f,  0x1p-25f,
        0x1.8p-25f, 0x1p-26f,     0x1p-126f,    0x1p-149f,     -0x1p-149f, 0x1p-133f, 0x1p-134f, 1.0f,
        -1.0f,      0x1.ffcp-15f, 0x1.ffep-15f, 0x1.ffffp-15f, 0x1p-14f,   2049.0f,   2051.0f,   257.0f};
    const lrki_skinny *kernels = implementation(_i);
    int32_t dtype = LRK_DTYPE_BF16 + _i / KERNELS;
    if (kernels == NULL) return;
    for (int64_t n = 0; n <= (int64_t)(sizeof edges / sizeof edges[0]); n++)
        check_narrow(kernels, dtype, edges, n);
}
END_TEST

/* ---- the choice ------------------------------------------------------------------------------------------------------------- */

START_TEST(the_choice_is_the_fastest_that_runs)
{
    const lrki_skinny *best = lrki_skinny_find(LRK_KERNELS_AUTO);
    ck_assert_ptr_nonnull(best);
    ck_assert_ptr_eq(lrki_skinny_find(LRK_KERNELS_BLAS), best);
    ck_assert_ptr_eq(lrki_skinny_find(LRK_KERNELS_GENERIC), &lrki_skinny_generic);
    ck_assert_ptr_null(lrki_skinny_find(LRK_KERNELS_NEON + 1));
#if defined(__x86_64__)
    ck_assert_ptr_null(lrki_skinny_find(LRK_KERNELS_NEON));
    if (lrki_skinny_find(LRK_KERNELS_AVX512) != NULL) ck_assert_ptr_eq(best, &lrki_skinny_avx512);
#elif defined(__aarch64__)
    ck_assert_ptr_eq(best, &lrki_skinny_neon);
    ck_assert_ptr_null(lrki_skinny_find(LRK_KERNELS_AVX2));
#endif
}
END_TEST

Suite *skinny_suite(void)
{
    Suite *suite = suite_create("skinny");
    TCase *tc = tcase_create("skinny");
    tcase_set_timeout(tc, 60);
    tcase_add_loop_test(tc, dot_agrees_with_the_sum, 0, 3 * KERNELS);
    tcase_add_loop_test(tc, update_agrees_with_the_sum, 0, 5 * KERNELS);
    tcase_add_loop_test(tc, a_block_is_fetched_evenly, 0, KERNELS);
    tcase_add_loop_test(tc, widening_is_exact, 0, 2 * KERNELS);
    tcase_add_loop_test(tc, narrowing_rounds_to_nearest_even, 0, 2 * KERNELS);
    tcase_add_loop_test(tc, narrowing_knows_the_edges, 0, 2 * KERNELS);
    tcase_add_loop_test(tc, narrowing_keeps_nan, 0, 2 * KERNELS);
    tcase_add_loop_test(tc, dot_propagates_what_is_not_finite, 0, 3 * KERNELS);
    tcase_add_loop_test(tc, update_propagates_what_is_not_finite, 0, 3 * KERNELS);
    tcase_add_test(tc, the_choice_is_the_fastest_that_runs);
    suite_add_tcase(suite, tc);
    return suite;
}
