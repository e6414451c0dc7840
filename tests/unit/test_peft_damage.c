/* SPDX-License-Identifier: MIT */
/*
 * PEFT adapters when things fail: every allocation, read and write that fails, one alone; every truncation and every flip
 * of a bit of the configuration and of the model's header, for lorank's own adapters and for those of others. An error or
 * the same adapter, and nothing leaked.
 */
#include <check.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "json_fault.h"
#include "peft_files.h"
#include "sets.h"

#define N(array) ((int)(sizeof(array) / sizeof(array)[0]))

/* What states the scale comes first: "lora_alpha" up to the end of alpha_pattern. */
#define SCALE "\"lora_alpha\":6,\"use_rslora\":true,\"alpha_pattern\":{\"k\":5}"

static const char lora_config[] =
    "{" SCALE
    ",\"peft_type\":\"LORA\",\"r\":2,\"rank_pattern\":{\"m.k\":1},\"bias\":\"none\",\"task_type\":null}";
static const peft_tensor lora_tensors[] = {{"m.q.lora_A.weight", {2, 3, -1, -1}, NULL, 0},
                                           {"m.q.lora_B.weight", {4, 2, -1, -1}, "BF16", 1},
                                           {"m.k.lora_A.weight", {1, 3, -1, -1}, "F16", 2},
                                           {"m.k.lora_B.weight", {4, 1, -1, -1}, "F64", 3}};
static const char adalora_config[] = "{\"lora_alpha\":6,\"init_r\":3,\"peft_type\":\"ADALORA\",\"rank_"
                                     "pattern\":{\"m.q.lora_E\":[true,false,true]}}";
static const peft_tensor adalora_tensors[] = {{"m.q.lora_A", {2, 3, -1, -1}, NULL, 0},
                                              {"m.q.lora_B", {4, 2, -1, -1}, NULL, 1},
                                              {"m.q.lora_E", {2, 1, -1, -1}, NULL, 2}};

typedef struct act {
    lrk_adapters *adapters;
    lrk_peft_options options;
    gguf_bytes config;
    gguf_bytes model;
    lrk_module_spec specs[2];
    int64_t n;
    lrk_adapters *loaded;
} act;

static lrk_status load_both(void *user)
{
    act *a = user;
    return peft_try(&a->config, &a->model, a->n > 0 ? a->specs : NULL, a->n, &a->loaded);
}

static void destroy_loaded(void *user)
{
    lrk_adapters_destroy(((act *)user)->loaded);
}

static lrk_status write_both(act *a)
{
    lrk_writer config = gguf_bytes_writer(&a->config), model = gguf_bytes_writer(&a->model);
    config.name = "test config";
    return lrk_peft_write(a->adapters, &config, &model, &a->options);
}

enum { OWN, FOREIGN, ADALORA };

static act act_new(int kind)
{
    act a = {.options = peft_alpha(16), .config = gguf_bytes_new(), .model = gguf_bytes_new()};
    a.specs[0] = sets_spec("q", 3, 4, 0);
    a.specs[1] = sets_spec("x.m.k", 3, 4, 0);
    if (kind == OWN) {
        lrk_module_spec specs[] = {sets_spec("q", 3, 4, 2), sets_spec("none", 2, 2, 0),
                                   sets_spec("k", 3, 5, 1)};
        specs[0].scale = 1.0 / 3;
        a.adapters = sets_create(peft_context, specs, 3, NULL);
        sets_fill(a.adapters);
        ck_assert_int_eq(write_both(&a), LRK_OK);
    } else {
        a.config = peft_text(kind == FOREIGN ? lora_config : adalora_config);
        a.model = kind == FOREIGN ? peft_model(lora_tensors, N(lora_tensors))
                                  : peft_model(adalora_tensors, N(adalora_tensors));
    }
    ck_assert_int_eq(load_both(&a), LRK_OK);
    if (kind == OWN)
        destroy_loaded(&a);
    else
        a.adapters = a.loaded;
    return a;
}

static void act_free(act *a)
{
    lrk_adapters_destroy(a->adapters);
    gguf_bytes_free(&a->config);
    gguf_bytes_free(&a->model);
}

/* ---- memory, reads, writes ---- */

static lrk_status write_anew(void *user)
{
    act *a = user;
    gguf_bytes_free(&a->config);
    gguf_bytes_free(&a->model);
    return write_both(a);
}

static void nothing(void *user)
{
    (void)user;
}

START_TEST(each_lack_of_memory_in_loading_is_reported)
{
    act a = act_new(_i);
    sets_each_fault(&peft_host, load_both, destroy_loaded, &a);
    json_each_fault(load_both, destroy_loaded, &a, true);
    a.n = _i == FOREIGN ? 2 : _i == ADALORA ? 1 : 0;
    sets_each_fault(&peft_host, load_both, destroy_loaded, &a);
    act_free(&a);
}
END_TEST

START_TEST(each_lack_of_memory_in_writing_is_reported)
{
    act a = act_new(OWN);
    a.options.flags = (uint32_t)_i & LRK_PEFT_UNIFORM;
    a.options.dtype = _i / 2;
    sets_each_fault(&peft_host, write_anew, nothing, &a);
    json_each_fault(write_anew, nothing, &a, false);
    act_free(&a);
}
END_TEST

START_TEST(each_read_that_fails_is_reported)
{
    act a = act_new(_i);
    for (int which = 0; which < 2; which++) {
        gguf_bytes *bytes = which == 0 ? &a.config : &a.model;
        bytes->calls = 0;
        ck_assert_int_eq(load_both(&a), LRK_OK);
        destroy_loaded(&a);
        int64_t n = bytes->calls;
        ck_assert_int_ge(n, which == 0 ? 1 : 4);
        for (int64_t i = 0; i < n; i++) {
            int64_t live = peft_host.live;
            bytes->calls = 0;
            bytes->fail_at = i;
            sets_expect(peft_context, load_both(&a), LRK_ERR_IO, which == 0 ? "test config" : "test bytes");
            ck_assert_ptr_null(a.loaded);
            ck_assert_int_eq(peft_host.live, live);
        }
        bytes->fail_at = -1;
    }
    act_free(&a);
}
END_TEST

START_TEST(each_write_that_fails_is_reported)
{
    act a = act_new(OWN);
    ck_assert_int_eq(write_anew(&a), LRK_OK);
    int64_t n_calls[] = {a.config.calls, a.model.calls};
    ck_assert_int_ge(n_calls[1], 6); /* length, header, 4 tensors */
    for (int which = 0; which < 2; which++) {
        for (int64_t i = 0; i < n_calls[which]; i++) {
            int64_t live = peft_host.live;
            gguf_bytes_free(&a.config);
            gguf_bytes_free(&a.model);
            gguf_bytes *bytes = which == 0 ? &a.config : &a.model;
            bytes->fail_at = i;
            sets_expect(peft_context, write_both(&a), LRK_ERR_IO, which == 0 ? "test config" : "test bytes");
            ck_assert_int_eq(peft_host.live, live);
            if (which == 1) ck_assert_uint_eq(a.config.n, 0); /* the model comes first */
            ck_assert_int_eq(bytes->calls, i + 1);
        }
    }
    act_free(&a);
}
END_TEST

/* ---- damage ---- */

enum { REFUSED, SAME, OTHER, WRONG };

static double element(const lrk_adapters *adapters, int32_t m, double scale, int64_t o, int64_t i)
{
    double sum = 0;
    lrk_tensor a = sets_tensor(adapters, m, LRK_TENSOR_A), b = sets_tensor(adapters, m, LRK_TENSOR_B);
    lrk_tensor g = sets_tensor(adapters, m, LRK_TENSOR_GATES);
    for (int64_t j = 0; j < a.rows; j++)
        sum += scale * (double)g.data[j] * (double)b.data[j * b.cols + o] * (double)a.data[j * a.cols + i];
    return sum;
}

/* The same update of the modules that have ranks; lorank's own metadata may say it with another scale and other B. */
static bool same_delta(const lrk_adapters *x, const lrk_adapters *y)
{
    if (sets_info(x).modules != sets_info(y).modules) return false;
    for (int32_t m = 0; m < sets_info(x).modules; m++) {
        lrk_module_info a = {.struct_size = sizeof a}, b = {.struct_size = sizeof b};
        ck_assert_int_eq(lrk_adapters_module(x, m, &a), LRK_OK);
        ck_assert_int_eq(lrk_adapters_module(y, m, &b), LRK_OK);
        if (a.rank != b.rank) return false;
        if (a.rank == 0) continue;
        if (a.n_in != b.n_in || a.n_out != b.n_out || strcmp(a.name, b.name) != 0) return false;
        for (int64_t o = 0; o < a.n_out; o++)
            for (int64_t i = 0; i < a.n_in; i++)
                if (fabs(element(x, m, a.scale, o, i) - element(y, m, b.scale, o, i)) > 1e-5) return false;
    }
    return true;
}

static int outcome(act *a)
{
    int64_t live = peft_host.live;
    lrk_status status = load_both(a);
    int found = a->loaded == NULL ? REFUSED : same_delta(a->adapters, a->loaded) ? SAME : OTHER;
    if ((status == LRK_OK) != (a->loaded != NULL) || status == LRK_ERR_NOMEM || status == LRK_ERR_IO)
        found = WRONG;
    destroy_loaded(a);
    return peft_host.live == live ? found : WRONG;
}

START_TEST(every_truncation_is_refused)
{
    act a = act_new(_i);
    for (int which = 0; which < 2; which++) {
        gguf_bytes *bytes = which == 0 ? &a.config : &a.model;
        size_t whole = bytes->n;
        while (bytes->n > 0 && bytes->data[bytes->n - 1] == '\n')
            bytes->n--;
        while (bytes->n > 0) {
            bytes->n--;
            ck_assert_msg(outcome(&a) == REFUSED, "%zu bytes of %d", bytes->n, which);
        }
        bytes->n = whole;
    }
    act_free(&a);
}
END_TEST

/* May a flip here change what the adapter is? Neither file has a checksum: what states the scale states another one. */
static bool states_scale(const act *a, int kind, int which, size_t byte)
{
    if (kind == OWN || which != 0) return false;
    const char *text = (const char *)a->config.data;
    const char *end = strstr(text, ",\"peft_type");
    return byte < (size_t)(end - text);
}

START_TEST(every_flip_is_seen_or_means_nothing)
{
    act a = act_new(_i);
    gguf_put(&a.config, "", 1); /* a NUL behind the text, for strstr() alone */
    a.config.n--;
    int64_t counts[4] = {0};
    for (int which = 0; which < 2; which++) {
        gguf_bytes *bytes = which == 0 ? &a.config : &a.model;
        uint64_t header;
        memcpy(&header, a.model.data, sizeof header);
        size_t n = which == 0 ? bytes->n : 8 + (size_t)header;
        for (size_t bit = 0; bit < 8 * n; bit++) {
            bool may = states_scale(&a, _i, which, bit / 8);
            bytes->data[bit / 8] ^= (unsigned char)(1u << bit % 8);
            int found = outcome(&a);
            bytes->data[bit / 8] ^= (unsigned char)(1u << bit % 8);
            counts[found]++;
            ck_assert_msg(found != WRONG && (found != OTHER || may), "bit %zu of byte %zu of file %d: %d",
                          bit % 8, bit / 8, which, found);
        }
    }
    ck_assert_int_gt(counts[REFUSED], 500);
    if (_i != ADALORA) ck_assert_int_gt(counts[SAME], 5); /* spaces, and what nothing depends on */
    act_free(&a);
}
END_TEST

Suite *peft_damage_suite(void);

Suite *peft_damage_suite(void)
{
    Suite *suite = suite_create("peft_damage");
    TCase *cases = tcase_create("all");
    tcase_add_checked_fixture(cases, peft_setup, peft_teardown);
    tcase_set_timeout(cases, 120);
    tcase_add_loop_test(cases, each_lack_of_memory_in_loading_is_reported, 0, 3);
    tcase_add_loop_test(cases, each_lack_of_memory_in_writing_is_reported, 0, 6);
    tcase_add_loop_test(cases, each_read_that_fails_is_reported, 0, 3);
    tcase_add_test(cases, each_write_that_fails_is_reported);
    tcase_add_loop_test(cases, every_truncation_is_refused, 0, 3);
    tcase_add_loop_test(cases, every_flip_is_seen_or_means_nothing, 0, 3);
    suite_add_tcase(suite, cases);
    return suite;
}
