/* SPDX-License-Identifier: MIT */
/*
 * The bytes of safetensors files: conversions against an independent rule, and the written form byte by byte.
 */
#include <check.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fault.h"
#include "formats/safetensors_write.h"
#include "lorank/lorank.h"
#include "scratch.h"
#include "sets.h"

static fault host;
static lrk_context *context;
static scratch files;

static void setup(void)
{
    fault_reset(&host);
    context = fault_context(&host);
    scratch_init(&files);
}

static void teardown(void)
{
    lrk_context_destroy(context);
    scratch_fini(&files);
    ck_assert_int_eq(host.live, 0);
    ck_assert(!host.bad_release);
}

/* ---- conversion ---- */

/* One tensor of raw elements, read as f32. */
static void read_raw(const char *dtype, const void *raw, size_t n, size_t element, float *values)
{
    char text[128];
    lrk_safetensors *file;
    int length =
        snprintf(text, sizeof text, "{\"t\":{\"dtype\":\"%s\",\"shape\":[%zu],\"data_offsets\":[0,%zu]}}",
                 dtype, n, n * element);
    unsigned char *bytes = calloc(1, 8 + (size_t)length + n * element);
    bytes[0] = (unsigned char)length;
    memcpy(bytes + 8, text, (size_t)length);
    memcpy(bytes + 8 + length, raw, n * element);
    const char *path = scratch_path(&files, "raw.safetensors");
    scratch_write(path, bytes, 8 + (size_t)length + n * element);
    ck_assert_int_eq(lrk_safetensors_open(context, path, &file), LRK_OK);
    ck_assert_int_eq(lrk_safetensors_read_f32(file, 0, values, (int64_t)n), LRK_OK);
    lrk_safetensors_close(file);
    free(bytes);
}

START_TEST(f16_converts_exactly_for_all_65536_values)
{
    uint16_t *raw = malloc(65536 * sizeof *raw);
    float *values = malloc(65536 * sizeof *values);
    for (uint32_t i = 0; i < 65536; i++)
        raw[i] = (uint16_t)i;
    read_raw("F16", raw, 65536, 2, values);
    for (uint32_t i = 0; i < 65536; i++) {
        int exponent = (int)(i >> 10 & 31), fraction = (int)(i & 1023);
        double magnitude = exponent == 0 ? ldexp(fraction, -24) : ldexp(1024 + fraction, exponent - 25);
        double expected = i >> 15 ? -magnitude : magnitude;
        if (exponent == 31 && fraction != 0)
            ck_assert(isnan(values[i]));
        else if (exponent == 31)
            ck_assert(isinf(values[i]) && (values[i] < 0) == (i >> 15 != 0));
        else
            ck_assert(values[i] == expected && !signbit(values[i]) == !(i >> 15));
    }
    free(raw);
    free(values);
}
END_TEST

START_TEST(bf16_is_the_upper_half_of_f32)
{
    uint16_t *raw = malloc(65536 * sizeof *raw);
    float *values = malloc(65536 * sizeof *values);
    for (uint32_t i = 0; i < 65536; i++)
        raw[i] = (uint16_t)i;
    read_raw("BF16", raw, 65536, 2, values);
    for (uint32_t i = 0; i < 65536; i++) {
        uint32_t bits;
        memcpy(&bits, &values[i], sizeof bits);
        ck_assert_uint_eq(bits, i << 16);
    }
    free(raw);
    free(values);
}
END_TEST

START_TEST(f64_rounds_to_nearest)
{
    const double raw[] = {0.1,   -0.0,     1 + 0x1p-24, 1 + 0x1p-24 + 0x1p-50, 1 + 3 * 0x1p-24,
                          1e300, 0x1p-149, -2.5};
    const float expected[] = {0.1f, -0.0f, 1, 1 + 0x1p-23f, 1 + 0x1p-22f, INFINITY, 0x1p-149f, -2.5f};
    float values[8];
    read_raw("F64", raw, 8, 8, values);
    ck_assert_mem_eq(values, expected, sizeof expected);
}
END_TEST

START_TEST(more_than_one_buffer_converts)
{
    enum { N = 40000 }; /* above 64 KiB of f16 */
    uint16_t *raw = malloc(N * sizeof *raw);
    float *values = malloc(N * sizeof *values);
    for (uint32_t i = 0; i < N; i++)
        raw[i] = (uint16_t)(0x3c00 + i % 1024);
    read_raw("F16", raw, N, 2, values);
    for (uint32_t i = 0; i < N; i++)
        ck_assert(values[i] == 1 + (float)(i % 1024) / 1024);
    free(raw);
    free(values);
}
END_TEST

/* ---- the writer ---- */

static lrk_status fill_by_tag(void *user, const lrki_out_tensor *tensor, float *values)
{
    (void)user;
    for (int64_t i = 0; i < tensor->count; i++)
        values[i] = (float)(tensor->tag * 100 + i);
    return LRK_OK;
}

static lrk_status write_file(const char *path, lrki_out_tensor *tensors, int64_t n)
{
    lrki_target target;
    lrki_json *metadata = lrki_json_new_object();
    lrki_json_put(&metadata, "format", lrki_json_new_text("pt"));
    lrk_status status = lrki_target_open(context, path, &target);
    ck_assert_int_eq(status, LRK_OK);
    status = lrki_safetensors_write(&target, metadata, tensors, n, fill_by_tag, NULL);
    if (status == LRK_OK) status = lrki_target_commit(&target);
    lrki_target_abandon(&target);
    return status;
}

static lrki_out_tensor f32_matrix(const char *name, int64_t rows, int64_t cols, int64_t tag)
{
    return lrki_out_matrix(name, lrki_dtype_find("F32"), rows, cols, tag);
}

START_TEST(the_written_form_is_strict)
{
    size_t n;
    lrki_out_tensor tensors[] = {f32_matrix("b", 1, 2, 1), f32_matrix("a\"", 2, 1, 2),
                                 f32_matrix("a", 0, 3, 3)};
    char *path = strdup(scratch_path(&files, "written.safetensors"));
    ck_assert_int_eq(write_file(path, tensors, 3), LRK_OK);
    char *bytes = scratch_read(path, &n);
    const char *expected = "{\"__metadata__\":{\"format\":\"pt\"},"
                           "\"a\":{\"dtype\":\"F32\",\"shape\":[0,3],\"data_offsets\":[0,0]},"
                           "\"a\\\"\":{\"dtype\":\"F32\",\"shape\":[2,1],\"data_offsets\":[0,8]},"
                           "\"b\":{\"dtype\":\"F32\",\"shape\":[1,2],\"data_offsets\":[8,16]}}";
    size_t padded = (strlen(expected) + 7) / 8 * 8;
    ck_assert_uint_eq((unsigned char)bytes[0] + 256u * (unsigned char)bytes[1], padded);
    ck_assert_uint_eq(n, 8 + padded + 16);
    ck_assert_mem_eq(bytes + 8, expected, strlen(expected));
    for (size_t i = strlen(expected); i < padded; i++)
        ck_assert_int_eq(bytes[8 + i], ' ');
    const float data[] = {200, 201, 100, 101};
    ck_assert_mem_eq(bytes + 8 + padded, data, sizeof data);
    ck_assert_int_eq(scratch_count(files.dir), 1);
    lrk_safetensors *file;
    ck_assert_int_eq(lrk_safetensors_open(context, path, &file), LRK_OK);
    lrk_safetensors_close(file);
    free(bytes);
    free(path);
}
END_TEST

START_TEST(the_writer_refuses_names_that_cannot_be)
{
    static const char *const names[] = {"__metadata__", "\xff", "twice"};
    for (int i = 0; i < 3; i++) {
        lrki_out_tensor tensors[] = {f32_matrix(names[i], 1, 1, 0), f32_matrix("twice", 1, 1, 1)};
        sets_expect(context, write_file(scratch_path(&files, "refused"), tensors, 2), LRK_ERR_ARGUMENT,
                    names[i]);
        ck_assert_int_eq(scratch_count(files.dir), 0);
    }
    lrki_out_tensor huge[] = {f32_matrix("h", INT64_MAX / 2, 3, 0)};
    sets_expect(context, write_file(scratch_path(&files, "refused"), huge, 1), LRK_ERR_SHAPE, "'h'");
    ck_assert_int_eq(scratch_count(files.dir), 0);
}
END_TEST

/* Narrower tensors come after wider ones, whatever their names, and hold rounded values. */
START_TEST(sixteen_bits_are_rounded_and_come_last)
{
    float values[2] = {0, 0};
    int64_t i;
    lrk_safetensors *file;
    lrk_safetensors_tensor last = {.struct_size = sizeof last};
    lrki_out_tensor tensors[] = {lrki_out_matrix("a", lrki_dtype_find("BF16"), 1, 2, 1),
                                 f32_matrix("b", 1, 1, 2),
                                 lrki_out_matrix("c", lrki_dtype_find("F16"), 1, 2, 3)};
    char *path = strdup(scratch_path(&files, "narrow"));
    ck_assert_int_eq(write_file(path, tensors, 3), LRK_OK);
    ck_assert_int_eq(lrk_safetensors_open(context, path, &file), LRK_OK);
    ck_assert_int_eq(lrk_safetensors_find(file, "b", &i), LRK_OK);
    ck_assert_int_eq(i, 0);
    ck_assert_int_eq(lrk_safetensors_get(file, 2, &last), LRK_OK);
    ck_assert_str_eq(last.name, "c");
    ck_assert_int_eq(lrk_safetensors_read_f32(file, 2, values, 2), LRK_OK);
    ck_assert(values[0] == 300 && values[1] == 301);
    ck_assert_int_eq(lrk_safetensors_read_f32(file, 1, values, 2), LRK_OK);
    ck_assert(values[0] == 100 && values[1] == 101);
    lrk_safetensors_close(file);
    lrki_out_tensor large = lrki_out_matrix("large", lrki_dtype_find("F16"), 1, 1, 1000);
    sets_expect(context, write_file(path, &large, 1), LRK_ERR_NONFINITE, "'large'");
    free(path);
}
END_TEST

Suite *tensor_bytes_suite(void);

Suite *tensor_bytes_suite(void)
{
    Suite *suite = suite_create("tensor_bytes");
    TCase *cases = tcase_create("all");
    tcase_add_checked_fixture(cases, setup, teardown);
    tcase_add_test(cases, f16_converts_exactly_for_all_65536_values);
    tcase_add_test(cases, bf16_is_the_upper_half_of_f32);
    tcase_add_test(cases, f64_rounds_to_nearest);
    tcase_add_test(cases, more_than_one_buffer_converts);
    tcase_add_test(cases, the_written_form_is_strict);
    tcase_add_test(cases, sixteen_bits_are_rounded_and_come_last);
    tcase_add_test(cases, the_writer_refuses_names_that_cannot_be);
    suite_add_tcase(suite, cases);
    return suite;
}
