/* SPDX-License-Identifier: MIT */
/*
 * The public writer of safetensors files and what reads its files from memory: order, bytes, pieces, every refusal, every
 * allocation and callback failing once.
 */
#include <check.h>
#include <stdlib.h>
#include <string.h>

#include "fault.h"
#include "lorank/lorank.h"
#include "scratch.h"
#include "sets.h"

#define PIECE ((uint64_t)1 << 20)

typedef struct sink {
    unsigned char *bytes;
    size_t n;
    int fails_at; /* call that fails, from 0; -1: none */
    int calls;
} sink;

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

static int32_t take(void *user, const void *data, size_t n)
{
    sink *to = user;
    if (to->calls++ == to->fails_at) return 7;
    to->bytes = realloc(to->bytes, to->n + n + 1);
    ck_assert_ptr_nonnull(to->bytes);
    memcpy(to->bytes + to->n, data, n);
    to->n += n;
    return 0;
}

/* Byte `offset` of tensor t; pieces must come in order and be no longer than 1 MiB. */
typedef struct filler {
    uint64_t next;
    int64_t tensor;
    int fails_at;
    int calls;
} filler;

static unsigned char byte_of(int64_t tensor, uint64_t offset)
{
    return (unsigned char)(17 * (uint64_t)(tensor + 1) + offset * 31 + (offset >> 13));
}

static int32_t fill(void *user, int64_t tensor, uint64_t offset, void *data, size_t n)
{
    filler *from = user;
    if (from->calls++ == from->fails_at) return 9;
    if (from->tensor != tensor) from->next = 0;
    ck_assert_uint_eq(offset, from->next);
    ck_assert(n > 0 && n <= PIECE);
    for (size_t i = 0; i < n; i++)
        ((unsigned char *)data)[i] = byte_of(tensor, offset + i);
    from->tensor = tensor;
    from->next = offset + n;
    return 0;
}

static filler source(void)
{
    return (filler){.tensor = -1, .fails_at = -1};
}

static lrk_safetensors_item item(const char *name, const char *dtype, int32_t n_dims, int64_t first,
                                 int64_t second)
{
    return (lrk_safetensors_item){sizeof(lrk_safetensors_item), n_dims, name, dtype, {first, second}};
}

static lrk_safetensors_content content_of(const lrk_safetensors_item *items, int64_t n, filler *from)
{
    lrk_safetensors_content content;
    ck_assert_int_eq(lrk_safetensors_content_init(&content, sizeof content), LRK_OK);
    content.tensors = items;
    content.n_tensors = n;
    content.user = from;
    content.fill = fill;
    return content;
}

static lrk_writer writer_to(sink *to)
{
    return (lrk_writer){.struct_size = sizeof(lrk_writer), .user = to, .write = take};
}

static lrk_status open_memory(const sink *from, lrk_safetensors **file)
{
    lrk_reader reader = {.struct_size = sizeof reader};
    ck_assert_int_eq(lrk_reader_memory(&reader, from->bytes, from->n), LRK_OK);
    return lrk_safetensors_open_reader(context, &reader, file);
}

static void must_hold_bytes(const lrk_safetensors *file, const lrk_safetensors_item *items, int64_t n)
{
    for (int64_t t = 0; t < n; t++) {
        int64_t i;
        lrk_safetensors_tensor tensor = {.struct_size = sizeof tensor};
        ck_assert_int_eq(lrk_safetensors_find(file, items[t].name, &i), LRK_OK);
        ck_assert_int_eq(lrk_safetensors_get(file, i, &tensor), LRK_OK);
        ck_assert_str_eq(tensor.dtype, items[t].dtype);
        ck_assert_int_eq(tensor.n_dims, items[t].n_dims);
        unsigned char *bytes = malloc(tensor.bytes + 1);
        ck_assert_ptr_nonnull(bytes);
        ck_assert_int_eq(lrk_safetensors_read_bytes(file, i, 0, bytes, tensor.bytes), LRK_OK);
        for (uint64_t at = 0; at < tensor.bytes; at++)
            ck_assert_uint_eq(bytes[at], byte_of(t, at));
        free(bytes);
    }
}

START_TEST(what_is_written_is_read_again)
{
    const lrk_safetensors_item items[] = {item("small", "BF16", 2, 3, 5), item("scalar", "F32", 0, 0, 0),
                                          item("\xc3\xa9 \"quoted\"\n", "U8", 1, (int64_t)PIECE + 3, 0),
                                          item("none", "F64", 2, 0, 4), item("four bits", "F4", 1, 6, 0)};
    const char *const metadata[] = {"format", "pt", "empty", ""};
    const char *key, *value;
    filler from = source();
    sink to = {.fails_at = -1};
    lrk_safetensors *file;
    lrk_safetensors_content content = content_of(items, 5, &from);
    lrk_writer writer = writer_to(&to);
    content.metadata = metadata;
    content.n_metadata = 2;
    ck_assert_int_eq(lrk_safetensors_write(context, &writer, &content), LRK_OK);
    ck_assert_int_eq(open_memory(&to, &file), LRK_OK);
    ck_assert_int_eq(lrk_safetensors_count(file), 5);
    must_hold_bytes(file, items, 5);
    ck_assert_int_eq(lrk_safetensors_metadata_count(file), 2);
    ck_assert_int_eq(lrk_safetensors_metadata_get(file, 1, &key, &value), LRK_OK);
    ck_assert_str_eq(key, "empty");
    ck_assert_str_eq(value, "");
    sets_expect(context, lrk_safetensors_metadata_get(file, 2, &key, &value), LRK_ERR_ARGUMENT, "metadata");
    lrk_safetensors_close(file);

    /* a path gives the same bytes */
    size_t n;
    char *path = strdup(scratch_path(&files, "same"));
    from = source();
    ck_assert_int_eq(lrk_safetensors_save(context, path, &content), LRK_OK);
    char *bytes = scratch_read(path, &n);
    ck_assert_uint_eq(n, to.n);
    ck_assert_mem_eq(bytes, to.bytes, n);
    free(bytes);
    free(path);
    free(to.bytes);
}
END_TEST

START_TEST(nothing_to_write_is_a_file_too)
{
    filler from = source();
    sink to = {.fails_at = -1};
    lrk_safetensors *file;
    lrk_safetensors_content content = content_of(NULL, 0, &from);
    lrk_writer writer = writer_to(&to);
    ck_assert_int_eq(lrk_safetensors_write(context, &writer, &content), LRK_OK);
    ck_assert_uint_eq(to.n, 16);
    ck_assert_mem_eq(to.bytes + 8, "{}      ", 8);
    ck_assert_int_eq(open_memory(&to, &file), LRK_OK);
    ck_assert_int_eq(lrk_safetensors_count(file) + lrk_safetensors_metadata_count(file), 0);
    lrk_safetensors_close(file);
    free(to.bytes);
}
END_TEST

START_TEST(ranges_of_bytes_are_checked)
{
    const lrk_safetensors_item items[] = {item("t", "I32", 1, 4, 0)};
    unsigned char bytes[16];
    filler from = source();
    sink to = {.fails_at = -1};
    lrk_safetensors *file;
    lrk_safetensors_content content = content_of(items, 1, &from);
    lrk_writer writer = writer_to(&to);
    ck_assert_int_eq(lrk_safetensors_write(context, &writer, &content), LRK_OK);
    ck_assert_int_eq(open_memory(&to, &file), LRK_OK);
    ck_assert_int_eq(lrk_safetensors_read_bytes(file, 0, 5, bytes, 3), LRK_OK);
    ck_assert_uint_eq(bytes[2], byte_of(0, 7));
    ck_assert_int_eq(lrk_safetensors_read_bytes(file, 0, 16, NULL, 0), LRK_OK);
    sets_expect(context, lrk_safetensors_read_bytes(file, 0, 15, bytes, 2), LRK_ERR_SHAPE, "'t' has 16");
    sets_expect(context, lrk_safetensors_read_bytes(file, 0, UINT64_MAX, bytes, 2), LRK_ERR_SHAPE,
                "'t' has 16");
    sets_expect(context, lrk_safetensors_read_bytes(file, 1, 0, bytes, 1), LRK_ERR_ARGUMENT, "no tensor 1");
    sets_expect(context, lrk_safetensors_read_bytes(file, 0, 0, NULL, 1), LRK_ERR_ARGUMENT, "data is NULL");
    ck_assert_int_eq(lrk_safetensors_read_bytes(NULL, 0, 0, bytes, 1), LRK_ERR_ARGUMENT);
    lrk_safetensors_close(file);
    free(to.bytes);
}
END_TEST

static void refuse(const lrk_safetensors_content *content, lrk_status status, const char *words)
{
    sink to = {.fails_at = -1};
    lrk_writer writer = writer_to(&to);
    sets_expect(context, lrk_safetensors_write(context, &writer, content), status, words);
    ck_assert_uint_eq(to.n, 0);
    sets_expect(context, lrk_safetensors_save(context, scratch_path(&files, "refused"), content), status,
                words);
    ck_assert_int_eq(scratch_count(files.dir), 0);
}

START_TEST(tensors_that_cannot_be_are_refused)
{
    const lrk_safetensors_item wrong[] = {
        item(NULL, "F32", 0, 0, 0),    item("no dtype", NULL, 0, 0, 0),
        item("lower", "f32", 0, 0, 0), item("__metadata__", "F32", 0, 0, 0),
        item("\xff", "F32", 0, 0, 0),  item("dims", "F32", 9, 0, 0),
        item("dims", "F32", -1, 0, 0), item("negative", "F32", 1, -1, 0),
        item("half", "F4", 1, 3, 0),
    };
    static const char *const words[] = {"NULL",         "NULL",       "'lower': unknown dtype",
                                        "__metadata__", "unique",     "'dims'",
                                        "'dims'",       "'negative'", "'half': its elements"};
    filler from = source();
    for (int i = 0; i < 9; i++) {
        lrk_safetensors_content content = content_of(&wrong[i], 1, &from);
        refuse(&content, LRK_ERR_ARGUMENT, words[i]);
    }
    const lrk_safetensors_item twice[] = {item("twice", "F32", 0, 0, 0), item("twice", "U8", 0, 0, 0)};
    lrk_safetensors_content content = content_of(twice, 2, &from);
    refuse(&content, LRK_ERR_ARGUMENT, "'twice'");
    const lrk_safetensors_item huge[] = {item("huge", "F64", 2, INT64_MAX / 8, 4),
                                         item("b", "U8", 1, INT64_MAX / 8, 0),
                                         item("bits", "F64", 1, INT64_MAX / 8, 0)};
    content = content_of(huge, 1, &from);
    refuse(&content, LRK_ERR_SHAPE, "'huge'");
    content = content_of(huge + 2, 1, &from);
    refuse(&content, LRK_ERR_SHAPE, "'bits'");
    ck_assert_int_eq(from.calls, 0);
}
END_TEST

START_TEST(content_that_cannot_be_is_refused)
{
    const char *const twice[] = {"key", "1", "key", "2"}, *const none[] = {NULL, "1"},
                      *const bad[] = {"k", "\xff"};
    const char *const *const metadata[] = {twice, none, bad};
    filler from = source();
    lrk_safetensors_content content = content_of(NULL, 0, &from);
    for (int i = 0; i < 3; i++) {
        content.metadata = metadata[i];
        content.n_metadata = i == 0 ? 2 : 1;
        refuse(&content, LRK_ERR_ARGUMENT, "metadata");
    }
    content = content_of(NULL, 1, &from);
    refuse(&content, LRK_ERR_ARGUMENT, "a number");
    content = content_of(NULL, 0, &from);
    content.flags = 1;
    refuse(&content, LRK_ERR_ARGUMENT, "flags");
    content = content_of(NULL, 0, &from);
    content.fill = NULL;
    refuse(&content, LRK_ERR_ARGUMENT, "fill()");
    refuse(NULL, LRK_ERR_ARGUMENT, "content is NULL");
    content = content_of(NULL, 0, &from);
    sets_expect(context, lrk_safetensors_save(context, "", &content), LRK_ERR_ARGUMENT, "path");
    sets_expect(context, lrk_safetensors_write(context, NULL, &content), LRK_ERR_ARGUMENT, "writer");
    ck_assert_int_eq(lrk_safetensors_save(NULL, "x", &content), LRK_ERR_ARGUMENT);
    ck_assert_int_eq(lrk_safetensors_write(NULL, NULL, &content), LRK_ERR_ARGUMENT);
}
END_TEST

START_TEST(every_callback_and_allocation_fails_once)
{
    const lrk_safetensors_item items[] = {item("a", "F32", 1, 3, 0),
                                          item("b", "U8", 1, (int64_t)PIECE + 1, 0)};
    const char *const metadata[] = {"k", "v"};
    filler from = source();
    sink to = {.fails_at = -1};
    lrk_safetensors_content content = content_of(items, 2, &from);
    content.metadata = metadata;
    content.n_metadata = 1;
    lrk_writer writer = writer_to(&to);
    ck_assert_int_eq(lrk_safetensors_write(context, &writer, &content), LRK_OK);
    int writes = to.calls, fills = from.calls;
    ck_assert_int_eq(fills, 3);
    free(to.bytes);
    for (int i = 0; i < writes; i++) {
        to = (sink){.fails_at = i};
        from = source();
        sets_expect(context, lrk_safetensors_write(context, &writer, &content), LRK_ERR_IO, "returned 7");
        free(to.bytes);
    }
    for (int i = 0; i < fills; i++) {
        to = (sink){.fails_at = -1};
        from = source();
        from.fails_at = i;
        sets_expect(context, lrk_safetensors_write(context, &writer, &content), LRK_ERR_HOST, "returned 9");
        free(to.bytes);
    }
    int64_t before = host.alloc.calls;
    to = (sink){.fails_at = -1};
    from = source();
    ck_assert_int_eq(lrk_safetensors_write(context, &writer, &content), LRK_OK);
    int64_t requests = host.alloc.calls - before;
    free(to.bytes);
    ck_assert_int_gt(requests, 0);
    for (int64_t i = 0; i < requests; i++) {
        to = (sink){.fails_at = -1};
        from = source();
        host.alloc.fail_at = host.alloc.calls + i;
        sets_expect(context, lrk_safetensors_write(context, &writer, &content), LRK_ERR_NOMEM, "");
        host.alloc.fail_at = -1;
        free(to.bytes);
    }
}
END_TEST

Suite *safetensors_write_suite(void);

Suite *safetensors_write_suite(void)
{
    Suite *suite = suite_create("safetensors_write");
    TCase *cases = tcase_create("all");
    tcase_add_checked_fixture(cases, setup, teardown);
    tcase_add_test(cases, what_is_written_is_read_again);
    tcase_add_test(cases, nothing_to_write_is_a_file_too);
    tcase_add_test(cases, ranges_of_bytes_are_checked);
    tcase_add_test(cases, tensors_that_cannot_be_are_refused);
    tcase_add_test(cases, content_that_cannot_be_is_refused);
    tcase_add_test(cases, every_callback_and_allocation_fails_once);
    suite_add_tcase(suite, cases);
    return suite;
}
