/* SPDX-License-Identifier: MIT */
/*
 * GGUF adapters when things fail: every allocation, read and write that fails, one alone; every truncation and every flip
 * of a bit of the header. An error or the same adapter, and nothing leaked.
 */
#include <check.h>
#include <stdio.h>
#include <string.h>

#include "gguf_sets.h"
#include "scratch.h"
#include "sets.h"

/* ---- memory ------------------------------------------------------------------------------------------------------------- */

typedef struct act {
    lrk_adapters *adapters;
    lrk_gguf_options options;
    lrk_gguf_rule rule;
    const char *path;
    gguf_bytes bytes;
    lrk_module_spec specs[8];
    int32_t n;
    lrk_adapters *loaded;
} act;

static act act_new(int32_t dtype)
{
    act a = {.adapters = gguf_set("llama"), .options = gguf_options("llama")};
    a.rule = (lrk_gguf_rule){.struct_size = sizeof a.rule, .module = "my.#.own", .tensor = "own.#"};
    a.options.n_rules = 1;
    a.options.dtype = dtype;
    return a;
}

static void act_free(act *a)
{
    lrk_adapters_destroy(a->adapters);
    gguf_bytes_free(&a->bytes);
}

static void nothing(void *user)
{
    (void)user;
}

static lrk_status save_to_path(void *user)
{
    act *a = user;
    a->options.rules = &a->rule;
    return lrk_gguf_save(a->adapters, a->path, &a->options);
}

static lrk_status load_from_bytes(void *user)
{
    act *a = user;
    a->options.rules = &a->rule;
    return gguf_try(&a->bytes, &a->options, a->n > 0 ? a->specs : NULL, a->n, &a->loaded);
}

static lrk_status load_from_path(void *user)
{
    act *a = user;
    a->options.rules = &a->rule;
    return lrk_gguf_load(gguf_context, a->path, &a->options, NULL, 0, NULL, &a->loaded);
}

static void destroy_loaded(void *user)
{
    lrk_adapters_destroy(((act *)user)->loaded);
}

START_TEST(each_allocation_that_fails_is_reported)
{
    scratch files;
    scratch_init(&files);
    act a = act_new(_i);
    a.path = scratch_path(&files, "adapter.gguf");
    sets_each_fault(&gguf_host, save_to_path, nothing, &a);
    ck_assert_int_eq(scratch_count(files.dir), 1);
    sets_each_fault(&gguf_host, load_from_path, destroy_loaded, &a);
    a.options.rules = &a.rule;
    a.bytes = gguf_save(a.adapters, &a.options);
    sets_each_fault(&gguf_host, load_from_bytes, destroy_loaded, &a);
    a.n = gguf_specs("llama", a.specs);
    sets_each_fault(&gguf_host, load_from_bytes, destroy_loaded, &a);
    act_free(&a);
    scratch_fini(&files);
}
END_TEST

/* ---- reads and writes ------------------------------------------------------------------------------------------------------ */

START_TEST(each_write_that_fails_is_reported)
{
    act a = act_new(LRK_DTYPE_F32);
    a.options.rules = &a.rule;
    gguf_bytes whole = gguf_save(a.adapters, &a.options);
    int64_t n = whole.calls;
    ck_assert_int_gt(n, 10);
    for (int64_t i = 0; i < n; i++) {
        gguf_bytes bytes = gguf_bytes_new();
        lrk_writer writer = gguf_bytes_writer(&bytes);
        bytes.fail_at = i;
        int64_t live = gguf_host.live;
        sets_expect(gguf_context, lrk_gguf_write(a.adapters, &writer, &a.options), LRK_ERR_IO, "test bytes");
        ck_assert_int_eq(gguf_host.live, live);
        ck_assert_int_eq(bytes.calls, i + 1); /* nothing is written after a failure */
        if (bytes.n > 0) ck_assert_mem_eq(bytes.data, whole.data, bytes.n);
        gguf_bytes_free(&bytes);
    }
    gguf_bytes_free(&whole);
    act_free(&a);
}
END_TEST

START_TEST(each_read_that_fails_is_reported)
{
    act a = act_new(LRK_DTYPE_BF16);
    a.options.rules = &a.rule;
    a.bytes = gguf_save(a.adapters, &a.options);
    a.bytes.calls = 0;
    ck_assert_int_eq(load_from_bytes(&a), LRK_OK);
    destroy_loaded(&a);
    int64_t n = a.bytes.calls;
    ck_assert_int_gt(n, 10);
    for (int64_t i = 0; i < n; i++) {
        int64_t live = gguf_host.live;
        a.bytes.calls = 0;
        a.bytes.fail_at = i;
        sets_expect(gguf_context, load_from_bytes(&a), LRK_ERR_IO, "test bytes");
        ck_assert_ptr_null(a.loaded);
        ck_assert_int_eq(gguf_host.live, live);
    }
    act_free(&a);
}
END_TEST

/* A header of many pieces: keys and values lie across their borders, and one value is longer than a piece. */
START_TEST(a_long_header_is_read_in_pieces)
{
    static char text[9001];
    gguf_sketch sketch = gguf_right();
    gguf_bytes extra = gguf_bytes_new();
    memset(text, 'x', sizeof text - 1);
    for (int i = 0; i < 400; i++) {
        char key[32];
        snprintf(key, sizeof key, "some.key.%d", i);
        gguf_put_text(&extra, key);
        gguf_put_u32(&extra, 8);
        gguf_put_text(&extra, i == 200 ? text : text + sizeof text - 1 - i % 50);
    }
    sketch.extra = extra.data;
    sketch.extra_bytes = extra.n;
    sketch.n_extra = 400;
    gguf_bytes bytes = gguf_build(&sketch);
    lrk_adapters *adapters = gguf_load(&bytes, NULL);
    ck_assert(gguf_module(adapters, 0).scale == 4);
    ck_assert_int_le(bytes.calls, 12); /* 16 KB that is looked at, in pieces of 4 KB */
    lrk_adapters_destroy(adapters);
    gguf_bytes_free(&bytes);
    gguf_bytes_free(&extra);
}
END_TEST

/* ---- damage ------------------------------------------------------------------------------------------------------------- */

enum { REFUSED, SAME, OTHER, WRONG };

/* What a damaged file is. REFUSED by a status of the file's, with no handle; nothing is leaked either way. */
static int outcome(act *a, const unsigned char *data, size_t n)
{
    gguf_bytes bytes = {(unsigned char *)data, n, 0, -1};
    int64_t live = gguf_host.live;
    lrk_status status = gguf_try(&bytes, &a->options, a->specs, a->n, &a->loaded);
    int found = a->loaded == NULL ? REFUSED : gguf_equal(a->adapters, a->loaded) ? SAME : OTHER;
    if ((status == LRK_OK) != (a->loaded != NULL)) found = WRONG;
    if (status != LRK_OK && status != LRK_ERR_FORMAT && status != LRK_ERR_UNSUPPORTED &&
        status != LRK_ERR_NOT_FOUND && status != LRK_ERR_SHAPE)
        found = WRONG;
    lrk_adapters_destroy(a->loaded);
    return gguf_host.live == live ? found : WRONG;
}

static act small_file(void)
{
    act a = {.adapters = gguf_plain_set("gpt2"), .options = gguf_options("gpt2")};
    a.options.name = "name";
    a.bytes = gguf_save(a.adapters, &a.options);
    a.n = gguf_specs("gpt2", a.specs);
    return a;
}

START_TEST(every_truncation_is_seen)
{
    act a = small_file();
    gguf_file file;
    gguf_parse(&a.bytes, &file);
    const gguf_tensor *last = &file.tensors[file.n_tensors - 1];
    size_t end = (size_t)(last->data - a.bytes.data) + last->ne[0] * last->ne[1] * 4;
    ck_assert_uint_lt(end, a.bytes.n);
    for (size_t n = 0; n < a.bytes.n; n++) /* padding at the end may be missing */
        ck_assert_int_eq(outcome(&a, a.bytes.data, n), n < end ? REFUSED : SAME);
    act_free(&a);
}
END_TEST

/*
 * The format has no checksum: what says the scale can be changed into another scale. Everything else that would change the
 * adapter contradicts the rest of the file, or what the host says of its model.
 */
START_TEST(every_flip_in_the_header_is_seen_or_means_nothing)
{
    act a = small_file();
    gguf_file file;
    int64_t counts[4] = {0};
    gguf_parse(&a.bytes, &file);
    const unsigned char *value = gguf_find_key(&file, "adapter.lora.alpha")->value;
    size_t end = (size_t)(value - a.bytes.data) + 4, begin = end - 8 - strlen("adapter.lora.alpha");
    for (size_t bit = 0; bit < 8 * file.header; bit++) {
        a.bytes.data[bit / 8] ^= (unsigned char)(1u << bit % 8);
        int found = outcome(&a, a.bytes.data, a.bytes.n);
        a.bytes.data[bit / 8] ^= (unsigned char)(1u << bit % 8);
        counts[found]++;
        if (found == WRONG || (found == OTHER && (bit / 8 < begin || bit / 8 >= end)))
            ck_abort_msg("bit %zu of byte %zu", bit % 8, bit / 8);
    }
    ck_assert_int_gt(counts[REFUSED], counts[SAME]);
    ck_assert_int_gt(counts[SAME], 100); /* the name, the file type */
    ck_assert_int_gt(counts[OTHER], 100);
    act_free(&a);
}
END_TEST

Suite *gguf_damage_suite(void)
{
    Suite *suite = suite_create("gguf_damage");
    TCase *tests = tcase_create("gguf_damage");
    tcase_add_checked_fixture(tests, gguf_setup, gguf_teardown);
    tcase_add_loop_test(tests, each_allocation_that_fails_is_reported, 0, 3);
    tcase_add_test(tests, each_write_that_fails_is_reported);
    tcase_add_test(tests, each_read_that_fails_is_reported);
    tcase_add_test(tests, a_long_header_is_read_in_pieces);
    tcase_add_test(tests, every_truncation_is_seen);
    tcase_add_test(tests, every_flip_in_the_header_is_seen_or_means_nothing);
    suite_add_tcase(suite, tests);
    return suite;
}
