/* SPDX-License-Identifier: MIT */
/*
 * PEFT directories that cannot be written or read: every wrong value, option, place and file is refused by name, nothing
 * is left behind, and an old adapter stands until the new one is whole.
 */
#include <check.h>
#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include "adapters/set.h"
#include "formats/file.h"
#include "json_fault.h"
#include "peft_dir.h"
#include "sets.h"

/* ---- refusals of save ---- */

static void refuses(const lrk_adapters *adapters, const lrk_peft_options *options, lrk_status status,
                    const char *words)
{
    sets_expect(peft_context, lrk_peft_save(adapters, peft_dir, options), status, words);
    ck_assert(!scratch_exists(peft_dir));
}

START_TEST(what_peft_cannot_hold_is_refused)
{
    lrk_module_spec spec = sets_spec("w", 2, 2, 0);
    lrk_adapters *adapters = sets_create(peft_context, &spec, 1, NULL);
    refuses(adapters, NULL, LRK_ERR_UNSUPPORTED, "every module has rank 0");
    lrk_adapters_destroy(adapters);
    static const char *const names[] = {"a*b", "a(b", "a[0]", "a+", "^a", "a$", "a|b", "a\\b", "a?", "a{2}"};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        spec = sets_spec(names[i], 2, 2, 1);
        adapters = sets_create(peft_context, &spec, 1, NULL);
        refuses(adapters, NULL, LRK_ERR_UNSUPPORTED, names[i]);
        lrk_adapters_destroy(adapters);
    }
}
END_TEST

START_TEST(values_that_are_not_finite_are_refused)
{
    static const char *const words[] = {"'b': A", "'b': B", "'b': gates"};
    lrk_module_spec specs[3];
    sets_three(specs);
    lrk_adapters *adapters = sets_create(peft_context, specs, 3, NULL);
    for (int32_t which = LRK_TENSOR_A; which <= LRK_TENSOR_GATES; which++) {
        sets_fill(adapters);
        sets_tensor(adapters, 1, which).data[2] = which == LRK_TENSOR_B ? INFINITY : NAN;
        refuses(adapters, NULL, LRK_ERR_NONFINITE, words[which]);
        lrk_error_info info = {.struct_size = sizeof info};
        ck_assert_int_eq(lrk_context_error_info(peft_context, &info), LRK_OK);
        ck_assert_int_eq(info.module, 1);
    }
    lrk_peft_options options = peft_alpha(1e-30);
    sets_fill(adapters);
    sets_tensor(adapters, 1, LRK_TENSOR_B).data[0] = 1e20f;
    refuses(adapters, &options, LRK_ERR_NONFINITE, "'b': B times scale and gates");
    options = peft_alpha(1e-310); /* factors of infinity times 0 */
    sets_fill(adapters);
    for (int32_t m = 0; m < 3; m++) {
        lrk_tensor gates = sets_tensor(adapters, m, LRK_TENSOR_GATES);
        if (gates.rows * gates.cols > 0)
            memset(gates.data, 0, (size_t)(gates.rows * gates.cols) * sizeof *gates.data);
    }
    refuses(adapters, &options, LRK_ERR_NONFINITE, "B times scale and gates");
    lrk_adapters_destroy(adapters);
}
END_TEST

START_TEST(wrong_options_are_named)
{
    static const double alphas[] = {0, -1, NAN, INFINITY};
    lrk_adapters *adapters = peft_varied();
    lrk_peft_options options;
    for (int i = 0; i < 4; i++) {
        options = peft_alpha(alphas[i]);
        refuses(adapters, &options, LRK_ERR_ARGUMENT, "alpha");
    }
    options = peft_alpha(16);
    options.flags = 4;
    refuses(adapters, &options, LRK_ERR_ARGUMENT, "flags");
    options = peft_alpha(16);
    options.reserved = 1;
    refuses(adapters, &options, LRK_ERR_ARGUMENT, "reserved");
    options = peft_alpha(16);
    options.dtype = 3;
    refuses(adapters, &options, LRK_ERR_ARGUMENT, "dtype 3");
    options = peft_alpha(16);
    options.task_type = "CAUSAL";
    refuses(adapters, &options, LRK_ERR_ARGUMENT, "CAUSAL");
    options = peft_alpha(16);
    options.base_model = "\xc3";
    refuses(adapters, &options, LRK_ERR_ARGUMENT, "base_model");
    options = peft_alpha(16);
    options.struct_size = 4;
    refuses(adapters, &options, LRK_ERR_ARGUMENT, "struct_size");
    struct {
        lrk_peft_options known;
        int64_t more;
    } longer = {peft_alpha(16), 1};
    longer.known.struct_size = sizeof longer;
    refuses(adapters, &longer.known, LRK_ERR_VERSION, "lrk_peft_options");
    ck_assert_int_eq(lrk_peft_save(NULL, peft_dir, NULL), LRK_ERR_ARGUMENT);
    sets_expect(peft_context, lrk_peft_save(adapters, NULL, NULL), LRK_ERR_ARGUMENT, "directory");
    sets_expect(peft_context, lrk_peft_save(adapters, "", NULL), LRK_ERR_ARGUMENT, "directory");
    ck_assert_int_eq(lrk_peft_options_init(NULL, sizeof options), LRK_ERR_ARGUMENT);
    lrk_adapters_destroy(adapters);
}
END_TEST

/* ---- atomicity ---- */

START_TEST(a_write_that_fails_leaves_the_old_adapter)
{
    struct rlimit limit, least;
    lrk_adapters *adapters = peft_varied();
    sets_fill(adapters);
    peft_save(adapters, 16);
    peft_fill(adapters, 9, true);
    signal(SIGXFSZ, SIG_IGN);
    ck_assert_int_eq(getrlimit(RLIMIT_FSIZE, &limit), 0);
    for (rlim_t bytes = 0; bytes < 2048; bytes += 512) {
        least = limit;
        least.rlim_cur = bytes;
        ck_assert_int_eq(setrlimit(RLIMIT_FSIZE, &least), 0);
        lrk_status status = lrk_peft_save(adapters, peft_dir, NULL);
        ck_assert_int_eq(setrlimit(RLIMIT_FSIZE, &limit), 0);
        sets_expect(peft_context, status, LRK_ERR_IO, "cannot write");
        ck_assert_int_eq(scratch_count(peft_dir), 2);
    }
    signal(SIGXFSZ, SIG_DFL);
    lrk_adapters *loaded = peft_load(NULL);
    sets_fill(adapters);
    peft_same(adapters, loaded);
    lrk_adapters_destroy(loaded);
    lrk_adapters_destroy(adapters);
}
END_TEST

START_TEST(places_that_cannot_be_written_are_named)
{
    lrk_adapters *adapters = peft_varied();
    sets_expect(peft_context, lrk_peft_save(adapters, peft_path("deeper/still"), NULL), LRK_ERR_IO,
                "deeper/still");
    scratch_write(peft_dir, "x", 1);
    sets_expect(peft_context, lrk_peft_save(adapters, peft_dir, NULL), LRK_ERR_IO, "Not a directory");
    ck_assert_int_eq(remove(peft_dir), 0);
    peft_save(adapters, 16);
    /* a folder where the configuration should go: the model's temporary file is gone as well */
    ck_assert_int_eq(remove(peft_path("adapter_config.json")), 0);
    bool made;
    ck_assert_int_eq(lrki_folder_make(peft_context, peft_path("adapter_config.json"), &made), LRK_OK);
    ck_assert(made);
    sets_expect(peft_context, lrk_peft_save(adapters, peft_dir, NULL), LRK_ERR_IO, "adapter_config.json");
    ck_assert_int_eq(scratch_count(peft_dir), 2);
    lrk_adapters_destroy(adapters);
}
END_TEST

/* ---- refusals of load ---- */

/* Replaces the first `from` in a file by `to` of the same length. */
static void replace(const char *name, const char *from, const char *to)
{
    size_t n;
    char *path = strdup(peft_path(name));
    char *text = scratch_read(path, &n);
    size_t length = strlen(from);
    ck_assert_uint_eq(length, strlen(to));
    char *at = NULL;
    for (size_t i = 0; at == NULL && i + length <= n; i++)
        if (memcmp(text + i, from, length) == 0) at = text + i;
    ck_assert_msg(at != NULL, "'%s' is not in %s", from, name);
    memcpy(at, to, length);
    scratch_write(path, text, n);
    free(text);
    free(path);
}

typedef struct edit {
    const char *file;
    const char *from;
    const char *to;
    lrk_status status;
    const char *words;
} edit;

#define MODEL  "adapter_model.safetensors"
#define CONFIG "adapter_config.json"

static const edit edits[] = {
    {MODEL, "\"lorank.format\":\"1\"", "\"lorank.format\":\"2\"", LRK_ERR_UNSUPPORTED, "is of format 2"},
    {MODEL, "\"lorank.format\":\"1\"", "\"other_.format\":\"1\"", LRK_ERR_FORMAT, "lorank.format is missing"},
    {MODEL, "\"lorank.set\"", "\"lorank.sat\"", LRK_ERR_FORMAT, "lorank.set is missing"},
    {MODEL, "\"lorank.modules\"", "\"lorank.modulas\"", LRK_ERR_FORMAT, "lorank.modules is missing"},
    {MODEL, "\"lorank.fold\"", "\"lorank.fald\"", LRK_ERR_FORMAT, "lorank.fold is missing"},
    {MODEL, "{\\\"alpha\\\":", "{\\\"alpha\\\"=", LRK_ERR_FORMAT, "lorank.set: not valid JSON"},
    {MODEL, "{\\\"alpha\\\":16", "{\\\"alpha\\\":-6", LRK_ERR_FORMAT, "alpha or next_identity"},
    {MODEL, "\\\"next_identity\\\":18", "\\\"next_identity\\\":17", LRK_ERR_FORMAT,
     "identities, births or gates"},
    {MODEL, "[{\\\"name\\\":\\\"layers.0.q\\\"", "[{\\\"nama\\\":\\\"layers.0.q\\\"", LRK_ERR_FORMAT,
     "field is missing"},
    {MODEL, "\\\"rank\\\":1,", "\\\"rank\\\":2,", LRK_ERR_FORMAT, "do not fit its rank"},
    {MODEL, "\\\"rank\\\":1,", "\\\"rank\\\":x,", LRK_ERR_FORMAT, "not valid JSON"},
    {MODEL, "\\\"n_in\\\":5,", "\\\"n_in\\\":6,", LRK_ERR_FORMAT, "is not F32 of 1 x 6"},
    {MODEL, "\\\"n_out\\\":7,", "\\\"n_out\\\":0,", LRK_ERR_FORMAT,
     "field is missing, unknown or out of range"},
    {MODEL, "\\\"stage\\\":5", "\\\"kind\\\": 5", LRK_ERR_ARGUMENT, "kind"},
    {MODEL, "\\\"stage\\\":5", "\\\"stagf\\\":5", LRK_ERR_FORMAT, "unknown"},
    {MODEL, "\\\"identities\\\":[1]", "\\\"identities\\\":[2]", LRK_ERR_FORMAT, "identity 2 twice"},
    {MODEL, "model.a_b.lora_A", "model.a_b.lora_C", LRK_ERR_FORMAT, "a_b.lora_A.weight' is missing"},
    {MODEL, "\\\"name\\\":\\\"a_b\\\"", "\\\"name\\\":\\\"a.b\\\"", LRK_ERR_FORMAT, "a.b"},
    {MODEL, "\\\"bits\\\":", "\\\"bats\\\":", LRK_ERR_FORMAT, "bits and escapes do not fit"},
    {CONFIG, "\"LORA\"", "\"LOHA\"", LRK_ERR_UNSUPPORTED, "peft_type is not LORA"},
    {CONFIG, "\"lora_alpha\": 16", "\"lora_alpha\": 17", LRK_ERR_FORMAT, "lora_alpha contradicts"},
    {CONFIG, "\"layers.0.q\": 1", "\"layers.0.q\": 2", LRK_ERR_FORMAT, "rank_pattern contradicts"},
    {CONFIG, "\"layers.0.q\": 1", "\"layers.0.k\": 1", LRK_ERR_FORMAT, "rank_pattern contradicts"},
    {CONFIG, "\"target_modules\"", "\"target_madules\"", LRK_ERR_FORMAT, "target_modules contradicts"},
    {CONFIG, "\"a.b\"\n  ]", "\"b.a\"\n  ]", LRK_ERR_FORMAT, "target_modules contradicts"},
    {CONFIG, "\"alpha_pattern\": {}", "\"alpha_pattern\":[0]", LRK_ERR_FORMAT, "alpha_pattern contradicts"},
    {CONFIG, "\"layers_pattern\": null", "\"use_rslora\"    : true", LRK_ERR_FORMAT,
     "use_rslora contradicts"},
    {CONFIG, "{", "[", LRK_ERR_FORMAT, "adapter_config.json: not valid JSON"},
};

static void save_varied(void)
{
    lrk_adapters *adapters = peft_varied();
    sets_fill(adapters);
    peft_save(adapters, 16);
    lrk_adapters_destroy(adapters);
}

START_TEST(files_that_contradict_are_refused)
{
    const edit *e = &edits[_i];
    lrk_adapters *loaded = (lrk_adapters *)&peft_host;
    save_varied();
    replace(e->file, e->from, e->to);
    sets_expect(peft_context, lrk_peft_load(peft_context, peft_dir, NULL, 0, NULL, &loaded), e->status,
                e->words);
    ck_assert_ptr_null(loaded);
}
END_TEST

/* What is as usual is left out of the metadata; what is not must fit. */
static const edit unusual[] = {
    {MODEL, "[0,7]", "[0  ]", LRK_ERR_FORMAT, "do not fit its rank"},
    {MODEL, "[0,7]", "[0,x]", LRK_ERR_FORMAT, "not valid JSON"},
    {MODEL, "[0.5,1.0]", "[0.5    ]", LRK_ERR_FORMAT, "do not fit its rank"},
    {MODEL, "initial_rank\\\":3", "initial_rank\\\":-", LRK_ERR_FORMAT, "not valid JSON"},
    {MODEL, "\\\"births", "\\\"birtas", LRK_ERR_FORMAT, "unknown"},
};

START_TEST(unusual_fields_must_fit)
{
    const edit *e = &unusual[_i];
    static const int64_t kept[] = {0};
    static const uint64_t ids[] = {9};
    lrk_module_spec spec = sets_spec("m", 3, 4, 3);
    lrk_adapters *loaded, *adapters = sets_create(peft_context, &spec, 1, NULL);
    const lrki_module_change part = {.n_kept = 1, .kept = kept, .n_added = 1, .added_ids = ids};
    lrki_change *change;
    ck_assert_int_eq(lrki_change_prepare(adapters, &part, 7, LRK_INIT_ZERO, &change), LRK_OK);
    lrki_change_commit(change);
    sets_tensor(adapters, 0, LRK_TENSOR_GATES).data[0] = 0.5f;
    peft_save(adapters, 16);
    loaded = peft_load(NULL);
    peft_same(adapters, loaded);
    lrk_adapters_destroy(loaded);
    replace(e->file, e->from, e->to);
    sets_expect(peft_context, lrk_peft_load(peft_context, peft_dir, NULL, 0, NULL, &loaded), e->status,
                e->words);
    ck_assert_ptr_null(loaded);
    lrk_adapters_destroy(adapters);
}
END_TEST

START_TEST(a_tensor_too_many_is_refused)
{
    /* a multiple of 8 long, as the header's length must be */
    static const char extra[] = "\"extra\":{\"dtype\":\"F32\",\"shape\":[0],\"data_offsets\":[0,0]},       ";
    size_t n, more = sizeof extra - 1;
    lrk_adapters *loaded;
    save_varied();
    char *path = strdup(peft_path(MODEL)), *old = scratch_read(path, &n);
    char *text = malloc(n + more);
    uint64_t length;
    memcpy(&length, old, sizeof length); /* little-endian, as in the file */
    length += more;
    ck_assert_uint_eq(length % 8, 0);
    memcpy(text, &length, sizeof length);
    text[8] = old[8];
    memcpy(text + 9, extra, more);
    memcpy(text + 9 + more, old + 9, n - 9);
    scratch_write(path, text, n + more);
    sets_expect(peft_context, lrk_peft_load(peft_context, peft_dir, NULL, 0, NULL, &loaded), LRK_ERR_FORMAT,
                "tensors that the metadata does not know");
    ck_assert_ptr_null(loaded);
    free(text);
    free(old);
    free(path);
}
END_TEST

START_TEST(absent_files_and_wrong_arguments_are_named)
{
    lrk_adapters *loaded;
    sets_expect(peft_context, lrk_peft_load(peft_context, peft_dir, NULL, 0, NULL, &loaded),
                LRK_ERR_NOT_FOUND, MODEL);
    save_varied();
    ck_assert_int_eq(remove(peft_path(CONFIG)), 0);
    sets_expect(peft_context, lrk_peft_load(peft_context, peft_dir, NULL, 0, NULL, &loaded),
                LRK_ERR_NOT_FOUND, CONFIG);
    ck_assert_int_eq(lrk_peft_load(peft_context, peft_dir, NULL, 0, NULL, NULL), LRK_ERR_ARGUMENT);
    ck_assert_int_eq(lrk_peft_load(NULL, peft_dir, NULL, 0, NULL, &loaded), LRK_ERR_ARGUMENT);
    sets_expect(peft_context, lrk_peft_load(peft_context, NULL, NULL, 0, NULL, &loaded), LRK_ERR_ARGUMENT,
                "directory");
    sets_expect(peft_context, lrk_peft_load(peft_context, "", NULL, 0, NULL, &loaded), LRK_ERR_ARGUMENT,
                "directory");
}
END_TEST

START_TEST(a_value_that_is_not_finite_is_refused)
{
    size_t n;
    lrk_adapters *loaded;
    save_varied();
    char *path = strdup(peft_path(MODEL));
    char *bytes = scratch_read(path, &n);
    memcpy(bytes + n - 4, "\0\0\x80\x7f", 4); /* the last element: B of vision.layers.0.q */
    scratch_write(path, bytes, n);
    sets_expect(peft_context, lrk_peft_load(peft_context, peft_dir, NULL, 0, NULL, &loaded), LRK_ERR_FORMAT,
                "vision.layers.0.q");
    free(bytes);
    free(path);
}
END_TEST

START_TEST(a_model_file_damaged_anywhere_is_refused_or_loads)
{
    size_t n;
    save_varied();
    char *path = strdup(peft_path(MODEL));
    char *bytes = scratch_read(path, &n);
    size_t header = 8 + (unsigned char)bytes[0] + 256 * (size_t)(unsigned char)bytes[1];
    for (size_t i = 0; i < header; i++) {
        lrk_adapters *loaded;
        char kept = bytes[i];
        bytes[i] = (char)(kept ^ 1 << i % 7);
        scratch_write(path, bytes, n);
        lrk_status status = lrk_peft_load(peft_context, peft_dir, NULL, 0, NULL, &loaded);
        ck_assert((status == LRK_OK) == (loaded != NULL));
        lrk_adapters_destroy(loaded);
        bytes[i] = kept;
    }
    free(bytes);
    free(path);
}
END_TEST

/* ---- memory ---- */

static lrk_adapters *subject;

static lrk_status act_save(void *user)
{
    (void)user;
    lrk_status status = lrk_peft_save(subject, peft_dir, NULL);
    ck_assert_int_eq(scratch_exists(peft_dir) ? scratch_count(peft_dir) : 2, 2);
    return status;
}

static void undo_nothing(void *user)
{
    (void)user;
}

static lrk_status act_load(void *user)
{
    return lrk_peft_load(peft_context, peft_dir, NULL, 0, NULL, user);
}

static void undo_load(void *user)
{
    lrk_adapters_destroy(*(lrk_adapters **)user);
}

START_TEST(each_lack_of_memory_in_saving_is_reported)
{
    subject = peft_varied();
    peft_fill(subject, 1, true);
    peft_save(subject, 16); /* from here on the folder is there, and every run asks for the same memory */
    sets_each_fault(&peft_host, act_save, undo_nothing, NULL);
    json_each_fault(act_save, undo_nothing, NULL, false);
    lrk_adapters_destroy(subject);
}
END_TEST

START_TEST(each_lack_of_memory_in_loading_is_reported)
{
    lrk_adapters *loaded = NULL;
    subject = peft_varied();
    peft_fill(subject, 1, true);
    peft_save(subject, 16);
    sets_each_fault(&peft_host, act_load, undo_load, &loaded);
    json_each_fault(act_load, undo_load, &loaded, true);
    lrk_adapters_destroy(subject);
}
END_TEST

Suite *peft_refusals_suite(void);

Suite *peft_refusals_suite(void)
{
    Suite *suite = suite_create("peft_refusals");
    TCase *cases = tcase_create("all");
    tcase_add_checked_fixture(cases, peft_setup, peft_teardown);
    tcase_set_timeout(cases, 120);
    tcase_add_test(cases, what_peft_cannot_hold_is_refused);
    tcase_add_test(cases, values_that_are_not_finite_are_refused);
    tcase_add_test(cases, wrong_options_are_named);
    tcase_add_test(cases, a_write_that_fails_leaves_the_old_adapter);
    tcase_add_test(cases, places_that_cannot_be_written_are_named);
    tcase_add_loop_test(cases, files_that_contradict_are_refused, 0, (int)(sizeof edits / sizeof edits[0]));
    tcase_add_loop_test(cases, unusual_fields_must_fit, 0, (int)(sizeof unusual / sizeof unusual[0]));
    tcase_add_test(cases, a_tensor_too_many_is_refused);
    tcase_add_test(cases, absent_files_and_wrong_arguments_are_named);
    tcase_add_test(cases, a_value_that_is_not_finite_is_refused);
    tcase_add_test(cases, a_model_file_damaged_anywhere_is_refused_or_loads);
    tcase_add_test(cases, each_lack_of_memory_in_saving_is_reported);
    tcase_add_test(cases, each_lack_of_memory_in_loading_is_reported);
    suite_add_tcase(suite, cases);
    return suite;
}
