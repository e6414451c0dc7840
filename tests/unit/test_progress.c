/* SPDX-License-Identifier: MIT */
/*
 * Progress of saving, in every format: it grows to the bytes of all tensors, and a host that wants no more is left with the
 * file that it had. Progress of loading and resizing: a call for each module that has ranks; one that is stopped makes no set.
 */
#include <check.h>
#include <stdlib.h>
#include <string.h>

#include "peft_dir.h"
#include "sets.h"

typedef struct watch {
    int64_t calls;
    int64_t stop_at; /* call that answers no; -1 */
    uint64_t done;
    uint64_t total;
} watch;

static int32_t see(void *user, uint64_t done, uint64_t total)
{
    watch *w = user;
    ck_assert(done > w->done && done <= total);
    ck_assert(w->calls == 0 || total == w->total);
    w->done = done;
    w->total = total;
    return w->calls++ == w->stop_at;
}

static lrk_status save_peft(const lrk_adapters *set, watch *w)
{
    lrk_peft_options options;
    ck_assert_int_eq(lrk_peft_options_init(&options, sizeof options), LRK_OK);
    ck_assert(options.progress == NULL);
    options.dtype = LRK_DTYPE_BF16;
    options.user = w;
    options.progress = see;
    return lrk_peft_save(set, peft_dir, &options);
}

static lrk_status save_gguf(const lrk_adapters *set, watch *w)
{
    lrk_gguf_options options;
    ck_assert_int_eq(lrk_gguf_options_init(&options, sizeof options), LRK_OK);
    options.architecture = "qwen2";
    options.dtype = LRK_DTYPE_BF16;
    options.user = w;
    options.progress = see;
    return lrk_gguf_save(set, scratch_path(&peft_files, "file"), &options);
}

static lrk_status save_kohya(const lrk_adapters *set, watch *w)
{
    lrk_kohya_options options;
    ck_assert_int_eq(lrk_kohya_options_init(&options, sizeof options), LRK_OK);
    options.dtype = LRK_DTYPE_BF16;
    options.user = w;
    options.progress = see;
    return lrk_kohya_save(set, scratch_path(&peft_files, "file"), &options);
}

static const struct format {
    lrk_status (*save)(const lrk_adapters *set, watch *w);
    const char *file; /* in peft_dir; NULL: "file" beside it */
    int64_t calls;    /* two modules */
    uint64_t more;    /* bytes beside A and B: alphas */
} formats[] = {
    {save_peft, "adapter_model.safetensors", 4, 0}, {save_gguf, NULL, 2, 0}, {save_kohya, NULL, 6, 8}};
enum { FORMATS = sizeof formats / sizeof formats[0] };

static lrk_adapters *make_set(void)
{
    const lrk_module_spec specs[] = {sets_spec("model.layers.0.self_attn.v_proj", 5, 8, 3),
                                     sets_spec("model.layers.0.mlp.down_proj", 9, 4, 1),
                                     sets_spec("model.layers.1.mlp.down_proj", 9, 4, 0)};
    lrk_adapters *set = sets_create(peft_context, specs, 3, NULL);
    sets_fill(set);
    return set;
}

static char *read_saved(const struct format *format, size_t *n)
{
    return scratch_read(format->file != NULL ? peft_path(format->file) : scratch_path(&peft_files, "file"),
                        n);
}

START_TEST(progress_grows_to_the_bytes_of_all_tensors)
{
    const struct format *format = &formats[_i];
    watch w = {.stop_at = -1};
    lrk_adapters *set = make_set();
    ck_assert_int_eq(format->save(set, &w), LRK_OK);
    ck_assert_int_eq(w.calls, format->calls);
    ck_assert_uint_eq(w.total, 2 * (3 * 13 + 1 * 13) + format->more);
    ck_assert_uint_eq(w.done, w.total);
    lrk_adapters_destroy(set);
}
END_TEST

START_TEST(a_save_that_is_stopped_leaves_the_file_that_was_there)
{
    const struct format *format = &formats[_i];
    size_t n, m;
    watch all = {.stop_at = -1};
    lrk_adapters *set = make_set();
    ck_assert_int_eq(format->save(set, &all), LRK_OK);
    char *before = read_saved(format, &n);
    int files = scratch_count(format->file != NULL ? peft_dir : peft_files.dir);
    sets_tensor(set, 0, LRK_TENSOR_A).data[0] += 1;
    for (int64_t at = 0; at < format->calls; at++) {
        watch w = {.stop_at = at};
        sets_expect(peft_context, format->save(set, &w), LRK_ERR_CANCELLED, "progress() stopped");
        ck_assert_int_eq(w.calls, at + 1);
        char *after = read_saved(format, &m);
        ck_assert_uint_eq(m, n);
        ck_assert_mem_eq(after, before, n);
        free(after);
    }
    ck_assert_int_eq(scratch_count(format->file != NULL ? peft_dir : peft_files.dir), files);
    free(before);
    lrk_adapters_destroy(set);
}
END_TEST

/* ---- loading and resizing ---------------------------------------------------------------------------------------------- */

static lrk_status load_peft(const lrk_adapters_options *options, lrk_adapters **set)
{
    return lrk_peft_load(peft_context, peft_dir, NULL, 0, options, set);
}

static lrk_status load_gguf(const lrk_adapters_options *options, lrk_adapters **set)
{
    return lrk_gguf_load(peft_context, scratch_path(&peft_files, "file"), NULL, NULL, 0, options, set);
}

static lrk_status load_kohya(const lrk_adapters_options *options, lrk_adapters **set)
{
    return lrk_kohya_load(peft_context, scratch_path(&peft_files, "file"), NULL, NULL, 0, options, set);
}

static lrk_status save_own(const lrk_adapters *set, watch *w)
{
    (void)w;
    return lrk_peft_save(set, peft_dir, NULL);
}

static lrk_status resize(const lrk_adapters_options *options, lrk_adapters **resized)
{
    static const int64_t ranks[] = {3, 1, 0}; /* of one kept as it is, one cut, one that stays without */
    const lrk_module_spec specs[] = {sets_spec("a", 5, 8, 3), sets_spec("b", 9, 4, 2),
                                     sets_spec("c", 9, 4, 0)};
    lrk_adapters *set = sets_create(peft_context, specs, 3, NULL);
    sets_fill(set);
    lrk_status status = lrk_adapters_resize(set, ranks, options, resized);
    lrk_adapters_destroy(set);
    return status;
}

static const struct making {
    lrk_status (*save)(const lrk_adapters *set, watch *w); /* before it [NULL] */
    lrk_status (*make)(const lrk_adapters_options *options, lrk_adapters **set);
    const char *words;
} makings[] = {
    {save_own, load_peft, "progress() stopped loading after"},
    {save_peft, load_peft, "progress() stopped loading after"}, /* of 16 bits: as of another program */
    {save_gguf, load_gguf, "progress() stopped loading after"},
    {save_kohya, load_kohya, "progress() stopped loading after"},
    {NULL, resize, "progress() stopped resizing after"}};
enum { MAKINGS = sizeof makings / sizeof makings[0] };

START_TEST(making_a_set_tells_of_each_module_and_can_be_stopped)
{
    const struct making *making = &makings[_i];
    watch saved = {.stop_at = -1}, w = {.stop_at = -1};
    lrk_adapters_options options;
    lrk_adapters *set = make_set(), *made = NULL;
    ck_assert_int_eq(lrk_adapters_options_init(&options, sizeof options), LRK_OK);
    ck_assert(options.progress == NULL);
    if (making->save != NULL) ck_assert_int_eq(making->save(set, &saved), LRK_OK);
    options.user = &w;
    options.progress = see;
    ck_assert_int_eq(making->make(&options, &made), LRK_OK);
    ck_assert_int_eq(w.calls, 2);
    ck_assert_uint_eq(w.done, w.total);
    ck_assert_uint_eq(w.total, 4 * (3 * 13 + 1 * 13));
    lrk_adapters_destroy(made);
    for (int64_t at = 0; at < 2; at++) {
        w = (watch){.stop_at = at};
        made = set;
        sets_expect(peft_context, making->make(&options, &made), LRK_ERR_CANCELLED, making->words);
        ck_assert_int_eq(w.calls, at + 1);
        ck_assert_ptr_null(made);
    }
    w = (watch){.stop_at = 0};
    options.flags = LRK_ADAPTERS_OUTLINE;
    if (making->save != NULL) {
        ck_assert_int_eq(making->make(&options, &made), LRK_OK);
        ck_assert_int_eq(w.calls, 0);
        lrk_adapters_destroy(made);
    }
    lrk_adapters_destroy(set);
}
END_TEST

Suite *progress_suite(void);

Suite *progress_suite(void)
{
    Suite *suite = suite_create("progress");
    TCase *tcase = tcase_create("progress");
    tcase_add_checked_fixture(tcase, peft_setup, peft_teardown);
    tcase_add_loop_test(tcase, progress_grows_to_the_bytes_of_all_tensors, 0, FORMATS);
    tcase_add_loop_test(tcase, a_save_that_is_stopped_leaves_the_file_that_was_there, 0, FORMATS);
    tcase_add_loop_test(tcase, making_a_set_tells_of_each_module_and_can_be_stopped, 0, MAKINGS);
    suite_add_tcase(suite, tcase);
    return suite;
}
