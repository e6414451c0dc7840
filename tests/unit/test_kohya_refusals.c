/* SPDX-License-Identifier: MIT */
/*
 * kohya files that cannot be written or read are refused with a word about it; every request that fails is reported and
 * leaks nothing; a damaged file is an error or the same adapter.
 */
#include <check.h>
#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "gguf_sets.h"
#include "json_fault.h"
#include "scratch.h"
#include "sets.h"
#include "st_bytes.h"

#define DOWN "lora_unet_x.lora_down.weight"
#define UP   "lora_unet_x.lora_up.weight"

static lrk_kohya_options options;

static void setup(void)
{
    gguf_setup();
    ck_assert_int_eq(lrk_kohya_options_init(&options, sizeof options), LRK_OK);
}

static lrk_status try_load(gguf_bytes *bytes, const lrk_module_spec *modules, int64_t n,
                           lrk_adapters **adapters)
{
    lrk_reader reader = gguf_bytes_reader(bytes);
    return lrk_kohya_load_reader(gguf_context, &reader, &options, modules, n, NULL, adapters);
}

static void refused_for(const st_entry *entries, int n, const lrk_module_spec *modules, int64_t n_modules,
                        lrk_status want, const char *words)
{
    gguf_bytes file = st_build(entries, n, NULL);
    lrk_adapters *adapters = (lrk_adapters *)&file; /* poison */
    int64_t live = gguf_host.live;
    sets_expect(gguf_context, try_load(&file, modules, n_modules, &adapters), want, words);
    ck_assert_ptr_null(adapters);
    ck_assert_int_eq(gguf_host.live, live);
    gguf_bytes_free(&file);
}

static void refused(const st_entry *entries, int n, lrk_status want, const char *words)
{
    refused_for(entries, n, NULL, 0, want, words);
}

/* r 2, n_in 3, n_out 4, all 1, 2, 3, ... in bytes, which is finite in F32. */
static const st_entry right[] = {{DOWN, "F32", 2, {2, 3}, NULL, 24}, {UP, "F32", 2, {4, 2}, NULL, 32}};

/* ---- reading ------------------------------------------------------------------------------------------------------------- */

START_TEST(halves_are_refused)
{
    static const float one = 1;
    const st_entry alpha = {"lora_unet_x.alpha", "F32", 0, {0}, &one, 4};
    st_entry both[3] = {right[0], right[1], {"lora_unet_x.lora_A.weight", "F32", 2, {2, 3}, NULL, 24}};
    refused(right, 1, LRK_ERR_FORMAT, "tensor '" DOWN "': the rest of its pair is missing");
    refused(right + 1, 1, LRK_ERR_FORMAT, "tensor '" UP "': the rest of its pair is missing");
    refused(&alpha, 1, LRK_ERR_FORMAT, "tensor 'lora_unet_x.alpha': the rest of its pair is missing");
    refused(both, 3, LRK_ERR_FORMAT, "this part of the pair under another name too");
    both[0] = both[2];
    refused(both, 2, LRK_ERR_FORMAT, "': its other half is missing");
    refused(NULL, 0, LRK_ERR_FORMAT, "the file has no tensors");
}
END_TEST

START_TEST(shapes_are_checked)
{
    static const struct {
        int which;
        int32_t n_dims;
        int64_t shape[5];
        size_t bytes;
        lrk_status want;
        const char *words;
    } cases[] = {
        {0, 1, {6}, 24, LRK_ERR_FORMAT, DOWN "': not a matrix"},
        {1, 0, {0}, 4, LRK_ERR_FORMAT, UP "': not a matrix"},
        {0, 2, {3, 2}, 24, LRK_ERR_FORMAT, UP "': its shape does not conform"},
        {1, 2, {2, 4}, 32, LRK_ERR_FORMAT, UP "': its shape does not conform"},
        {0, 2, {0, 3}, 0, LRK_ERR_FORMAT, DOWN "': a dimension of 0"},
        {1, 2, {0, 2}, 0, LRK_ERR_FORMAT, UP "': a dimension of 0"},
        {0, 4, {2, 3, 3, 3}, 216, LRK_ERR_UNSUPPORTED, DOWN "': a convolution of more than one point"},
        {1, 3, {4, 2, 0}, 0, LRK_ERR_UNSUPPORTED, UP "': a convolution"}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        st_entry entries[2] = {right[0], right[1]};
        st_entry *changed = &entries[cases[i].which];
        changed->n_dims = cases[i].n_dims;
        changed->bytes = cases[i].bytes;
        memcpy(changed->shape, cases[i].shape, sizeof cases[i].shape);
        refused(entries, 2, cases[i].want, cases[i].words);
    }
    st_entry deep[2] = {right[0], right[1]};
    deep[0].n_dims = 9;
    for (int d = 2; d < 9; d++)
        deep[0].shape[d] = 1;
    refused(deep, 2, LRK_ERR_UNSUPPORTED, DOWN "': too many dimensions");
}
END_TEST

START_TEST(tensors_of_other_methods_are_refused)
{
    static const char *const others[] = {"x.hada_w1_a",
                                         "x.lokr_w1",
                                         "x.dora_scale",
                                         "x.lora_mid.weight",
                                         "x.diff",
                                         "x.diff_b",
                                         "x.bias",
                                         "x.lora_down.bias",
                                         ".alpha",
                                         "alpha",
                                         ".lora_A.weight",
                                         "x.lora_A.default.weight",
                                         "x.lora_magnitude_vector"};
    for (size_t i = 0; i < sizeof others / sizeof *others; i++) {
        st_entry entries[3] = {right[0], right[1], {others[i], "F32", 0, {0}, NULL, 4}};
        refused(entries, 3, LRK_ERR_UNSUPPORTED, others[i]);
    }
}
END_TEST

START_TEST(other_dtypes_are_refused)
{
    st_entry entries[3] = {right[0], right[1], {"lora_unet_x.alpha", "U8", 0, {0}, NULL, 1}};
    refused(entries, 3, LRK_ERR_UNSUPPORTED, "tensor 'lora_unet_x.alpha'");
    entries[0].dtype = "I32";
    refused(entries, 2, LRK_ERR_UNSUPPORTED, "tensor '" DOWN "': a dtype that does not convert");
}
END_TEST

START_TEST(values_must_be_finite)
{
    static const float nan[] = {1, 2, 3, 4, 5, NAN, 7, 8}, two[] = {1, 2};
    static const double large = 1e300;
    st_entry entries[3] = {right[0], right[1], {"lora_unet_x.alpha", "F32", 0, {0}, &nan[5], 4}};
    refused(entries, 3, LRK_ERR_FORMAT, "tensor 'lora_unet_x.alpha': alpha is not finite");
    entries[2] = (st_entry){"lora_unet_x.alpha", "F64", 0, {0}, &large, 8};
    refused(entries, 3, LRK_ERR_FORMAT, "tensor 'lora_unet_x.alpha': alpha is not finite");
    entries[2] = (st_entry){"lora_unet_x.alpha", "F32", 1, {2}, two, 8};
    refused(entries, 3, LRK_ERR_FORMAT, "tensor 'lora_unet_x.alpha': alpha is not a scalar");
    entries[1].data = nan;
    refused(entries, 2, LRK_ERR_FORMAT, "tensor '" UP "': a value is not finite");
    entries[0].data = nan;
    refused(entries, 2, LRK_ERR_FORMAT, "tensor '" DOWN "': a value is not finite");
}
END_TEST

START_TEST(pairs_and_modules_must_meet)
{
    lrk_module_spec specs[2] = {sets_spec("x", 3, 4, 0), sets_spec("y", 3, 4, 0)};
    refused_for(right, 2, specs + 1, 1, LRK_ERR_NOT_FOUND, "tensor '" DOWN "': a pair for no module");
    specs[0].n_in = 4;
    refused_for(right, 2, specs, 2, LRK_ERR_SHAPE, "module 'x' is 4 x 4, its pair 'lora_unet_x' is 4 x 3");
    specs[0].n_in = 3;
    specs[1].name = "x";
    refused_for(right, 2, specs, 2, LRK_ERR_ARGUMENT, "modules 'x' and 'x' are both 'lora_unet_x'");
    specs[1].name = NULL;
    refused_for(right, 2, specs, 2, LRK_ERR_ARGUMENT, "module 1: name is NULL");
    options.prefix = "lora_te_";
    refused(right, 2, LRK_ERR_NOT_FOUND, "tensor '" DOWN "': a pair for no module");
    options.prefix = "lora_unet_x";
    refused(right, 2, LRK_ERR_NOT_FOUND, "tensor '" DOWN "': a pair for no module");
}
END_TEST

START_TEST(arguments_of_loading_are_checked)
{
    gguf_bytes file = st_build(right, 2, NULL);
    lrk_reader reader = gguf_bytes_reader(&file);
    lrk_adapters *out = NULL;
    const lrk_module_spec spec = sets_spec("x", 3, 4, 0);
    lrk_adapters_options bad;
    ck_assert_int_eq(lrk_kohya_load(NULL, "x", NULL, NULL, 0, NULL, &out), LRK_ERR_ARGUMENT);
    ck_assert_int_eq(lrk_kohya_load(gguf_context, "x", NULL, NULL, 0, NULL, NULL), LRK_ERR_ARGUMENT);
    ck_assert_int_eq(lrk_kohya_options_init(NULL, sizeof options), LRK_ERR_ARGUMENT);
    sets_expect(gguf_context, lrk_kohya_load(gguf_context, NULL, NULL, NULL, 0, NULL, &out), LRK_ERR_ARGUMENT,
                "path or reader is NULL");
    sets_expect(gguf_context, lrk_kohya_load_reader(gguf_context, NULL, NULL, NULL, 0, NULL, &out),
                LRK_ERR_ARGUMENT, "path or reader is NULL");
    sets_expect(gguf_context, lrk_kohya_load_reader(gguf_context, &reader, NULL, &spec, 0, NULL, &out),
                LRK_ERR_ARGUMENT, "contradict");
    sets_expect(gguf_context, lrk_kohya_load_reader(gguf_context, &reader, NULL, NULL, 1, NULL, &out),
                LRK_ERR_ARGUMENT, "contradict");
    sets_expect(gguf_context, lrk_kohya_load_reader(gguf_context, &reader, NULL, &spec, -1, NULL, &out),
                LRK_ERR_ARGUMENT, "contradict");
    sets_expect(gguf_context, lrk_kohya_load(gguf_context, "/nowhere/x", NULL, NULL, 0, NULL, &out),
                LRK_ERR_NOT_FOUND, "/nowhere/x");
    ck_assert_int_eq(lrk_adapters_options_init(&bad, sizeof bad), LRK_OK);
    bad.dropout = 2;
    sets_expect(gguf_context, lrk_kohya_load_reader(gguf_context, &reader, NULL, NULL, 0, &bad, &out),
                LRK_ERR_ARGUMENT, "dropout");
    options.flags = 4;
    refused(right, 2, LRK_ERR_ARGUMENT, "unknown flags 0x4");
    options.flags = 0;
    options.dtype = 3;
    refused(right, 2, LRK_ERR_ARGUMENT, "unknown dtype 3");
    struct {
        lrk_kohya_options known;
        uint64_t tail;
    } larger = {options, 1};
    larger.known.struct_size = sizeof larger;
    sets_expect(gguf_context,
                lrk_kohya_load_reader(gguf_context, &reader, &larger.known, NULL, 0, NULL, &out),
                LRK_ERR_VERSION, "lrk_kohya_options");
    gguf_bytes_free(&file);
}
END_TEST

/* ---- writing ------------------------------------------------------------------------------------------------------------- */

static lrk_adapters *one_module(int64_t rank, double scale)
{
    lrk_module_spec spec = sets_spec("x", 3, 4, rank);
    spec.scale = scale;
    lrk_adapters *adapters = sets_create(gguf_context, &spec, 1, NULL);
    sets_fill(adapters);
    return adapters;
}

static void cannot_write(const lrk_adapters *adapters, lrk_status want, const char *words)
{
    gguf_bytes bytes = gguf_bytes_new();
    lrk_writer writer = gguf_bytes_writer(&bytes);
    sets_expect(gguf_context, lrk_kohya_write(adapters, &writer, &options), want, words);
    gguf_bytes_free(&bytes);
}

START_TEST(what_cannot_be_written_is_refused)
{
    lrk_adapters *adapters = one_module(0, 1);
    cannot_write(adapters, LRK_ERR_UNSUPPORTED, "every module has rank 0");
    lrk_adapters_destroy(adapters);
    adapters = one_module(2, 3e38);
    cannot_write(adapters, LRK_ERR_NONFINITE, "module 'x': scale times rank is too large");
    lrk_adapters_destroy(adapters);
    adapters = one_module(2, 1);
    options.dtype = LRK_DTYPE_F16;
    sets_tensor(adapters, 0, LRK_TENSOR_A).data[0] = 65520;
    cannot_write(adapters, LRK_ERR_NONFINITE, "module 'x': A holds");
    sets_tensor(adapters, 0, LRK_TENSOR_A).data[0] = 65519;
    sets_tensor(adapters, 0, LRK_TENSOR_B).data[0] = 512;
    sets_tensor(adapters, 0, LRK_TENSOR_GATES).data[0] = 128;
    cannot_write(adapters, LRK_ERR_NONFINITE, "module 'x': B times scale");
    sets_tensor(adapters, 0, LRK_TENSOR_B).data[0] = FLT_MAX;
    cannot_write(adapters, LRK_ERR_NONFINITE, "module 'x': B times scale and gates");
    sets_tensor(adapters, 0, LRK_TENSOR_GATES).data[0] = NAN;
    cannot_write(adapters, LRK_ERR_NONFINITE, "module 'x': gates");
    options.flags = 4;
    cannot_write(adapters, LRK_ERR_ARGUMENT, "unknown flags 0x4");
    ck_assert_int_eq(lrk_kohya_save(NULL, "x", NULL), LRK_ERR_ARGUMENT);
    ck_assert_int_eq(lrk_kohya_write(NULL, NULL, NULL), LRK_ERR_ARGUMENT);
    sets_expect(gguf_context, lrk_kohya_save(adapters, NULL, NULL), LRK_ERR_ARGUMENT, "path is NULL");
    sets_expect(gguf_context, lrk_kohya_save(adapters, "", NULL), LRK_ERR_ARGUMENT, "path is NULL or empty");
    sets_expect(gguf_context, lrk_kohya_write(adapters, NULL, NULL), LRK_ERR_ARGUMENT, "writer is NULL");
    lrk_adapters_destroy(adapters);
}
END_TEST

START_TEST(two_modules_of_one_name_are_refused)
{
    lrk_module_spec specs[] = {sets_spec("a.b_c", 3, 4, 1), sets_spec("z", 3, 4, 1),
                               sets_spec("a_b.c", 3, 4, 1)};
    lrk_adapters *adapters = sets_create(gguf_context, specs, 3, NULL);
    cannot_write(adapters, LRK_ERR_ARGUMENT, "are both 'lora_unet_a_b_c.lora_down.weight'");
    options.flags = LRK_KOHYA_DOTTED;
    gguf_bytes bytes = gguf_bytes_new();
    lrk_writer writer = gguf_bytes_writer(&bytes);
    ck_assert_int_eq(lrk_kohya_write(adapters, &writer, &options), LRK_OK);
    gguf_bytes_free(&bytes);
    lrk_adapters_destroy(adapters);
}
END_TEST

/* ---- requests that fail -------------------------------------------------------------------------------------------------- */

typedef struct act {
    lrk_adapters *adapters;
    const char *path;
    const lrk_module_spec *modules;
    int64_t n;
    gguf_bytes bytes;
    lrk_adapters *loaded;
} act;

static lrk_status save_to_path(void *user)
{
    act *a = user;
    return lrk_kohya_save(a->adapters, a->path, &options);
}

static lrk_status load_from_bytes(void *user)
{
    act *a = user;
    return try_load(&a->bytes, a->modules, a->n, &a->loaded);
}

static lrk_status load_from_path(void *user)
{
    act *a = user;
    return lrk_kohya_load(gguf_context, a->path, &options, NULL, 0, NULL, &a->loaded);
}

static void destroy_loaded(void *user)
{
    lrk_adapters_destroy(((act *)user)->loaded);
}

static void nothing(void *user)
{
    (void)user;
}

static act act_new(void)
{
    act a = {.adapters = one_module(2, -0.5), .bytes = gguf_bytes_new()};
    lrk_writer writer = gguf_bytes_writer(&a.bytes);
    options.dtype = LRK_DTYPE_F16;
    ck_assert_int_eq(lrk_kohya_write(a.adapters, &writer, &options), LRK_OK);
    return a;
}

static void act_free(act *a)
{
    gguf_bytes_free(&a->bytes);
    lrk_adapters_destroy(a->adapters);
}

START_TEST(each_allocation_that_fails_is_reported)
{
    scratch files;
    scratch_init(&files);
    act a = act_new();
    const lrk_module_spec spec = sets_spec("x", 3, 4, 0);
    a.path = scratch_path(&files, "lora.safetensors");
    sets_each_fault(&gguf_host, save_to_path, nothing, &a);
    json_each_fault(save_to_path, nothing, &a, false);
    ck_assert_int_eq(scratch_count(files.dir), 1);
    sets_each_fault(&gguf_host, load_from_path, destroy_loaded, &a);
    sets_each_fault(&gguf_host, load_from_bytes, destroy_loaded, &a);
    json_each_fault(load_from_bytes, destroy_loaded, &a, true);
    a.modules = &spec;
    a.n = 1;
    sets_each_fault(&gguf_host, load_from_bytes, destroy_loaded, &a);
    act_free(&a);
    scratch_fini(&files);
}
END_TEST

START_TEST(each_read_and_write_that_fails_is_reported)
{
    act a = act_new();
    int64_t writes = a.bytes.calls;
    a.bytes.calls = 0;
    ck_assert_int_eq(load_from_bytes(&a), LRK_OK);
    destroy_loaded(&a);
    int64_t reads = a.bytes.calls;
    ck_assert(reads > 4 && writes > 4);
    for (int64_t i = 0; i < writes; i++) {
        gguf_bytes bytes = gguf_bytes_new();
        lrk_writer writer = gguf_bytes_writer(&bytes);
        int64_t live = gguf_host.live;
        bytes.fail_at = i;
        sets_expect(gguf_context, lrk_kohya_write(a.adapters, &writer, &options), LRK_ERR_IO, "test bytes");
        ck_assert_int_eq(gguf_host.live, live);
        gguf_bytes_free(&bytes);
    }
    for (int64_t i = 0; i < reads; i++) {
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

START_TEST(a_rename_that_fails_leaves_nothing_begun)
{
    scratch files;
    scratch_init(&files);
    lrk_adapters *adapters = one_module(1, 1);
    sets_expect(gguf_context, lrk_kohya_save(adapters, files.dir, NULL), LRK_ERR_IO, files.dir);
    char *temporary = malloc(SCRATCH_PATH + 16);
    ck_assert_ptr_nonnull(temporary);
    strcat(strcpy(temporary, files.dir), "/no/folder");
    sets_expect(gguf_context, lrk_kohya_save(adapters, temporary, NULL), LRK_ERR_IO, "/no/folder");
    ck_assert_int_eq(scratch_count(files.dir), 0);
    free(temporary);
    lrk_adapters_destroy(adapters);
    scratch_fini(&files);
}
END_TEST

/* ---- damage -------------------------------------------------------------------------------------------------------------- */

START_TEST(a_file_cut_at_any_byte_is_refused)
{
    act a = act_new();
    size_t n = a.bytes.n;
    for (a.bytes.n = 0; a.bytes.n < n; a.bytes.n++)
        ck_assert_int_eq(load_from_bytes(&a), LRK_ERR_FORMAT);
    ck_assert_int_eq(load_from_bytes(&a), LRK_OK);
    destroy_loaded(&a);
    act_free(&a);
}
END_TEST

START_TEST(a_flipped_bit_of_the_header_is_an_error_or_means_the_same)
{
    act a = act_new();
    const lrk_module_spec spec = sets_spec("x", 3, 4, 0);
    a.modules = &spec;
    a.n = 1;
    ck_assert_int_eq(load_from_bytes(&a), LRK_OK);
    lrk_adapters *whole = a.loaded;
    size_t n = st_header(&a.bytes), n_ok = 0;
    for (size_t i = 0; i < 8 * n; i++) {
        a.bytes.data[i / 8] ^= (unsigned char)(1u << i % 8);
        if (load_from_bytes(&a) == LRK_OK) {
            n_ok++;
            ck_assert(gguf_equal(whole, a.loaded));
            destroy_loaded(&a);
        }
        a.bytes.data[i / 8] ^= (unsigned char)(1u << i % 8);
    }
    ck_assert_uint_lt(n_ok, 200); /* of the metadata */
    lrk_adapters_destroy(whole);
    act_free(&a);
}
END_TEST

Suite *kohya_refusals_suite(void);

Suite *kohya_refusals_suite(void)
{
    Suite *suite = suite_create("kohya_refusals");
    TCase *tcase = tcase_create("kohya_refusals");
    tcase_add_checked_fixture(tcase, setup, gguf_teardown);
    tcase_set_timeout(tcase, 60); /* every file is synced */
    tcase_add_test(tcase, halves_are_refused);
    tcase_add_test(tcase, shapes_are_checked);
    tcase_add_test(tcase, tensors_of_other_methods_are_refused);
    tcase_add_test(tcase, other_dtypes_are_refused);
    tcase_add_test(tcase, values_must_be_finite);
    tcase_add_test(tcase, pairs_and_modules_must_meet);
    tcase_add_test(tcase, arguments_of_loading_are_checked);
    tcase_add_test(tcase, what_cannot_be_written_is_refused);
    tcase_add_test(tcase, two_modules_of_one_name_are_refused);
    tcase_add_test(tcase, each_allocation_that_fails_is_reported);
    tcase_add_test(tcase, each_read_and_write_that_fails_is_reported);
    tcase_add_test(tcase, a_rename_that_fails_leaves_nothing_begun);
    tcase_add_test(tcase, a_file_cut_at_any_byte_is_refused);
    tcase_add_test(tcase, a_flipped_bit_of_the_header_is_an_error_or_means_the_same);
    suite_add_tcase(suite, tcase);
    return suite;
}
