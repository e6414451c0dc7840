/* SPDX-License-Identifier: MIT */
/*
 * Merging models on disk: files, directories, shards and their index. What is no weight is copied, what makes a directory a
 * model comes last, and a failure leaves no file that was begun.
 */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "json_fault.h"
#include "merge_rig.h"
#include "scratch.h"
#include "sets.h"

#define INDEX "model.safetensors.index.json"

static lrk_adapters *adapters;
static merge_model model;
static lrk_merge_options options;
static scratch files;
static char from[2 * SCRATCH_PATH], to[2 * SCRATCH_PATH];

static void setup(void)
{
    merge_setup();
    adapters = merge_set();
    model = merge_model_make("F16", false);
    options = merge_options(&model);
    scratch_init(&files);
    strcpy(from, scratch_path(&files, "base"));
    strcpy(to, scratch_path(&files, "merged"));
}

static void teardown(void)
{
    scratch_fini(&files);
    merge_model_free(&model);
    lrk_adapters_destroy(adapters);
    merge_teardown();
}

static const char *in(const char *folder, const char *name)
{
    static char path[4 * SCRATCH_PATH];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    return path;
}

static void put_text(const char *folder, const char *name, const char *text)
{
    scratch_write(in(folder, name), text, strlen(text));
}

static void put_entries(const char *folder, const char *name, int first, int n)
{
    gguf_bytes file = merge_model_file(&model, first, n);
    scratch_write(in(folder, name), file.data, file.n);
    gguf_bytes_free(&file);
}

static gguf_bytes get(const char *folder, const char *name)
{
    gguf_bytes file = gguf_bytes_new();
    file.data = (unsigned char *)scratch_read(in(folder, name), &file.n);
    return file;
}

static void expect_same_file(const char *name)
{
    gguf_bytes a = get(from, name), b = get(to, name);
    ck_assert_uint_eq(a.n, b.n);
    ck_assert_mem_eq(a.data, b.data, a.n);
    gguf_bytes_free(&a);
    gguf_bytes_free(&b);
}

static void expect_merged(const char *folder, const char *name, int first, int n)
{
    gguf_bytes merged = get(folder, name);
    merge_expect(adapters, &model, first, n, &merged);
    gguf_bytes_free(&merged);
}

/* h.1 is in the first of two shards, h.0 and h.3 in the second. */
static const char right_index[] =
    "{\"metadata\": {\"total_size\": 99}, \"weight_map\": {\n"
    "\"zz\": \"model-1.safetensors\", \"m.h.1.weight\": \"model-1.safetensors\",\n"
    "\"m.h.0.weight\": \"model-2.safetensors\", \"embed\": \"model-2.safetensors\",\n"
    "\"m.h.3.weight\": \"model-2.safetensors\", \"aa\": \"model-2.safetensors\"}}\n";

static void make_shards(const char *index)
{
    ck_assert_int_eq(mkdir(from, 0777), 0);
    put_entries(from, "model-1.safetensors", 0, 2);
    put_entries(from, "model-2.safetensors", 2, 4);
    put_text(from, INDEX, index);
}

static lrk_status merge(lrk_merge_report *report)
{
    return lrk_merge_model(adapters, from, to, &options, report);
}

static void refused(lrk_status want, const char *words)
{
    sets_expect(merge_context, merge(NULL), want, words);
}

/* ---- what is merged ---------------------------------------------------------------------------------------------------- */

START_TEST(a_file_is_merged_into_another)
{
    lrk_merge_report report = {.struct_size = sizeof report};
    put_entries(files.dir, "base", 0, MERGE_TENSORS);
    put_text(files.dir, "merged", "old");
    ck_assert_int_eq(merge(&report), LRK_OK);
    expect_merged(files.dir, "merged", 0, MERGE_TENSORS);
    ck_assert(report.files == 1 && report.tensors == MERGE_TENSORS && report.merged == 3);
    ck_assert_int_eq(scratch_count(files.dir), 2);
}
END_TEST

START_TEST(a_directory_is_merged_and_its_other_files_are_copied)
{
    lrk_merge_report report = {.struct_size = sizeof report};
    ck_assert_int_eq(mkdir(from, 0777), 0);
    put_entries(from, "model.safetensors", 0, MERGE_TENSORS);
    put_text(from, "config.json", "{}");
    put_text(from, "tokenizer.model", "");
    put_text(from, INDEX, "of other files"); /* model.safetensors comes first */
    put_text(from, "adapter.safetensors", "x");
    put_text(from, "pytorch_model.bin", "x");
    put_text(from, "model.gguf", "x");
    ck_assert_int_eq(mkdir(in(from, "folder"), 0777), 0);
    ck_assert_int_eq(symlink("config.json", in(from, "linked.json")), 0);
    ck_assert_int_eq(symlink("nowhere", in(from, "broken.json")), 0);
    char *large = calloc(1, 3000000);
    ck_assert_ptr_nonnull(large);
    memset(large, 'v', 2500000);
    scratch_write(in(from, "vocabulary.txt"), large, 3000000);
    free(large);
    ck_assert_int_eq(merge(&report), LRK_OK);
    expect_merged(to, "model.safetensors", 0, MERGE_TENSORS);
    expect_same_file("config.json");
    expect_same_file("linked.json");
    expect_same_file("tokenizer.model");
    expect_same_file("vocabulary.txt");
    ck_assert_int_eq(scratch_count(to), 5);
    ck_assert(report.files == 1 && report.merged == 3);
    ck_assert_int_eq(merge(&report), LRK_OK); /* and over itself */
    ck_assert_int_eq(scratch_count(to), 5);
}
END_TEST

START_TEST(shards_are_merged_and_the_index_is_kept)
{
    lrk_merge_report report = {.struct_size = sizeof report};
    make_shards(right_index);
    put_text(from, "config.json", "{}");
    for (int i = 0; i < 2; i++) { /* and over itself */
        ck_assert_int_eq(merge(&report), LRK_OK);
        expect_merged(to, "model-1.safetensors", 0, 2);
        expect_merged(to, "model-2.safetensors", 2, 4);
        expect_same_file(INDEX);
        expect_same_file("config.json");
        ck_assert_int_eq(scratch_count(to), 4);
        ck_assert(report.files == 2 && report.tensors == MERGE_TENSORS && report.merged == 3);
    }
}
END_TEST

/* ---- what is refused --------------------------------------------------------------------------------------------------- */

START_TEST(paths_are_checked)
{
    ck_assert_int_eq(lrk_merge_model(NULL, from, to, NULL, NULL), LRK_ERR_ARGUMENT);
    sets_expect(merge_context, lrk_merge_model(adapters, NULL, to, NULL, NULL), LRK_ERR_ARGUMENT, "path");
    sets_expect(merge_context, lrk_merge_model(adapters, "", to, NULL, NULL), LRK_ERR_ARGUMENT, "path");
    sets_expect(merge_context, lrk_merge_model(adapters, from, NULL, NULL, NULL), LRK_ERR_ARGUMENT, "path");
    sets_expect(merge_context, lrk_merge_model(adapters, from, "", NULL, NULL), LRK_ERR_ARGUMENT, "path");
    refused(LRK_ERR_NOT_FOUND, "there is no model at");
    ck_assert_int_eq(mkdir(from, 0777), 0);
    refused(LRK_ERR_NOT_FOUND, "neither model.safetensors nor " INDEX);
    ck_assert(!scratch_exists(to));
}
END_TEST

START_TEST(a_model_is_not_merged_into_itself)
{
    make_shards(right_index);
    sets_expect(merge_context, lrk_merge_model(adapters, from, in(from, "../base"), &options, NULL),
                LRK_ERR_ARGUMENT, "another place");
    ck_assert_int_eq(symlink("base", to), 0);
    refused(LRK_ERR_ARGUMENT, "another place");
    expect_same_file(INDEX);
    ck_assert_int_eq(unlink(to), 0);
    put_entries(files.dir, "one", 0, MERGE_TENSORS);
    strcpy(from, in(files.dir, "one"));
    ck_assert_int_eq(link(from, to), 0);
    refused(LRK_ERR_ARGUMENT, "another place");
}
END_TEST

START_TEST(a_place_with_a_model_of_the_other_form_is_refused)
{
    make_shards(right_index);
    ck_assert_int_eq(mkdir(to, 0777), 0);
    put_text(to, "model.safetensors", "of another");
    refused(LRK_ERR_ARGUMENT, "holds another model");
    ck_assert_int_eq(scratch_count(to), 1);
    ck_assert_int_eq(unlink(in(to, "model.safetensors")), 0);
    put_text(to, INDEX, "of another");
    put_entries(from, "model.safetensors", 0, MERGE_TENSORS);
    refused(LRK_ERR_ARGUMENT, "holds another model");
    ck_assert_int_eq(scratch_count(to), 1);
}
END_TEST

START_TEST(an_index_must_agree_with_its_shards)
{
    static const struct {
        const char *index;
        lrk_status want;
        const char *words;
    } cases[] = {
        {"[]", LRK_ERR_FORMAT, "weight_map is missing"},
        {"{\"weight_map\": 3}", LRK_ERR_FORMAT, "weight_map is missing, empty or not an object"},
        {"{\"weight_map\": {}}", LRK_ERR_FORMAT, "weight_map is missing"},
        {"{\"weight_map\": {\"a\": 3}}", LRK_ERR_FORMAT, "tensor 'a' is not in a .safetensors file"},
        {"{\"weight_map\": {\"a\": \"../x.safetensors\"}}", LRK_ERR_FORMAT, "tensor 'a' is not in"},
        {"{\"weight_map\": {\"a\": \".safetensors\"}}", LRK_ERR_FORMAT, "tensor 'a' is not in"},
        {"{\"weight_map\": {\"a\": \"x.bin\"}}", LRK_ERR_FORMAT, "tensor 'a' is not in"},
        {"{\"weight_map\": {\"a\": \"x.safetensors\"}}", LRK_ERR_NOT_FOUND, "x.safetensors"},
        {"{\"weight_map\": {\"a\": \"model-1.safetensors\"}}", LRK_ERR_FORMAT,
         "tensor 'a' is not in the file that is said to hold it"},
        {"{\"weight_map\": {\"zz\": \"model-1.safetensors\"}}", LRK_ERR_FORMAT,
         "tensor 'm.h.1.weight' is in a file that is not said to hold it"},
        {"{\"weight_map\": {\"zz\": \"model-1.safetensors\", \"m.h.1.weight\": \"model-1.safetensors\"}}",
         LRK_ERR_NOT_FOUND, "the model has no tensor 'm.h.0.weight'"},
        {"{", LRK_ERR_FORMAT, INDEX},
        {"", LRK_ERR_FORMAT, INDEX},
    };
    make_shards(cases[_i].index);
    refused(cases[_i].want, cases[_i].words);
    ck_assert(!scratch_exists(to)); /* all is checked before anything is written */
}
END_TEST
enum { INDEX_CASES = 13 };

START_TEST(a_tensor_in_two_shards_is_refused)
{
    make_shards(right_index);
    put_entries(from, "model-2.safetensors", 1, 5);
    refused(LRK_ERR_FORMAT, "tensor 'm.h.1.weight' is in a file that is not said to hold it");
}
END_TEST

START_TEST(a_shard_that_is_damaged_is_refused)
{
    make_shards(right_index);
    put_text(from, "model-2.safetensors", "no such thing");
    refused(LRK_ERR_FORMAT, "model-2.safetensors");
    ck_assert(!scratch_exists(to));
}
END_TEST

/* Merged as if nothing were wrong, or an error that leaves nothing. */
static void expect_right_or_nothing(void)
{
    char words[512];
    lrk_status status = merge(NULL);
    if (status != LRK_OK) {
        lrk_context_error(merge_context, words, sizeof words);
        ck_assert_msg(!scratch_exists(to), "%s", words);
        return;
    }
    expect_merged(to, "model-1.safetensors", 0, 2);
    expect_merged(to, "model-2.safetensors", 2, 4);
    scratch_remove(to);
}

START_TEST(an_index_cut_anywhere_is_refused)
{
    char index[sizeof right_index];
    make_shards(right_index);
    for (size_t n = 0; n + 2 < sizeof index; n++) { /* the line's end alone may be missing */
        memcpy(index, right_index, n);
        index[n] = '\0';
        put_text(from, INDEX, index);
        refused(LRK_ERR_FORMAT, INDEX);
        ck_assert(!scratch_exists(to));
    }
}
END_TEST

START_TEST(a_flipped_byte_of_an_index_is_an_error_or_means_the_same)
{
    static const char flips[] = {0x01, (char)0x80};
    char index[sizeof right_index];
    make_shards(right_index);
    for (size_t at = 0; at + 1 < sizeof index; at++)
        for (size_t i = 0; i < sizeof flips; i++) {
            memcpy(index, right_index, sizeof index);
            index[at] = (char)(index[at] ^ flips[i]);
            scratch_write(in(from, INDEX), index, sizeof index - 1);
            expect_right_or_nothing();
        }
}
END_TEST

/* ---- failures on the way ----------------------------------------------------------------------------------------------- */

/* The second shard fails: the first stands, no index says that there is a model, and nothing begun is left. */
START_TEST(a_lost_delta_leaves_no_model)
{
    make_shards(right_index);
    ck_assert_int_eq(merge(NULL), LRK_OK);
    lrk_tensor b = sets_tensor(adapters, 3, LRK_TENSOR_B);
    for (int64_t i = 0; i < b.cols; i++)
        b.data[i] = 1e-9f;
    refused(LRK_ERR_UNSUPPORTED, "module 'h.3': 100.0 % of its delta is lost to rounding to F16");
    ck_assert(scratch_exists(in(to, "model-1.safetensors")));
    ck_assert(!scratch_exists(in(to, INDEX)));
    ck_assert_int_eq(scratch_count(to), 2);
    options.flags = LRK_MERGE_ALLOW_LOST;
    lrk_merge_report report = {.struct_size = sizeof report};
    ck_assert_int_eq(merge(&report), LRK_OK);
    ck_assert(report.lost == 1 && report.merged == 3);
    expect_same_file(INDEX);
}
END_TEST

/* A folder where a file is to be: its rename fails. */
START_TEST(each_rename_that_fails_is_reported)
{
    static const char *const names[] = {"config.json", "model-1.safetensors", "model-2.safetensors", INDEX};
    make_shards(right_index);
    put_text(from, "config.json", "{}");
    for (int i = 0; i < 4; i++) {
        ck_assert_int_eq(mkdir(to, 0777), 0);
        ck_assert_int_eq(mkdir(in(to, names[i]), 0777), 0);
        refused(LRK_ERR_IO, names[i]);
        ck_assert_int_eq(scratch_count(to),
                         i == 3 ? 1 : i + 1); /* an index there is removed before all else */
        ck_assert_int_eq(rmdir(in(to, names[i])), 0);
        for (int k = 0; k < i && i < 3; k++)
            ck_assert_int_eq(unlink(in(to, names[k])), 0);
        ck_assert_int_eq(rmdir(to), 0);
    }
    put_text(files.dir, "merged", "a file");
    refused(LRK_ERR_IO, "merged");
}
END_TEST

static lrk_status merge_once(void *user)
{
    (void)user;
    return merge(NULL);
}

static void nothing(void *user)
{
    (void)user;
}

START_TEST(each_allocation_that_fails_is_reported)
{
    make_shards(right_index);
    put_text(from, "config.json", "{}");
    ck_assert_int_eq(merge(NULL), LRK_OK); /* the folder is made once */
    sets_each_fault(&merge_host, merge_once, nothing, NULL);
    json_each_fault(merge_once, nothing, NULL, true);
    ck_assert_int_eq(scratch_count(to), 4);
    expect_merged(to, "model-2.safetensors", 2, 4);
}
END_TEST

static int32_t stop_late(void *user, uint64_t done, uint64_t total)
{
    (void)user;
    return done > total / 2;
}

START_TEST(a_cancelled_merge_leaves_nothing_begun)
{
    options.progress = stop_late;
    put_entries(files.dir, "base", 0, MERGE_TENSORS);
    put_text(files.dir, "merged", "old");
    refused(LRK_ERR_CANCELLED, "progress()");
    ck_assert_int_eq(scratch_count(files.dir), 2);
    gguf_bytes old = get(files.dir, "merged");
    ck_assert_uint_eq(old.n, 3);
    gguf_bytes_free(&old);
}
END_TEST

Suite *merge_model_suite(void);

Suite *merge_model_suite(void)
{
    Suite *suite = suite_create("merge_model");
    TCase *tcase = tcase_create("merge_model");
    tcase_add_checked_fixture(tcase, setup, teardown);
    tcase_add_test(tcase, a_file_is_merged_into_another);
    tcase_add_test(tcase, a_directory_is_merged_and_its_other_files_are_copied);
    tcase_add_test(tcase, shards_are_merged_and_the_index_is_kept);
    tcase_add_test(tcase, paths_are_checked);
    tcase_add_test(tcase, a_model_is_not_merged_into_itself);
    tcase_add_test(tcase, a_place_with_a_model_of_the_other_form_is_refused);
    tcase_add_loop_test(tcase, an_index_must_agree_with_its_shards, 0, INDEX_CASES);
    tcase_set_timeout(tcase, 60);
    tcase_add_test(tcase, an_index_cut_anywhere_is_refused);
    tcase_add_test(tcase, a_flipped_byte_of_an_index_is_an_error_or_means_the_same);
    tcase_add_test(tcase, a_tensor_in_two_shards_is_refused);
    tcase_add_test(tcase, a_shard_that_is_damaged_is_refused);
    tcase_add_test(tcase, a_lost_delta_leaves_no_model);
    tcase_add_test(tcase, each_rename_that_fails_is_reported);
    tcase_add_test(tcase, a_cancelled_merge_leaves_nothing_begun);
    suite_add_tcase(suite, tcase);
    TCase *faults = tcase_create("faults");
    tcase_add_checked_fixture(faults, setup, teardown);
    tcase_set_timeout(faults, 120); /* every file of every run is synced */
    tcase_add_test(faults, each_allocation_that_fails_is_reported);
    suite_add_tcase(suite, faults);
    return suite;
}
