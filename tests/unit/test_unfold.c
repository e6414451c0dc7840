/* SPDX-License-Identifier: MIT */
/*
 * What a fold can have come from, with every instruction set that this processor runs, against the definition: b0 and its two
 * neighbours, folded one by one.
 */
#include <check.h>
#include <float.h>
#include <math.h>
#include <string.h>

#include "formats/peft_fold.h"
#include "formats/peft_unfold.h"
#include "material.h"

Suite *unfold_suite(void);

#define KERNELS (LRK_KERNELS_NEON - LRK_KERNELS_GENERIC + 1)
enum { PIECE = LRKI_UNFOLD_PIECE };

static const double factors[] = {
    3,           0.7,     -1.01, 2,      -0.25,   0x1.8p-100, 0x1.fp100,
    1 + 0x1p-52, 1.5e-45, 1e-60, 0x1p-1, 1.99999, 1 / 3.,     0x1.fffffffffffffp0};
enum { N_FACTORS = sizeof factors / sizeof factors[0] };

/* NULL: this processor does not run them. */
static lrk_context *context_with(int32_t kernels)
{
    lrk_host host;
    lrk_context *context = NULL;
    ck_assert_int_eq(lrk_host_init(&host, sizeof host), LRK_OK);
    host.kernels = kernels;
    lrk_status status = lrk_context_create(&host, &context, NULL, 0);
    ck_assert(status == LRK_OK || status == LRK_ERR_UNSUPPORTED);
    return context;
}

/* Values of every kind: of order 1, with any exponent, subnormal, zeros, the largest; of either sign. */
static void fill(float *values, int64_t n, uint64_t seed)
{
    static const uint32_t edges[] = {0, 1, 0x007fffff, 0x00800000, 0x3f800000, 0x3fffffff, 0x7f7fffff};
    for (int64_t i = 0; i < n; i++) {
        double u = random_unit(&seed);
        uint32_t bits = (uint32_t)((u + 1) * 0x1p31);
        if (seed % 3 == 0) bits = edges[seed / 3 % 7] | (bits & 0x80000000u);
        values[i] = seed % 3 == 1 && isfinite(lrki_float(bits)) ? lrki_float(bits) : (float)u;
        if (seed % 3 == 0) values[i] = lrki_float(bits);
    }
}

static uint32_t bit(const uint64_t *mask, int64_t i)
{
    return (uint32_t)(mask[i / 64] >> i % 64) & 1;
}

static bool folds(uint32_t bits, double factor, float folded)
{
    return lrki_bits((float)((double)lrki_float(bits) * factor)) == lrki_bits(folded);
}

static void check_element(const lrki_unfolded *u, int64_t i, float folded, double factor)
{
    uint32_t b0 = lrki_bits((float)((double)folded * (factor == 0 ? 0 : 1 / factor)));
    bool tiny = fabsf(folded) < FLT_MIN;
    int n = 0;
    uint32_t found[3];
    for (uint32_t step = 0; step < 3; step++)
        if (folds(b0 - 1 + step, factor, folded)) found[n++] = b0 - 1 + step;
    ck_assert_int_eq(bit(u->tiny, i), tiny);
    ck_assert_int_eq(bit(u->lost, i), !tiny && n == 0);
    ck_assert_msg(bit(u->open, i) == (tiny || n == 2), "factor %a, B' %a", factor, (double)folded);
    if (tiny) {
        ck_assert_uint_eq(u->first[i], b0);
        ck_assert_uint_eq(u->second[i], b0);
    } else if (n > 0) {
        ck_assert_msg(n <= 2 && u->first[i] == found[0] && u->second[i] == found[n - 1],
                      "factor %a, B' %a: %a and %a of %d", factor, (double)folded,
                      (double)lrki_float(u->first[i]), (double)lrki_float(u->second[i]), n);
    }
}

static void check_past_the_end(const lrki_unfolded *u, int64_t n)
{
    for (int64_t i = n; i < PIECE; i++)
        ck_assert_uint_eq(bit(u->tiny, i) | bit(u->lost, i) | bit(u->open, i), 0);
}

START_TEST(two_values_at_most_fold_to_one)
{
    lrk_context *context = context_with(LRK_KERNELS_GENERIC + _i % KERNELS);
    double factor = factors[_i / KERNELS];
    float folded[PIECE];
    lrki_unfolded u;
    for (int64_t n = 1; context != NULL && n <= PIECE; n += n < 4 || n > 250 ? 1 : 31) {
        for (uint64_t seed = 1; seed <= 20; seed++) {
            fill(folded, n, 100 * (uint64_t)n + seed);
            lrki_unfold(context, folded, n, factor, &u);
            for (int64_t i = 0; i < n; i++)
                check_element(&u, i, folded[i], factor);
            check_past_the_end(&u, n);
        }
    }
    lrk_context_destroy(context);
}
END_TEST

/* Of what was folded nothing is lost, and the value itself is one of the two wherever B' is normal. */
START_TEST(what_was_folded_is_found)
{
    lrk_context *context = context_with(LRK_KERNELS_GENERIC + _i % KERNELS);
    double factor = factors[_i / KERNELS];
    float b[PIECE];
    lrki_unfolded u;
    uint64_t differs[LRKI_UNFOLD_WORDS];
    for (int64_t n = 1; context != NULL && n <= PIECE; n += n < 4 || n > 250 ? 1 : 31) {
        fill(b, n, 7 * (uint64_t)n);
        for (int64_t i = 0; i < n; i++)
            if (!isfinite((float)((double)b[i] * factor))) b[i] = 0;
        lrki_fold_and_unfold(context, b, n, factor, &u, differs);
        for (int64_t i = 0; i < n; i++) {
            float folded = (float)((double)b[i] * factor);
            check_element(&u, i, folded, factor);
            ck_assert_int_eq(bit(differs, i), lrki_bits(b[i]) != u.first[i]);
            ck_assert_int_eq(bit(u.lost, i), 0);
            ck_assert(bit(u.tiny, i) || lrki_bits(b[i]) == u.first[i] || lrki_bits(b[i]) == u.second[i]);
        }
        check_past_the_end(&u, n);
        for (int64_t i = n; i < PIECE; i++)
            ck_assert_int_eq(bit(differs, i), 0);
    }
    lrk_context_destroy(context);
}
END_TEST

/* The least normal numbers, under which units do not shrink, and powers of two, under which they do; factors of every kind. */
START_TEST(edges_of_binades_are_as_all_else)
{
    lrk_context *context = context_with(LRK_KERNELS_GENERIC + _i % KERNELS);
    float folded[PIECE];
    lrki_unfolded u;
    uint64_t seed = 9;
    for (int k = 0; context != NULL && k < 4000; k++) {
        double near_one = 1 + random_unit(&seed) * ldexp(1, -(k % 54)), factor = ldexp(near_one, k % 7 - 3);
        for (int i = 0; i < PIECE; i++)
            folded[i] = (i % 2 == 0 ? 1.0f : -1.0f) *
                        lrki_float(0x00800000u * (1 + (uint32_t)i / 8) + (uint32_t)i / 2 % 4 - 1);
        if (near_one == 0) continue;
        lrki_unfold(context, folded, PIECE, factor, &u);
        for (int64_t i = 0; i < PIECE; i++)
            check_element(&u, i, folded[i], factor);
    }
    lrk_context_destroy(context);
}
END_TEST

/* Metadata that lies: a B' that nothing folds to. */
START_TEST(what_nothing_folds_to_is_said)
{
    lrk_context *context = context_with(LRK_KERNELS_GENERIC + _i % KERNELS);
    float folded[PIECE];
    lrki_unfolded u;
    if (context == NULL) return;
    for (int i = 0; i < PIECE; i++)
        folded[i] = i % 2 == 0 ? INFINITY : -INFINITY;
    lrki_unfold(context, folded, PIECE, 0, &u);
    for (int64_t i = 0; i < PIECE; i++)
        ck_assert_int_eq(bit(u.lost, i), 1);
    folded[3] = 0;
    folded[70] = 1;
    lrki_unfold(context, folded, PIECE, 0, &u);
    for (int64_t i = 0; i < PIECE; i++)
        ck_assert_int_eq(bit(u.lost, i), i != 3);
    lrk_context_destroy(context);
}
END_TEST

Suite *unfold_suite(void)
{
    Suite *suite = suite_create("unfold");
    TCase *tests = tcase_create("unfold");
    tcase_add_loop_test(tests, two_values_at_most_fold_to_one, 0, KERNELS * N_FACTORS);
    tcase_add_loop_test(tests, what_was_folded_is_found, 0, KERNELS * N_FACTORS);
    tcase_add_loop_test(tests, edges_of_binades_are_as_all_else, 0, KERNELS);
    tcase_add_loop_test(tests, what_nothing_folds_to_is_said, 0, KERNELS);
    suite_add_tcase(suite, tests);
    return suite;
}
