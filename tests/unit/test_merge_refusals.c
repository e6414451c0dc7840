/* SPDX-License-Identifier: MIT */
/*
 * What cannot be merged is refused with a word about it, before a byte is written where that can be known; every request
 * that fails is reported and leaks nothing; a damaged file is an error or means the same.
 */
#include <check.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "merge_rig.h"
#include "sets.h"

static lrk_adapters *adapters;
static merge_model model;
static gguf_bytes file;
static lrk_merge_options options;

static void setup(void)
{
    merge_setup();
    adapters = merge_set();
    model = merge_model_make("BF16", false);
    file = merge_model_whole(&model);
    options = merge_options(&model);
}

static void teardown(void)
{
    gguf_bytes_free(&file);
    merge_model_free(&model);
    lrk_adapters_destroy(adapters);
    merge_teardown();
}

/* Nothing was written, and the report is empty. */
static void refused(gguf_bytes *of, lrk_status want, const char *words)
{
    gguf_bytes merged = gguf_bytes_new();
    lrk_merge_report report = {.struct_size = sizeof report, .merged = 9};
    sets_expect(merge_context, merge_try(adapters, of, &options, &merged, &report), want, words);
    ck_assert_int_eq(merged.calls, 0);
    ck_assert(report.struct_size == sizeof report && report.merged == 0 && report.worst_module == -1);
    gguf_bytes_free(&merged);
}

static void refused_with(const st_entry *entries, int n, lrk_status want, const char *words)
{
    gguf_bytes other = st_build(entries, n, NULL);
    refused(&other, want, words);
    gguf_bytes_free(&other);
}

START_TEST(arguments_are_checked)
{
    gguf_bytes merged = gguf_bytes_new();
    lrk_reader reader = gguf_bytes_reader(&file);
    lrk_writer writer = gguf_bytes_writer(&merged);
    lrk_merge_report report = {.struct_size = 4};
    ck_assert_int_eq(lrk_merge_stream(NULL, &reader, &writer, NULL, NULL), LRK_ERR_ARGUMENT);
    ck_assert_int_eq(lrk_merge_options_init(NULL, sizeof options), LRK_ERR_ARGUMENT);
    sets_expect(merge_context, lrk_merge_stream(adapters, NULL, &writer, &options, NULL), LRK_ERR_ARGUMENT,
                "reader or writer is NULL");
    sets_expect(merge_context, lrk_merge_stream(adapters, &reader, NULL, &options, NULL), LRK_ERR_ARGUMENT,
                "reader or writer is NULL");
    sets_expect(merge_context, lrk_merge_stream(adapters, &reader, &writer, &options, &report),
                LRK_ERR_ARGUMENT, "lrk_merge_report");
    writer.write = NULL;
    sets_expect(merge_context, lrk_merge_stream(adapters, &reader, &writer, &options, NULL), LRK_ERR_ARGUMENT,
                "no write()");
    reader.read_at = NULL;
    sets_expect(merge_context, lrk_merge_stream(adapters, &reader, &writer, &options, NULL), LRK_ERR_ARGUMENT,
                "no read_at()");
    options.flags = 2;
    refused(&file, LRK_ERR_ARGUMENT, "unknown flags 0x2");
    ck_assert_int_eq(merged.calls, 0);
}
END_TEST

START_TEST(a_larger_struct_needs_a_tail_of_zeros)
{
    struct {
        lrk_merge_options known;
        uint64_t tail;
    } larger = {options, 0};
    gguf_bytes merged = gguf_bytes_new();
    lrk_reader reader = gguf_bytes_reader(&file);
    lrk_writer writer = gguf_bytes_writer(&merged);
    larger.known.struct_size = sizeof larger;
    ck_assert_int_eq(lrk_merge_stream(adapters, &reader, &writer, &larger.known, NULL), LRK_OK);
    larger.tail = 1;
    sets_expect(merge_context, lrk_merge_stream(adapters, &reader, &writer, &larger.known, NULL),
                LRK_ERR_VERSION, "lrk_merge_options");
    gguf_bytes_free(&merged);
}
END_TEST

START_TEST(every_module_needs_its_weight)
{
    options.prefix = NULL;
    refused(&file, LRK_ERR_NOT_FOUND, "module 'h.0': the model has no tensor 'h.0.weight'");
    options.prefix = "m.";
    refused_with(model.entries + 1, 2, LRK_ERR_NOT_FOUND,
                 "module 'h.3': the model has no tensor 'm.h.3.weight'");
    lrk_error_info info = {.struct_size = sizeof info};
    ck_assert_int_eq(lrk_context_error_info(merge_context, &info), LRK_OK);
    ck_assert_int_eq(info.module, 3);
    options.transposed = "h.9";
    refused(&file, LRK_ERR_NOT_FOUND, "transposed 'h.9' matches no module");
}
END_TEST

START_TEST(shapes_must_be_the_modules)
{
    options.transposed = "h.0";
    refused(&file, LRK_ERR_SHAPE, "'m.h.0.weight' is not 5 x 3 as module 'h.0' is: it is not transposed");
    options.transposed = NULL;
    st_entry entry = model.entries[2];
    entry.shape[0] = 5;
    entry.shape[1] = 3;
    refused_with(&entry, 1, LRK_ERR_SHAPE,
                 "'m.h.0.weight' is not 3 x 5 as module 'h.0' is: it is transposed");
    entry.n_dims = 1;
    entry.shape[0] = 15;
    refused_with(&entry, 1, LRK_ERR_SHAPE, "'m.h.0.weight' is not 3 x 5 as module 'h.0' is");
    entry = (st_entry){"m.h.0.weight", "BF16", 3, {3, 5, 3}, NULL, 90};
    refused_with(&entry, 1, LRK_ERR_SHAPE, "'m.h.0.weight' is not 3 x 5");
    entry = (st_entry){"m.h.0.weight", "BF16", 3, {3, 5, 0}, NULL, 0};
    refused_with(&entry, 1, LRK_ERR_SHAPE, "'m.h.0.weight' is not 3 x 5");
}
END_TEST

START_TEST(other_dtypes_are_refused)
{
    const st_entry bytes = {"m.h.0.weight", "F8_E4M3", 2, {3, 5}, NULL, 15};
    refused_with(&bytes, 1, LRK_ERR_UNSUPPORTED, "tensor 'm.h.0.weight' is F8_E4M3");
    const st_entry deep = {"deep", "U8", 9, {1, 1, 1, 1, 1, 1, 1, 1, 1}, NULL, 1};
    refused_with(&deep, 1, LRK_ERR_UNSUPPORTED, "tensor 'deep' has more than 8 dimensions");
}
END_TEST

START_TEST(parameters_must_be_finite)
{
    lrk_tensor b = sets_tensor(adapters, 3, LRK_TENSOR_B);
    b.data[1] = NAN;
    refused(&file, LRK_ERR_NONFINITE, "B of rank 0 of module 'h.3' is not finite");
}
END_TEST

/* ---- progress ---------------------------------------------------------------------------------------------------------- */

typedef struct watch {
    int64_t calls, stop_at;
    uint64_t done, total;
} watch;

static int32_t look(void *user, uint64_t done, uint64_t total)
{
    watch *w = user;
    ck_assert(w->calls == 0 ? done == 0 : done > w->done && total == w->total);
    w->done = done;
    w->total = total;
    return w->calls++ == w->stop_at ? 3 : 0;
}

START_TEST(progress_is_told_and_can_stop_the_merge)
{
    watch all = {.stop_at = -1};
    gguf_bytes merged = gguf_bytes_new();
    options.progress = look;
    options.user = &all;
    ck_assert_int_eq(merge_try(adapters, &file, &options, &merged, NULL), LRK_OK);
    ck_assert_uint_eq(all.done, all.total);
    ck_assert_uint_eq(all.total, merged.n - st_header(&merged));
    ck_assert_int_eq(all.calls, 1 + MERGE_TENSORS + 1); /* h.1 has two blocks */
    gguf_bytes_free(&merged);
    for (int64_t i = 0; i < all.calls; i++) {
        watch some = {.stop_at = i};
        int64_t live = merge_host.live;
        options.user = &some;
        gguf_bytes part = gguf_bytes_new();
        sets_expect(merge_context, merge_try(adapters, &file, &options, &part, NULL), LRK_ERR_CANCELLED,
                    "progress() stopped the merge after");
        ck_assert_int_eq(some.calls, i + 1);
        ck_assert_int_eq(merge_host.live, live);
        gguf_bytes_free(&part);
    }
}
END_TEST

/* ---- requests that fail ------------------------------------------------------------------------------------------------ */

static lrk_status merge_once(void *user)
{
    gguf_bytes merged = gguf_bytes_new();
    lrk_status status = merge_try(adapters, &file, &options, &merged, user);
    if (status == LRK_OK) ck_assert_uint_ge(merged.n + 64, file.n);
    gguf_bytes_free(&merged);
    return status;
}

static void nothing(void *user)
{
    (void)user;
}

START_TEST(each_allocation_that_fails_is_reported)
{
    lrk_merge_report report = {.struct_size = sizeof report};
    sets_each_fault(&merge_host, merge_once, nothing, &report);
}
END_TEST

START_TEST(each_gemm_that_fails_is_reported)
{
    int64_t before = merge_host.gemm.calls;
    ck_assert_int_eq(merge_once(NULL), LRK_OK);
    int64_t total = merge_host.gemm.calls - before;
    ck_assert_int_eq(total, 4);
    for (int64_t i = 0; i < total; i++) {
        int64_t live = merge_host.live;
        merge_host.gemm.fail_at = merge_host.gemm.calls + i;
        sets_expect(merge_context, merge_once(NULL), LRK_ERR_HOST, "gemm");
        merge_host.gemm.fail_at = -1;
        ck_assert_int_eq(merge_host.live, live);
    }
}
END_TEST

START_TEST(each_read_and_write_that_fails_is_reported)
{
    gguf_bytes whole = gguf_bytes_new();
    file.calls = 0;
    ck_assert_int_eq(merge_try(adapters, &file, &options, &whole, NULL), LRK_OK);
    int64_t reads = file.calls, writes = whole.calls;
    ck_assert(reads > 8 && writes > 8);
    for (int64_t i = 0; i < reads + writes; i++) {
        int64_t live = merge_host.live;
        gguf_bytes merged = gguf_bytes_new();
        file.calls = 0;
        file.fail_at = i < reads ? i : -1;
        merged.fail_at = i < reads ? -1 : i - reads;
        sets_expect(merge_context, merge_try(adapters, &file, &options, &merged, NULL), LRK_ERR_IO,
                    "test bytes");
        ck_assert_int_eq(merge_host.live, live);
        ck_assert(merged.n < whole.n && (merged.n == 0 || memcmp(merged.data, whole.data, merged.n) == 0));
        gguf_bytes_free(&merged);
    }
    file.fail_at = -1;
    gguf_bytes_free(&whole);
}
END_TEST

/* ---- damage ------------------------------------------------------------------------------------------------------------ */

/* A weight and a tensor beside it, in the order of their dtypes: no flipped name changes what the data is. */
static gguf_bytes small_file(void)
{
    static const float w[] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
    const st_entry entries[] = {{"m.h.0.weight", "F32", 2, {3, 5}, w, sizeof w},
                                {"n", "U8", 1, {3}, NULL, 3}};
    return st_build(entries, 2, "{\"a\":\"b\"}");
}

static lrk_adapters *small_set(void)
{
    lrk_module_spec spec = sets_spec("h.0", 5, 3, 2);
    lrk_adapters *small = sets_create(merge_context, &spec, 1, NULL);
    sets_fill(small);
    return small;
}

START_TEST(a_file_cut_at_any_byte_is_refused)
{
    lrk_adapters *small = small_set();
    gguf_bytes whole = small_file(), merged = gguf_bytes_new();
    size_t n = whole.n;
    for (whole.n = 0; whole.n < n; whole.n++) {
        lrk_status status = merge_try(small, &whole, &options, &merged, NULL);
        ck_assert_int_eq(status, LRK_ERR_FORMAT);
        ck_assert_int_eq(merged.calls, 0);
    }
    ck_assert_int_eq(merge_try(small, &whole, &options, &merged, NULL), LRK_OK);
    gguf_bytes_free(&merged);
    gguf_bytes_free(&whole);
    lrk_adapters_destroy(small);
}
END_TEST

START_TEST(a_flipped_bit_of_the_header_is_an_error_or_changes_no_data)
{
    lrk_adapters *small = small_set();
    gguf_bytes whole = small_file(), right = gguf_bytes_new();
    ck_assert_int_eq(merge_try(small, &whole, &options, &right, NULL), LRK_OK);
    size_t n = st_header(&whole), bytes = right.n - st_header(&right), n_ok = 0;
    for (size_t i = 0; i < 8 * n; i++) {
        gguf_bytes merged = gguf_bytes_new();
        whole.data[i / 8] ^= (unsigned char)(1u << i % 8);
        lrk_status status = merge_try(small, &whole, &options, &merged, NULL);
        if (status == LRK_OK) {
            n_ok++;
            ck_assert_uint_eq(merged.n - st_header(&merged), bytes);
            ck_assert_mem_eq(merged.data + merged.n - bytes, right.data + right.n - bytes, bytes);
        } else {
            ck_assert_int_eq(merged.calls, 0);
        }
        whole.data[i / 8] ^= (unsigned char)(1u << i % 8);
        gguf_bytes_free(&merged);
    }
    ck_assert_uint_lt(n_ok, 30); /* of the metadata and the other tensor's name */
    gguf_bytes_free(&right);
    gguf_bytes_free(&whole);
    lrk_adapters_destroy(small);
}
END_TEST

Suite *merge_refusals_suite(void);

Suite *merge_refusals_suite(void)
{
    Suite *suite = suite_create("merge_refusals");
    TCase *tcase = tcase_create("merge_refusals");
    tcase_add_checked_fixture(tcase, setup, teardown);
    tcase_add_test(tcase, arguments_are_checked);
    tcase_add_test(tcase, a_larger_struct_needs_a_tail_of_zeros);
    tcase_add_test(tcase, every_module_needs_its_weight);
    tcase_add_test(tcase, shapes_must_be_the_modules);
    tcase_add_test(tcase, other_dtypes_are_refused);
    tcase_add_test(tcase, parameters_must_be_finite);
    tcase_add_test(tcase, progress_is_told_and_can_stop_the_merge);
    tcase_add_test(tcase, each_allocation_that_fails_is_reported);
    tcase_add_test(tcase, each_gemm_that_fails_is_reported);
    tcase_add_test(tcase, each_read_and_write_that_fails_is_reported);
    tcase_add_test(tcase, a_file_cut_at_any_byte_is_refused);
    tcase_add_test(tcase, a_flipped_bit_of_the_header_is_an_error_or_changes_no_data);
    suite_add_tcase(suite, tcase);
    return suite;
}
