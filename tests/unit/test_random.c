/* SPDX-License-Identifier: MIT */
/* Random streams: the generator against its published vectors, access by index, independence of names, distributions. */
#include <check.h>
#include <math.h>
#include <string.h>

#include "core/core.h"

#define N 100000

Suite *random_suite(void);

/* Vectors of Random123 1.09 (kat_vectors, philox4x32 with 10 rounds). */
START_TEST(philox_gives_the_published_vectors)
{
    static const uint32_t vectors[3][10] = {
        {0, 0, 0, 0, 0, 0, 0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8},
        {0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff, 0x408f276d, 0x41c83b0e,
         0xa20bc7c6, 0x6d5451fd},
        {0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344, 0xa4093822, 0x299f31d0, 0xd16cfe09, 0x94fdcceb,
         0x5001e420, 0x24126ea1},
    };
    uint32_t out[4];
    lrki_philox(vectors[_i], vectors[_i] + 4, out);
    ck_assert_mem_eq(out, vectors[_i] + 6, sizeof out);
}
END_TEST

START_TEST(values_depend_on_their_index_alone)
{
    lrki_stream s = lrki_stream_make(7, LRKI_STREAM_DROPOUT, 3, 11);
    uint32_t all[37], some[9];
    lrki_stream_fill_bits(&s, 0, all, 37);
    for (int i = 36; i >= 0; i--)
        ck_assert_uint_eq(lrki_stream_bits(&s, (uint64_t)i), all[i]);
    for (uint64_t first = 0; first < 28; first++) {
        lrki_stream_fill_bits(&s, first, some, 9);
        ck_assert_mem_eq(some, all + first, sizeof some);
    }
}
END_TEST

START_TEST(indices_beyond_32_bits_are_distinct)
{
    lrki_stream s = lrki_stream_make(7, LRKI_STREAM_DROPOUT, 3, 11);
    uint32_t low[8], high[8];
    lrki_stream_fill_bits(&s, 0, low, 8);
    lrki_stream_fill_bits(&s, (uint64_t)1 << 34, high, 8);
    ck_assert_mem_ne(low, high, sizeof low);
    ck_assert_uint_eq(lrki_stream_bits(&s, ((uint64_t)1 << 34) + 5), high[5]);
}
END_TEST

START_TEST(every_part_of_the_name_matters)
{
    const uint64_t high = (uint64_t)1 << 40;
    lrki_stream streams[] = {
        lrki_stream_make(1, 1, 1, 1),        lrki_stream_make(2, 1, 1, 1),
        lrki_stream_make(1, 2, 1, 1),        lrki_stream_make(1, 1, 2, 1),
        lrki_stream_make(1, 1, 1, 2),        lrki_stream_make(1 + high, 1, 1, 1),
        lrki_stream_make(1, 1, 1 + high, 1), lrki_stream_make(1, 1, 1, 1 + high),
    };
    int n = (int)(sizeof streams / sizeof streams[0]);
    for (int i = 0; i < n; i++)
        for (int j = 0; j < i; j++) {
            uint32_t a[4], b[4];
            lrki_stream_fill_bits(&streams[i], 0, a, 4);
            lrki_stream_fill_bits(&streams[j], 0, b, 4);
            ck_assert_mem_ne(a, b, sizeof a);
        }
    lrki_stream again = lrki_stream_make(1, 1, 1, 1);
    ck_assert_uint_eq(lrki_stream_bits(&again, 9), lrki_stream_bits(&streams[0], 9));
}
END_TEST

/* Mean and variance of n samples; a correct generator passes 5 standard errors but for odds of 1 in a million. */
static void check_moments(const float *v, int64_t n, double mean, double variance, double fourth)
{
    double sum = 0.0, square = 0.0;
    for (int64_t i = 0; i < n; i++)
        sum += (double)v[i];
    for (int64_t i = 0; i < n; i++)
        square += ((double)v[i] - mean) * ((double)v[i] - mean);
    double root = sqrt((double)n);
    ck_assert_double_le(fabs(sum / (double)n - mean), 5.0 * sqrt(variance) / root);
    ck_assert_double_le(fabs(square / (double)n - variance), 5.0 * sqrt(fourth - variance * variance) / root);
}

START_TEST(uniform_floats_fill_their_interval_evenly)
{
    static float v[N];
    lrki_stream s = lrki_stream_make(1, LRKI_STREAM_INIT_A, 5, 0);
    lrki_stream_fill_uniform(&s, 0.25f, v, N);
    for (int i = 0; i < N; i++)
        ck_assert(v[i] > -0.25f && v[i] < 0.25f && v[i] != 0.0f);
    double b2 = 0.0625;
    check_moments(v, N, 0.0, b2 / 3.0, b2 * b2 / 5.0);
    int64_t counts[16] = {0};
    for (int i = 0; i < N; i++)
        counts[(int)(((double)v[i] + 0.25) * 32.0)]++;
    double chi2 = 0.0, expected = N / 16.0;
    for (int i = 0; i < 16; i++)
        chi2 += ((double)counts[i] - expected) * ((double)counts[i] - expected) / expected;
    ck_assert_double_lt(chi2, 52.0); /* 15 degrees of freedom: exceeded with probability 6e-6 */
}
END_TEST

START_TEST(uniform_doubles_are_in_the_unit_interval)
{
    static float v[N];
    lrki_stream s = lrki_stream_make(1, LRKI_STREAM_SCORE, 5, 0);
    for (int i = 0; i < N; i++) {
        double u = lrki_stream_uniform(&s, (uint64_t)i);
        ck_assert(u >= 0.0 && u < 1.0);
        v[i] = (float)u;
    }
    for (int i = 1; i < 8; i++)
        for (int j = 0; j < i; j++)
            ck_assert_float_ne(v[i], v[j]);
    check_moments(v, N, 0.5, 1.0 / 12.0, 1.0 / 80.0);
    ck_assert_double_ne(lrki_stream_uniform(&s, 0), lrki_stream_uniform(&s, 1));
    /* more than 32 bits: */
    ck_assert_double_ne(lrki_stream_uniform(&s, 2) * 0x1p32, floor(lrki_stream_uniform(&s, 2) * 0x1p32));
}
END_TEST

START_TEST(normal_floats_have_their_moments_and_tails)
{
    static float v[N];
    lrki_stream s = lrki_stream_make(1, LRKI_STREAM_INIT_A, 6, 0);
    lrki_stream_fill_normal(&s, 0.5f, v, N);
    check_moments(v, N, 0.0, 0.25, 3.0 * 0.0625);
    for (int i = 1; i < 8; i++)
        for (int j = 0; j < i; j++)
            ck_assert_float_ne(v[i], v[j]);
    int64_t within = 0, pairs = 0;
    double product = 0.0;
    for (int i = 0; i < N; i++) {
        ck_assert(isfinite(v[i]));
        within += fabsf(v[i]) < 0.5f;
    }
    for (int i = 0; i + 1 < N; i += 2, pairs++)
        product += (double)v[i] * (double)v[i + 1];
    const double p = 0.682689492137; /* P(|Z| < 1) */
    ck_assert_double_le(fabs((double)within - p * N), 5.0 * sqrt(N * p * (1.0 - p)));
    ck_assert_double_le(fabs(product / (double)pairs), 5.0 * 0.25 / sqrt((double)pairs));
}
END_TEST

START_TEST(a_shorter_fill_is_a_prefix_of_a_longer_one)
{
    float a[23], b[23];
    lrki_stream s = lrki_stream_make(4, LRKI_STREAM_INIT_A, 6, 2);
    lrki_stream_fill_uniform(&s, 1.0f, a, 23);
    lrki_stream_fill_uniform(&s, 1.0f, b, 10);
    ck_assert_mem_eq(a, b, 10 * sizeof *a);
    lrki_stream_fill_normal(&s, 1.0f, a, 23);
    lrki_stream_fill_normal(&s, 1.0f, b, 11);
    ck_assert_mem_eq(a, b, 11 * sizeof *a);
}
END_TEST

Suite *random_suite(void)
{
    Suite *suite = suite_create("random");
    TCase *tc = tcase_create("streams");
    tcase_add_loop_test(tc, philox_gives_the_published_vectors, 0, 3);
    tcase_add_test(tc, values_depend_on_their_index_alone);
    tcase_add_test(tc, indices_beyond_32_bits_are_distinct);
    tcase_add_test(tc, every_part_of_the_name_matters);
    tcase_add_test(tc, uniform_floats_fill_their_interval_evenly);
    tcase_add_test(tc, uniform_doubles_are_in_the_unit_interval);
    tcase_add_test(tc, normal_floats_have_their_moments_and_tails);
    tcase_add_test(tc, a_shorter_fill_is_a_prefix_of_a_longer_one);
    suite_add_tcase(suite, tc);
    return suite;
}
