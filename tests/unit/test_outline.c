/* SPDX-License-Identifier: MIT */
/*
 * Outlines: sets without ranks that tell what a file or a list of specs has, the same as the whole set does, and that read
 * no value of the file.
 */
#include <check.h>
#include <stdlib.h>
#include <string.h>

#include "peft_dir.h"
#include "sets.h"

static char path[2 * SCRATCH_PATH];

static lrk_adapters_options options_new(uint32_t flags)
{
    lrk_adapters_options options;
    ck_assert_int_eq(lrk_adapters_options_init(&options, sizeof options), LRK_OK);
    options.flags = flags;
    return options;
}

/* Ranks that differ and need not be the first ones of their set. */
static lrk_adapters *make_set(void)
{
    lrk_module_spec specs[] = {sets_spec("model.layers.0.self_attn.v_proj", 5, 8, 3),
                               sets_spec("model.layers.0.mlp.down_proj", 9, 4, 1),
                               sets_spec("model.layers.1.mlp.down_proj", 9, 4, 4)};
    for (int i = 0; i < 3; i++)
        specs[i].scale = 0.3 * (i + 1);
    lrk_adapters *set = sets_create(peft_context, specs, 3, NULL);
    peft_fill(set, 7, true);
    peft_move_ranks(set, 2, 5);
    return set;
}

/* ---- the formats ----------------------------------------------------------------------------------------------------- */

static lrk_status save_peft(const lrk_adapters *set)
{
    return lrk_peft_save(set, path, NULL);
}

static lrk_status save_uniform(const lrk_adapters *set)
{
    lrk_peft_options options;
    ck_assert_int_eq(lrk_peft_options_init(&options, sizeof options), LRK_OK);
    options.flags = LRK_PEFT_UNIFORM;
    return lrk_peft_save(set, path, &options);
}

static lrk_status save_gguf(const lrk_adapters *set)
{
    lrk_gguf_options options;
    ck_assert_int_eq(lrk_gguf_options_init(&options, sizeof options), LRK_OK);
    options.architecture = "qwen2";
    return lrk_gguf_save(set, path, &options);
}

static lrk_status save_kohya(const lrk_adapters *set)
{
    return lrk_kohya_save(set, path, NULL);
}

static lrk_status load_peft(const lrk_adapters_options *options, lrk_adapters **set)
{
    return lrk_peft_load(peft_context, path, NULL, 0, options, set);
}

static lrk_status load_gguf(const lrk_adapters_options *options, lrk_adapters **set)
{
    return lrk_gguf_load(peft_context, path, NULL, NULL, 0, options, set);
}

static lrk_status load_kohya(const lrk_adapters_options *options, lrk_adapters **set)
{
    return lrk_kohya_load(peft_context, path, NULL, NULL, 0, options, set);
}

static const struct format {
    lrk_status (*save)(const lrk_adapters *set);
    lrk_status (*load)(const lrk_adapters_options *options, lrk_adapters **set);
    const char *values; /* the file under `path` that has them; NULL: it is that file */
} formats[] = {{save_peft, load_peft, "adapter_model.safetensors"},
               {save_uniform, load_peft, "adapter_model.safetensors"},
               {save_gguf, load_gguf, NULL},
               {save_kohya, load_kohya, NULL}};
enum { FORMATS = sizeof formats / sizeof formats[0] };

static void setup(void)
{
    peft_setup();
    strcpy(path, peft_dir);
}

static void expect_outline_of(const lrk_adapters *outline, const lrk_adapters *whole)
{
    lrk_adapters_info info = sets_info(outline);
    ck_assert_int_eq(info.modules, sets_info(whole).modules);
    ck_assert_int_eq(info.ranks, 0);
    ck_assert_int_eq(info.parameters, 0);
    for (int32_t m = 0; m < info.modules; m++) {
        lrk_module_info is = {.struct_size = sizeof is}, like = is;
        ck_assert_int_eq(lrk_adapters_module(outline, m, &is), LRK_OK);
        ck_assert_int_eq(lrk_adapters_module(whole, m, &like), LRK_OK);
        ck_assert_str_eq(is.name, like.name);
        ck_assert_int_eq(is.n_in, like.n_in);
        ck_assert_int_eq(is.n_out, like.n_out);
        ck_assert_int_eq(is.initial_rank, like.rank);
        ck_assert_int_eq(is.rank, 0);
        ck_assert(is.scale == like.scale);
    }
}

/* The last value of the file that is not 0 becomes no number: padding may follow. */
static void spoil_value(const struct format *format)
{
    static const char zero[4], nan[4] = {-1, -1, -1, -1};
    size_t n, at;
    const char *file = format->values != NULL ? peft_path(format->values) : path;
    char *bytes = scratch_read(file, &n);
    for (at = n - 4; memcmp(bytes + at, zero, 4) == 0; at -= 4)
        ;
    memcpy(bytes + at, nan, 4);
    scratch_write(file, bytes, n);
    free(bytes);
}

START_TEST(a_file_tells_the_same_without_its_values)
{
    const struct format *format = &formats[_i];
    lrk_adapters_options values = options_new(0), no_values = options_new(LRK_ADAPTERS_OUTLINE);
    lrk_adapters *set = make_set(), *whole, *outline;
    ck_assert_int_eq(format->save(set), LRK_OK);
    ck_assert_int_eq(format->load(&values, &whole), LRK_OK);
    spoil_value(format);
    sets_expect(peft_context, format->load(&no_values, &outline), LRK_OK, "");
    expect_outline_of(outline, whole);
    lrk_adapters_destroy(outline);
    ck_assert_int_eq(format->load(&values, &outline), LRK_ERR_FORMAT);
    lrk_adapters_destroy(whole);
    lrk_adapters_destroy(set);
}
END_TEST

typedef struct loading {
    const struct format *format;
    lrk_adapters *outline;
} loading;

static lrk_status act(void *user)
{
    loading *l = user;
    lrk_adapters_options options = options_new(LRK_ADAPTERS_OUTLINE);
    return l->format->load(&options, &l->outline);
}

static void undo(void *user)
{
    loading *l = user;
    lrk_adapters_destroy(l->outline);
}

START_TEST(every_allocation_of_an_outline_may_fail)
{
    loading l = {.format = &formats[_i]};
    lrk_adapters *set = make_set();
    ck_assert_int_eq(l.format->save(set), LRK_OK);
    sets_each_fault(&peft_host, act, undo, &l);
    lrk_adapters_destroy(set);
}
END_TEST

/* ---- specs ------------------------------------------------------------------------------------------------------------- */

START_TEST(specs_make_a_set_that_has_no_rank_yet)
{
    lrk_module_spec specs[3];
    lrk_adapters_options options = options_new(LRK_ADAPTERS_OUTLINE);
    sets_three(specs);
    lrk_adapters *whole = sets_create(peft_context, specs, 3, NULL),
                 *outline = sets_create(peft_context, specs, 3, &options);
    expect_outline_of(outline, whole);
    ck_assert_int_eq((int)sets_info(outline).flags, LRK_ADAPTERS_OUTLINE);
    ck_assert_int_eq((int)sets_info(outline).next_identity, 1);
    lrk_adapters_destroy(outline);
    lrk_adapters_destroy(whole);
}
END_TEST

/* As many bytes as ranks in memory would be more than there are. */
START_TEST(ranks_that_do_not_live_take_no_memory)
{
    lrk_module_spec spec = sets_spec("m", 4, 4, INT64_C(1) << 50);
    lrk_adapters_options options = options_new(LRK_ADAPTERS_OUTLINE);
    lrk_adapters *outline = sets_create(peft_context, &spec, 1, &options);
    ck_assert_int_eq(sets_rank(outline, 0), 0);
    lrk_adapters_destroy(outline);
}
END_TEST

START_TEST(a_host_with_storage_is_asked_for_no_rank)
{
    static sets_host owner;
    lrk_module_spec specs[3];
    sets_three(specs);
    lrk_storage storage = sets_host_storage(&owner, specs, 0);
    lrk_adapters_options options = options_new(LRK_ADAPTERS_OUTLINE);
    options.storage = &storage;
    lrk_adapters *outline = sets_create(peft_context, specs, 3, &options);
    ck_assert_str_eq(owner.log, "p0:0 p1:0 p2:0 c0 c1 c2 ");
    lrk_adapters_destroy(outline);
    sets_host_free(&owner);
}
END_TEST

Suite *outline_suite(void);

Suite *outline_suite(void)
{
    Suite *suite = suite_create("outline");
    TCase *tcase = tcase_create("outline");
    tcase_add_checked_fixture(tcase, setup, peft_teardown);
    tcase_add_loop_test(tcase, a_file_tells_the_same_without_its_values, 0, FORMATS);
    tcase_add_loop_test(tcase, every_allocation_of_an_outline_may_fail, 0, FORMATS);
    tcase_add_test(tcase, specs_make_a_set_that_has_no_rank_yet);
    tcase_add_test(tcase, ranks_that_do_not_live_take_no_memory);
    tcase_add_test(tcase, a_host_with_storage_is_asked_for_no_rank);
    suite_add_tcase(suite, tcase);
    return suite;
}
