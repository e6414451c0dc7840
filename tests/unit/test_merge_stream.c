/* SPDX-License-Identifier: MIT */
/*
 * Merging a file: every sum is right in every dtype, what is no weight comes through, the report says what rounding did,
 * and whatever cannot be merged is refused, before a byte is written if it can be known.
 */
#include <check.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "half.h"
#include "merge_rig.h"
#include "sets.h"

static const char *const dtypes[] = {"F32", "BF16", "F16", "F64"};

START_TEST(weights_are_merged_and_the_rest_is_kept)
{
    gguf_bytes merged = gguf_bytes_new();
    lrk_adapters *adapters = merge_set();
    merge_model model = merge_model_make(dtypes[_i / 2], _i % 2);
    gguf_bytes file = merge_model_whole(&model);
    lrk_merge_options options = merge_options(&model);
    lrk_merge_report report = {.struct_size = sizeof report};
    uint64_t digest = sets_digest(adapters);
    ck_assert_int_eq(merge_try(adapters, &file, &options, &merged, &report), LRK_OK);
    merge_expect(adapters, &model, 0, MERGE_TENSORS, &merged);
    ck_assert_uint_eq(sets_digest(adapters), digest);
    ck_assert_int_eq(report.files, 1);
    ck_assert_int_eq(report.tensors, MERGE_TENSORS);
    ck_assert_int_eq(report.merged, 3);
    ck_assert_int_eq(report.lost, 0);
    gguf_bytes_free(&merged);
    gguf_bytes_free(&file);
    merge_model_free(&model);
    lrk_adapters_destroy(adapters);
}
END_TEST

/* By loops of its own over what was written; sums in double err by far less than 1e-12. */
static void expect_report(const lrk_adapters *adapters, const merge_model *model, const gguf_bytes *merged,
                          const lrk_merge_report *report)
{
    static const int modules[] = {0, 1, 3}, at[] = {2, 1, 4};
    double largest = -1, sum = 0, norm2 = 0, share = 0;
    int64_t n = 0, worst = -1;
    for (int k = 0; k < 3; k++) {
        const st_entry *entry = &model->entries[at[k]];
        int64_t count = entry->shape[0] * entry->shape[1];
        float *delta = malloc((size_t)count * sizeof *delta);
        st_found before = {.data = entry->data}, after = st_find(merged, entry->name);
        double delta2 = 0, change2 = 0;
        strcpy(before.dtype, entry->dtype);
        ck_assert_int_eq(lrk_adapters_delta(adapters, modules[k], 0, delta, entry->shape[1]), LRK_OK);
        for (int64_t i = 0; i < count; i++) {
            double w = st_value(&before, i), d = (double)delta[i], stored = st_value(&after, i);
            double error = fabs(stored - (w + d));
            if (error > largest) {
                largest = error;
                worst = modules[k];
            }
            sum += error;
            delta2 += d * d;
            change2 += (stored - w) * (stored - w);
        }
        n += count;
        norm2 += delta2;
        share = fmax(share, 1 - sqrt(change2 / delta2));
        free(delta);
    }
    ck_assert(report->largest_error == largest);
    ck_assert_int_eq(report->worst_module, worst);
    ck_assert_double_le(fabs(report->mean_error - sum / (double)n), 1e-12 * sum / (double)n);
    ck_assert_double_le(fabs(report->delta_norm - sqrt(norm2)), 1e-12 * sqrt(norm2));
    ck_assert_double_le(fabs(report->largest_lost - share), 1e-12);
}

START_TEST(the_report_says_what_rounding_did)
{
    gguf_bytes merged = gguf_bytes_new();
    lrk_adapters *adapters = merge_set();
    merge_model model = merge_model_make(dtypes[_i], false);
    gguf_bytes file = merge_model_whole(&model);
    lrk_merge_options options = merge_options(&model);
    lrk_merge_report report = {.struct_size = sizeof report};
    ck_assert_int_eq(merge_try(adapters, &file, &options, &merged, &report), LRK_OK);
    expect_report(adapters, &model, &merged, &report);
    ck_assert(_i == 3 ? report.largest_error == 0
                      : report.largest_error > 0); /* F64: the sum in double itself */
    gguf_bytes_free(&merged);
    gguf_bytes_free(&file);
    merge_model_free(&model);
    lrk_adapters_destroy(adapters);
}
END_TEST

START_TEST(options_and_report_may_be_left_out)
{
    static const float w[] = {1, 2, 3, 4};
    gguf_bytes merged = gguf_bytes_new();
    const st_entry entry = {"one.weight", "F32", 2, {2, 2}, w, sizeof w};
    gguf_bytes file = st_build(&entry, 1, NULL);
    lrk_module_spec spec = sets_spec("one", 2, 2, 1);
    lrk_adapters *adapters = sets_create(merge_context, &spec, 1, NULL);
    ck_assert_int_eq(merge_try(adapters, &file, NULL, &merged, NULL), LRK_OK); /* B = 0: nothing changes */
    ck_assert_uint_eq(merged.n, file.n + (8 - st_header(&file) % 8) % 8);
    ck_assert_mem_eq(merged.data + merged.n - sizeof w, w, sizeof w);
    gguf_bytes_free(&merged);
    gguf_bytes_free(&file);
    lrk_adapters_destroy(adapters);
}
END_TEST

START_TEST(a_set_without_ranks_copies)
{
    gguf_bytes merged = gguf_bytes_new();
    lrk_module_spec spec = sets_spec("absent", 2, 2, 0);
    lrk_adapters *adapters = sets_create(merge_context, &spec, 1, NULL);
    merge_model model = merge_model_make("F16", false);
    gguf_bytes file = merge_model_whole(&model);
    lrk_merge_report report = {.struct_size = sizeof report};
    ck_assert_int_eq(merge_try(adapters, &file, NULL, &merged, &report), LRK_OK);
    for (int i = 0; i < MERGE_TENSORS; i++) {
        st_found before = st_find(&file, model.entries[i].name),
                 after = st_find(&merged, model.entries[i].name);
        ck_assert_mem_eq(after.data, before.data, before.bytes);
    }
    ck_assert(report.worst_module == -1 && report.merged == 0 && report.mean_error == 0);
    gguf_bytes_free(&merged);
    gguf_bytes_free(&file);
    merge_model_free(&model);
    lrk_adapters_destroy(adapters);
}
END_TEST

/* ---- lost deltas ------------------------------------------------------------------------------------------------------- */

/* A module "m" of rank 1, n in and 1 out, whose delta is these values. */
static lrk_adapters *set_of_delta(const float *delta, int64_t n)
{
    lrk_module_spec spec = sets_spec("m", n, 1, 1);
    lrk_adapters *adapters = sets_create(merge_context, &spec, 1, NULL);
    memcpy(sets_tensor(adapters, 0, LRK_TENSOR_A).data, delta, (size_t)n * sizeof *delta);
    sets_tensor(adapters, 0, LRK_TENSOR_B).data[0] = 1;
    return adapters;
}

/* Merges a delta into a row of W = value everywhere. */
static lrk_status merge_row(const float *delta, int64_t n, const char *dtype, double value, uint32_t flags,
                            lrk_merge_report *report)
{
    uint16_t w[32];
    gguf_bytes merged = gguf_bytes_new();
    for (int64_t i = 0; i < n; i++)
        w[i] = half_encode(strcmp(dtype, "F16") == 0 ? LRK_DTYPE_F16 : LRK_DTYPE_BF16, value);
    const st_entry entry = {"m.weight", dtype, 2, {1, n}, w, (size_t)n * sizeof *w};
    gguf_bytes file = st_build(&entry, 1, NULL);
    lrk_adapters *adapters = set_of_delta(delta, n);
    lrk_merge_options options;
    ck_assert_int_eq(lrk_merge_options_init(&options, sizeof options), LRK_OK);
    options.flags = flags;
    lrk_status status = merge_try(adapters, &file, &options, &merged, report);
    gguf_bytes_free(&merged);
    gguf_bytes_free(&file);
    lrk_adapters_destroy(adapters);
    return status;
}

/*
 * To 1 in bf16, 2^-7 is added as it is and 2^-8 is lost (a tie, to even). With one of the first and n of the second the kept
 * share is 1 / sqrt(1 + n / 4): a half, exactly, at n = 12, and less beyond.
 */
START_TEST(less_than_half_of_a_delta_is_lost)
{
    float delta[14] = {0x1p-7f};
    lrk_merge_report report = {.struct_size = sizeof report};
    for (int i = 1; i < 14; i++)
        delta[i] = 0x1p-8f;
    ck_assert_int_eq(merge_row(delta, 13, "BF16", 1, 0, &report), LRK_OK);
    ck_assert(report.lost == 0 && report.largest_lost == 0.5);
    sets_expect(merge_context, merge_row(delta, 14, "BF16", 1, 0, &report), LRK_ERR_UNSUPPORTED,
                "module 'm': 51.5 % of its delta is lost to rounding to BF16");
    ck_assert(report.struct_size == sizeof report && report.merged == 0 && report.worst_module == -1);
    ck_assert_int_eq(merge_row(delta, 14, "BF16", 1, LRK_MERGE_ALLOW_LOST, &report), LRK_OK);
    ck_assert_int_eq(report.lost, 1);
    ck_assert_double_le(fabs(report.largest_lost - (1 - 1 / sqrt(1 + 13 / 4.0))), 1e-15);
    ck_assert(report.largest_error == 0x1p-8 && report.merged == 1);
    delta[0] = 0x1p-9f;
    sets_expect(merge_context, merge_row(delta, 14, "BF16", 1, 0, &report), LRK_ERR_UNSUPPORTED, "100.0 %");
    memset(delta, 0, sizeof delta);
    ck_assert_int_eq(merge_row(delta, 14, "BF16", 1, 0, &report), LRK_OK); /* there was none to lose */
    ck_assert(report.lost == 0 && report.largest_lost == 0);
}
END_TEST

START_TEST(rounding_up_is_no_loss)
{
    const float delta[] = {0x1.8p-8f}; /* to 2^-7 */
    lrk_merge_report report = {.struct_size = sizeof report};
    ck_assert_int_eq(merge_row(delta, 1, "BF16", 1, 0, &report), LRK_OK);
    ck_assert(report.largest_lost == 0 && report.largest_error == 0x1p-9);
}
END_TEST

START_TEST(sums_that_overflow_are_refused)
{
    const float delta[] = {0, 32}; /* 65504 + 32 is halfway to what would be the next f16 */
    sets_expect(merge_context, merge_row(delta, 2, "F16", 65504, 0, NULL), LRK_ERR_NONFINITE,
                "module 'm': a merged weight is not finite in F16");
    ck_assert_int_eq(merge_row(delta, 2, "F16", 65472, 0, NULL), LRK_OK);
    ck_assert_int_eq(merge_row(delta, 2, "BF16", 65504, LRK_MERGE_ALLOW_LOST, NULL), LRK_OK);
}
END_TEST

START_TEST(weights_that_are_not_finite_stay_and_do_not_count)
{
    const float delta[] = {1, 1, 1};
    lrk_merge_report report = {.struct_size = sizeof report};
    ck_assert_int_eq(merge_row(delta, 3, "F16", INFINITY, 0, &report), LRK_OK);
    ck_assert(report.merged == 1 && report.largest_error == 0 && report.mean_error == 0 &&
              report.delta_norm == 0);
    ck_assert_int_eq(merge_row(delta, 3, "BF16", (double)NAN, 0, &report), LRK_OK);
}
END_TEST

/* ---- memory ------------------------------------------------------------------------------------------------------------ */

/* A model of one large tensor of zeros that is nowhere. */
typedef struct vast {
    gguf_bytes header;
    uint64_t written;
} vast;

static int32_t read_vast(void *user, uint64_t offset, void *data, size_t n)
{
    const vast *v = user;
    size_t known = offset < v->header.n ? v->header.n - (size_t)offset : 0;
    if (known > n) known = n;
    if (known > 0) memcpy(data, v->header.data + offset, known);
    memset((char *)data + known, 0, n - known);
    return 0;
}

static int32_t count_written(void *user, const void *data, size_t n)
{
    (void)data;
    ((vast *)user)->written += n;
    return 0;
}

START_TEST(memory_does_not_grow_with_the_tensor)
{
    static const struct {
        const char *dtype;
        int64_t n_in, n_out;
        uint64_t bytes;
    } cases[] = {{"F32", 4096, 8192, (uint64_t)128 << 20},
                 {"F64", 1 << 21, 8, (uint64_t)128 << 20},
                 {"BF16", 40000, 900, 72000000}};
    char text[256];
    vast v = {gguf_bytes_new(), 0};
    lrk_module_spec spec = sets_spec("big", cases[_i].n_in, cases[_i].n_out, 1);
    lrk_adapters *adapters = sets_create(merge_context, &spec, 1, NULL);
    sets_tensor(adapters, 0, LRK_TENSOR_B).data[0] = 1;
    int n = snprintf(text, sizeof text,
                     "{\"big.weight\":{\"dtype\":\"%s\",\"shape\":[%" PRId64 ",%" PRId64
                     "],\"data_offsets\":[0,%" PRIu64 "]}}",
                     cases[_i].dtype, cases[_i].n_out, cases[_i].n_in, cases[_i].bytes);
    gguf_put_u64(&v.header, (uint64_t)n);
    gguf_put(&v.header, text, (size_t)n);
    lrk_reader reader = {.struct_size = sizeof reader, .user = &v, .read_at = read_vast};
    lrk_writer writer = {.struct_size = sizeof writer, .user = &v, .write = count_written};
    reader.size = v.header.n + cases[_i].bytes;
    size_t before = merge_host.live_bytes;
    merge_host.peak_bytes = before;
    ck_assert_int_eq(lrk_merge_stream(adapters, &reader, &writer, NULL, NULL), LRK_OK);
    ck_assert_uint_ge(v.written, cases[_i].bytes);
    ck_assert_uint_le(merge_host.peak_bytes - before, (size_t)32 << 20);
    gguf_bytes_free(&v.header);
    lrk_adapters_destroy(adapters);
}
END_TEST

Suite *merge_stream_suite(void);

Suite *merge_stream_suite(void)
{
    Suite *suite = suite_create("merge_stream");
    TCase *tcase = tcase_create("merge_stream");
    tcase_add_checked_fixture(tcase, merge_setup, merge_teardown);
    tcase_add_loop_test(tcase, weights_are_merged_and_the_rest_is_kept, 0, 8);
    tcase_add_loop_test(tcase, the_report_says_what_rounding_did, 0, 4);
    tcase_add_test(tcase, options_and_report_may_be_left_out);
    tcase_add_test(tcase, a_set_without_ranks_copies);
    tcase_add_test(tcase, less_than_half_of_a_delta_is_lost);
    tcase_add_test(tcase, rounding_up_is_no_loss);
    tcase_add_test(tcase, sums_that_overflow_are_refused);
    tcase_add_test(tcase, weights_that_are_not_finite_stay_and_do_not_count);
    tcase_add_loop_test(tcase, memory_does_not_grow_with_the_tensor, 0, 3);
    suite_add_tcase(suite, tcase);
    return suite;
}
