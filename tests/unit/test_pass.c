/* SPDX-License-Identifier: MIT */
/*
 * Passes as handles: options, workspace, who writes gradients, references, memory, and failure of any one request to
 * the host. What passes compute is in test_lora.c.
 */
#include <check.h>
#include <stdlib.h>
#include <string.h>

#include "pass_rig.h"

Suite *pass_suite(void);

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
    ck_assert_int_eq(lrk_pass_begin(rig.set, &longer.known, &pass), LRK_OK);
    lrk_pass_end(pass);
    longer.tail = 1;
    rig_expect_words(lrk_pass_begin(rig.set, &longer.known, &pass), LRK_ERR_VERSION, "lrk_pass_options");
    ck_assert_ptr_null(pass);

    lrk_pass_options shorter = pass_options(ROWS);
    shorter.mask = (const lrk_mask *)&rig.host; /* beyond the struct: not looked at */
    shorter.struct_size = (uint32_t)offsetof(lrk_pass_options, mask);
    ck_assert_int_eq(lrk_pass_begin(rig.set, &shorter, &pass), LRK_OK);
    lrk_pass_end(pass);
    shorter.struct_size = 4;
    rig_expect_no_pass(shorter, LRK_ERR_ARGUMENT, "struct_size");
    ck_assert_int_eq(lrk_pass_begin(rig.set, NULL, &pass), LRK_ERR_ARGUMENT); /* max_rows must be set */
}
END_TEST

START_TEST(wrong_options_are_refused_by_name)
{
    lrk_pass_options o = pass_options(ROWS);
    lrk_pass *pass = (lrk_pass *)&rig.host;
    ck_assert_int_eq(lrk_pass_begin(NULL, &o, &pass), LRK_ERR_ARGUMENT);
    ck_assert_ptr_null(pass);
    rig_expect_words(lrk_pass_begin(rig.set, &o, NULL), LRK_ERR_ARGUMENT, "pass is NULL");
    o.mode = 2;
    rig_expect_no_pass(o, LRK_ERR_ARGUMENT, "mode");
    o = pass_options(ROWS);
    o.flags = 1;
    rig_expect_no_pass(o, LRK_ERR_ARGUMENT, "flags");
    o = pass_options(ROWS);
    o.gradients = 8;
    rig_expect_no_pass(o, LRK_ERR_ARGUMENT, "gradients");
    rig_expect_no_pass(pass_options(0), LRK_ERR_ARGUMENT, "max_rows");
    rig_expect_no_pass(pass_options(INT64_MAX / 8), LRK_ERR_SHAPE, "overflow");
    o = pass_options(ROWS);
    o.first_row = -1;
    rig_expect_no_pass(o, LRK_ERR_ARGUMENT, "first_row");
    o = pass_options(ROWS);
    o.gradients = LRK_GRAD_MASK;
    rig_expect_no_pass(o, LRK_ERR_ARGUMENT, "sink");
    o.sink = rig_make_sink(LRK_GRAD_GATES);
    rig_expect_no_pass(o, LRK_ERR_ARGUMENT, "does not hold");
    lrk_sink_destroy(o.sink);
    ck_assert_int_eq(rig.set->open_passes, 0);
}
END_TEST

START_TEST(masks_and_sinks_of_another_set_are_refused)
{
    lrk_adapters *mine = rig.set;
    lrk_pass_options o = pass_options(ROWS);
    lrk_mask *mask = NULL;
    rig.set = set_make(rig.context, rig_shapes, MODULES, 0.0, 0);
    ck_assert_int_eq(lrk_mask_create_all(rig.set, &mask), LRK_OK);
    lrk_sink *sink = rig_make_sink(LRK_GRAD_PARAMETERS);
    lrk_adapters_destroy(rig.set);
    rig.set = mine;
    o.mask = mask;
    rig_expect_no_pass(o, LRK_ERR_ARGUMENT, "mask");
    o.mask = NULL;
    o.sink = sink;
    rig_expect_no_pass(o, LRK_ERR_ARGUMENT, "sink");
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
    ck_assert_int_eq(lrk_mask_create_all(rig.set, &mask), LRK_OK);
    lrk_sink *sink = rig_make_sink(LRK_GRAD_PARAMETERS | LRK_GRAD_MASK);
    rig_change_ranks();
    o.mask = mask;
    rig_expect_no_pass(o, LRK_ERR_STALE, "mask");
    o.mask = NULL;
    o.sink = sink;
    rig_expect_no_pass(o, LRK_ERR_STALE, "sink");
    rig_expect_words(lrk_sink_tensor(sink, 0, LRK_TENSOR_GRAD_A, &tensor), LRK_ERR_STALE, "rank change");
    rig_expect_words(lrk_sink_mask_gradients(sink, &values, &n), LRK_ERR_STALE, "rank change");
    rig_expect_words(lrk_sink_accumulate(sink, 1.0), LRK_ERR_STALE, "rank change");
    lrk_mask_destroy(mask);
    lrk_sink_destroy(sink);
}
END_TEST

/* ---- workspace ---------------------------------------------------------------------------------------------------------- */

START_TEST(a_given_workspace_serves_instead_of_memory)
{
    size_t bytes;
    lrk_pass_options o = pass_options(ROWS);
    ck_assert_int_eq(lrk_workspace_size(rig.set, ROWS, &bytes), LRK_OK);
    unsigned char *memory = aligned_alloc(64, bytes + 128);
    padded before = padded_copy(&rig.y[0]);
    memset(memory, 0xFF, bytes + 128);
    o.workspace = memory;
    o.workspace_bytes = bytes;
    lrk_pass *pass = pass_open(rig.set, o);
    ck_assert_int_eq(rig_forward_group(pass, NULL, 0), LRK_OK);
    ck_assert_int_eq(rig_backward_group(pass, NULL, 0), LRK_OK);
    ck_assert_ptr_null(pass->own);
    lrk_pass_end(pass);
    for (int i = 0; i < 128; i++)
        ck_assert_uint_eq(memory[bytes + (size_t)i], 0xFF);

    padded with = padded_copy(&rig.y[0]);
    memcpy(rig.y[0].data, before.data, (size_t)(ROWS * rig.y[0].ld) * sizeof(float));
    pass = pass_open(rig.set, pass_options(ROWS));
    ck_assert_int_eq(rig_forward_group(pass, NULL, 0), LRK_OK);
    lrk_pass_end(pass);
    ck_assert(padded_same(&with, &rig.y[0]));

    o.workspace_bytes = bytes - 1;
    rig_expect_no_pass(o, LRK_ERR_ARGUMENT, "workspace");
    o.workspace = memory + 32;
    o.workspace_bytes = bytes;
    rig_expect_no_pass(o, LRK_ERR_ARGUMENT, "aligned");
    o.workspace = NULL;
    rig_expect_no_pass(o, LRK_ERR_ARGUMENT, "workspace_bytes");
    padded_free(&with);
    padded_free(&before);
    free(memory);
}
END_TEST

START_TEST(workspace_size_is_checked)
{
    size_t one, two;
    ck_assert_int_eq(lrk_workspace_size(NULL, 1, &one), LRK_ERR_ARGUMENT);
    rig_expect_words(lrk_workspace_size(rig.set, 0, &one), LRK_ERR_ARGUMENT, "max_rows");
    rig_expect_words(lrk_workspace_size(rig.set, 1, NULL), LRK_ERR_ARGUMENT, "bytes");
    rig_expect_words(lrk_workspace_size(rig.set, INT64_MAX / 8, &one), LRK_ERR_SHAPE, "overflow");
    ck_assert_int_eq(lrk_workspace_size(rig.set, 100, &one), LRK_OK);
    ck_assert_int_eq(lrk_workspace_size(rig.set, 1000, &two), LRK_OK);
    ck_assert_uint_gt(two, one);
}
END_TEST

START_TEST(saved_size_is_checked)
{
    const int32_t wrong[] = {0, MODULES}, negative = -1, empty = 4;
    size_t bytes;
    ck_assert_int_eq(lrk_saved_size(NULL, rig_group, 2, 1, &bytes), LRK_ERR_ARGUMENT);
    rig_expect_words(lrk_saved_size(rig.set, NULL, 2, 1, &bytes), LRK_ERR_ARGUMENT, "NULL");
    rig_expect_words(lrk_saved_size(rig.set, rig_group, 0, 1, &bytes), LRK_ERR_ARGUMENT, "no modules");
    rig_expect_words(lrk_saved_size(rig.set, rig_group, 2, -1, &bytes), LRK_ERR_ARGUMENT, "rows");
    rig_expect_words(lrk_saved_size(rig.set, rig_group, 2, 1, NULL), LRK_ERR_ARGUMENT, "NULL");
    rig_expect_words(lrk_saved_size(rig.set, wrong, 2, 1, &bytes), LRK_ERR_ARGUMENT, "no module 5");
    rig_expect_words(lrk_saved_size(rig.set, &negative, 1, 1, &bytes), LRK_ERR_ARGUMENT, "no module -1");
    rig_expect_words(lrk_saved_size(rig.set, rig_group, 2, INT64_MAX / 8, &bytes), LRK_ERR_SHAPE, "overflow");
    ck_assert_int_eq(lrk_saved_size(rig.set, rig_group, 2, ROWS, &bytes), LRK_OK);
    ck_assert_uint_eq(bytes, 64 + ROWS * 4 * 4 + ROWS * 2 * 4);
    ck_assert_int_eq(lrk_saved_size(rig.set, &empty, 1, ROWS, &bytes), LRK_OK);
    ck_assert_uint_eq(bytes, 64);
}
END_TEST

/* ---- who writes gradients ------------------------------------------------------------------------------------------------- */

START_TEST(one_training_pass_writes_the_sets_gradients)
{
    lrk_pass_options o = pass_options(ROWS);
    lrk_pass *first = rig_open_mode(LRK_PASS_TRAIN, LRK_GRAD_PARAMETERS, NULL);
    o.mode = LRK_PASS_TRAIN;
    rig_expect_no_pass(o, LRK_ERR_BUSY, "use a sink");
    lrk_sink *sink = rig_make_sink(LRK_GRAD_PARAMETERS);
    lrk_pass *beside = rig_open_mode(LRK_PASS_TRAIN, LRK_GRAD_PARAMETERS, sink);
    lrk_pass *dx_alone = rig_open_mode(LRK_PASS_TRAIN, 0, NULL);
    lrk_pass_end(first);
    lrk_pass *second = rig_open_mode(LRK_PASS_TRAIN, LRK_GRAD_PARAMETERS, NULL);
    lrk_pass_end(second);
    lrk_pass_end(beside);
    lrk_pass_end(dx_alone);
    lrk_sink_destroy(sink);
}
END_TEST

START_TEST(evaluating_passes_claim_at_their_first_backward)
{
    lrk_pass *one = rig_open_mode(LRK_PASS_EVALUATE, LRK_GRAD_PARAMETERS, NULL);
    lrk_pass *two = rig_open_mode(LRK_PASS_EVALUATE, LRK_GRAD_PARAMETERS, NULL);
    ck_assert_int_eq(rig_forward_group(one, NULL, 0), LRK_OK);
    ck_assert_int_eq(rig_forward_group(two, NULL, 0), LRK_OK);
    ck_assert_int_eq(rig_backward_group(two, NULL, 0), LRK_OK);
    padded before = padded_copy(&rig.dx);
    rig_expect_words(rig_backward_group(one, NULL, 0), LRK_ERR_BUSY, "use a sink");
    ck_assert(padded_same(&before, &rig.dx));
    ck_assert_int_eq(rig_backward_group(two, NULL, 0), LRK_OK);
    lrk_pass_end(two);
    ck_assert_int_eq(rig_backward_group(one, NULL, 0), LRK_OK);
    lrk_pass_end(one);
    ck_assert(!rig.set->gradients_in_use);
    padded_free(&before);
}
END_TEST

START_TEST(a_pass_used_again_has_no_claim_from_before)
{
    lrk_pass_end(rig_open_mode(LRK_PASS_TRAIN, LRK_GRAD_PARAMETERS, NULL));
    lrk_pass *again = rig_open_mode(LRK_PASS_EVALUATE, LRK_GRAD_PARAMETERS, NULL);
    lrk_pass *other = rig_open_mode(LRK_PASS_EVALUATE, LRK_GRAD_PARAMETERS, NULL);
    ck_assert_int_eq(rig_backward_group(other, NULL, 0), LRK_OK);
    rig_expect_words(rig_backward_group(again, NULL, 0), LRK_ERR_BUSY, "use a sink");
    lrk_pass_end(again);
    ck_assert(rig.set->gradients_in_use);
    lrk_pass_end(other);
}
END_TEST

START_TEST(a_sink_has_one_writer)
{
    lrk_pass_options o = pass_options(ROWS);
    lrk_sink *sink = rig_make_sink(LRK_GRAD_PARAMETERS);
    lrk_pass *pass = rig_open_mode(LRK_PASS_EVALUATE, LRK_GRAD_PARAMETERS, sink);
    o.sink = sink;
    rig_expect_no_pass(o, LRK_ERR_BUSY, "sink");
    rig_expect_words(lrk_sink_zero(sink), LRK_ERR_BUSY, "sink");
    rig_expect_words(lrk_sink_accumulate(sink, 1.0), LRK_ERR_BUSY, "open pass");
    o.gradients = 0;
    lrk_pass *reader = pass_open(rig.set, o); /* derives nothing: does not write to it */
    lrk_pass_end(reader);
    rig_expect_words(lrk_sink_zero(sink), LRK_ERR_BUSY, "sink");
    lrk_pass_end(pass);
    ck_assert_int_eq(lrk_sink_zero(sink), LRK_OK);
    lrk_pass *training = rig_open_mode(LRK_PASS_TRAIN, LRK_GRAD_PARAMETERS, NULL);
    rig_expect_words(lrk_sink_accumulate(sink, 1.0), LRK_ERR_BUSY, "open pass");
    lrk_pass_end(training);
    lrk_sink_destroy(sink);
}
END_TEST

START_TEST(no_pass_begins_while_a_change_is_prepared_or_storage_is_asked)
{
    size_t bytes;
    lrk_sink *sink;
    rig.set->change_pending = true;
    rig_expect_no_pass(pass_options(ROWS), LRK_ERR_BUSY, "rank change");
    rig.set->change_pending = false;
    rig.set->in_storage_callback = true;
    rig_expect_no_pass(pass_options(ROWS), LRK_ERR_BUSY, "callback");
    rig_expect_words(lrk_sink_create(rig.set, 1, &sink), LRK_ERR_BUSY, "callback");
    rig_expect_words(lrk_workspace_size(rig.set, 1, &bytes), LRK_ERR_BUSY, "callback");
    rig_expect_words(lrk_saved_size(rig.set, rig_group, 2, 1, &bytes), LRK_ERR_BUSY, "callback");
    rig.set->in_storage_callback = false;
    rig.set->in_host_callback = true; /* an estimator's evaluate must be able to run the model */
    lrk_pass_end(pass_open(rig.set, pass_options(ROWS)));
    rig.set->in_host_callback = false;
    ck_assert_int_eq(rig.set->open_passes, 0);
}
END_TEST

START_TEST(an_open_pass_keeps_the_set_from_changing)
{
    lrk_pass *pass = pass_open(rig.set, pass_options(ROWS));
    rig_expect_words(lrk_adapters_values_changed(rig.set), LRK_ERR_BUSY, "pass");
    lrk_pass_end(pass);
    ck_assert_int_eq(lrk_adapters_values_changed(rig.set), LRK_OK);
}
END_TEST

START_TEST(an_inference_only_set_evaluates_and_gives_dx)
{
    lrk_sink *sink = (lrk_sink *)&rig.host;
    lrk_pass_options o = pass_options(ROWS);
    lrk_adapters_destroy(rig.set);
    rig.set = set_make(rig.context, rig_shapes, MODULES, 0.0, LRK_ADAPTERS_INFERENCE);
    set_fill(rig.set, 1);
    o.mode = LRK_PASS_TRAIN;
    rig_expect_no_pass(o, LRK_ERR_UNSUPPORTED, "inference");
    rig_expect_words(lrk_sink_create(rig.set, 1, &sink), LRK_ERR_UNSUPPORTED, "inference");
    ck_assert_ptr_null(sink);
    lrk_pass *pass = rig_open_mode(LRK_PASS_EVALUATE, LRK_GRAD_PARAMETERS, NULL);
    ck_assert_int_eq(rig_forward_group(pass, NULL, 0), LRK_OK);
    rig_expect_words(rig_backward_group(pass, NULL, 0), LRK_ERR_UNSUPPORTED, "inference");
    lrk_pass_end(pass);
    padded before = padded_copy(&rig.dx);
    pass = rig_open_mode(LRK_PASS_EVALUATE, 0, NULL);
    ck_assert_int_eq(rig_backward_group(pass, NULL, 0), LRK_OK);
    ck_assert(!padded_same(&before, &rig.dx));
    lrk_pass_end(pass);
    padded_free(&before);
}
END_TEST

/* ---- references and memory ---------------------------------------------------------------------------------------------------------- */

START_TEST(handles_may_be_destroyed_in_any_order)
{
    lrk_mask *mask = NULL;
    lrk_pass_options o = pass_options(ROWS);
    lrk_sink *sink = rig_make_sink(LRK_GRAD_PARAMETERS);
    ck_assert_int_eq(lrk_mask_create_all(rig.set, &mask), LRK_OK);
    o.mask = mask;
    o.sink = sink;
    lrk_pass *pass = pass_open(rig.set, o);
    lrk_context_destroy(rig.context);
    lrk_adapters_destroy(rig.set);
    lrk_mask_destroy(mask);
    lrk_sink_destroy(sink);
    ck_assert_int_eq(rig_forward_group(pass, NULL, 0), LRK_OK);
    ck_assert_int_eq(rig_backward_group(pass, NULL, 0), LRK_OK);
    lrk_pass_end(pass);
    ck_assert_int_eq(rig.host.live, 0);
    lrk_pass_end(NULL);
    rig.context = NULL;
    rig.set = NULL;
}
END_TEST

START_TEST(ended_passes_are_used_again)
{
    lrk_pass *passes[3];
    for (int round = 0; round < 3; round++) {
        int64_t before = rig.host.alloc.calls;
        for (int i = 0; i < 3; i++)
            passes[i] = pass_open(rig.set, pass_options(ROWS));
        if (round > 0) ck_assert_int_eq(rig.host.alloc.calls, before);
        for (int i = 0; i < 3; i++)
            lrk_pass_end(passes[i]);
    }
    int64_t live = rig.host.live;
    passes[0] = pass_open(rig.set, pass_options(4 * ROWS)); /* one grows, none is added */
    size_t need;
    ck_assert_int_eq(lrk_workspace_size(rig.set, 4 * ROWS, &need), LRK_OK);
    ck_assert_uint_eq(passes[0]->own_bytes, need);
    lrk_pass_end(passes[0]);
    ck_assert_int_eq(rig.host.live, live);
    size_t bytes = rig.host.live_bytes;
    rig_change_ranks();
    ck_assert_int_lt(rig.host.live, live); /* a rank change lets them go */
    ck_assert_uint_lt(rig.host.live_bytes, bytes);
}
END_TEST

START_TEST(the_passs_mask_is_told)
{
    lrk_mask_info info = {.struct_size = sizeof info}, direct = info;
    lrk_mask *mask = NULL;
    lrk_pass_options o = pass_options(ROWS);
    lrk_pass *pass = pass_open(rig.set, o);
    ck_assert_int_eq(lrk_pass_mask_info(pass, &info), LRK_OK);
    ck_assert_int_eq(info.baseline, LRK_BASELINE_ALL);
    ck_assert_int_eq(info.first_stage, LRK_NO_STAGE);
    ck_assert_uint_eq(info.generation, rig.set->generation);
    ck_assert_int_eq(lrk_pass_mask_info(NULL, &info), LRK_ERR_ARGUMENT);
    ck_assert_int_eq(lrk_pass_mask_info(pass, NULL), LRK_ERR_ARGUMENT);
    ck_assert_ptr_eq(lrki_pass_adapters(pass), rig.set);
    lrk_pass_end(pass);
    ck_assert_int_eq(lrk_mask_create_only(rig.set, 8, &mask), LRK_OK);
    o.mask = mask;
    pass = pass_open(rig.set, o);
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
    lrk_status status = lrk_sink_create(rig.set, 7, &sink);
    o.mode = LRK_PASS_TRAIN;
    o.gradients = 7;
    o.sink = sink;
    if (status == LRK_OK) status = lrk_pass_begin(rig.set, &o, &pass);
    if (status == LRK_OK) status = rig_forward_group(pass, NULL, 0);
    if (status == LRK_OK) status = rig_backward_group(pass, NULL, 0);
    ck_assert((status == LRK_OK) || (sink == NULL || sink->references == (pass != NULL ? 2 : 1)));
    lrk_pass_end(pass);
    lrk_sink_destroy(sink);
    return status;
}

static void fail_each(fault_counter *counter, lrk_status want, bool sticky)
{
    lrki_pass_cache_free(rig.set);
    int64_t before = counter->calls;
    ck_assert_int_eq(use_everything(), LRK_OK);
    int64_t total = counter->calls - before;
    ck_assert_int_gt(total, 0);
    for (int64_t i = 0; i < total; i++) {
        lrki_pass_cache_free(rig.set);
        int64_t live = rig.host.live;
        counter->fail_at = counter->calls + i;
        counter->sticky = sticky;
        ck_assert_int_eq(use_everything(), want);
        counter->fail_at = -1;
        lrki_pass_cache_free(rig.set);
        ck_assert_int_eq(rig.host.live, live);
        ck_assert_int_eq(rig.set->open_passes, 0);
        ck_assert_int_eq(use_everything(), LRK_OK);
    }
}

START_TEST(failure_of_any_request_is_reported_and_undone)
{
    rig.host.threads = 1 + _i;
    fail_each(&rig.host.alloc, LRK_ERR_NOMEM, _i);
    fail_each(&rig.host.gemm, LRK_ERR_HOST, _i);
    fail_each(&rig.host.loop, LRK_ERR_HOST, _i);
}
END_TEST

START_TEST(a_failure_inside_a_task_is_told_to_the_caller)
{
    rig.host.threads = 3;
    lrk_pass *pass = pass_open(rig.set, pass_options(ROWS));
    rig.host.gemm.fail_at = rig.host.gemm.calls;
    rig_expect_words(rig_forward_group(pass, NULL, 0), LRK_ERR_HOST, "gemm");
    rig.host.gemm.fail_at = -1;
    rig.host.loop.fail_at = rig.host.loop.calls;
    rig_expect_words(rig_backward_group(pass, NULL, 0), LRK_ERR_HOST, "parallel_for");
    rig.host.loop.fail_at = -1;
    ck_assert_int_eq(rig_forward_group(pass, NULL, 0), LRK_OK);
    lrk_pass_end(pass);
}
END_TEST

/* A buffer is marked as written only when all of H is there. */
START_TEST(a_failed_forward_leaves_no_valid_saved_buffer)
{
    size_t bytes = rig_group_saved_size();
    void *saved = calloc(1, bytes);
    lrk_pass *pass = pass_open(rig.set, pass_options(ROWS));
    ck_assert_int_eq(rig_forward_group(pass, saved, bytes),
                     LRK_OK); /* what an earlier call wrote does not count */
    rig.host.gemm.fail_at = rig.host.gemm.calls + 1;
    ck_assert_int_eq(rig_forward_group(pass, saved, bytes), LRK_ERR_HOST);
    rig.host.gemm.fail_at = -1;
    rig_expect_words(rig_backward_group(pass, saved, bytes), LRK_ERR_ARGUMENT, "not written");
    lrk_pass_end(pass);
    free(saved);
}
END_TEST

Suite *pass_suite(void)
{
    Suite *suite = suite_create("pass");
    TCase *tc = tcase_create("pass");
    tcase_add_checked_fixture(tc, rig_setup, rig_teardown);
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
    tcase_add_test(tc, a_pass_used_again_has_no_claim_from_before);
    tcase_add_test(tc, a_sink_has_one_writer);
    tcase_add_test(tc, no_pass_begins_while_a_change_is_prepared_or_storage_is_asked);
    tcase_add_test(tc, an_open_pass_keeps_the_set_from_changing);
    tcase_add_test(tc, an_inference_only_set_evaluates_and_gives_dx);
    tcase_add_test(tc, handles_may_be_destroyed_in_any_order);
    tcase_add_test(tc, ended_passes_are_used_again);
    tcase_add_test(tc, the_passs_mask_is_told);
    tcase_add_loop_test(tc, failure_of_any_request_is_reported_and_undone, 0, 2);
    tcase_add_test(tc, a_failure_inside_a_task_is_told_to_the_caller);
    tcase_add_test(tc, a_failed_forward_leaves_no_valid_saved_buffer);
    suite_add_tcase(suite, tc);
    return suite;
}
