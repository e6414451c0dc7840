/* SPDX-License-Identifier: MIT */
/*
 * Passes and sinks as handles: options, what is refused and why, claims, staleness, references, memory, and failure of
 * any one request to the host. What they compute is in test_lora.c.
 */
#include <check.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "adapters/pass_state.h"
#include "fault.h"
#include "material.h"

#define ROWS 160

Suite *pass_suite(void);

/* Modules 0 and 1 are a group, 2 and 3 stand alone, 4 has no rank. */
static const shape shapes[] = {{96, 64, 4, 0, 0, 1.0},
                               {96, 80, 2, 0, 0, 1.0},
                               {96, 64, 3, LRK_NO_GROUP, 1, 1.0},
                               {48, 64, 3, LRK_NO_GROUP, 2, 1.0},
                               {48, 64, 0, LRK_NO_GROUP, 2, 1.0}};
#define MODULES 5
#define RANKS   12

static fault f;
static lrk_context *context;
static lrk_adapters *set;
static padded x, dx, y[2];
static const int32_t group[2] = {0, 1};

static void setup(void)
{
    fault_reset(&f);
    context = fault_context(&f);
    set = set_make(context, shapes, MODULES, 0.1, 0);
    set_fill(set, 1);
    x = padded_make(ROWS, 96, 2, 1);
    dx = padded_make(ROWS, 96, 1, 2);
    y[0] = padded_make(ROWS, 64, 3, 3);
    y[1] = padded_make(ROWS, 80, 0, 4);
}

static void teardown(void)
{
    padded_free(&x);
    padded_free(&dx);
    padded_free(&y[0]);
    padded_free(&y[1]);
    lrk_adapters_destroy(set);
    lrk_context_destroy(context);
    ck_assert_int_eq(f.live, 0);
    ck_assert(!f.bad_release);
}

static void expect_words(lrk_status got, lrk_status want, const char *words)
{
    char text[512];
    lrk_context_error(context, text, sizeof text);
    ck_assert_msg(got == want, "%s instead of %s: %s", lrk_status_name(got), lrk_status_name(want), text);
    ck_assert_msg(strstr(text, words) != NULL, "'%s' is not in '%s'", words, text);
}

static void expect_no_pass(lrk_pass_options options, lrk_status want, const char *words)
{
    lrk_pass *pass = (lrk_pass *)&f;
    expect_words(lrk_pass_begin(set, &options, &pass), want, words);
    ck_assert_ptr_null(pass);
}

static lrk_pass *open_mode(int32_t mode, uint32_t gradients, lrk_sink *sink)
{
    lrk_pass_options options = pass_options(ROWS);
    options.mode = mode;
    options.gradients = gradients;
    options.sink = sink;
    return pass_open(set, options);
}

static lrk_sink *make_sink(uint32_t kinds)
{
    lrk_sink *sink = NULL;
    ck_assert_int_eq(lrk_sink_create(set, kinds, &sink), LRK_OK);
    return sink;
}

static lrk_status forward_group(lrk_pass *pass, void *saved, size_t bytes)
{
    lrk_matrix in = padded_view(&x);
    lrk_matrix_mut out[2] = {padded_mut(&y[0]), padded_mut(&y[1])};
    return lrk_forward(pass, group, 2, &in, out, saved, bytes);
}

static lrk_status backward_group(lrk_pass *pass, const void *saved, size_t bytes)
{
    lrk_matrix in = padded_view(&x), dy[2] = {padded_view(&y[0]), padded_view(&y[1])};
    lrk_matrix_mut dx_view = padded_mut(&dx);
    return lrk_backward(pass, group, 2, &in, saved, bytes, dy, &dx_view);
}

static size_t group_saved_size(void)
{
    size_t bytes = 0;
    ck_assert_int_eq(lrk_saved_size(set, group, 2, ROWS, &bytes), LRK_OK);
    return bytes;
}

/* Drops the first rank of module 2. */
static void change_ranks(void)
{
    static const int64_t kept[RANKS] = {0, 1, 2, 3, 4, 5, 6, 7};
    lrki_module_change parts[MODULES] = {{0}};
    lrki_change *change = NULL;
    for (int i = 0; i < MODULES; i++) {
        parts[i].n_kept = set->modules[i].bank.rank - (i == 2);
        parts[i].kept = kept + (i == 2);
    }
    ck_assert_int_eq(lrki_change_prepare(set, parts, 1, LRK_INIT_ZERO, &change), LRK_OK);
    lrki_change_commit(change);
}

/* ---- options ------------------------------------------------------------------------------------------------------------ */

START_TEST(options_start_as_documented)
{
    lrk_pass_options o;
    memset(&o, 0xEE, sizeof o);
    ck_assert_int_eq(lrk_pass_options_init(&o, sizeof o), LRK_OK);
    ck_assert_uint_eq(o.struct_size, sizeof o);
    ck_assert_int_eq(o.mode, LRK_PASS_EVALUATE);
    ck_assert_uint_eq(o.gradients, LRK_GRAD_PARAMETERS);
    ck_assert(o.nonce == 0 && o.first_row == 0 && o.max_rows == 0 && o.mask == NULL && o.sink == NULL);
    ck_assert(o.workspace == NULL && o.workspace_bytes == 0);
    ck_assert_int_eq(lrk_pass_options_init(NULL, sizeof o), LRK_ERR_ARGUMENT);
    ck_assert_int_eq(lrk_pass_options_init(&o, 4), LRK_ERR_ARGUMENT);
}
END_TEST

typedef struct longer_options {
    lrk_pass_options known;
    uint64_t tail;
} longer_options;

START_TEST(options_of_other_sizes_follow_the_rules)
{
    lrk_pass *pass = NULL;
    longer_options longer = {.known = pass_options(ROWS)};
    longer.known.struct_size = sizeof longer;
    ck_assert_int_eq(lrk_pass_begin(set, &longer.known, &pass), LRK_OK);
    lrk_pass_end(pass);
    longer.tail = 1;
    expect_words(lrk_pass_begin(set, &longer.known, &pass), LRK_ERR_VERSION, "lrk_pass_options");
    ck_assert_ptr_null(pass);

    lrk_pass_options shorter = pass_options(ROWS);
    shorter.mask = (const lrk_mask *)&f; /* beyond the struct: not looked at */
    shorter.struct_size = (uint32_t)offsetof(lrk_pass_options, mask);
    ck_assert_int_eq(lrk_pass_begin(set, &shorter, &pass), LRK_OK);
    lrk_pass_end(pass);
    shorter.struct_size = 4;
    expect_no_pass(shorter, LRK_ERR_ARGUMENT, "struct_size");
    ck_assert_int_eq(lrk_pass_begin(set, NULL, &pass), LRK_ERR_ARGUMENT); /* max_rows must be set */
}
END_TEST

START_TEST(wrong_options_are_refused_by_name)
{
    lrk_pass_options o = pass_options(ROWS);
    lrk_pass *pass = (lrk_pass *)&f;
    ck_assert_int_eq(lrk_pass_begin(NULL, &o, &pass), LRK_ERR_ARGUMENT);
    ck_assert_ptr_null(pass);
    expect_words(lrk_pass_begin(set, &o, NULL), LRK_ERR_ARGUMENT, "pass is NULL");
    o.mode = 2;
    expect_no_pass(o, LRK_ERR_ARGUMENT, "mode");
    o = pass_options(ROWS);
    o.flags = 1;
    expect_no_pass(o, LRK_ERR_ARGUMENT, "flags");
    o = pass_options(ROWS);
    o.gradients = 8;
    expect_no_pass(o, LRK_ERR_ARGUMENT, "gradients");
    expect_no_pass(pass_options(0), LRK_ERR_ARGUMENT, "max_rows");
    expect_no_pass(pass_options(INT64_MAX / 8), LRK_ERR_SHAPE, "overflow");
    o = pass_options(ROWS);
    o.first_row = -1;
    expect_no_pass(o, LRK_ERR_ARGUMENT, "first_row");
    o = pass_options(ROWS);
    o.gradients = LRK_GRAD_MASK;
    expect_no_pass(o, LRK_ERR_ARGUMENT, "sink");
    o.sink = make_sink(LRK_GRAD_GATES);
    expect_no_pass(o, LRK_ERR_ARGUMENT, "does not hold");
    lrk_sink_destroy(o.sink);
    ck_assert_int_eq(set->open_passes, 0);
}
END_TEST

START_TEST(masks_and_sinks_of_another_set_are_refused)
{
    lrk_adapters *mine = set;
    lrk_pass_options o = pass_options(ROWS);
    lrk_mask *mask = NULL;
    set = set_make(context, shapes, MODULES, 0.0, 0);
    ck_assert_int_eq(lrk_mask_create_all(set, &mask), LRK_OK);
    lrk_sink *sink = make_sink(LRK_GRAD_PARAMETERS);
    lrk_adapters_destroy(set);
    set = mine;
    o.mask = mask;
    expect_no_pass(o, LRK_ERR_ARGUMENT, "mask");
    o.mask = NULL;
    o.sink = sink;
    expect_no_pass(o, LRK_ERR_ARGUMENT, "sink");
    lrk_mask_destroy(mask);
    lrk_sink_destroy(sink);
}
END_TEST

START_TEST(masks_and_sinks_from_before_a_change_are_refused)
{
    lrk_pass_options o = pass_options(ROWS);
    lrk_mask *mask = NULL;
    const double *values;
    int64_t n;
    lrk_tensor tensor = {.struct_size = sizeof tensor};
    ck_assert_int_eq(lrk_mask_create_all(set, &mask), LRK_OK);
    lrk_sink *sink = make_sink(LRK_GRAD_PARAMETERS | LRK_GRAD_MASK);
    change_ranks();
    o.mask = mask;
    expect_no_pass(o, LRK_ERR_STALE, "mask");
    o.mask = NULL;
    o.sink = sink;
    expect_no_pass(o, LRK_ERR_STALE, "sink");
    expect_words(lrk_sink_tensor(sink, 0, LRK_TENSOR_GRAD_A, &tensor), LRK_ERR_STALE, "rank change");
    expect_words(lrk_sink_mask_gradients(sink, &values, &n), LRK_ERR_STALE, "rank change");
    expect_words(lrk_sink_accumulate(sink, 1.0), LRK_ERR_STALE, "rank change");
    lrk_mask_destroy(mask);
    lrk_sink_destroy(sink);
}
END_TEST

/* ---- workspace ---------------------------------------------------------------------------------------------------------- */

START_TEST(a_given_workspace_serves_instead_of_memory)
{
    size_t bytes;
    lrk_pass_options o = pass_options(ROWS);
    ck_assert_int_eq(lrk_workspace_size(set, ROWS, &bytes), LRK_OK);
    unsigned char *memory = aligned_alloc(64, bytes + 128);
    padded before = padded_copy(&y[0]);
    memset(memory, 0xFF, bytes + 128);
    o.workspace = memory;
    o.workspace_bytes = bytes;
    lrk_pass *pass = pass_open(set, o);
    ck_assert_int_eq(forward_group(pass, NULL, 0), LRK_OK);
    ck_assert_int_eq(backward_group(pass, NULL, 0), LRK_OK);
    ck_assert_ptr_null(pass->own);
    lrk_pass_end(pass);
    for (int i = 0; i < 128; i++)
        ck_assert_uint_eq(memory[bytes + (size_t)i], 0xFF);

    padded with = padded_copy(&y[0]);
    memcpy(y[0].data, before.data, (size_t)(ROWS * y[0].ld) * sizeof(float));
    pass = pass_open(set, pass_options(ROWS));
    ck_assert_int_eq(forward_group(pass, NULL, 0), LRK_OK);
    lrk_pass_end(pass);
    ck_assert(padded_same(&with, &y[0]));

    o.workspace_bytes = bytes - 1;
    expect_no_pass(o, LRK_ERR_ARGUMENT, "workspace");
    o.workspace = memory + 32;
    o.workspace_bytes = bytes;
    expect_no_pass(o, LRK_ERR_ARGUMENT, "aligned");
    o.workspace = NULL;
    expect_no_pass(o, LRK_ERR_ARGUMENT, "workspace_bytes");
    padded_free(&with);
    padded_free(&before);
    free(memory);
}
END_TEST

START_TEST(workspace_size_is_checked)
{
    size_t one, two;
    ck_assert_int_eq(lrk_workspace_size(NULL, 1, &one), LRK_ERR_ARGUMENT);
    expect_words(lrk_workspace_size(set, 0, &one), LRK_ERR_ARGUMENT, "max_rows");
    expect_words(lrk_workspace_size(set, 1, NULL), LRK_ERR_ARGUMENT, "bytes");
    expect_words(lrk_workspace_size(set, INT64_MAX / 8, &one), LRK_ERR_SHAPE, "overflow");
    ck_assert_int_eq(lrk_workspace_size(set, 100, &one), LRK_OK);
    ck_assert_int_eq(lrk_workspace_size(set, 1000, &two), LRK_OK);
    ck_assert_uint_gt(two, one);
}
END_TEST

START_TEST(saved_size_is_checked)
{
    const int32_t wrong[] = {0, MODULES}, negative = -1, empty = 4;
    size_t bytes;
    ck_assert_int_eq(lrk_saved_size(NULL, group, 2, 1, &bytes), LRK_ERR_ARGUMENT);
    expect_words(lrk_saved_size(set, NULL, 2, 1, &bytes), LRK_ERR_ARGUMENT, "NULL");
    expect_words(lrk_saved_size(set, group, 0, 1, &bytes), LRK_ERR_ARGUMENT, "no modules");
    expect_words(lrk_saved_size(set, group, 2, -1, &bytes), LRK_ERR_ARGUMENT, "rows");
    expect_words(lrk_saved_size(set, group, 2, 1, NULL), LRK_ERR_ARGUMENT, "NULL");
    expect_words(lrk_saved_size(set, wrong, 2, 1, &bytes), LRK_ERR_ARGUMENT, "no module 5");
    expect_words(lrk_saved_size(set, &negative, 1, 1, &bytes), LRK_ERR_ARGUMENT, "no module -1");
    expect_words(lrk_saved_size(set, group, 2, INT64_MAX / 8, &bytes), LRK_ERR_SHAPE, "overflow");
    ck_assert_int_eq(lrk_saved_size(set, group, 2, ROWS, &bytes), LRK_OK);
    ck_assert_uint_eq(bytes, 64 + ROWS * 4 * 4 + ROWS * 2 * 4);
    ck_assert_int_eq(lrk_saved_size(set, &empty, 1, ROWS, &bytes), LRK_OK);
    ck_assert_uint_eq(bytes, 64);
}
END_TEST

/* ---- who writes gradients ------------------------------------------------------------------------------------------------- */

START_TEST(one_training_pass_writes_the_sets_gradients)
{
    lrk_pass_options o = pass_options(ROWS);
    lrk_pass *first = open_mode(LRK_PASS_TRAIN, LRK_GRAD_PARAMETERS, NULL);
    o.mode = LRK_PASS_TRAIN;
    expect_no_pass(o, LRK_ERR_BUSY, "use a sink");
    lrk_sink *sink = make_sink(LRK_GRAD_PARAMETERS);
    lrk_pass *beside = open_mode(LRK_PASS_TRAIN, LRK_GRAD_PARAMETERS, sink);
    lrk_pass *dx_alone = open_mode(LRK_PASS_TRAIN, 0, NULL);
    lrk_pass_end(first);
    lrk_pass *second = open_mode(LRK_PASS_TRAIN, LRK_GRAD_PARAMETERS, NULL);
    lrk_pass_end(second);
    lrk_pass_end(beside);
    lrk_pass_end(dx_alone);
    lrk_sink_destroy(sink);
}
END_TEST

START_TEST(evaluating_passes_claim_at_their_first_backward)
{
    lrk_pass *one = open_mode(LRK_PASS_EVALUATE, LRK_GRAD_PARAMETERS, NULL);
    lrk_pass *two = open_mode(LRK_PASS_EVALUATE, LRK_GRAD_PARAMETERS, NULL);
    ck_assert_int_eq(forward_group(one, NULL, 0), LRK_OK);
    ck_assert_int_eq(forward_group(two, NULL, 0), LRK_OK);
    ck_assert_int_eq(backward_group(two, NULL, 0), LRK_OK);
    padded before = padded_copy(&dx);
    expect_words(backward_group(one, NULL, 0), LRK_ERR_BUSY, "use a sink");
    ck_assert(padded_same(&before, &dx));
    ck_assert_int_eq(backward_group(two, NULL, 0), LRK_OK);
    lrk_pass_end(two);
    ck_assert_int_eq(backward_group(one, NULL, 0), LRK_OK);
    lrk_pass_end(one);
    ck_assert(!set->gradients_in_use);
    padded_free(&before);
}
END_TEST

START_TEST(a_sink_has_one_writer)
{
    lrk_pass_options o = pass_options(ROWS);
    lrk_sink *sink = make_sink(LRK_GRAD_PARAMETERS);
    lrk_pass *pass = open_mode(LRK_PASS_EVALUATE, LRK_GRAD_PARAMETERS, sink);
    o.sink = sink;
    expect_no_pass(o, LRK_ERR_BUSY, "sink");
    expect_words(lrk_sink_zero(sink), LRK_ERR_BUSY, "sink");
    expect_words(lrk_sink_accumulate(sink, 1.0), LRK_ERR_BUSY, "open pass");
    o.gradients = 0;
    lrk_pass *reader = pass_open(set, o); /* derives nothing: does not write to it */
    lrk_pass_end(reader);
    expect_words(lrk_sink_zero(sink), LRK_ERR_BUSY, "sink");
    lrk_pass_end(pass);
    ck_assert_int_eq(lrk_sink_zero(sink), LRK_OK);
    lrk_pass *training = open_mode(LRK_PASS_TRAIN, LRK_GRAD_PARAMETERS, NULL);
    expect_words(lrk_sink_accumulate(sink, 1.0), LRK_ERR_BUSY, "open pass");
    lrk_pass_end(training);
    lrk_sink_destroy(sink);
}
END_TEST

START_TEST(no_pass_begins_while_a_change_is_prepared_or_storage_is_asked)
{
    size_t bytes;
    lrk_sink *sink;
    set->change_pending = true;
    expect_no_pass(pass_options(ROWS), LRK_ERR_BUSY, "rank change");
    set->change_pending = false;
    set->in_storage_callback = true;
    expect_no_pass(pass_options(ROWS), LRK_ERR_BUSY, "callback");
    expect_words(lrk_sink_create(set, 1, &sink), LRK_ERR_BUSY, "callback");
    expect_words(lrk_workspace_size(set, 1, &bytes), LRK_ERR_BUSY, "callback");
    expect_words(lrk_saved_size(set, group, 2, 1, &bytes), LRK_ERR_BUSY, "callback");
    set->in_storage_callback = false;
    set->in_host_callback = true; /* an estimator's evaluate must be able to run the model */
    lrk_pass_end(pass_open(set, pass_options(ROWS)));
    set->in_host_callback = false;
    ck_assert_int_eq(set->open_passes, 0);
}
END_TEST

START_TEST(an_open_pass_keeps_the_set_from_changing)
{
    lrk_pass *pass = pass_open(set, pass_options(ROWS));
    expect_words(lrk_adapters_values_changed(set), LRK_ERR_BUSY, "pass");
    lrk_pass_end(pass);
    ck_assert_int_eq(lrk_adapters_values_changed(set), LRK_OK);
}
END_TEST

START_TEST(an_inference_only_set_evaluates_and_gives_dx)
{
    lrk_sink *sink = (lrk_sink *)&f;
    lrk_pass_options o = pass_options(ROWS);
    lrk_adapters_destroy(set);
    set = set_make(context, shapes, MODULES, 0.0, LRK_ADAPTERS_INFERENCE);
    set_fill(set, 1);
    o.mode = LRK_PASS_TRAIN;
    expect_no_pass(o, LRK_ERR_UNSUPPORTED, "inference");
    expect_words(lrk_sink_create(set, 1, &sink), LRK_ERR_UNSUPPORTED, "inference");
    ck_assert_ptr_null(sink);
    lrk_pass *pass = open_mode(LRK_PASS_EVALUATE, LRK_GRAD_PARAMETERS, NULL);
    ck_assert_int_eq(forward_group(pass, NULL, 0), LRK_OK);
    expect_words(backward_group(pass, NULL, 0), LRK_ERR_UNSUPPORTED, "inference");
    lrk_pass_end(pass);
    padded before = padded_copy(&dx);
    pass = open_mode(LRK_PASS_EVALUATE, 0, NULL);
    ck_assert_int_eq(backward_group(pass, NULL, 0), LRK_OK);
    ck_assert(!padded_same(&before, &dx));
    lrk_pass_end(pass);
    padded_free(&before);
}
END_TEST

/* ---- arguments of forward and backward -------------------------------------------------------------------------------------- */

static lrk_pass *pass_of_calls;

static void expect_forward(const int32_t *modules, int32_t n, const lrk_matrix *in, const lrk_matrix_mut *out,
                           lrk_status want, const char *words)
{
    padded before = padded_copy(&y[0]);
    expect_words(lrk_forward(pass_of_calls, modules, n, in, out, NULL, 0), want, words);
    ck_assert(padded_same(&before, &y[0]));
    padded_free(&before);
}

START_TEST(wrong_modules_are_refused)
{
    const int32_t twice[] = {1, 1}, mixed[] = {0, 2}, loners[] = {2, 3}, unknown[] = {0, MODULES},
                  negative[] = {-1};
    lrk_matrix in = padded_view(&x);
    lrk_matrix_mut out[2] = {padded_mut(&y[0]), padded_mut(&y[1])};
    lrk_error_info info = {.struct_size = sizeof info};
    pass_of_calls = pass_open(set, pass_options(ROWS));
    ck_assert_int_eq(lrk_forward(NULL, group, 2, &in, out, NULL, 0), LRK_ERR_ARGUMENT);
    ck_assert_int_eq(lrk_backward(NULL, group, 2, &in, NULL, 0, &in, NULL), LRK_ERR_ARGUMENT);
    expect_forward(NULL, 1, &in, out, LRK_ERR_ARGUMENT, "no modules");
    expect_forward(group, 0, &in, out, LRK_ERR_ARGUMENT, "no modules");
    expect_forward(twice, 2, &in, out, LRK_ERR_ARGUMENT, "'m1' is given twice");
    expect_forward(mixed, 2, &in, out, LRK_ERR_ARGUMENT, "input group");
    ck_assert_int_eq(lrk_context_error_info(context, &info), LRK_OK);
    ck_assert_int_eq(info.module, 2);
    expect_forward(loners, 2, &in, out, LRK_ERR_ARGUMENT, "input group");
    expect_forward(unknown, 2, &in, out, LRK_ERR_ARGUMENT, "no module 5");
    expect_forward(negative, 1, &in, out, LRK_ERR_ARGUMENT, "no module -1");
    lrk_pass_end(pass_of_calls);
}
END_TEST

START_TEST(wrong_matrices_are_refused)
{
    lrk_matrix in = padded_view(&x), bad = in;
    lrk_matrix_mut out[2] = {padded_mut(&y[0]), padded_mut(&y[1])}, saved_out = out[1];
    pass_of_calls = pass_open(set, pass_options(ROWS));
    expect_forward(group, 2, NULL, out, LRK_ERR_ARGUMENT, "x is NULL");
    expect_forward(group, 2, &in, NULL, LRK_ERR_ARGUMENT, "y is NULL");
    bad.dtype = 1;
    expect_forward(group, 2, &bad, out, LRK_ERR_UNSUPPORTED, "bf16");
    bad.dtype = 2;
    expect_forward(group, 2, &bad, out, LRK_ERR_UNSUPPORTED, "f16");
    bad.dtype = 3;
    expect_forward(group, 2, &bad, out, LRK_ERR_ARGUMENT, "dtype");
    bad = in;
    bad.data = NULL;
    expect_forward(group, 2, &bad, out, LRK_ERR_ARGUMENT, "data");
    bad = in;
    bad.rows = -1;
    expect_forward(group, 2, &bad, out, LRK_ERR_ARGUMENT, "rows");
    bad = in;
    bad.cols = 95;
    expect_forward(group, 2, &bad, out, LRK_ERR_SHAPE, "'m0': x is 160 x 95");
    bad = in;
    bad.ld = 95;
    expect_forward(group, 2, &bad, out, LRK_ERR_SHAPE, "ld 95");
    bad = in;
    bad.ld = INT64_MAX / 2;
    expect_forward(group, 2, &bad, out, LRK_ERR_SHAPE, "ld");
    bad = in;
    bad.struct_size = 8;
    expect_forward(group, 2, &bad, out, LRK_ERR_ARGUMENT, "struct_size");
    out[1].rows = ROWS - 1;
    expect_forward(group, 2, &in, out, LRK_ERR_SHAPE, "'m1': y is 159 x 80");
    out[1] = saved_out;
    out[1].cols = 81;
    expect_forward(group, 2, &in, out, LRK_ERR_SHAPE, "'m1': y is 160 x 81");
    lrk_pass_end(pass_of_calls);
    pass_of_calls = pass_open(set, pass_options(ROWS - 1));
    out[1] = saved_out;
    expect_forward(group, 2, &in, out, LRK_ERR_SHAPE, "max_rows 159");
    lrk_pass_end(pass_of_calls);
}
END_TEST

START_TEST(wrong_matrices_of_backward_are_refused)
{
    lrk_matrix in = padded_view(&x), dy[2] = {padded_view(&y[0]), padded_view(&y[1])}, saved_dy = dy[1];
    lrk_matrix_mut dx_view = padded_mut(&dx);
    padded before = padded_copy(&dx);
    lrk_pass *pass = pass_open(set, pass_options(ROWS));
    expect_words(lrk_backward(pass, group, 2, &in, NULL, 0, NULL, &dx_view), LRK_ERR_ARGUMENT, "dy is NULL");
    expect_words(lrk_backward(pass, group, 2, NULL, NULL, 0, dy, &dx_view), LRK_ERR_ARGUMENT, "x is NULL");
    dy[1].cols = 1;
    expect_words(lrk_backward(pass, group, 2, &in, NULL, 0, dy, &dx_view), LRK_ERR_SHAPE, "'m1': dy");
    dy[1] = saved_dy;
    dx_view.cols = 95;
    expect_words(lrk_backward(pass, group, 2, &in, NULL, 0, dy, &dx_view), LRK_ERR_SHAPE, "dx");
    dx_view = padded_mut(&dx);
    dx_view.dtype = 9;
    expect_words(lrk_backward(pass, group, 2, &in, NULL, 0, dy, &dx_view), LRK_ERR_ARGUMENT, "dtype");
    ck_assert(padded_same(&before, &dx));
    ck_assert(!set->modules[0].has_gradient && !set->gradients_in_use);
    lrk_pass_end(pass);
    padded_free(&before);
}
END_TEST

typedef struct wide_matrix {
    lrk_matrix_mut known;
    uint64_t tail;
} wide_matrix;

START_TEST(matrices_are_stepped_by_the_first_ones_size)
{
    lrk_matrix in = padded_view(&x);
    wide_matrix out[2] = {{.known = padded_mut(&y[0])}, {.known = padded_mut(&y[1])}};
    padded before = padded_copy(&y[1]);
    out[0].known.struct_size = out[1].known.struct_size = sizeof out[0];
    pass_of_calls = pass_open(set, pass_options(ROWS));
    ck_assert_int_eq(lrk_forward(pass_of_calls, group, 2, &in, &out[0].known, NULL, 0), LRK_OK);
    ck_assert(!padded_same(&before, &y[1]));
    out[1].tail = 1;
    expect_forward(group, 2, &in, &out[0].known, LRK_ERR_VERSION, "tail");
    lrk_pass_end(pass_of_calls);
    padded_free(&before);
}
END_TEST

START_TEST(no_rows_and_no_rank_are_no_work)
{
    const int32_t empty = 4;
    lrk_matrix in = padded_view(&x), dy = padded_view(&y[0]),
               nothing = {.struct_size = sizeof nothing, .cols = 96, .ld = 96};
    lrk_matrix_mut out = padded_mut(&y[0]), none = {.struct_size = sizeof none, .cols = 64, .ld = 64};
    padded before = padded_copy(&y[0]);
    lrk_pass *pass = pass_open(set, pass_options(ROWS));
    ck_assert_int_eq(lrk_forward(pass, group, 1, &nothing, &none, NULL, 0), LRK_OK);
    in.cols = 48;
    ck_assert_int_eq(lrk_forward(pass, &empty, 1, &in, &out, NULL, 0), LRK_OK);
    ck_assert_int_eq(lrk_backward(pass, &empty, 1, &in, NULL, 0, &dy, NULL), LRK_OK);
    lrk_matrix none_dy = {.struct_size = sizeof none_dy, .cols = 64, .ld = 64};
    ck_assert_int_eq(lrk_backward(pass, group, 1, &nothing, NULL, 0, &none_dy, NULL), LRK_OK);
    ck_assert(set->modules[4].has_gradient && set->modules[0].has_gradient && !set->modules[1].has_gradient);
    ck_assert(padded_same(&before, &y[0]));
    ck_assert_int_eq(f.gemm.calls, 0);
    lrk_pass_end(pass);
    padded_free(&before);
}
END_TEST

/* ---- saved activations -------------------------------------------------------------------------------------------------------- */

START_TEST(a_saved_buffer_must_fit)
{
    size_t bytes = group_saved_size();
    unsigned char *saved = malloc(bytes + 8);
    lrk_pass *pass = pass_open(set, pass_options(ROWS));
    saved[bytes] = 0x5A;
    ck_assert_int_eq(forward_group(pass, saved, bytes), LRK_OK);
    ck_assert_uint_eq(saved[bytes], 0x5A);
    expect_words(forward_group(pass, saved, bytes - 1), LRK_ERR_SHAPE, "lrk_saved_size");
    expect_words(forward_group(pass, saved + 4, bytes), LRK_ERR_ARGUMENT, "aligned");
    expect_words(forward_group(pass, NULL, bytes), LRK_ERR_ARGUMENT, "saved");
    expect_words(backward_group(pass, saved, bytes - 1), LRK_ERR_SHAPE, "lrk_saved_size");
    expect_words(backward_group(pass, NULL, bytes), LRK_ERR_ARGUMENT, "saved");
    lrk_pass_end(pass);
    free(saved);
}
END_TEST

/* Saves with one pass and reads with another: `differ` says in what. */
static void expect_foreign(void (*differ)(lrk_pass_options *o), lrk_status want, const char *words)
{
    size_t bytes = group_saved_size();
    void *saved = malloc(bytes);
    lrk_pass_options o = pass_options(ROWS);
    o.mode = LRK_PASS_TRAIN;
    lrk_pass *pass = pass_open(set, o);
    ck_assert_int_eq(forward_group(pass, saved, bytes), LRK_OK);
    lrk_pass_end(pass);
    lrk_pass *same = pass_open(set, o);
    ck_assert_int_eq(backward_group(same, saved, bytes),
                     LRK_OK); /* another pass of the same kind may read it */
    lrk_pass_end(same);
    differ(&o);
    pass = pass_open(set, o);
    expect_words(backward_group(pass, saved, group_saved_size()), want, words);
    lrk_pass_end(pass);
    free(saved);
}

static lrk_mask *mask_of_test;
static lrk_sink *sink_of_test;

static void other_mask(lrk_pass_options *o)
{
    ck_assert_int_eq(lrk_mask_create_without(set, 1, &mask_of_test), LRK_OK);
    o->mask = mask_of_test;
}

static void other_values(lrk_pass_options *o)
{
    float values[RANKS];
    for (int i = 0; i < RANKS; i++)
        values[i] = 0.5f;
    ck_assert_int_eq(lrk_mask_create_values(set, values, RANKS, &mask_of_test), LRK_OK);
    o->mask = mask_of_test;
}

static void other_nonce(lrk_pass_options *o)
{
    o->nonce++;
}

static void other_first_row(lrk_pass_options *o)
{
    o->first_row++;
}

static void other_mode(lrk_pass_options *o)
{
    o->mode = LRK_PASS_EVALUATE;
}

static void changed_values(lrk_pass_options *o)
{
    (void)o;
    ck_assert_int_eq(lrk_adapters_values_changed(set), LRK_OK);
}

static void changed_ranks(lrk_pass_options *o)
{
    (void)o;
    change_ranks(); /* of another module */
}

START_TEST(saved_activations_of_another_pass_are_refused)
{
    expect_foreign(other_mask, LRK_ERR_ARGUMENT, "mask");
    lrk_mask_destroy(mask_of_test);
    expect_foreign(other_values, LRK_ERR_ARGUMENT, "mask");
    lrk_mask_destroy(mask_of_test);
    expect_foreign(other_nonce, LRK_ERR_ARGUMENT, "nonce");
    expect_foreign(other_first_row, LRK_ERR_ARGUMENT, "first row");
    expect_foreign(other_mode, LRK_ERR_ARGUMENT, "mode");
    expect_foreign(changed_values, LRK_ERR_STALE, "parameters changed");
    expect_foreign(changed_ranks, LRK_ERR_STALE, "rank change");
}
END_TEST

START_TEST(saved_activations_of_other_calls_are_refused)
{
    const int32_t swapped[2] = {1, 0};
    size_t bytes = group_saved_size();
    unsigned char *saved = calloc(1, bytes);
    lrk_matrix in = padded_view(&x), dy[2] = {padded_view(&y[1]), padded_view(&y[0])};
    lrk_pass *pass = pass_open(set, pass_options(ROWS));
    expect_words(backward_group(pass, saved, bytes), LRK_ERR_ARGUMENT, "not written by lrk_forward");
    ck_assert_int_eq(forward_group(pass, saved, bytes), LRK_OK);
    expect_words(lrk_backward(pass, swapped, 2, &in, saved, bytes, dy, NULL), LRK_ERR_ARGUMENT, "modules");
    expect_words(lrk_backward(pass, group, 1, &in, saved, bytes, dy + 1, NULL), LRK_ERR_ARGUMENT, "modules");
    in.rows = dy[0].rows = dy[1].rows = ROWS - 1;
    dy[0] = padded_view(&y[0]);
    dy[1] = padded_view(&y[1]);
    dy[0].rows = dy[1].rows = ROWS - 1;
    expect_words(lrk_backward(pass, group, 2, &in, saved, bytes, dy, NULL), LRK_ERR_ARGUMENT, "rows");
    ck_assert_int_eq(backward_group(pass, saved, bytes), LRK_OK);
    lrk_pass_end(pass);

    lrk_adapters *mine = set;
    set = set_make(context, shapes, MODULES, 0.1, 0);
    pass = pass_open(set, pass_options(ROWS));
    expect_words(backward_group(pass, saved, bytes), LRK_ERR_ARGUMENT, "of this set");
    lrk_pass_end(pass);
    lrk_adapters_destroy(set);
    set = mine;
    free(saved);
}
END_TEST

/* A pass that derives by the mask keeps H of ranks that a plain one leaves out. */
START_TEST(saved_activations_for_other_derivatives_are_refused)
{
    size_t bytes = group_saved_size();
    void *saved = malloc(bytes);
    lrk_pass_options o = pass_options(ROWS);
    ck_assert_int_eq(lrk_mask_create_only(set, 1, &mask_of_test), LRK_OK);
    sink_of_test = make_sink(LRK_GRAD_MASK);
    o.mask = mask_of_test;
    lrk_pass *plain = pass_open(set, o);
    ck_assert_int_eq(forward_group(plain, saved, bytes), LRK_OK);
    lrk_pass_end(plain);
    o.sink = sink_of_test;
    o.gradients = LRK_GRAD_MASK;
    lrk_pass *deriving = pass_open(set, o);
    expect_words(backward_group(deriving, saved, bytes), LRK_ERR_ARGUMENT, "derivatives");
    lrk_pass_end(deriving);
    lrk_mask_destroy(mask_of_test);
    lrk_sink_destroy(sink_of_test);
    free(saved);
}
END_TEST

/* ---- sinks ------------------------------------------------------------------------------------------------------------------------ */

START_TEST(wrong_sinks_are_refused)
{
    lrk_sink *sink = (lrk_sink *)&f;
    lrk_tensor tensor = {.struct_size = sizeof tensor};
    const double *values;
    int64_t n;
    ck_assert_int_eq(lrk_sink_create(NULL, 1, &sink), LRK_ERR_ARGUMENT);
    ck_assert_ptr_null(sink);
    expect_words(lrk_sink_create(set, 0, &sink), LRK_ERR_ARGUMENT, "kinds");
    expect_words(lrk_sink_create(set, 9, &sink), LRK_ERR_ARGUMENT, "kinds");
    expect_words(lrk_sink_create(set, 1, NULL), LRK_ERR_ARGUMENT, "NULL");
    ck_assert_int_eq(lrk_sink_zero(NULL), LRK_ERR_ARGUMENT);
    ck_assert_int_eq(lrk_sink_accumulate(NULL, 1.0), LRK_ERR_ARGUMENT);
    ck_assert_int_eq(lrk_sink_tensor(NULL, 0, LRK_TENSOR_GRAD_A, &tensor), LRK_ERR_ARGUMENT);
    ck_assert_int_eq(lrk_sink_mask_gradients(NULL, &values, &n), LRK_ERR_ARGUMENT);
    lrk_sink_destroy(NULL);

    sink = make_sink(LRK_GRAD_GATES);
    expect_words(lrk_sink_tensor(sink, -1, LRK_TENSOR_GRAD_GATES, &tensor), LRK_ERR_ARGUMENT, "no module -1");
    expect_words(lrk_sink_tensor(sink, MODULES, LRK_TENSOR_GRAD_GATES, &tensor), LRK_ERR_ARGUMENT,
                 "no module 5");
    expect_words(lrk_sink_tensor(sink, 0, LRK_TENSOR_GRAD_A, &tensor), LRK_ERR_ARGUMENT, "does not hold");
    expect_words(lrk_sink_tensor(sink, 0, LRK_TENSOR_GATES, &tensor), LRK_ERR_ARGUMENT, "does not hold");
    expect_words(lrk_sink_tensor(sink, 0, LRK_TENSOR_GRAD_GATES, NULL), LRK_ERR_ARGUMENT, "lrk_tensor");
    expect_words(lrk_sink_mask_gradients(sink, &values, &n), LRK_ERR_ARGUMENT, "does not hold");
    expect_words(lrk_sink_mask_gradients(sink, NULL, &n), LRK_ERR_ARGUMENT, "NULL");
    expect_words(lrk_sink_mask_gradients(sink, &values, NULL), LRK_ERR_ARGUMENT, "NULL");
    expect_words(lrk_sink_accumulate(sink, NAN), LRK_ERR_ARGUMENT, "finite");
    ck_assert_int_eq(lrk_sink_tensor(sink, 0, LRK_TENSOR_GRAD_GATES, &tensor), LRK_OK);
    ck_assert(tensor.rows == 4 && tensor.cols == 1 && tensor.ld == 1 && tensor.generation == set->generation);
    lrk_sink_destroy(sink);
}
END_TEST

START_TEST(a_zeroed_sink_is_as_new)
{
    const double *values;
    int64_t n;
    lrk_tensor a = {.struct_size = sizeof a};
    lrk_sink *sink = make_sink(LRK_GRAD_PARAMETERS | LRK_GRAD_GATES | LRK_GRAD_MASK);
    lrk_pass *pass = open_mode(LRK_PASS_TRAIN, 7, sink);
    ck_assert_int_eq(backward_group(pass, NULL, 0), LRK_OK);
    lrk_pass_end(pass);
    ck_assert_int_eq(lrk_sink_mask_gradients(sink, &values, &n), LRK_OK);
    ck_assert_int_eq(n, RANKS);
    ck_assert_double_ne(values[0], 0.0);
    ck_assert_int_eq(lrk_sink_zero(sink), LRK_OK);
    ck_assert_int_eq(lrk_sink_tensor(sink, 1, LRK_TENSOR_GRAD_B, &a), LRK_OK);
    for (int64_t i = 0; i < a.rows * a.cols; i++)
        if (a.data[i] != 0.0f) ck_abort_msg("not zeroed");
    for (int64_t i = 0; i < n; i++)
        ck_assert_double_eq(values[i], 0.0);
    ck_assert_int_eq(lrk_sink_accumulate(sink, 1.0), LRK_OK);
    ck_assert(!set->modules[0].has_gradient);
    lrk_sink_destroy(sink);
}
END_TEST

START_TEST(accumulating_adds_a_multiple)
{
    lrk_sink *sink = make_sink(LRK_GRAD_PARAMETERS | LRK_GRAD_GATES);
    lrk_pass *pass = open_mode(LRK_PASS_TRAIN, 3, sink);
    ck_assert_int_eq(backward_group(pass, NULL, 0), LRK_OK);
    lrk_pass_end(pass);
    for (int times = 1; times <= 2; times++) {
        ck_assert_int_eq(lrk_sink_accumulate(sink, -2.0), LRK_OK);
        for (int32_t which = LRK_TENSOR_GRAD_A; which <= LRK_TENSOR_GRAD_GATES; which++) {
            lrk_tensor mine = set_tensor(set, 1, which), its = {.struct_size = sizeof its};
            ck_assert_int_eq(lrk_sink_tensor(sink, 1, which, &its), LRK_OK);
            for (int64_t i = 0; i < mine.rows * mine.cols; i++)
                if (mine.data[i] != -2.0f * (float)times * its.data[i]) ck_abort_msg("tensor %d", (int)which);
        }
    }
    ck_assert(set->modules[1].has_gradient && !set->modules[2].has_gradient);
    lrk_sink_destroy(sink);
}
END_TEST

/* ---- references and memory ---------------------------------------------------------------------------------------------------------- */

START_TEST(handles_may_be_destroyed_in_any_order)
{
    lrk_mask *mask = NULL;
    lrk_pass_options o = pass_options(ROWS);
    lrk_sink *sink = make_sink(LRK_GRAD_PARAMETERS);
    ck_assert_int_eq(lrk_mask_create_all(set, &mask), LRK_OK);
    o.mask = mask;
    o.sink = sink;
    lrk_pass *pass = pass_open(set, o);
    lrk_context_destroy(context);
    lrk_adapters_destroy(set);
    lrk_mask_destroy(mask);
    lrk_sink_destroy(sink);
    ck_assert_int_eq(forward_group(pass, NULL, 0), LRK_OK);
    ck_assert_int_eq(backward_group(pass, NULL, 0), LRK_OK);
    lrk_pass_end(pass);
    ck_assert_int_eq(f.live, 0);
    lrk_pass_end(NULL);
    context = NULL;
    set = NULL;
}
END_TEST

START_TEST(ended_passes_are_used_again)
{
    lrk_pass *passes[3];
    for (int round = 0; round < 3; round++) {
        int64_t before = f.alloc.calls;
        for (int i = 0; i < 3; i++)
            passes[i] = pass_open(set, pass_options(ROWS));
        if (round > 0) ck_assert_int_eq(f.alloc.calls, before);
        for (int i = 0; i < 3; i++)
            lrk_pass_end(passes[i]);
    }
    int64_t live = f.live;
    passes[0] = pass_open(set, pass_options(4 * ROWS)); /* one grows, none is added */
    lrk_pass_end(passes[0]);
    ck_assert_int_eq(f.live, live);
    size_t bytes = f.live_bytes;
    change_ranks();
    ck_assert_int_lt(f.live, live); /* a rank change lets them go */
    ck_assert_uint_lt(f.live_bytes, bytes);
}
END_TEST

START_TEST(the_passs_mask_is_told)
{
    lrk_mask_info info = {.struct_size = sizeof info}, direct = info;
    lrk_mask *mask = NULL;
    lrk_pass_options o = pass_options(ROWS);
    lrk_pass *pass = pass_open(set, o);
    ck_assert_int_eq(lrk_pass_mask_info(pass, &info), LRK_OK);
    ck_assert_int_eq(info.baseline, LRK_BASELINE_ALL);
    ck_assert_int_eq(info.first_stage, LRK_NO_STAGE);
    ck_assert_uint_eq(info.generation, set->generation);
    ck_assert_int_eq(lrk_pass_mask_info(NULL, &info), LRK_ERR_ARGUMENT);
    ck_assert_int_eq(lrk_pass_mask_info(pass, NULL), LRK_ERR_ARGUMENT);
    ck_assert_ptr_eq(lrki_pass_adapters(pass), set);
    lrk_pass_end(pass);
    ck_assert_int_eq(lrk_mask_create_only(set, 8, &mask), LRK_OK);
    o.mask = mask;
    pass = pass_open(set, o);
    ck_assert_int_eq(lrk_pass_mask_info(pass, &info), LRK_OK);
    ck_assert_int_eq(lrk_mask_info_get(mask, &direct), LRK_OK);
    ck_assert_mem_eq(&info, &direct, sizeof info);
    ck_assert_int_eq(info.baseline, LRK_BASELINE_NONE);
    ck_assert_int_eq(info.first_stage, 1);
    lrk_pass_end(pass);
    lrk_mask_destroy(mask);
}
END_TEST

/* ---- failure of the host --------------------------------------------------------------------------------------------------------------- */

/* One whole use of passes and sinks; the first failure ends it. */
static lrk_status use_everything(void)
{
    lrk_sink *sink = NULL;
    lrk_pass *pass = NULL;
    lrk_pass_options o = pass_options(ROWS);
    lrk_status status = lrk_sink_create(set, 7, &sink);
    o.mode = LRK_PASS_TRAIN;
    o.gradients = 7;
    o.sink = sink;
    if (status == LRK_OK) status = lrk_pass_begin(set, &o, &pass);
    if (status == LRK_OK) status = forward_group(pass, NULL, 0);
    if (status == LRK_OK) status = backward_group(pass, NULL, 0);
    ck_assert((status == LRK_OK) || (sink == NULL || sink->references == (pass != NULL ? 2 : 1)));
    lrk_pass_end(pass);
    lrk_sink_destroy(sink);
    return status;
}

static void fail_each(fault_counter *counter, lrk_status want, bool sticky)
{
    lrki_pass_cache_free(set);
    int64_t before = counter->calls;
    ck_assert_int_eq(use_everything(), LRK_OK);
    int64_t total = counter->calls - before;
    ck_assert_int_gt(total, 0);
    for (int64_t i = 0; i < total; i++) {
        lrki_pass_cache_free(set);
        int64_t live = f.live;
        counter->fail_at = counter->calls + i;
        counter->sticky = sticky;
        ck_assert_int_eq(use_everything(), want);
        counter->fail_at = -1;
        lrki_pass_cache_free(set);
        ck_assert_int_eq(f.live, live);
        ck_assert_int_eq(set->open_passes, 0);
        ck_assert_int_eq(use_everything(), LRK_OK);
    }
}

START_TEST(failure_of_any_request_is_reported_and_undone)
{
    f.threads = 1 + _i;
    fail_each(&f.alloc, LRK_ERR_NOMEM, _i);
    fail_each(&f.gemm, LRK_ERR_HOST, _i);
    fail_each(&f.loop, LRK_ERR_HOST, _i);
}
END_TEST

START_TEST(a_failure_inside_a_task_is_told_to_the_caller)
{
    f.threads = 3;
    lrk_pass *pass = pass_open(set, pass_options(ROWS));
    f.gemm.fail_at = f.gemm.calls;
    expect_words(forward_group(pass, NULL, 0), LRK_ERR_HOST, "gemm");
    f.gemm.fail_at = -1;
    f.loop.fail_at = f.loop.calls;
    expect_words(backward_group(pass, NULL, 0), LRK_ERR_HOST, "parallel_for");
    f.loop.fail_at = -1;
    ck_assert_int_eq(forward_group(pass, NULL, 0), LRK_OK);
    lrk_pass_end(pass);
}
END_TEST

/* A buffer is marked as written only when all of H is there. */
START_TEST(a_failed_forward_leaves_no_valid_saved_buffer)
{
    size_t bytes = group_saved_size();
    void *saved = calloc(1, bytes);
    lrk_pass *pass = pass_open(set, pass_options(ROWS));
    f.gemm.fail_at = f.gemm.calls + 1;
    ck_assert_int_eq(forward_group(pass, saved, bytes), LRK_ERR_HOST);
    f.gemm.fail_at = -1;
    expect_words(backward_group(pass, saved, bytes), LRK_ERR_ARGUMENT, "not written");
    lrk_pass_end(pass);
    free(saved);
}
END_TEST

Suite *pass_suite(void)
{
    Suite *suite = suite_create("pass");
    TCase *tc = tcase_create("pass");
    tcase_add_checked_fixture(tc, setup, teardown);
    tcase_add_test(tc, options_start_as_documented);
    tcase_add_test(tc, options_of_other_sizes_follow_the_rules);
    tcase_add_test(tc, wrong_options_are_refused_by_name);
    tcase_add_test(tc, masks_and_sinks_of_another_set_are_refused);
    tcase_add_test(tc, masks_and_sinks_from_before_a_change_are_refused);
    tcase_add_test(tc, a_given_workspace_serves_instead_of_memory);
    tcase_add_test(tc, workspace_size_is_checked);
    tcase_add_test(tc, saved_size_is_checked);
    tcase_add_test(tc, one_training_pass_writes_the_sets_gradients);
    tcase_add_test(tc, evaluating_passes_claim_at_their_first_backward);
    tcase_add_test(tc, a_sink_has_one_writer);
    tcase_add_test(tc, no_pass_begins_while_a_change_is_prepared_or_storage_is_asked);
    tcase_add_test(tc, an_open_pass_keeps_the_set_from_changing);
    tcase_add_test(tc, an_inference_only_set_evaluates_and_gives_dx);
    tcase_add_test(tc, wrong_modules_are_refused);
    tcase_add_test(tc, wrong_matrices_are_refused);
    tcase_add_test(tc, wrong_matrices_of_backward_are_refused);
    tcase_add_test(tc, matrices_are_stepped_by_the_first_ones_size);
    tcase_add_test(tc, no_rows_and_no_rank_are_no_work);
    tcase_add_test(tc, a_saved_buffer_must_fit);
    tcase_add_test(tc, saved_activations_of_another_pass_are_refused);
    tcase_add_test(tc, saved_activations_of_other_calls_are_refused);
    tcase_add_test(tc, saved_activations_for_other_derivatives_are_refused);
    tcase_add_test(tc, wrong_sinks_are_refused);
    tcase_add_test(tc, a_zeroed_sink_is_as_new);
    tcase_add_test(tc, accumulating_adds_a_multiple);
    tcase_add_test(tc, handles_may_be_destroyed_in_any_order);
    tcase_add_test(tc, ended_passes_are_used_again);
    tcase_add_test(tc, the_passs_mask_is_told);
    tcase_add_loop_test(tc, failure_of_any_request_is_reported_and_undone, 0, 2);
    tcase_add_test(tc, a_failure_inside_a_task_is_told_to_the_caller);
    tcase_add_test(tc, a_failed_forward_leaves_no_valid_saved_buffer);
    suite_add_tcase(suite, tc);
    return suite;
}
