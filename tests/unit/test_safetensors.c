/* SPDX-License-Identifier: MIT */
/*
 * The safetensors reader: every row of what the reference implementation refuses and accepts, files cut and flipped at
 * every byte, misuse, lack of memory.
 */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "fault.h"
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

/* A file of a header and data_bytes bytes 0, 1, 2, ... */
static const char *craft_n(const char *header, size_t n, size_t data_bytes)
{
    static char path[SCRATCH_PATH];
    unsigned char *file = calloc(1, 8 + n + data_bytes);
    ck_assert_ptr_nonnull(file);
    for (int i = 0; i < 8; i++)
        file[i] = (unsigned char)(n >> 8 * i);
    memcpy(file + 8, header, n);
    for (size_t i = 0; i < data_bytes; i++)
        file[8 + n + i] = (unsigned char)i;
    strcpy(path, scratch_path(&files, "crafted.safetensors"));
    scratch_write(path, file, 8 + n + data_bytes);
    free(file);
    return path;
}

static const char *craft(const char *header, size_t data_bytes)
{
    return craft_n(header, strlen(header), data_bytes);
}

typedef struct row {
    const char *header;
    size_t data_bytes;
    const char *words; /* of the refusal; NULL: accepted */
} row;

#define ROW(header, data_bytes, words)    {header, data_bytes, words},
#define STRICT(header, data_bytes, words) ROW(header, data_bytes, words)
static const row rows[] = {
#include "safetensors_rows.def"
};
#undef ROW
#undef STRICT

#define N_ROWS ((int)(sizeof rows / sizeof rows[0]))

START_TEST(verdicts_are_the_reference_s_or_stricter)
{
    const row *r = &rows[_i];
    lrk_safetensors *file = (lrk_safetensors *)&host;
    lrk_status status = lrk_safetensors_open(context, craft(r->header, r->data_bytes), &file);
    if (r->words != NULL) {
        sets_expect(context, status, LRK_ERR_FORMAT, r->words);
        ck_assert_ptr_null(file);
    } else {
        ck_assert_int_eq(status, LRK_OK);
        lrk_safetensors_close(file);
    }
}
END_TEST

START_TEST(every_dtype_is_listed_and_four_convert)
{
    static const struct {
        const char *name;
        int bits;
        int readable;
    } all[] = {{"BOOL", 8, 0},    {"F4", 4, 0},          {"F6_E2M3", 6, 0},     {"F6_E3M2", 6, 0},
               {"U8", 8, 0},      {"I8", 8, 0},          {"F8_E5M2", 8, 0},     {"F8_E4M3", 8, 0},
               {"F8_E8M0", 8, 0}, {"F8_E4M3FNUZ", 8, 0}, {"F8_E5M2FNUZ", 8, 0}, {"I16", 16, 0},
               {"U16", 16, 0},    {"F16", 16, 1},        {"BF16", 16, 1},       {"I32", 32, 0},
               {"U32", 32, 0},    {"F32", 32, 1},        {"C64", 64, 0},        {"F64", 64, 1},
               {"I64", 64, 0},    {"U64", 64, 0}};
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++) {
        char header[128];
        float values[4];
        lrk_safetensors *file;
        lrk_safetensors_tensor tensor = {.struct_size = sizeof tensor};
        int bytes = all[i].bits * 4 / 8;
        snprintf(header, sizeof header, "{\"t\":{\"dtype\":\"%s\",\"shape\":[2,2],\"data_offsets\":[0,%d]}}",
                 all[i].name, bytes);
        ck_assert_int_eq(lrk_safetensors_open(context, craft(header, (size_t)bytes), &file), LRK_OK);
        ck_assert_int_eq(lrk_safetensors_get(file, 0, &tensor), LRK_OK);
        ck_assert_str_eq(tensor.dtype, all[i].name);
        ck_assert_uint_eq(tensor.bytes, (size_t)bytes);
        ck_assert_int_eq(tensor.count, 4);
        ck_assert_int_eq(tensor.n_dims, 2);
        ck_assert_int_eq(tensor.shape[1], 2);
        ck_assert_int_eq(tensor.readable, all[i].readable);
        lrk_status status = lrk_safetensors_read_f32(file, 0, values, 4);
        ck_assert_int_eq(status, all[i].readable ? LRK_OK : LRK_ERR_UNSUPPORTED);
        if (!all[i].readable) sets_expect(context, status, LRK_ERR_UNSUPPORTED, "does not convert");
        lrk_safetensors_close(file);
    }
}
END_TEST

START_TEST(lengths_are_checked_before_anything_is_allocated)
{
    static const struct {
        unsigned char bytes[10];
        size_t n;
        const char *words;
    } cases[] = {
        {{0}, 0, "too short"},
        {{2, 0, 0, 0, 0, 0, 0}, 7, "too short"},
        {{2, 0, 0, 0, 0, 0, 0, 0}, 8, "longer than the file"},
        {{3, 0, 0, 0, 0, 0, 0, 0, '{', '}'}, 10, "longer than the file"},
        {{0x01, 0xe1, 0xf5, 0x05, 0, 0, 0, 0, '{', '}'}, 10, "above 100000000"},
        {{0x00, 0xe1, 0xf5, 0x05, 0, 0, 0, 0, '{', '}'}, 10, "longer than the file"},
        {{255, 255, 255, 255, 255, 255, 255, 255, '{', '}'}, 10, "above 100000000"},
        {{2, 0, 0, 0, 0, 0, 0, 128, '{', '}'}, 10, "above 100000000"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        lrk_safetensors *file;
        const char *path = scratch_path(&files, "short.safetensors");
        scratch_write(path, cases[i].bytes, cases[i].n);
        host.peak_bytes = host.live_bytes;
        size_t before = host.live_bytes;
        sets_expect(context, lrk_safetensors_open(context, path, &file), LRK_ERR_FORMAT, cases[i].words);
        ck_assert_uint_lt(host.peak_bytes - before, 4096);
    }
}
END_TEST

START_TEST(trailing_nul_in_the_header_is_refused)
{
    lrk_safetensors *file;
    sets_expect(context, lrk_safetensors_open(context, craft_n("{}\0", 3, 0), &file), LRK_ERR_FORMAT,
                "not valid JSON");
}
END_TEST

static const char small_header[] =
    "{\"__metadata__\":{\"format\":\"pt\"},\"w\":{\"dtype\":\"F32\",\"shape\":[2,3],"
    "\"data_offsets\":[0,24]},\"b\":{\"dtype\":\"BF16\",\"shape\":[2],\"data_offsets\":[24,28]}}";

START_TEST(a_file_cut_anywhere_is_refused)
{
    size_t n;
    char *whole = scratch_read(craft(small_header, 28), &n);
    char *path = strdup(scratch_path(&files, "cut.safetensors"));
    for (size_t cut = 0; cut < n; cut++) {
        lrk_safetensors *file;
        scratch_write(path, whole, cut);
        ck_assert_int_eq(lrk_safetensors_open(context, path, &file), LRK_ERR_FORMAT);
    }
    free(path);
    free(whole);
}
END_TEST

/* Reads all that an open file offers; a file that opened must be readable throughout. */
static void read_all(const lrk_safetensors *file)
{
    uint64_t at = 0;
    for (int64_t i = 0; i < lrk_safetensors_count(file); i++) {
        lrk_safetensors_tensor t = {.struct_size = sizeof t};
        int64_t index;
        ck_assert_int_eq(lrk_safetensors_get(file, i, &t), LRK_OK);
        ck_assert_int_eq(lrk_safetensors_find(file, t.name, &index), LRK_OK);
        ck_assert_int_eq(index, i);
        at += t.bytes;
        if (!t.readable) continue;
        float *values = malloc(((size_t)t.count + 1) * sizeof *values);
        ck_assert_int_eq(lrk_safetensors_read_f32(file, i, values, t.count), LRK_OK);
        free(values);
    }
    ck_assert_uint_eq(at, 28);
}

START_TEST(a_header_with_any_bit_flipped_is_refused_or_consistent)
{
    size_t n;
    char *whole = scratch_read(craft(small_header, 28), &n);
    char *path = strdup(scratch_path(&files, "flipped.safetensors"));
    int refusals = 0;
    for (size_t i = 0; i < 8 + strlen(small_header); i++) {
        for (int bit = 0; bit < 8; bit++) {
            lrk_safetensors *file;
            whole[i] = (char)(whole[i] ^ 1 << bit);
            scratch_write(path, whole, n);
            lrk_status status = lrk_safetensors_open(context, path, &file);
            ck_assert(status == LRK_OK || status == LRK_ERR_FORMAT);
            refusals += status != LRK_OK;
            if (status == LRK_OK) read_all(file);
            lrk_safetensors_close(file);
            whole[i] = (char)(whole[i] ^ 1 << bit);
        }
    }
    /* names and metadata may change unseen: 17 letters; all the rest is structure */
    ck_assert_int_gt(refusals, (int)(8 * (8 + strlen(small_header) - 17 - 8)));
    free(path);
    free(whole);
}
END_TEST

static const char nine_dimensions[] =
    "{\"t\":{\"dtype\":\"U8\",\"shape\":[1,1,1,1,1,1,1,1,2],\"data_offsets\":[0,2]}}";

/* In the header out of order, two of them empty. */
static const char four_tensors[] = "{\"a\":{\"dtype\":\"F32\",\"shape\":[0],\"data_offsets\":[2,2]},"
                                   "\"b\":{\"dtype\":\"U8\",\"shape\":[3,0],\"data_offsets\":[0,0]},"
                                   "\"c\":{\"dtype\":\"F32\",\"shape\":[5,0],\"data_offsets\":[2,2]},"
                                   "\"d\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[0,2]}}";

START_TEST(tensors_come_in_order_of_data_and_are_found_by_name)
{
    lrk_safetensors *file;
    lrk_safetensors_tensor tensor = {.struct_size = sizeof tensor};
    int64_t index;
    ck_assert_int_eq(lrk_safetensors_open(context, craft(four_tensors, 2), &file), LRK_OK);
    static const char *const order[] = {"b", "d", "a", "c"};
    ck_assert_int_eq(lrk_safetensors_count(file), 4);
    for (int64_t i = 0; i < 4; i++) {
        ck_assert_int_eq(lrk_safetensors_get(file, i, &tensor), LRK_OK);
        ck_assert_str_eq(tensor.name, order[i]);
        ck_assert_int_eq(lrk_safetensors_find(file, order[i], &index), LRK_OK);
        ck_assert_int_eq(index, i);
    }
    sets_expect(context, lrk_safetensors_find(file, "e", &index), LRK_ERR_NOT_FOUND, "no tensor 'e'");
    ck_assert_int_eq(index, -1);
    ck_assert_ptr_null(lrk_safetensors_metadata(file, "format"));
    lrk_safetensors_close(file);
    ck_assert_int_eq(lrk_safetensors_open(context, craft(nine_dimensions, 2), &file), LRK_OK);
    ck_assert_int_eq(lrk_safetensors_get(file, 0, &tensor), LRK_OK);
    ck_assert_int_eq(tensor.n_dims, 9);
    ck_assert_int_eq(tensor.shape[0], 0);
    ck_assert_int_eq(tensor.count, 2);
    lrk_safetensors_close(file);
    ck_assert_int_eq(lrk_safetensors_open(context, craft(small_header, 28), &file), LRK_OK);
    ck_assert_str_eq(lrk_safetensors_metadata(file, "format"), "pt");
    ck_assert_ptr_null(lrk_safetensors_metadata(file, "other"));
    lrk_safetensors_close(file);
}
END_TEST

/* ---- misuse, system, memory ---- */

START_TEST(wrong_arguments_are_named)
{
    lrk_safetensors *file;
    lrk_safetensors_tensor tensor = {.struct_size = sizeof tensor};
    int64_t index;
    float value;
    ck_assert_int_eq(lrk_safetensors_open(context, "x", NULL), LRK_ERR_ARGUMENT);
    ck_assert_int_eq(lrk_safetensors_open(NULL, "x", &file), LRK_ERR_ARGUMENT);
    sets_expect(context, lrk_safetensors_open(context, NULL, &file), LRK_ERR_ARGUMENT, "path");
    ck_assert_int_eq(lrk_safetensors_count(NULL), 0);
    ck_assert_int_eq(lrk_safetensors_get(NULL, 0, &tensor), LRK_ERR_ARGUMENT);
    ck_assert_int_eq(lrk_safetensors_find(NULL, "t", &index), LRK_ERR_ARGUMENT);
    ck_assert_int_eq(lrk_safetensors_read_f32(NULL, 0, &value, 1), LRK_ERR_ARGUMENT);
    ck_assert_ptr_null(lrk_safetensors_metadata(NULL, "format"));
    lrk_safetensors_close(NULL);
    ck_assert_int_eq(lrk_safetensors_open(context, craft(small_header, 28), &file), LRK_OK);
    sets_expect(context, lrk_safetensors_get(file, 2, &tensor), LRK_ERR_ARGUMENT, "no tensor 2");
    sets_expect(context, lrk_safetensors_get(file, -1, &tensor), LRK_ERR_ARGUMENT, "no tensor -1");
    sets_expect(context, lrk_safetensors_get(file, 0, NULL), LRK_ERR_ARGUMENT, "");
    tensor.struct_size = 4;
    sets_expect(context, lrk_safetensors_get(file, 0, &tensor), LRK_ERR_ARGUMENT, "struct_size");
    sets_expect(context, lrk_safetensors_find(file, NULL, &index), LRK_ERR_ARGUMENT, "name");
    sets_expect(context, lrk_safetensors_read_f32(file, 2, &value, 1), LRK_ERR_ARGUMENT, "no tensor 2");
    sets_expect(context, lrk_safetensors_read_f32(file, 0, NULL, 6), LRK_ERR_ARGUMENT, "values");
    sets_expect(context, lrk_safetensors_read_f32(file, 0, &value, 1), LRK_ERR_SHAPE,
                "has 6 elements, not 1");
    sets_expect(context, lrk_safetensors_read_f32(file, 0, &value, -1), LRK_ERR_SHAPE, "not -1");
    ck_assert_ptr_null(lrk_safetensors_metadata(file, NULL));
    lrk_safetensors_close(file);
}
END_TEST

START_TEST(the_system_s_refusal_names_the_path)
{
    lrk_safetensors *file;
    sets_expect(context, lrk_safetensors_open(context, scratch_path(&files, "absent"), &file),
                LRK_ERR_NOT_FOUND, "absent: ");
    sets_expect(context, lrk_safetensors_open(context, files.dir, &file), LRK_ERR_IO, "not a regular file");
    const char *pipe = scratch_path(&files, "pipe");
    ck_assert_int_eq(mkfifo(pipe, 0600), 0);
    sets_expect(context, lrk_safetensors_open(context, pipe, &file), LRK_ERR_IO, "not a regular file");
    sets_expect(context, lrk_safetensors_open(context, "/dev/null/x", &file), LRK_ERR_IO, "/dev/null/x");
}
END_TEST

START_TEST(a_file_that_shrinks_after_opening_is_an_error)
{
    lrk_safetensors *file;
    float values[6];
    const char *path = craft(small_header, 28);
    ck_assert_int_eq(lrk_safetensors_open(context, path, &file), LRK_OK);
    scratch_write(path, "x", 1);
    sets_expect(context, lrk_safetensors_read_f32(file, 0, values, 6), LRK_ERR_IO, "ends early");
    lrk_safetensors_close(file);
}
END_TEST

static lrk_safetensors *opened;

static lrk_status open_and_convert(void *path)
{
    float values[2];
    lrk_status status = lrk_safetensors_open(context, path, &opened);
    if (status != LRK_OK) {
        ck_assert_ptr_null(opened);
        return status;
    }
    status = lrk_safetensors_read_f32(opened, 1, values, 2);
    if (status != LRK_OK) lrk_safetensors_close(opened);
    return status;
}

static void close_opened(void *path)
{
    (void)path;
    lrk_safetensors_close(opened);
}

START_TEST(each_lack_of_memory_is_reported_and_leaves_nothing)
{
    sets_each_fault(&host, open_and_convert, close_opened, (void *)craft(small_header, 28));
}
END_TEST

Suite *safetensors_suite(void);

Suite *safetensors_suite(void)
{
    Suite *suite = suite_create("safetensors");
    TCase *cases = tcase_create("all");
    tcase_add_checked_fixture(cases, setup, teardown);
    tcase_set_timeout(cases, 60);
    tcase_add_loop_test(cases, verdicts_are_the_reference_s_or_stricter, 0, N_ROWS);
    tcase_add_test(cases, every_dtype_is_listed_and_four_convert);
    tcase_add_test(cases, lengths_are_checked_before_anything_is_allocated);
    tcase_add_test(cases, trailing_nul_in_the_header_is_refused);
    tcase_add_test(cases, a_file_cut_anywhere_is_refused);
    tcase_add_test(cases, a_header_with_any_bit_flipped_is_refused_or_consistent);
    tcase_add_test(cases, tensors_come_in_order_of_data_and_are_found_by_name);
    tcase_add_test(cases, wrong_arguments_are_named);
    tcase_add_test(cases, the_system_s_refusal_names_the_path);
    tcase_add_test(cases, a_file_that_shrinks_after_opening_is_an_error);
    tcase_add_test(cases, each_lack_of_memory_is_reported_and_leaves_nothing);
    suite_add_tcase(suite, cases);
    return suite;
}
